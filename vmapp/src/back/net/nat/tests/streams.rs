//! Two of our own connections facing each other over a network that loses, repeats and reorders as proptest likes: what one
//! host gives is what the other takes, in order, whole, and both ends close.

use super::super::tcp::MSS;
use super::super::tcp::connection::{Connection, Outgoing, State};
use super::super::tcp::seq::Seq;
use proptest::prelude::*;
use smoltcp::wire::{TcpControl, TcpRepr};
use std::time::Duration;

/// A segment under way.
#[derive(Clone, Debug)]
struct Carried {
    outgoing: Outgoing,
    scaled: bool,
    text: Vec<u8>,
}

impl Carried {
    fn repr(&self) -> TcpRepr<'_> {
        let piece = self.outgoing.piece;
        TcpRepr {
            src_port: 1,
            dst_port: 2,
            control: match (piece.syn, piece.fin) {
                (true, _) => TcpControl::Syn,
                (_, true) => TcpControl::Fin,
                _ => TcpControl::None,
            },
            seq_number: piece.seq.into(),
            ack_number: self.outgoing.ack.map(Into::into),
            window_len: self.outgoing.window,
            window_scale: (piece.syn && self.scaled).then_some(super::super::tcp::connection::SHIFT),
            max_seg_size: piece.syn.then_some(MSS as u16),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &self.text,
        }
    }
}

/// One end, and the host behind it.
struct End {
    connection: Connection,
    gives: Vec<u8>,
    given: usize,
    took: Vec<u8>,
}

impl End {
    fn new(connection: Connection, gives: Vec<u8>) -> Self {
        Self {
            connection,
            gives,
            given: 0,
            took: Vec::new(),
        }
    }

    /// The host gives and takes, at most so many octets a time.
    fn host(&mut self, most: usize) {
        if self.connection.hungry() {
            let rest = &self.gives[self.given..];
            if rest.is_empty() {
                self.connection.end_stream();
            }
            let filled = self.connection.fill(|place| {
                let count = rest.len().min(place.len()).min(most);
                place[..count].copy_from_slice(&rest[..count]);
                Ok::<_, ()>(count)
            });
            self.given += filled.unwrap();
        }
        let took = &mut self.took;
        let taken = self.connection.drain(|octets| {
            let count = octets.len().min(most);
            took.extend_from_slice(&octets[..count]);
            Ok::<_, ()>(count)
        });
        taken.unwrap();
    }

    fn next(&mut self, now: Duration) -> Option<Carried> {
        let outgoing = self.connection.next(now)?;
        let mut text = vec![0; outgoing.piece.len];
        self.connection.copy(&outgoing.piece, &mut text);
        Some(Carried {
            outgoing,
            scaled: self.connection.offers_scaling(),
            text,
        })
    }

    fn is_done(&self) -> bool {
        self.connection.guest_done() && matches!(self.connection.state(), State::TimeWait | State::Closed)
    }

    /// Whether all is said, and of this end perhaps only the last acknowledgement missing, which an `other` whose
    /// TIME-WAIT is over gives no more.
    fn is_over(&self, other: &Self) -> bool {
        self.is_done() || self.connection.guest_done() && other.connection.state() == State::Closed
    }
}

fn octets(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed)
        .collect()
}

/// What the network does to one segment: of so many fates, one loses it.
fn fate(code: u8, queue: &mut Vec<Carried>, carried: Carried) {
    match code {
        0 => {}
        2 => queue.extend([carried.clone(), carried]),
        3 => queue.insert(queue.len() / 2, carried),
        4 => queue.insert(0, carried),
        _ => queue.push(carried),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn both_streams_arrive_whole_whatever_the_network_does(
        sizes in (0_usize..300_000, 0_usize..300_000),
        isses in any::<(u32, u32)>(),
        most in 100_usize..40_000,
        seed in any::<u64>(),
        // One segment in so many is lost, each way. Worse than ten, seven retransmissions in a row fail now and then, and
        // giving up is right.
        rough in 10_u8..64,
    ) {
        let mut now = Duration::from_secs(1);
        let mut asks = End::new(Connection::ask(Seq(isses.0)), octets(sizes.0, 1));
        let syn = asks.next(now).expect("a SYN");
        let mut answers = End::new(Connection::answer(Seq(isses.1), &syn.repr()), octets(sizes.1, 2));
        let (mut there, mut back) = (Vec::new(), Vec::new());
        let mut state = seed;
        let mut code = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8 % rough
        };
        for step in 0.. {
            prop_assert!(step < 200_000, "no end: {:?} {:?}", asks.connection.state(), answers.connection.state());
            asks.host(most);
            answers.host(most);
            // A few segments a step each way, so that some are under way together.
            for _ in 0..4 {
                if let Some(carried) = asks.next(now) {
                    fate(code(), &mut there, carried);
                }
                if let Some(carried) = answers.next(now) {
                    fate(code(), &mut back, carried);
                }
            }
            let idle = there.is_empty() && back.is_empty();
            for carried in there.drain(..) {
                answers.connection.segment(now, &carried.repr());
            }
            for carried in back.drain(..) {
                asks.connection.segment(now, &carried.repr());
            }
            if asks.is_over(&answers) && answers.is_over(&asks) {
                break;
            }
            now += if idle { Duration::from_millis(20) } else { Duration::from_micros(100) };
            for end in [&mut asks, &mut answers] {
                prop_assert!(end.connection.expire(now), "given up: {:?}", end.connection.state());
            }
        }
        prop_assert!(asks.took == answers.gives, "to the asking end");
        prop_assert!(answers.took == asks.gives, "to the answering end");
    }
}
