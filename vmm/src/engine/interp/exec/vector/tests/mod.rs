//! Every x87, MMX and SSE instruction against the host's own silicon; faults and save formats against the manual.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod faults;
mod formats;
mod machine;
mod native;
mod operands;
mod silicon;
