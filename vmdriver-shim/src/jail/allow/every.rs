//! What every thread needs: memory, locks, the clock, its doorbells, and a way to end, well or badly.

use super::{Is, Row};
use libc::{
    F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, MAP_ANONYMOUS, MAP_DROPPABLE, MAP_GROWSDOWN, MAP_HUGETLB, MAP_PRIVATE,
    MAP_TYPE, PROT_EXEC, SIGBUS, SIGSEGV, SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close,
    SYS_exit, SYS_exit_group, SYS_fcntl, SYS_futex, SYS_getpid, SYS_getrandom, SYS_gettid, SYS_kill,
    SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_poll, SYS_ppoll, SYS_preadv2, SYS_read,
    SYS_restart_syscall, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_getaffinity,
    SYS_sched_yield, SYS_sendto, SYS_sigaltstack, SYS_tgkill, SYS_write,
};

/// Memory that can be run is made before the jail, or never.
const NOT_EXECUTABLE: Is = Is::Bits {
    argument: 2,
    mask: PROT_EXEC as u32,
    value: 0,
};
/// The flags of mmap that say what is mapped.
const KIND_OF_MEMORY: u32 = (MAP_TYPE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_HUGETLB) as u32;
/// Not a file, not the peer's memory; not a stack, which RLIMIT_DATA does not count, and not the host's huge pages.
const PRIVATE: Is = Is::Bits {
    argument: 3,
    mask: KIND_OF_MEMORY,
    value: (MAP_PRIVATE | MAP_ANONYMOUS) as u32,
};

/// The C library's state of getrandom in the vDSO (glibc 2.41 on Linux 6.11): memory that the kernel may drop.
/// It counts as any other.
const DROPPABLE: Is = Is::Bits {
    argument: 3,
    mask: KIND_OF_MEMORY,
    value: (MAP_DROPPABLE | MAP_ANONYMOUS) as u32,
};

/// For every thread of both workers.
pub(super) const EVERY_THREAD: &[Row] = &[
    Row::any(
        "preadv2",
        SYS_preadv2,
        "reads that never wait: of doorbells, whatever the peer does to the shared open file; of what the host has cached of a disk",
    ),
    Row::any(
        "read",
        SYS_read,
        "the host's ends of the I/O worker; its own doorbells",
    ),
    Row::any("write", SYS_write, "as read; a panic's message to standard error"),
    Row::any("close", SYS_close, "descriptors that are dropped"),
    // Not sendmsg, which carries descriptors: one of a TCP socket that lingers would block the supervisor when it closes it.
    Row::when(
        "sendto",
        SYS_sendto,
        &[&[Is::Null(4)]],
        "words to the supervisor; bytes to a console's client",
    ),
    Row::any(
        "poll",
        SYS_poll,
        "waiting; whether a shared pipe or terminal would block",
    ),
    Row::any("ppoll", SYS_ppoll, "waiting to the microsecond"),
    // Not F_SETFL: the doorbells are shared, and a peer's that has lost O_NONBLOCK would block it.
    Row::when(
        "fcntl",
        SYS_fcntl,
        &[
            &[Is::Equal(1, F_GETFL as u32)],
            &[Is::Equal(1, F_GETFD as u32)],
            &[Is::Equal(1, F_DUPFD_CLOEXEC as u32)],
        ],
        "what a console descriptor is; the standard library's own check, in debug builds, of what it closes",
    ),
    Row::any("futex", SYS_futex, "locks and channels between threads"),
    Row::any(
        "sched_yield",
        SYS_sched_yield,
        "channels between threads, before they sleep",
    ),
    Row::any("brk", SYS_brk, "malloc"),
    Row::when(
        "mmap",
        SYS_mmap,
        &[&[NOT_EXECUTABLE, PRIVATE], &[NOT_EXECUTABLE, DROPPABLE]],
        "malloc; with glibc 2.41, what getrandom keeps",
    ),
    Row::when(
        "mprotect",
        SYS_mprotect,
        &[&[NOT_EXECUTABLE]],
        "malloc: a thread's heap grows",
    ),
    Row::any(
        "mremap",
        SYS_mremap,
        "malloc: a large block grows; rights stay as they are, and RLIMIT_AS bounds what a stretched stack can take",
    ),
    Row::any("munmap", SYS_munmap, "malloc; the end of a thread"),
    Row::any(
        "madvise",
        SYS_madvise,
        "malloc and the end of a thread: pages given back",
    ),
    Row::any(
        "sched_getaffinity",
        SYS_sched_getaffinity,
        "malloc counts processors for its heaps",
    ),
    Row::any(
        "getrandom",
        SYS_getrandom,
        "keys of hash tables; the address translation's secrets",
    ),
    Row::any(
        "clock_gettime",
        SYS_clock_gettime,
        "where the clock cannot be read without the kernel",
    ),
    Row::any(
        "clock_nanosleep",
        SYS_clock_nanosleep,
        "measuring a clock; injected delays",
    ),
    Row::any(
        "restart_syscall",
        SYS_restart_syscall,
        "the kernel's own, for a wait that SIGSTOP cut",
    ),
    Row::any(
        "rt_sigreturn",
        SYS_rt_sigreturn,
        "the end of every signal handler",
    ),
    Row::any("rt_sigprocmask", SYS_rt_sigprocmask, "the end of a thread; abort"),
    Row::any(
        "sigaltstack",
        SYS_sigaltstack,
        "the end of a thread: its stack for handlers goes",
    ),
    Row::when(
        "rt_sigaction",
        SYS_rt_sigaction,
        &[&[Is::Equal(0, SIGSEGV as u32)], &[Is::Equal(0, SIGBUS as u32)]],
        "the standard library's handler of stack overflows steps aside: then SIGSEGV is what the supervisor sees",
    ),
    Row::any("getpid", SYS_getpid, "abort; a signal to itself"),
    Row::any("gettid", SYS_gettid, "abort; the name in a panic's message"),
    Row::when(
        "kill",
        SYS_kill,
        &[&[Is::OwnProcess(0)]],
        "injected faults: it kills or stops itself",
    ),
    Row::when(
        "tgkill",
        SYS_tgkill,
        &[&[Is::OwnProcess(0)]],
        "abort; the ear kicks the vCPU thread",
    ),
    Row::any("exit", SYS_exit, "the end of a thread"),
    Row::any("exit_group", SYS_exit_group, "the end of the process"),
];
