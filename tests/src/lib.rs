//! What the whole-product tests share: the fuzzing rig, the product itself, run as a user would, a stock Linux guest, networks
//! for guests, and a guest on one.

pub mod cell;
pub mod fuzz;
pub mod linux;
pub mod network;
pub mod product;
pub mod tap;
