//! The folder of this user's running VMs: one lock and one control socket each.
//!
//! Used by the supervisor to claim a name, and by `list`, `status` and `stop` to find VMs. Everything in it is reached
//! through the descriptor of the checked folder, so nobody can slip another folder or a symlink under us. The lock, held
//! with flock(2) by the living supervisor, is the truth; a socket without a held lock is a leftover.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat, umask};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the folder or a name in it cannot be used.
#[derive(Debug, Error)]
pub enum RuntimeDirError {
    /// It cannot be made or opened.
    #[error("{path}: {}", .errno.desc())]
    Open {
        /// Which folder.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Somebody else could reach into it.
    #[error("{path} is not a folder of uid {uid} alone (mode 0700); remove it or set XDG_RUNTIME_DIR")]
    NotOurs {
        /// Which folder.
        path: PathBuf,
        /// Ours.
        uid: u32,
    },
    /// The name is taken.
    #[error("a VM named {0} is running already; see vmapp status {0}")]
    Taken(String),
    /// A file in it cannot be made or used.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The folder, checked.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    fd: OwnedFd,
}

impl RuntimeDir {
    /// `$XDG_RUNTIME_DIR/worldswitch` if that variable names a folder of ours (under `sudo` it may be the invoking
    /// user's); else for root `/run/worldswitch`, for others `/tmp/worldswitch-UID`. Made if missing.
    pub fn open() -> Result<Self, RuntimeDirError> {
        let uid = geteuid();
        let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let path = match session {
            Some(path) if path.is_absolute() && owner(&path) == Some(uid.as_raw()) => {
                path.join("worldswitch")
            }
            _ if uid.is_root() => PathBuf::from("/run/worldswitch"),
            _ => PathBuf::from(format!("/tmp/worldswitch-{uid}")),
        };
        Self::at(path)
    }

    /// The folder at `path`.
    pub fn at(path: PathBuf) -> Result<Self, RuntimeDirError> {
        let refuse = |errno| RuntimeDirError::Open {
            path: path.clone(),
            errno,
        };
        match mkdirat(nix::fcntl::AT_FDCWD, &path, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(refuse(errno)),
        }
        // A symlink under a sticky /tmp could be anybody's: O_NOFOLLOW.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ELOOP | Errno::ENOTDIR) => return Err(Self::not_ours(path)),
            Err(errno) => return Err(refuse(errno)),
        };
        let stat = fstat(&fd).map_err(refuse)?;
        if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(Self::not_ours(path));
        }
        Ok(Self { path, fd })
    }

    fn not_ours(path: PathBuf) -> RuntimeDirError {
        RuntimeDirError::NotOurs {
            path,
            uid: geteuid().as_raw(),
        }
    }

    /// Takes `name` for a VM of ours, clearing away what a dead supervisor of that name left.
    pub fn claim(&self, name: &str) -> Result<Claim<'_>, RuntimeDirError> {
        let lock_name = format!("{name}.lock");
        let refuse = |source: io::Error| RuntimeDirError::File {
            path: self.path.join(&lock_name),
            source,
        };
        // Twice at most in practice: again only if the holder unlinked the file between our open and our lock.
        let lock = loop {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(&self.fd, lock_name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
                .map_err(|errno| refuse(errno.into()))?;
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, Errno::EWOULDBLOCK)) => return Err(RuntimeDirError::Taken(name.to_owned())),
                Err((_, errno)) => return Err(refuse(errno.into())),
            };
            let ours = fstat(&*lock).map_err(|errno| refuse(errno.into()))?;
            if self.stat(&lock_name).is_some_and(|now| now.st_ino == ours.st_ino) {
                break lock;
            }
        };
        let mut claim = Claim {
            dir: self,
            name: name.to_owned(),
            listener: None,
            _lock: lock,
        };
        self.unlink(format!("{name}.sock"));
        let at = self.socket(name);
        let listener = UnixListener::bind(&at)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| RuntimeDirError::File {
                path: self.path.join(format!("{name}.sock")),
                source,
            })?;
        claim.listener = Some(listener);
        Ok(claim)
    }

    /// The names with a socket, sorted. Some may be leftovers.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".sock")?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Connects to the supervisor of `name`. A leftover of a dead one is cleared away and reads as not found.
    pub fn connect(&self, name: &str) -> io::Result<UnixStream> {
        match UnixStream::connect(self.socket(name)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Taking the name and giving it up again clears both files, unless a new supervisor is just starting.
                drop(self.claim(name));
                Err(io::ErrorKind::NotFound.into())
            }
            other => other,
        }
    }

    /// Through the folder's descriptor: never too long for a socket address, never another folder.
    fn socket(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}.sock", self.fd.as_raw_fd()))
    }

    fn stat(&self, name: &str) -> Option<FileStat> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }

    fn unlink(&self, name: impl AsRef<OsStr>) {
        // Not there is as good as gone; anything else shows when the name is used.
        unlinkat(&self.fd, name.as_ref(), UnlinkatFlags::NoRemoveDir).ok();
    }
}

