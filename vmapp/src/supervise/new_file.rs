//! Files that the supervisor makes because the config names them: a console's, a capture's. Emptied if they are there.
//!
//! It may be root's, in a folder that others may write. What must never happen here: a symbolic link followed, which would
//! empty the file of somebody else's choice; or a file that others can read, for consoles and frames show secrets.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Makes or empties the file at `path`, for its owner alone if it is new; `how` has the access mode and
/// other flags of open(2).
pub fn create(path: &Path, how: OFlag) -> io::Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match open(path, flags | how, Mode::S_IRUSR | Mode::S_IWUSR) {
        // Or too many of them on the way, for which the same helps.
        Err(Errno::ELOOP) => Err(io::Error::other(
            "it is a symbolic link, and none is followed: write the path it leads to",
        )),
        opened => Ok(opened?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_new_file_is_its_owners_alone_and_an_old_one_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        create(&path, OFlag::O_WRONLY).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "old").unwrap();
        create(&path, OFlag::O_WRONLY).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_symlink_is_refused_and_what_it_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [victim, dangling, link] = ["victim", "dangling", "link"].map(|name| folder.path().join(name));
        fs::write(&victim, "precious").unwrap();
        for target in [&victim, &dangling] {
            symlink(target, &link).unwrap();
            let refused = create(&link, OFlag::O_WRONLY).unwrap_err().to_string();
            assert!(refused.contains("symbolic link"), "{refused}");
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(!dangling.exists());
    }
}
