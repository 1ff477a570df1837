//! How cases print what was seen.

use crate::probe::{NO_ERROR, Seen};
use rt::say;
use rt::serial::Hex;

/// `ok`, or vector and error code.
pub fn brief(seen: &Seen) {
    if seen.done {
        say!("ok");
        return;
    }
    say!(seen.context.vector);
    if seen.context.error != NO_ERROR {
        say!("(", Hex(seen.context.error), ")");
    }
}

/// The same with where it happened, from the first instruction under test.
pub fn full(seen: &Seen) {
    brief(seen);
    if !seen.done {
        say!("@", Hex(seen.offset));
    }
}
