//! The system calls each thread of a worker may make, as data.
//!
//! A list is a table of [`Row`]s; a thread's filter is the union of a few lists ([`lists`]). A row gives the call, what its
//! arguments must be where that matters, and why the thread needs it. The module `seccomp` makes filters of them.
//! A row is there because a run needed it, or for a rare path that its reason names.

mod app;
mod every;
mod vmm;

use super::Thread;

/// One system call that may be made.
#[derive(Debug)]
pub struct Row {
    /// As the kernel calls it.
    pub name: &'static str,
    /// Its number.
    pub number: i64,
    /// Conditions on the arguments: one of these must hold, whole. Empty: any arguments.
    pub when: &'static [&'static [Is]],
    /// Who needs it and, where it is surprising, why it may be there.
    pub why: &'static str,
}

/// What an argument (counted from 0) must be. Arguments are compared as 32 bits, flags, numbers and ids being no wider, but
/// for pointers.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// This value.
    Equal(u8, u32),
    /// These bits, of those in the mask.
    Bits {
        /// Which argument.
        argument: u8,
        /// The bits looked at.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// This process's own id.
    OwnProcess(u8),
    /// A null pointer, all 64 bits of it.
    Null(u8),
}

impl Row {
    /// For any arguments.
    const fn any(name: &'static str, number: i64, why: &'static str) -> Self {
        Self::when(name, number, &[], why)
    }

    /// For some arguments.
    const fn when(
        name: &'static str,
        number: i64,
        when: &'static [&'static [Is]],
        why: &'static str,
    ) -> Self {
        Self {
            name,
            number,
            when,
            why,
        }
    }
}

/// These flags say that the path, which no filter sees, may be empty: then the call is about the descriptor. With another
/// path it finds nothing in an empty root.
const fn no_path(argument: u8) -> Is {
    Is::Bits {
        argument,
        mask: libc::AT_EMPTY_PATH as u32,
        value: libc::AT_EMPTY_PATH as u32,
    }
}

/// The lists a thread's filter is made of.
pub fn lists(thread: Thread) -> Vec<&'static [Row]> {
    let mut lists = vec![every::EVERY_THREAD];
    match thread {
        Thread::Vcpu { kvm } => {
            lists.push(vmm::VCPU);
            lists.extend(kvm.then_some(vmm::KVM));
        }
        Thread::Ear => lists.push(vmm::EAR),
        Thread::Attach(io) => {
            lists.extend([app::ATTACH, app::DISK]);
            lists.extend(app::wait_loop(io));
        }
        Thread::WaitLoop(io) => lists.extend(app::wait_loop(io)),
        Thread::Disk => lists.push(app::DISK),
    }
    lists
}

/// Whether this thread is the last one its process starts.
pub(super) fn is_last(thread: Thread) -> bool {
    // KVM starts a thread of its own in the first KVM_RUN (its recovery of split huge pages).
    matches!(thread, Thread::WaitLoop(_) | Thread::Vcpu { kvm: false })
}
