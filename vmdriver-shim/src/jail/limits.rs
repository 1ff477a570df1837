//! Resource limits: what the worker has, and a little room.
//!
//! They bound what a worker gone wrong costs the host. A limit is set on top of what is in use at the time, which for the
//! vmm includes the guest's memory, so that no sum of all that a machine needs has to be kept right elsewhere.
#![allow(unsafe_code, reason = "sigaction has no safe wrapper")]

use super::{JailError, step};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::fs;
use std::io;

/// Most the main thread's stack may take: what it is nearly everywhere, where it is not unlimited.
const MAIN_STACK: u64 = 8 << 20;
/// Address space a new thread reserves: its stack and a guard (2 MiB is the standard library's), and for a moment twice
/// malloc's heap of 64 MiB, of which the aligned half is kept.
const THREAD_RESERVES: u64 = 136 << 20;

/// What a worker may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Descriptors more than it holds (RLIMIT_NOFILE).
    pub descriptors: u64,
    /// Bytes of private writable memory more than it has (RLIMIT_DATA). The kernel does not count stacks as such, and a
    /// piece of the main thread's can be moved and stretched (mremap): so the address space has a limit too (RLIMIT_AS),
    /// with room on top for what is only reserved.
    pub memory: u64,
    /// Threads it will start. They need not find room below the limit of memory, only in the address space.
    pub threads: u64,
    /// Bytes to which its writes may make a file grow (RLIMIT_FSIZE), if that can be said.
    pub largest_file: Option<u64>,
}

/// What is in use, read while /proc is in reach.
pub(super) struct Usage {
    /// One more than the highest descriptor.
    descriptors: u64,
    /// Bytes of private writable memory.
    data: u64,
    /// Bytes of address space.
    space: u64,
}

impl Usage {
    pub(super) fn now() -> Result<Self, JailError> {
        let unreadable = |source: io::Error| JailError::Step {
            step: "what is in use, in /proc/self",
            source,
        };
        let open = fs::read_dir("/proc/self/fd").map_err(unreadable)?;
        let highest = open
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
            .max();
        let status = fs::read_to_string("/proc/self/status").map_err(unreadable)?;
        let bytes = |field: &str| {
            let kib = status
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.map(|kib| kib.saturating_mul(1024))
                .ok_or_else(|| unreadable(io::ErrorKind::InvalidData.into()))
        };
        Ok(Self {
            descriptors: highest.map_or(0, |highest| highest + 1),
            data: bytes("VmData:")?,
            space: bytes("VmSize:")?,
        })
    }
}

/// Sets the limits, soft and hard. A lower one that holds already stays.
pub(super) fn set(usage: &Usage, room: Room) -> Result<(), JailError> {
    lower(Resource::RLIMIT_CORE, 0, "no core dumps")?;
    lower(
        Resource::RLIMIT_NOFILE,
        usage.descriptors.saturating_add(room.descriptors),
        "limit of descriptors",
    )?;
    lower(
        Resource::RLIMIT_DATA,
        usage.data.saturating_add(room.memory),
        "limit of memory",
    )?;
    if let Some(most) = room.largest_file {
        // A write beyond is an error like that of a full disk, and not the end of the worker.
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: installs no handler.
        unsafe { sigaction(Signal::SIGXFSZ, &ignore) }.map_err(step("ignore SIGXFSZ"))?;
        lower(Resource::RLIMIT_FSIZE, most, "limit of files")?;
    }
    lower(Resource::RLIMIT_STACK, MAIN_STACK, "limit of the stack")?;
    let reserved = room.threads.saturating_mul(THREAD_RESERVES);
    let more = room.memory.saturating_add(MAIN_STACK).saturating_add(reserved);
    lower(
        Resource::RLIMIT_AS,
        usage.space.saturating_add(more),
        "limit of address space",
    )
}

/// No new process and no new thread: for when all threads are there. The user's other processes are not concerned, the
/// kernel compares their number with the limit of the one that forks.
pub(super) fn no_more_threads() -> Result<(), JailError> {
    lower(Resource::RLIMIT_NPROC, 0, "limit of threads")
}

fn lower(resource: Resource, limit: u64, what: &'static str) -> Result<(), JailError> {
    let (_, hard) = nix::sys::resource::getrlimit(resource).map_err(step(what))?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit).map_err(step(what))
}