fn owner(path: &Path) -> Option<u32> {
    let stat = nix::sys::stat::lstat(path).ok()?;
    (SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR).then_some(stat.st_uid)
}

/// A name held by a living supervisor. Dropped, its files are gone.
#[derive(Debug)]
pub struct Claim<'a> {
    dir: &'a RuntimeDir,
    name: String,
    listener: Option<UnixListener>,
    /// Released last, so that nobody takes the name while files are still being removed.
    _lock: Flock<OwnedFd>,
}

impl Claim<'_> {
    /// The control socket, non-blocking.
    pub fn listener(&self) -> Option<&UnixListener> {
        self.listener.as_ref()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.listener.take().is_some() {
            self.dir.unlink(format!("{}.sock", self.name));
        }
        self.dir.unlink(format!("{}.lock", self.name));
    }
}

/// Binds the listening socket of a `socket:` console at `path`, for its owner alone. A socket nobody answers on is
/// replaced; anything else in the way is an error.
pub fn bind_console(path: &Path) -> io::Result<UnixListener> {
    let in_the_way = |text: &str| Err(io::Error::new(io::ErrorKind::AlreadyExists, text.to_owned()));
    match nix::sys::stat::lstat(path) {
        Ok(stat) if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK => {
            return in_the_way("something that is no socket is there; remove it or choose another path");
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return in_the_way("another program listens there; choose another path"),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        },
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    // The process has one thread at this time; the mode must be right from the first instant.
    let before = umask(Mode::S_IRWXG | Mode::S_IRWXO | Mode::S_IXUSR);
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn dir() -> (tempfile::TempDir, RuntimeDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = RuntimeDir::at(parent.path().join("worldswitch")).unwrap();
        (parent, dir)
    }

    #[test]
    fn a_name_is_held_by_one_and_free_again_after() {
        let (_parent, dir) = dir();
        let claim = dir.claim("demo").unwrap();
        assert!(matches!(dir.claim("demo"), Err(RuntimeDirError::Taken(_))));
        assert!(dir.connect("demo").is_ok());
        drop(claim);
        assert_eq!(dir.names(), Vec::<String>::new());
        dir.claim("demo").unwrap();
    }

    #[test]
    fn leftovers_of_a_dead_supervisor_are_cleared_away() {
        let (_parent, dir) = dir();
        drop(UnixListener::bind(dir.path.join("demo.sock")).unwrap());
        assert_eq!(dir.names(), ["demo"]);
        assert_eq!(dir.connect("demo").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(dir.names(), Vec::<String>::new());
        drop(UnixListener::bind(dir.path.join("demo.sock")).unwrap());
        dir.claim("demo").unwrap();
    }

    #[test]
    fn a_symlink_a_file_or_a_folder_open_to_others_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let link = parent.path().join("link");
        symlink(&target, &link).unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        let open = parent.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        for path in [link, file, open] {
            assert!(
                matches!(RuntimeDir::at(path.clone()), Err(RuntimeDirError::NotOurs { .. })),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_lock_that_is_a_symlink_is_not_followed() {
        let (parent, dir) = dir();
        symlink(parent.path().join("victim"), dir.path.join("demo.lock")).unwrap();
        assert!(matches!(dir.claim("demo"), Err(RuntimeDirError::File { .. })));
        assert!(!parent.path().join("victim").exists());
    }

    #[test]
    fn a_console_socket_replaces_only_a_dead_socket() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("console");
        let first = bind_console(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            bind_console(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        drop(first);
        bind_console(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(
            bind_console(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
