//! Back ends: the host hands of the devices.

pub mod console;
