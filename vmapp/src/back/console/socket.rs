//! `serial = "socket:PATH"`: a listening Unix stream socket, one client at a time.
//!
//! The supervisor made the socket. The next client waits in the backlog until the present one hangs up or closes its
//! writing half. Output without a client is dropped; a client that does not read makes the guest wait.

use super::host_fd::{HostFd, Io};
use super::{ClientNews, Console, Wanted, Wrote, both_ways};
use crate::back::{Interest, Interests};
use nix::poll::PollFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// The listener and its client.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    client: Option<HostFd>,
    /// There is another client, or none, since the last asking.
    news: bool,
}

impl Socket {
    /// `listener` is a bound, listening stream socket; `client` was connected to a predecessor.
    pub fn new(listener: OwnedFd, client: Option<HostFd>) -> std::io::Result<Self> {
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            client,
            news: false,
        })
    }

    /// The client, or the next one if there is none.
    fn client(&mut self) -> Option<&HostFd> {
        if self.client.is_none() {
            let (stream, _) = self.listener.accept().ok()?;
            self.client = HostFd::new(stream.into()).ok();
            self.news = true;
        }
        self.client.as_ref()
    }

    fn hang_up(&mut self) {
        self.client = None;
        self.news = true;
    }
}

impl Console for Socket {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        match self.client().map(|client| client.write(bytes)) {
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
        match self.client().map(|client| client.read(into)) {
            Some(Io::Done(count)) => count,
            Some(Io::WouldBlock) | None => 0,
            Some(Io::Closed | Io::Failed(_)) => {
                self.hang_up();
                0
            }
        }
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        let interest = match &self.client {
            Some(client) => both_ways(client.as_fd(), wanted),
            None => Some(Interest {
                fd: self.listener.as_fd(),
                events: PollFlags::POLLIN,
            }),
        };
        Interests {
            fds: [interest, None],
            within: None,
        }
    }

    fn client_news(&mut self) -> Option<ClientNews> {
        if !std::mem::take(&mut self.news) {
            return None;
        }
        let client = self.client.as_ref();
        // One that cannot be kept is served all the same, and lost with this worker.
        let again = client.and_then(|client| client.as_fd().try_clone_to_owned().ok());
        Some(again.map_or(ClientNews::Gone, ClientNews::Here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn one_client_at_a_time_and_the_next_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let mut console = Socket::new(UnixListener::bind(&path).unwrap().into(), None).unwrap();
        assert_eq!(console.write(b"nobody"), Wrote::Dropped(6));

        let mut first = UnixStream::connect(&path).unwrap();
        let mut second = UnixStream::connect(&path).unwrap();
        first.write_all(b"one").unwrap();
        second.write_all(b"two").unwrap();
        let mut got = [0; 8];
        assert_eq!(console.read(&mut got), 3);
        assert_eq!(&got[..3], b"one");
        assert_eq!(console.write(b"hello"), Wrote::Out(5));
        let mut hello = [0; 5];
        first.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello");

        drop(first);
        assert!(matches!(console.client_news(), Some(ClientNews::Here(_))));
        assert!(console.client_news().is_none());
        assert_eq!(console.read(&mut got), 0, "the first client's end");
        assert!(matches!(console.client_news(), Some(ClientNews::Gone)));
        assert_eq!(console.read(&mut got), 3);
        assert_eq!(&got[..3], b"two");
    }

    #[test]
    fn a_client_that_does_not_read_blocks_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let mut console = Socket::new(UnixListener::bind(&path).unwrap().into(), None).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
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
