//! Makes a descriptor of `/dev/net/tun` the other end of a tap: the ioctls that have no safe wrapper.
//!
//! Called by the supervisor, through vmapp's tap back end, which opens the descriptor and puts errors into words. What
//! must never happen here: a tap made to stay (`TUNSETPERSIST`), or one that hands over what a predecessor negotiated,
//! such as segments of 64 KiB without check sums that nobody asked for, or headers of another size.
#![allow(
    unsafe_code,
    reason = "the ioctls of tun.c and SIOCSIFFLAGS have no safe wrapper"
)]

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::{AsFd, AsRawFd};

/// `struct ifreq` of linux/if.h as far as these calls use it: a name and flags, in the kernel's 40 bytes.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

impl Request {
    /// `EINVAL`: no name of an interface.
    fn new(name: &str, flags: libc::c_int) -> Result<Self, Errno> {
        let mut request = Self {
            name: [0; libc::IFNAMSIZ],
            flags: libc::c_short::try_from(flags).map_err(|_| Errno::EINVAL)?,
            rest: [0; 22],
        };
        // One byte is left for the terminating zero.
        let room = request
            .name
            .get_mut(..name.len())
            .filter(|_| name.len() < libc::IFNAMSIZ);
        room.ok_or(Errno::EINVAL)?.copy_from_slice(name.as_bytes());
        Ok(request)
    }
}

/// Octets of the `struct virtio_net_hdr` in front of each frame (linux/virtio_net.h).
const HEADER: libc::c_int = 10;
/// Received frames may come without checksums, and segments of TCP over IPv4 joined (linux/if_tun.h).
const OFFLOAD_TCP: libc::c_ulong = (libc::TUN_F_CSUM | libc::TUN_F_TSO4) as libc::c_ulong;
/// Without checksums, and datagrams joined.
const OFFLOAD_UDP: libc::c_ulong = libc::TUN_F_CSUM as libc::c_ulong | TUN_F_USO4 | TUN_F_USO6;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

/// How frames stand on the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// As they are.
    Bare,
    /// Each behind a `struct virtio_net_hdr` of 10 octets, which lets frames be written that are to be cut into segments.
    Header,
}

/// Attaches `tun`, just opened, to the tap `name`: whole frames, and in front of them what `framing` says. A tap that does
/// not exist is made, if the process may, and vanishes with the descriptor. The kernel is to give each frame as it
/// would be on a wire, whatever may be written and a predecessor asked for, until [`receive_joined`].
///
/// Errors as in the kernel's drivers/net/tun.c: `EPERM` not ours and no right, `EBUSY` attached elsewhere, `EINVAL` an
/// interface of another kind.
pub fn attach(tun: &impl AsFd, name: &str, framing: Framing) -> Result<(), Errno> {
    let header = match framing {
        Framing::Bare => 0,
        Framing::Header => libc::IFF_VNET_HDR,
    };
    let mut request = Request::new(name, libc::IFF_TAP | libc::IFF_NO_PI | header)?;
    let fd = tun.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one struct ifreq, which `request` is in size and layout, and lives across the
    // call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) })?;
    let octets = HEADER;
    // SAFETY: the kernel reads one int, which lives across the call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const octets) })?;
    set_offload(tun, 0)
}

/// Whether datagrams joined may be written to `tun`, which is attached with [`Framing::Header`]: the kernel that gives them
/// takes them (Linux 6.2 and later).
pub fn takes_datagrams_joined(tun: &impl AsFd) -> Result<bool, Errno> {
    match set_offload(tun, OFFLOAD_UDP) {
        Err(Errno::EINVAL) => Ok(false),
        set => set.and_then(|()| set_offload(tun, 0)).map(|()| true),
    }
}

/// Asks for frames as they come through the host's stack, with what is left to do in the header: checksums, and segments of
/// TCP over IPv4 still joined, up to 64 KiB. `tun` is attached with [`Framing::Header`]. Not asked for: IPv6, datagrams, and
/// segments with congestion marks, which the kernel goes on cutting itself.
pub fn receive_joined(tun: &impl AsFd) -> Result<(), Errno> {
    set_offload(tun, OFFLOAD_TCP)
}

fn set_offload(tun: &impl AsFd, offload: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: the argument is a number.
    Errno::result(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, offload) })?;
    Ok(())
}

/// Sets the interface `name` up, for a tap made by [`attach`]: a new one is down.
pub fn bring_up(name: &str) -> Result<(), Errno> {
    let control = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // These flags replace all that can be changed: a new tap's multicasting stays on.
    let request = Request::new(name, libc::IFF_UP | libc::IFF_MULTICAST)?;
    // SAFETY: as for TUNSETIFF; the kernel only reads.
    Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}
