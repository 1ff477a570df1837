//! A user and group of the worker's own, when it was started as root.

use super::Role;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// First of the user and group ids workers run under when started as root. 65536 to 98303 belong to nobody: above the
/// 16-bit ids of users and services, below the ranges that `/etc/subuid` gives to containers (from 100000).
pub const UID_BASE: u32 = 65_536;
/// VMs told apart before ids repeat. A VM's pair of ids follows from its supervisor's process id.
pub const UID_PAIRS: u32 = 16_384;

impl Role {
    /// The user and group id of this worker under a supervisor with this process id: never the same for both workers.
    pub fn id(self, supervisor: u32) -> u32 {
        let which = match self {
            Self::Vmm => 0,
            Self::App => 1,
        };
        UID_BASE + 2 * (supervisor % UID_PAIRS) + which
    }
}

/// Leaves root, if the process is root, for the user and group `id`. A user namespace may have no such id, or root may
/// be root in name only: what is kept is said in `lacking`.
pub(super) fn leave_root(id: u32, lacking: &mut Vec<String>) {
    if !Uid::current().is_root() && !Uid::effective().is_root() {
        return;
    }
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    // Each is tried, whatever becomes of the others: groups first, which take root.
    let left = setgroups(&[])
        .and(setresgid(gid, gid, gid))
        .and(setresuid(uid, uid, uid));
    if let Err(errno) = left {
        lacking.push(format!(
            "stays root, or in its groups: {} (it wants user and group {id}: map them in this user namespace, or start \
             as a plain user)",
            errno.desc()
        ));
    }
}
