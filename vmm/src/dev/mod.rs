//! Device front ends: each a pure register machine plus the bus traits it needs ([`crate::bus`]).
//!
//! A front end never does host I/O and never calls another device. It owns its interrupt [`crate::bus::Line`], reports
//! machine-wide events through [`crate::bus::Signals`], and is told the time.

pub mod chipset;
pub mod debug;
pub mod i8042;
pub mod ide;
pub mod lance;
pub mod testdev;
pub mod uart;
