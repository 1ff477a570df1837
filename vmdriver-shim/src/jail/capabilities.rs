//! No capability in any set, for good.
#![allow(unsafe_code, reason = "capset and two prctl operations have no safe wrapper")]

use super::{JailError, step};
use nix::errno::Errno;

/// Empties the ambient and the bounding set. Before root is left, and once more in a user namespace, whose first
/// process starts with full sets.
pub(super) fn clear_ambient_and_bounding() -> Result<(), JailError> {
    // SAFETY: prctl with numbers only.
    let ambient = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(ambient).map_err(step("clear ambient capabilities"))?;
    for capability in 0..64 {
        // SAFETY: as above.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) => {}
            // Past the last one the kernel knows.
            Err(Errno::EINVAL) => break,
            // Without CAP_SETPCAP the bounding set stays. It bounds what exec can gain, and no_new_privs makes that
            // nothing.
            Err(Errno::EPERM) => break,
            Err(e) => return Err(step("drop bounding capabilities")(e)),
        }
    }
    Ok(())
}

/// Empties the effective, permitted and inheritable sets of this thread.
pub(super) fn clear() -> Result<(), JailError> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    /// _LINUX_CAPABILITY_VERSION_3 of linux/capability.h: 64 bits, in two of the structures below.
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // Effective, permitted, inheritable; twice.
    let sets = [[0u32; 3]; 2];
    // SAFETY: both pointers are to live structures of the shape that version 3 of capset(2) reads.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) };
    Errno::result(done).map(drop).map_err(step("capset"))
}
