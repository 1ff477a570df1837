//! Disks: images on real files and on media that fail or lose power, and the service against a vmm played by the test.

mod commands;
mod crash;
mod files;
mod fuzz;
mod medium;
mod service;
