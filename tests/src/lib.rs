//! What the whole-product tests share: the fuzzing rig and the product itself, run as a user would.

pub mod fuzz;
pub mod product;
