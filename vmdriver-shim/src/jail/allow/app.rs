//! The I/O worker's threads: the wait loop, and one for each disk.

use super::{Is, Row, no_path};
use crate::jail::Io;
use libc::{
    AF_INET, AF_INET6, CLONE_THREAD, FIONBIO, IPPROTO_ICMP, PR_GET_NAME, PR_SET_NAME, PR_SET_NO_NEW_PRIVS,
    RLIMIT_NPROC, SO_ERROR, SO_LINGER, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, SOL_TCP, SYS_accept4, SYS_clone,
    SYS_clone3, SYS_connect, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_wait, SYS_eventfd2, SYS_fdatasync,
    SYS_fstat, SYS_ftruncate, SYS_getpgrp, SYS_getsockopt, SYS_ioctl, SYS_lseek, SYS_newfstatat, SYS_prctl,
    SYS_pread64, SYS_prlimit64, SYS_pwrite64, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_rseq,
    SYS_rt_sigaction, SYS_seccomp, SYS_sendto, SYS_set_robust_list, SYS_setsockopt, SYS_shutdown, SYS_socket,
    SYS_statx, SYS_writev, TCGETS, TCP_NODELAY, TCSETS, TIOCGPGRP,
};

/// The lists of the wait loop with these back ends.
pub(super) fn wait_loop(io: Io) -> impl Iterator<Item = &'static [Row]> {
    [
        Some(WAIT_LOOP),
        io.network.then_some(NAT),
        io.terminal.then_some(TERMINAL),
    ]
    .into_iter()
    .flatten()
}

/// The wait loop, whatever the machine has.
const WAIT_LOOP: &[Row] = &[
    Row::any("readv", SYS_readv, "frames of a tap"),
    Row::any("writev", SYS_writev, "frames to a tap"),
    Row::any(
        "recvmsg",
        SYS_recvmsg,
        "the supervisor's words; with one of them a console's client",
    ),
    Row::any("recvfrom", SYS_recvfrom, "a console's client; sockets of nat"),
    Row::any("fstat", SYS_fstat, "what a console's client is"),
    Row::when(
        "newfstatat",
        SYS_newfstatat,
        &[&[no_path(3)]],
        "as fstat, with another C library",
    ),
];

/// Before the wait loop, while threads are started: the back ends take up their descriptors.
pub(super) const ATTACH: &[Row] = &[
    Row::any(
        "clone3",
        SYS_clone3,
        "a disk's thread; its flags lie in memory, where no filter sees them",
    ),
    Row::when(
        "clone",
        SYS_clone,
        &[&[Is::Bits {
            argument: 0,
            mask: CLONE_THREAD as u32,
            value: CLONE_THREAD as u32,
        }]],
        "a disk's thread, with an older C library",
    ),
    // The C library's own two signals, below the first real-time one that programs see.
    Row::when(
        "rt_sigaction",
        SYS_rt_sigaction,
        &[&[Is::Equal(0, 32)], &[Is::Equal(0, 33)]],
        "the C library's handlers, set when the first thread is started",
    ),
    Row::any("set_robust_list", SYS_set_robust_list, "the start of a thread"),
    Row::any("rseq", SYS_rseq, "the start of a thread"),
    Row::when(
        "prctl",
        SYS_prctl,
        &[
            &[Is::Equal(0, PR_SET_NAME as u32)],
            &[Is::Equal(0, PR_GET_NAME as u32)],
            &[Is::Equal(0, PR_SET_NO_NEW_PRIVS as u32)],
        ],
        "a thread's name; its own, narrower filter",
    ),
    Row::any("seccomp", SYS_seccomp, "a narrower filter: one can only be added"),
    // Not of another process: for a plain user that would reach the supervisor and the vmm.
    Row::when(
        "prlimit64",
        SYS_prlimit64,
        &[&[Is::Equal(0, 0), Is::Equal(1, RLIMIT_NPROC)]],
        "no more threads, once all are there: a limit can only be lowered",
    ),
    Row::any("eventfd2", SYS_eventfd2, "the doorbell of a disk's thread"),
    Row::any("epoll_create1", SYS_epoll_create1, "nat's sockets"),
    Row::any("epoll_ctl", SYS_epoll_ctl, "nat's listening sockets"),
    Row::when(
        "ioctl",
        SYS_ioctl,
        &[&[Is::Equal(1, FIONBIO as u32)]],
        "listening sockets do not block",
    ),
];

