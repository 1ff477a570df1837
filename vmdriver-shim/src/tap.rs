//! Makes a descriptor of `/dev/net/tun` the other end of a tap: the three ioctls that have no safe wrapper.
//!
//! Called by the supervisor, through vmapp's tap back end, which opens the descriptor and puts errors into words. What
//! must never happen here: a tap made to stay (`TUNSETPERSIST`), or one that hands over what a predecessor negotiated,
//! such as segments of 64 KiB without check sums.
#![allow(
    unsafe_code,
    reason = "TUNSETIFF, TUNSETOFFLOAD and SIOCSIFFLAGS have no safe wrapper"
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

/// Attaches `tun`, just opened, to the tap `name`: whole frames, nothing in front of them. A tap that does not exist is
/// made, if the process may, and vanishes with the descriptor.
///
/// Errors as in the kernel's drivers/net/tun.c: `EPERM` not ours and no right, `EBUSY` attached elsewhere, `EINVAL` an
/// interface of another kind.
pub fn attach(tun: &impl AsFd, name: &str) -> Result<(), Errno> {
    let mut request = Request::new(name, libc::IFF_TAP | libc::IFF_NO_PI)?;
    let fd = tun.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one struct ifreq, which `request` is in size and layout, and lives across the
    // call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) })?;
    // SAFETY: the argument is a number.
    Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, 0) })?;
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
