//! Namespaces of the worker's own, and an empty root.
//!
//! Root makes them directly; a plain user gets them inside a user namespace, if the host allows that. The process gives
//! up the capabilities this takes (or, there, brings) right after. No process-id namespace: it would hold children
//! only, and there are none.

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};

/// Which namespaces become the worker's own. Descriptors that are open (a tap, a listening socket) go on working in
/// those they were made in.
pub(super) fn wanted(network: bool) -> CloneFlags {
    let always = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if network {
        always
    } else {
        always | CloneFlags::CLONE_NEWNET
    }
}

/// Makes them with the rights there are. `EPERM`: those of a plain user, for whom there is [`make_as_user`].
pub(super) fn make(wanted: CloneFlags) -> Result<(), Errno> {
    unshare(wanted)
}

/// Makes them inside a user namespace, in which this process has every capability until it drops them. No id is mapped:
/// seen from within it is nobody, seen from outside it stays who it is.
pub(super) fn make_as_user(wanted: CloneFlags) -> Result<(), Errno> {
    unshare(wanted | CloneFlags::CLONE_NEWUSER)
}

/// Why [`make_as_user`] failed, with the way out.
pub(super) fn refusal(errno: Errno) -> String {
    let fix = match errno {
        Errno::EPERM | Errno::EACCES => {
            "user namespaces are off here: allow them (sysctl kernel.unprivileged_userns_clone=1; in a container, a \
             seccomp profile that lets unshare through), or start as root"
        }
        Errno::ENOSPC | Errno::EUSERS => {
            "no more of them are allowed: raise /proc/sys/user/max_*_namespaces, or start as root"
        }
        _ => "this kernel lacks one of user, network, mount, IPC and UTS namespaces",
    };
    format!(
        "shares the host's network, mount, IPC and UTS namespaces: {} ({fix})",
        errno.desc()
    )
}

/// Puts an empty, read-only root in place of the host's file system, in a mount namespace of our own. What is open stays
/// open; nothing else is reached by any path. Returns the step that was refused.
pub(super) fn empty_root() -> Result<(), (&'static str, Errno)> {
    const NONE: Option<&str> = None;
    // Any folder that is there serves as the place to mount on; it vanishes with the rest.
    const PLACE: &str = "/proc";
    let at = |what: &'static str| move |errno: Errno| (what, errno);
    // Else the new root would show up in the host's mount namespace.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(at("private mounts"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(
        Some("none"),
        PLACE,
        Some("tmpfs"),
        flags,
        Some("mode=0555,size=4k,nr_inodes=1"),
    )
    .map_err(at("an empty file system"))?;
    chdir(PLACE).map_err(at("its folder"))?;
    // The new root on top of the old one, at the same place: the old one is then what unmounting "." takes away.
    pivot_root(".", ".").map_err(at("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at("unmounting the host's"))?;
    chdir("/").map_err(at("its folder"))
}