/// The family's own protocol for the kind: TCP or UDP. Not MPTCP, UDP-Lite and whatever else the host has.
const USUAL: Is = Is::Equal(2, 0);
const PING: Is = Is::Equal(2, IPPROTO_ICMP as u32);

/// More for the wait loop with a `nat` card. Only sockets of TCP, UDP and ping.
const NAT: &[Row] = &[
    Row::when(
        "socket",
        SYS_socket,
        &[
            &[Is::Equal(0, AF_INET as u32), kind(SOCK_STREAM), USUAL],
            &[Is::Equal(0, AF_INET as u32), kind(SOCK_DGRAM), USUAL],
            &[Is::Equal(0, AF_INET as u32), kind(SOCK_DGRAM), PING],
            &[Is::Equal(0, AF_INET6 as u32), kind(SOCK_STREAM), USUAL],
            &[Is::Equal(0, AF_INET6 as u32), kind(SOCK_DGRAM), USUAL],
        ],
        "nat: a guest's connection, datagrams or ping; IPv6 for the host's name servers",
    ),
    Row::any(
        "connect",
        SYS_connect,
        "nat: there are no sockets but those above",
    ),
    Row::any(
        "accept4",
        SYS_accept4,
        "nat: clients, at listening sockets that came open",
    ),
    Row::any(
        "sendto",
        SYS_sendto,
        "nat: datagrams of forward rules, each to its own receiver",
    ),
    Row::any("shutdown", SYS_shutdown, "nat: the end of a guest's stream"),
    Row::when(
        "getsockopt",
        SYS_getsockopt,
        &[&[Is::Equal(1, SOL_SOCKET as u32), Is::Equal(2, SO_ERROR as u32)]],
        "nat: what became of a connection",
    ),
    Row::when(
        "setsockopt",
        SYS_setsockopt,
        &[
            &[Is::Equal(1, SOL_TCP as u32), Is::Equal(2, TCP_NODELAY as u32)],
            &[Is::Equal(1, SOL_SOCKET as u32), Is::Equal(2, SO_LINGER as u32)],
        ],
        "nat: no waiting for fuller segments; whether a close is an end or a reset",
    ),
    Row::any("epoll_ctl", SYS_epoll_ctl, "nat: sockets to be watched"),
    Row::any("epoll_wait", SYS_epoll_wait, "nat: which of them are ready"),
];

const fn kind(kind: i32) -> Is {
    // The low four bits; SOCK_NONBLOCK and SOCK_CLOEXEC are above (SOCK_TYPE_MASK, linux/net.h).
    Is::Bits {
        argument: 1,
        mask: 0xf,
        value: kind as u32,
    }
}

/// More for the wait loop with the user's terminal: it puts the modes back when the supervisor vanishes. Not TIOCSTI,
/// which would type into the user's shell.
const TERMINAL: &[Row] = &[
    Row::when(
        "ioctl",
        SYS_ioctl,
        &[
            &[Is::Equal(1, TCGETS as u32)],
            &[Is::Equal(1, TCSETS as u32)],
            &[Is::Equal(1, TIOCGPGRP as u32)],
        ],
        "terminal: its modes, and whose it is now",
    ),
    Row::any("getpgrp", SYS_getpgrp, "terminal: whether it is ours"),
];

/// A disk's thread.
pub(super) const DISK: &[Row] = &[
    Row::any("pread64", SYS_pread64, "sectors"),
    Row::any(
        "pwrite64",
        SYS_pwrite64,
        "sectors; never beyond the image, which is the back end's check",
    ),
    Row::any("fdatasync", SYS_fdatasync, "a flush"),
    Row::any("lseek", SYS_lseek, "size of a block device; holes of an overlay"),
    Row::any("ftruncate", SYS_ftruncate, "an overlay's maps, made anew"),
    Row::any("fstat", SYS_fstat, "size of an image"),
    Row::when(
        "statx",
        SYS_statx,
        &[&[no_path(2)]],
        "size of an image, as the standard library asks for it",
    ),
    Row::when(
        "newfstatat",
        SYS_newfstatat,
        &[&[no_path(3)]],
        "as statx, with another C library",
    ),
];
