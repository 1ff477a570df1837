//! `serial = "pty"`: a pseudo-terminal whose slave any terminal program may open.
//!
//! The supervisor made it, set it raw and printed the slave's path. While nobody has the slave open, output is dropped,
//! as QEMU's users expect: a guest must not stall because nobody looks, and a late visitor wants the present, not the
//! kernel's stale 4 KiB. While somebody has it open and does not read, the guest waits.

use super::host_fd::{HostFd, Io};
use super::{Console, RECHECK, Wanted, Wrote, both_ways};
use crate::back::Interests;
use std::os::fd::AsFd;

/// The master.
#[derive(Debug)]
pub struct Pty {
    master: HostFd,
}

impl Pty {
    /// `master` must have had its slave opened and closed once, so that an unplugged slave shows as a hang-up.
    pub fn new(master: HostFd) -> Self {
        Self { master }
    }
}

impl Console for Pty {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        if self.master.hung_up() {
            return Wrote::Dropped(bytes.len());
        }
        match self.master.write(bytes) {
            Io::Done(count) => Wrote::Out(count),
            Io::WouldBlock => Wrote::Blocked,
            Io::Closed | Io::Failed(_) => Wrote::Dropped(bytes.len()),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        match self.master.read(into) {
            Io::Done(count) => count,
            // EIO while the slave is closed.
            Io::WouldBlock | Io::Closed | Io::Failed(_) => 0,
        }
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        // A hung-up master polls ready for ever, so it is looked at now and then instead.
        if self.master.hung_up() {
            return Interests {
                within: Some(RECHECK),
                ..Interests::default()
            };
        }
        Interests {
            fds: [both_ways(self.master.as_fd(), wanted), None],
            within: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::pty::openpty;
    use nix::unistd::{read, write};

    #[test]
    fn output_is_dropped_while_unplugged_and_flows_when_somebody_comes() {
        let pair = openpty(None, None).unwrap();
        let path = nix::unistd::ttyname(&pair.slave).unwrap();
        drop(pair.slave);
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut pty = Pty::new(HostFd::new(pair.master).unwrap());
        assert_eq!(pty.write(b"early"), Wrote::Dropped(5));
        let wanted = Wanted {
            input: true,
            output: true,
        };
        assert!(pty.interests(wanted).fds.iter().all(Option::is_none));

        let visitor = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        assert_eq!(pty.write(b"now\n"), Wrote::Out(4));
        let mut got = [0; 16];
        assert_eq!(read(&visitor, &mut got).unwrap(), 4);
        assert_eq!(&got[..4], b"now\n");
        write(&visitor, b"in\n").unwrap();
        assert!(pty.read(&mut got) >= 3);
        drop(visitor);
        assert_eq!(pty.write(b"late"), Wrote::Dropped(4));
    }
}
