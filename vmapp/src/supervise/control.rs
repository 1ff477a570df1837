//! The control socket's server side: a few clients, each with one small request and one answer.
//!
//! Driven by the supervisor's poll loop. A client may be slow, silent or hostile: every call is non-blocking, every
//! buffer bounded, and a client that has neither asked nor taken its answer in `CLIENT_LIMIT` is dropped. Access is
//! limited to this user by the folder the socket is in.

use crate::observe::wire::{MAX_REQUEST, Reply, Request, line};
use nix::poll::PollFlags;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// Most clients at a time; the oldest makes room for the next.
const MAX_CLIENTS: usize = 16;
/// Longest time between a client's arrival and its answer taken.
const CLIENT_LIMIT: Duration = Duration::from_secs(2);

struct Client {
    stream: UnixStream,
    until: Instant,
    asked: Vec<u8>,
    answer: Vec<u8>,
    /// Told of the end by the connection's own end.
    stays: bool,
}

enum Progress {
    Waiting,
    Asked(Result<Request, String>),
    Gone,
}

/// All clients.
#[derive(Default)]
pub struct Clients {
    clients: Vec<Client>,
}

impl Clients {
    /// Takes in whoever waits at the listener, a bounded number.
    pub fn accept(&mut self, listener: &UnixListener, now: Instant) {
        for _ in 0..MAX_CLIENTS {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() >= MAX_CLIENTS {
                self.clients.remove(0);
            }
            self.clients.push(Client {
                stream,
                until: now + CLIENT_LIMIT,
                asked: Vec::new(),
                answer: Vec::new(),
                stays: false,
            });
        }
    }

    /// What to wait for.
    pub fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.clients.iter().map(|client| {
            let events = if client.answer.is_empty() {
                PollFlags::POLLIN
            } else {
                PollFlags::POLLOUT
            };
            (client.stream.as_fd(), events)
        })
    }

    /// When the next client's time is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.clients.iter().filter(|c| !c.stays).map(|c| c.until).min()
    }

    /// Serves every client that can be served; `answer` answers a request.
    pub fn serve(&mut self, now: Instant, mut answer: impl FnMut(Request) -> Reply) {
        self.clients.retain_mut(|client| {
            if now >= client.until && !client.stays {
                return false;
            }
            match client.read() {
                Progress::Gone => return false,
                Progress::Waiting => {}
                Progress::Asked(Ok(request)) => {
                    client.stays = request == Request::StopNow;
                    client.answer = line(&answer(request));
                }
                Progress::Asked(Err(why)) => client.answer = line(&Reply::Error(why)),
            }
            client.write()
        });
    }
}

impl Client {
    /// Reads towards one line. With the answer under way, only the end of the connection matters.
    fn read(&mut self) -> Progress {
        let mut bytes = [0; MAX_REQUEST];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Progress::Gone,
            Ok(_) if self.stays || !self.answer.is_empty() => return Progress::Waiting,
            Ok(count) => self.asked.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Progress::Waiting;
            }
            Err(_) => return Progress::Gone,
        }
        match self.asked.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                Progress::Asked(serde_json::from_slice(&self.asked[..end]).map_err(|error| error.to_string()))
            }
            None if self.asked.len() >= MAX_REQUEST => Progress::Asked(Err("request too long".to_owned())),
            None => Progress::Waiting,
        }
    }

    /// Writes what is left of the answer; false when done with this client.
    fn write(&mut self) -> bool {
        if self.answer.is_empty() {
            return true;
        }
        match self.stream.write(&self.answer) {
            Ok(count) => {
                self.answer.drain(..count);
                !self.answer.is_empty() || self.stays
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (tempfile::TempDir, UnixListener, impl Fn() -> UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        (folder, listener, move || UnixStream::connect(&path).unwrap())
    }

    fn reply(stream: &mut UnixStream) -> Option<Reply> {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        serde_json::from_str(text.trim()).ok()
    }

    #[test]
    fn a_request_in_pieces_is_answered_once() {
        let (_folder, listener, connect) = pair();
        let (mut clients, now) = (Clients::default(), Instant::now());
        let mut client = connect();
        let mut asked = Vec::new();
        clients.accept(&listener, now);
        for piece in ["\"power", "-button\"", "\n"] {
            client.write_all(piece.as_bytes()).unwrap();
            clients.serve(now, |request| {
                asked.push(request);
                Reply::Done
            });
        }
        assert_eq!(asked, [Request::PowerButton]);
        assert_eq!(reply(&mut client), Some(Reply::Done));
    }

    #[test]
    fn nonsense_and_endless_lines_are_answered_with_an_error() {
        for text in [
            "\"no-such-thing\"\n".to_owned(),
            "\n".to_owned(),
            "x".repeat(MAX_REQUEST + 44),
        ] {
            let (_folder, listener, connect) = pair();
            let (mut clients, now) = (Clients::default(), Instant::now());
            let mut client = connect();
            client.write_all(text.as_bytes()).unwrap();
            clients.accept(&listener, now);
            clients.serve(now, |_| panic!("not a request"));
            client.set_nonblocking(true).unwrap();
            let mut got = [0; 200];
            let count = client.read(&mut got).unwrap();
            assert!(got[..count].starts_with(b"{\"error\""), "{text:?}");
        }
    }

    #[test]
    fn silent_clients_are_dropped_and_many_make_room() {
        let (_folder, listener, connect) = pair();
        let (mut clients, now) = (Clients::default(), Instant::now());
        let silent: Vec<_> = (0..MAX_CLIENTS + 5).map(|_| connect()).collect();
        for _ in 0..2 {
            clients.accept(&listener, now);
        }
        assert_eq!(clients.clients.len(), MAX_CLIENTS);
        assert_eq!(clients.deadline(), Some(now + CLIENT_LIMIT));
        clients.serve(now + CLIENT_LIMIT, |_| panic!("nobody asked"));
        assert_eq!(clients.clients.len(), 0);
        drop(silent);
    }

    #[test]
    fn who_asked_to_stop_learns_of_the_end_by_the_connections_end() {
        let (_folder, listener, connect) = pair();
        let (mut clients, now) = (Clients::default(), Instant::now());
        let mut client = connect();
        client.write_all(&line(&Request::StopNow)).unwrap();
        clients.accept(&listener, now);
        clients.serve(now, |_| Reply::Done);
        clients.serve(now + CLIENT_LIMIT * 2, |_| panic!("asked once"));
        client.set_nonblocking(true).unwrap();
        let mut got = [0; 64];
        assert!(client.read(&mut got).unwrap() > 0);
        assert_eq!(client.read(&mut got).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(clients);
        assert_eq!(client.read(&mut got).unwrap(), 0);
    }
}
