//! What the whole-product tests share: the fuzzing rig, the product itself, run as a user would, a stock Linux guest, and
//! one on a tap.

pub mod fuzz;
pub mod linux;
pub mod product;
pub mod tap;
