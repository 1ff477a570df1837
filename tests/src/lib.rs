//! What the whole-product tests share: the fuzzing rig, the product itself, run as a user would, and a stock Linux guest.

pub mod fuzz;
pub mod linux;
pub mod product;
