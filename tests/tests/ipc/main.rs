//! Each side of the crossing against a hostile other side: a real process and, in place of its peer and its supervisor, this
//! test.
//!
//! | module | who lies | what about |
//! |---|---|---|
//! | [`garbage`] | either worker | every shared word, at random, and slots rewritten while they are read |
//! | [`answers`] | vmapp | completions: never made, made twice, out of order, of nothing; silence |
//! | [`requests`] | vmm | requests: kinds, ids, lengths, places |
//! | [`storms`] | either worker | bits and doorbells without end; bells that block |
//! | [`handover`] | the supervisor | memory, versions, descriptors, records |
//! | [`liveness`] | nobody | full rings both ways, with liveness watched |
//! | [`frozen`] | the host | resets and ends with I/O in flight, all processes stopped and continued |
//!
//! Asserted of the real side each time: it stays up and serves an honest peer afterwards, or ends with an error in words;
//! its memory and its share of the processor are bounded; it obeys its supervisor. Nothing here needs `/dev/kvm`.
//!
//! `tests/README.md` has the table of the bug classes these and other tests are for.

mod answers;
mod frozen;
mod garbage;
mod handover;
mod liveness;
mod noise;
mod requests;
mod storms;
mod usage;
mod vmm;
mod worker;
