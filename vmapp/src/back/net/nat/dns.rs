//! The name server: a question goes to the host's name servers, one after the other until one answers, each time from a
//! new port that only this question uses (RFC 5452); the answer goes back as it is.
//!
//! Nothing is cached and nothing of an answer is interpreted but its identifier. Questions over TCP are a TCP flow with
//! the host's servers as its peers ([`super::tcp`]).

use super::host::{Host, Token};
use super::router::Router;
use super::table::{Id, Table};
use super::tally::Loss;
use super::wire::{BODY, DATAGRAM_MAX, Line, UDP};
use crate::back::net::Sent;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The port.
pub const PORT: u16 = 53;
/// Most questions under way.
pub const QUESTIONS: u16 = 64;
/// How long a server has. A resolver asks again after five seconds: by then two servers had their chance.
const WAIT: Duration = Duration::from_millis(2000);
/// How often the list is gone through.
const ROUNDS: usize = 2;
/// Datagrams looked at for one answer: whoever sends wrong ones must not keep us here.
const LOOKS: usize = 16;
/// Octets of a message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// Flags and code of an answer that names only a fault.
const SERVER_FAILURE: [u8; 2] = [0x80, 0x82];
/// Of one that is too long for a datagram: ask again over TCP.
const TRUNCATED: [u8; 2] = [0x82, 0x80];

/// The guest's port and the question's identifier.
type Key = (u16, [u8; 2]);

#[derive(Debug)]
struct Question<S> {
    message: Box<[u8]>,
    socket: Option<S>,
    tries: usize,
    until: Duration,
}

/// All questions under way.
#[derive(Debug)]
pub struct Dns<S> {
    servers: Vec<SocketAddr>,
    questions: Table<Key, Question<S>>,
    readable: VecDeque<Id>,
    next_timeout: Option<Duration>,
}

impl<S> Dns<S> {
    /// For these servers of the host, in order.
    pub fn new(servers: &[IpAddr]) -> Self {
        Self {
            servers: servers.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect(),
            questions: Table::new(QUESTIONS),
            readable: VecDeque::new(),
            next_timeout: None,
        }
    }

    /// The servers.
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Whether there may be something for the guest.
    pub fn is_ready(&self) -> bool {
        !self.readable.is_empty()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.next_timeout
    }

    /// A question's socket is readable.
    pub fn event(&mut self, id: Id) {
        if !self.readable.contains(&id) {
            self.readable.push_back(id);
        }
    }

