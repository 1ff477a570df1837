//! The supervisor and the I/O worker as real processes, against a vmm that plays a script.
//!
//! The real `vmapp` binary runs a real configuration; only the vmm is replaced (`WORLDSWITCH_VMM`) by this test program
//! started again as [`fake_vmm`], and sometimes the I/O worker, by an upgrade to [`fake_io_worker`]. Every test waits on conditions with a time limit, and checks at its end that no process
//! it caused is left.

mod consoles;
mod ends;
mod fake_io_worker;
mod fake_vmm;
mod faults;
mod hostile;
mod injection;
mod murmur;
mod observe;
mod restarts;
mod stage;
mod standard_error;
mod terminal;
