//! Scripted faults: `vmapp fault NAME SPEC`, `[faults]`. Everything that goes wrong on purpose goes wrong in the I/O worker
//! or is done by the supervisor; the vmm has no fault code.
//!
//! | module | what it is |
//! |---|---|
//! | [`spec`] | the text of a fault, both ways |
//! | [`list`] | `vmapp fault --list` |
//! | [`armory`] | the supervisor's: what is armed over the workers' lives, the sequence, the counts |
//! | [`arm`] | the worker's: whether this chance is struck |
//! | [`strike`] | the worker's: the one place all its parts ask; telling, dying, stopping |
//! | [`lane`] | the worker's: a channel as its services hold it, where messages and signals are spoilt |
//! | [`held`] | messages on their way through a lane |
//! | [`disk`] | the worker's: an image that fails |
//!
//! What must never happen here: a cost worth measuring with nothing armed (one load and one branch at each place), a fault
//! that is not counted, or one that would not happen again with the same seed and the same traffic.

pub mod arm;
pub mod armory;

pub mod disk;
pub mod held;
pub mod lane;
pub mod list;

pub mod spec;
pub mod strike;