    /// Takes a question of the guest.
    pub fn ask<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, port: u16, message: &[u8]) -> Sent {
        let (Some(&[a, b]), true) = (message.first_chunk(), message.len() >= HEADER) else {
            router.tally.add(Loss::Malformed);
            return Sent::Dropped;
        };
        let key = (port, [a, b]);
        // Asked again before the answer: begin with the next server.
        let old = self.questions.find(&key).and_then(|id| self.questions.remove(id));
        let tries = old.map_or(0, |(_, old)| old.tries);
        if self.questions.is_full() {
            let oldest = self
                .questions
                .iter()
                .min_by_key(|(_, _, question)| question.until);
            if let Some(id) = oldest.map(|(id, ..)| id) {
                self.questions.remove(id);
                router.tally.add(Loss::Evicted);
            }
        }
        let question = Question {
            message: message.into(),
            socket: None,
            tries,
            until: router.now(),
        };
        match self.questions.insert(key, question) {
            Ok(id) => self.try_next(router, id),
            Err(_) => router.tally.add(Loss::Full),
        }
        Sent::Out
    }

    /// Asks the next server that takes the question; answers for them when none is left.
    fn try_next<H: Host<Socket = S>>(&mut self, router: &mut Router<H>, id: Id) {
        let now = router.now();
        while let Some((_, question)) = self.questions.get(id) {
            question.socket = None;
            let tries = question.tries;
            question.tries += 1;
            let Some(&server) = self.servers.get(tries % self.servers.len().max(1)) else {
                break;
            };
            if tries >= self.servers.len() * ROUNDS {
                break;
            }
            let host = &mut router.host;
            let asked = host.datagram(server).and_then(|socket| {
                host.watch(&socket, Token::Dns(id))?;
                host.send(&socket, &question.message)?;
                Ok(socket)
            });
            if let Ok(socket) = asked {
                question.socket = Some(socket);
                question.until = now + WAIT;
                self.next_timeout = Some(self.next_timeout.map_or(now + WAIT, |at| at.min(now + WAIT)));
                return;
            }
        }
        if let Some(((port, _), question)) = self.questions.remove(id) {
            answer_fault(router, port, &question.message, SERVER_FAILURE);
        }
    }

    /// Gives the questions that waited too long to the next server.
    pub fn expire<H: Host<Socket = S>>(&mut self, router: &mut Router<H>) {
        let now = router.now();
        if self.next_timeout.is_none_or(|at| now < at) {
            return;
        }
        self.next_timeout = None;
        let late: Vec<Id> = (self.questions.iter())
            .filter(|(_, _, question)| question.until <= now)
            .map(|(id, ..)| id)
            .collect();
        for id in late {
            self.try_next(router, id);
        }
        self.next_timeout = self.questions.iter().map(|(_, _, question)| question.until).min();
    }

    /// The next answer for the guest, as a frame.
    pub fn incoming<H: Host<Socket = S>>(
        &mut self,
        router: &mut Router<H>,
        into: &mut [u8],
    ) -> Option<usize> {
        for _ in 0..LOOKS {
            let &id = self.readable.front()?;
            let Some(((port, ident), question)) = self.questions.get(id) else {
                self.readable.pop_front();
                continue;
            };
            let Some(socket) = &question.socket else {
                self.readable.pop_front();
                continue;
            };
            let place = into.get_mut(BODY + UDP..).unwrap_or_default();
            match router.host.recv(socket, place) {
                // Somebody else's answer on this port: the right one may follow.
                Ok(len) if len < HEADER || place.first_chunk() != Some(&ident) => {}
                Ok(len) => {
                    self.readable.pop_front();
                    let (_, question) = self.questions.remove(id)?;
                    if len > DATAGRAM_MAX {
                        answer_fault(router, port, &question.message, TRUNCATED);
                        return router.outbox.pop(into);
                    }
                    let line = line(router, port);
                    return Some(router.cable.udp(into, &line, len, |_| {}));
                }
                Err(Errno::EAGAIN) => {
                    self.readable.pop_front();
                }
                Err(_) => {
                    self.readable.pop_front();
                    self.try_next(router, id);
                }
            }
        }
        None
    }
}

fn line<H: Host>(router: &Router<H>, port: u16) -> Line {
    Line {
        from: router.plan.dns(),
        from_port: PORT,
        to: router.plan.guest(),
        to_port: port,
    }
}

/// Answers with the question alone and these flags; RD is the question's.
fn answer_fault<H: Host>(router: &mut Router<H>, port: u16, message: &[u8], flags: [u8; 2]) {
    let Some(&[a, b, asked, ..]) = message.first_chunk::<HEADER>() else {
        return;
    };
    let question = question(message).unwrap_or_default();
    let count = u8::from(!question.is_empty());
    // Opcode and RD are the question's (RFC 1035, 4.1.1).
    let first = flags[0] | asked & 0x79;
    let mut answer = vec![a, b, first, flags[1], 0, count, 0, 0, 0, 0, 0, 0];
    answer.extend_from_slice(question);
    let line = line(router, port);
    router.answer_udp(&line, &answer);
}

/// The one question's name, type and class; nothing if there is not exactly one, or it is not plain.
fn question(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let rest = message.get(HEADER..)?;
    let mut at = 0;
    loop {
        let label = usize::from(*rest.get(at)?);
        at += 1;
        match label {
            0 => return rest.get(..at + 4),
            1..=63 if at <= 255 => at += label,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_found_only_where_it_holds_together() {
        let message = |count: u8, rest: &[u8]| [&[1, 2, 1, 0, 0, count, 0, 0, 0, 0, 0, 0], rest].concat();
        let plain = b"\x03foo\x00\x00\x01\x00\x01";
        assert_eq!(question(&message(1, plain)), Some(&plain[..]));
        let bad: [(u8, &[u8]); 5] = [
            (2, plain),
            (1, b"\x03fo"),
            (1, b"\xc0\x0c\x00\x01\x00\x01"),
            (1, b"\x3f"),
            (1, b"\x03foo\x00\x00\x01"),
        ];
        for (count, rest) in bad {
            assert_eq!(question(&message(count, rest)), None, "{rest:?}");
        }
        assert_eq!(
            question(&message(1, &[1; 600])),
            None,
            "a name is at most 255 octets"
        );
    }
}
