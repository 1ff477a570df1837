//! `serial = "socket:PATH"`: a Unix stream socket, one client at a time.
//!
//! The supervisor listens and accepts, keeps the client from worker to worker, and lends it to us. The next one waits in its
//! backlog until the present one hangs up or closes its writing half, and the supervisor was told. Output without a client
//! is dropped; a client that does not read makes the guest wait.

use super::host_fd::{HostFd, Io};
use super::{Console, RECHECK, Wanted, Wrote, both_ways};
use crate::back::Interests;
use std::os::fd::{AsFd, OwnedFd};

/// The client, if there is one.
#[derive(Debug, Default)]
pub struct Socket {
    client: Option<HostFd>,
    /// It is gone, and the supervisor was not told.
    owes_gone: bool,
}

impl Socket {
    /// `client` was connected to a predecessor.
    pub fn new(client: Option<HostFd>) -> Self {
        Self {
            client,
            owes_gone: false,
        }
    }

    fn hang_up(&mut self) {
        self.client = None;
        self.owes_gone = true;
    }
}

impl Console for Socket {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        match self.client.as_ref().map(|client| client.write(bytes)) {
            Some(Io::Done(count)) => Wrote::Out(count),
            Some(Io::WouldBlock) => Wrote::Blocked,
            Some(Io::Closed | Io::Failed(_)) => {
                self.hang_up();
                Wrote::Dropped(bytes.len())
            }
            None => Wrote::Dropped(bytes.len()),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        match self.client.as_ref().map(|client| client.read(into)) {
            Some(Io::Done(count)) => count,
            Some(Io::WouldBlock) | None => 0,
            Some(Io::Closed | Io::Failed(_)) => {
                self.hang_up();
                0
            }
        }
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        let client = self.client.as_ref();
        Interests {
            fds: [client.and_then(|client| both_ways(client.as_fd(), wanted)), None],
            // The word did not fit, and nothing tells when it does.
            within: self.owes_gone.then_some(RECHECK),
        }
    }

    fn take_client(&mut self, client: OwnedFd) {
        match HostFd::new(client) {
            // Two at a time would not be the supervisor's doing: the one that is served stays.
            Ok(client) if self.client.is_none() => self.client = Some(client),
            Ok(_) => {}
            Err(_) => self.owes_gone = true,
        }
    }

    fn owes_gone(&self) -> bool {
        self.owes_gone
    }

    fn told_gone(&mut self) {
        self.owes_gone = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn one_client_at_a_time_and_its_end_is_owed_until_told() {
        let mut console = Socket::default();
        assert_eq!(console.write(b"nobody"), Wrote::Dropped(6));
        assert!(!console.owes_gone(), "nobody left");

        let (mut first, ours) = UnixStream::pair().unwrap();
        let (mut second, theirs) = UnixStream::pair().unwrap();
        console.take_client(ours.into());
        console.take_client(theirs.into());
        assert_eq!(second.read(&mut [0]).unwrap(), 0, "hung up on");
        first.write_all(b"one").unwrap();
        let mut got = [0; 8];
        assert_eq!(console.read(&mut got), 3);
        assert_eq!(&got[..3], b"one");
        assert_eq!(console.write(b"hello"), Wrote::Out(5));
        let mut hello = [0; 5];
        first.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");

        drop(first);
        assert!(!console.owes_gone());
        assert_eq!(console.read(&mut got), 0, "the first client's end");
        assert!(console.owes_gone());
        assert!(console.owes_gone(), "a word that was not sent stays owed");
        console.told_gone();
        assert!(!console.owes_gone());
        let (mut third, ours) = UnixStream::pair().unwrap();
        console.take_client(ours.into());
        third.write_all(b"three").unwrap();
        assert_eq!(console.read(&mut got), 5);
    }

    #[test]
    fn a_client_that_does_not_read_blocks_and_loses_nothing() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let mut console = Socket::new(Some(HostFd::new(ours.into()).unwrap()));
        let mut out = 0;
        while let Wrote::Out(count) = console.write(&[b'.'; 1000]) {
            out += count;
        }
        client.set_nonblocking(true).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap_err();
        assert_eq!(all.len(), out);
        assert_eq!(console.write(b"again"), Wrote::Out(5));
    }
}
