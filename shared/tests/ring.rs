//! The ring against a queue, and every relation of its indices and lengths at small sizes.
//!
//! The exhaustive part stands in for proofs: a model checker for Rust (Kani) brings its own compiler and is no part of
//! this build, while the index arithmetic depends only on differences modulo 2^32 and on the slot count, so that small
//! rings at every distance, around zero, around the sign change and around the wrap, cover its cases.

use proptest::prelude::*;
use shared::abi::{RingLayout, RingOffsets, SlotHeader};
use shared::mem::{Mapped, Memory};
use shared::ring::{Consumer, Producer, PushError, RingError};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use zerocopy::IntoBytes;

fn layout(slots: u32) -> RingLayout {
    RingLayout {
        at: 0,
        slots,
        slot_bytes: 64,
    }
}

/// A ring whose indices stand as if it had carried `head` slots, of which `tail` were given back.
fn memory(ring: RingLayout, head: u32, tail: u32) -> Mapped {
    let mem = Mapped::heap(ring.bytes());
    mem.store_u32(RingOffsets::HEAD, head, Relaxed);
    mem.store_u32(RingOffsets::TAIL, tail, Relaxed);
    mem
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>),
    Publish,
    Next,
    Release(u32),
    WantCredit,
    RestartConsumer,
    RestartProducer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..=50).prop_map(Step::Push),
        4 => Just(Step::Publish),
        6 => Just(Step::Next),
        4 => (0u32..5).prop_map(Step::Release),
        1 => Just(Step::WantCredit),
        1 => Just(Step::RestartConsumer),
        1 => Just(Step::RestartProducer),
    ]
}

/// What the ring must behave like: three queues, a message moving from each to the next.
#[derive(Default)]
struct Model {
    pushed: VecDeque<(u64, Vec<u8>)>,
    published: VecDeque<(u64, Vec<u8>)>,
    held: VecDeque<(u64, Vec<u8>)>,
    wanted: bool,
}

impl Model {
    fn used(&self) -> usize {
        self.pushed.len() + self.published.len() + self.held.len()
    }
}

struct Pair {
    mem: Mapped,
    ring: RingLayout,
    producer: Producer<Mapped>,
    consumer: Consumer<Mapped>,
    model: Model,
    next_id: u64,
}

impl Pair {
    fn new(slots: u32, start: u32) -> Self {
        let ring = layout(slots);
        let mem = memory(ring, start, start);
        Self {
            producer: Producer::attach(mem.clone(), ring).unwrap(),
            consumer: Consumer::attach(mem.clone(), ring).unwrap(),
            mem,
            ring,
            model: Model::default(),
            next_id: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        let model = &mut self.model;
        match step {
            Step::Push(payload) => {
                let pushed = self.producer.push(7, self.next_id, &payload);
                if payload.len() > self.ring.payload_max() {
                    let full = model.used() == self.ring.slots as usize;
                    assert!(matches!(pushed, Err(PushError::TooLong { .. })) || full);
                } else if model.used() == self.ring.slots as usize {
                    assert_eq!(pushed, Err(PushError::Full));
                } else {
                    assert_eq!(pushed, Ok(()));
                    model.pushed.push_back((self.next_id, payload));
                    self.next_id += 1;
                }
            }
            Step::Publish => {
                assert_eq!(self.producer.publish(), !model.pushed.is_empty());
                model.published.append(&mut model.pushed);
            }
            Step::Next => {
                let mut payload = vec![0xaa; 7];
                let header = self.consumer.next(&mut payload).unwrap();
                assert_eq!(header.map(|h| (h.id, payload)), model.published.front().cloned());
                assert!(header.is_none_or(|h| h.kind == 7 && h.flags == 0));
                model.held.extend(model.published.pop_front());
            }
            Step::Release(count) => {
                let given = (count as usize).min(model.held.len());
                let told = self.consumer.release(count);
                assert_eq!(told, given > 0 && model.wanted);
                model.wanted &= given == 0;
                model.held.drain(..given);
            }
            Step::WantCredit => {
                let full = model.used() == self.ring.slots as usize;
                assert_eq!(self.producer.want_credit(), Ok(full));
                model.wanted = full;
            }
            Step::RestartConsumer => {
                self.consumer = Consumer::attach(self.mem.clone(), self.ring).unwrap();
                // What the predecessor read and did not give back is seen again, in order.
                model.held.append(&mut model.published);
                std::mem::swap(&mut model.held, &mut model.published);
            }
            Step::RestartProducer => {
                self.producer = Producer::attach(self.mem.clone(), self.ring).unwrap();
                // What the predecessor pushed and did not publish never was.
                model.pushed.clear();
            }
        }
        assert_eq!(self.consumer.held() as usize, self.model.held.len());
        assert_eq!(self.producer.unpublished() as usize, self.model.pushed.len());
        assert_eq!(
            self.producer.credit().unwrap() as usize,
            self.ring.slots as usize - self.model.used()
        );
        assert_eq!(
            self.producer.in_flight() as usize,
            self.model.published.len() + self.model.held.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn behaves_as_a_queue_across_the_wrap(
        slots in prop_oneof![Just(2u32), Just(4), Just(8)],
        before_wrap in prop_oneof![Just(0u32), 1..40u32, any::<u32>()],
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut pair = Pair::new(slots, before_wrap.wrapping_neg());
        for step in steps {
            pair.apply(step);
        }
    }
}

/// Starts worth trying: differences modulo 2^32 behave differently nowhere else.
fn starts() -> impl Iterator<Item = u32> + Clone {
    [0, 1 << 31, u32::MAX]
        .into_iter()
        .flat_map(|around: u32| (0..20).map(move |n| around.wrapping_add(n).wrapping_sub(10)))
}

#[test]
fn attach_accepts_exactly_the_fillings_a_ring_can_have() {
    for slots in [2u32, 4, 8] {
        let ring = layout(slots);
        for tail in starts() {
            for distance in (0..3 * slots)
                .chain((0..2 * slots).map(|n| n.wrapping_neg()))
                .chain([1 << 31])
            {
                let mem = memory(ring, tail.wrapping_add(distance), tail);
                let possible = distance <= slots;
                assert_eq!(
                    Producer::attach(mem.clone(), ring).is_ok(),
                    possible,
                    "{tail:#x}+{distance:#x}"
                );
                assert_eq!(
                    Consumer::attach(mem, ring).is_ok(),
                    possible,
                    "{tail:#x}+{distance:#x}"
                );
            }
        }
    }
}

/// For each filling of the ring and each head the peer could then write: accepted exactly if it lies between what was
/// seen and what the free slots allow.
#[test]
fn consumer_accepts_exactly_the_heads_an_honest_producer_can_write() {
    for slots in [2u32, 4, 8] {
        let ring = layout(slots);
        for tail in starts() {
            for published in 0..=slots {
                for read in 0..=published {
                    for delta in (0..2 * slots + 2).chain((1..2 * slots).map(|n| n.wrapping_neg())) {
                        let mem = memory(ring, tail.wrapping_add(published), tail);
                        let mut consumer = Consumer::attach(mem.clone(), ring).unwrap();
                        for _ in 0..read {
                            consumer.next(&mut Vec::new()).unwrap().unwrap();
                        }
                        let head = tail.wrapping_add(published).wrapping_add(delta);
                        mem.store_u32(RingOffsets::HEAD, head, Relaxed);
                        let expected = (delta <= slots - published).then(|| published - read + delta);
                        match (consumer.ready(), expected) {
                            (Ok(ready), Some(expected)) => assert_eq!(ready, expected),
                            (Err(RingError::Head { .. }), None) => {}
                            (got, _) => {
                                panic!("tail {tail:#x} published {published} delta {delta:#x}: {got:?}")
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn producer_accepts_exactly_the_tails_an_honest_consumer_can_write() {
    for slots in [2u32, 4, 8] {
        let ring = layout(slots);
        for tail in starts() {
            for published in 0..=slots {
                for unpublished in 0..=slots - published {
                    for delta in (0..2 * slots + 2).chain((1..2 * slots).map(|n| n.wrapping_neg())) {
                        let mem = memory(ring, tail.wrapping_add(published), tail);
                        let mut producer = Producer::attach(mem.clone(), ring).unwrap();
                        for id in 0..u64::from(unpublished) {
                            producer.push(0, id, &[]).unwrap();
                        }
                        mem.store_u32(RingOffsets::TAIL, tail.wrapping_add(delta), Relaxed);
                        let expected = (delta <= published).then(|| slots - published - unpublished + delta);
                        match (producer.credit(), expected) {
                            (Ok(credit), Some(expected)) => assert_eq!(credit, expected),
                            (Err(RingError::Tail { .. }), None) => {}
                            (got, _) => {
                                panic!("tail {tail:#x} published {published} delta {delta:#x}: {got:?}")
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_length_up_to_the_payload_is_carried_and_none_beyond() {
    let ring = layout(2);
    for len in 0..=ring.payload_max() + 2 {
        let mut pair = Pair::new(2, u32::MAX);
        let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let pushed = pair.producer.push(1, 2, &payload);
        if len > ring.payload_max() {
            let max = ring.payload_max();
            assert_eq!(pushed, Err(PushError::TooLong { len, max }));
            assert_eq!(pair.producer.unpublished(), 0, "a refused slot is not taken");
            continue;
        }
        pushed.unwrap();
        pair.producer.publish();
        let mut got = Vec::new();
        let header = pair.consumer.next(&mut got).unwrap().unwrap();
        assert_eq!((header.len as usize, got), (len, payload));
    }
}

#[test]
fn a_slot_that_announces_more_than_fits_is_an_error_once_and_passed_over() {
    let ring = layout(2);
    for len in (0..=ring.payload_max() as u32 + 2).chain([1 << 16, u32::MAX - 15, u32::MAX]) {
        let mut pair = Pair::new(2, 0);
        pair.producer.push(1, 1, &[]).unwrap();
        pair.producer.push(1, 2, b"next").unwrap();
        pair.producer.publish();
        let header = SlotHeader {
            len,
            ..Default::default()
        };
        pair.mem.write(RingOffsets::SLOTS, header.as_bytes());
        let mut payload = Vec::new();
        let first = pair.consumer.next(&mut payload);
        if len as usize <= ring.payload_max() {
            assert_eq!((first, payload.len()), (Ok(Some(header)), len as usize));
        } else {
            let max = ring.payload_max();
            assert_eq!(first, Err(RingError::Length { index: 0, len, max }));
        }
        assert_eq!(pair.consumer.next(&mut payload).unwrap().unwrap().id, 2);
        assert_eq!(payload, b"next");
        assert_eq!(pair.consumer.held(), 2, "both slots can be given back");
    }
}

#[test]
fn a_slot_filled_piecewise_is_one_payload_and_a_dropped_one_never_was() {
    let mut pair = Pair::new(2, 0);
    pair.producer.reserve().unwrap().append(b"lost").unwrap();
    let mut slot = pair.producer.reserve().unwrap();
    for part in [&b"one "[..], b"", b"pay", b"load"] {
        slot.append(part).unwrap();
    }
    let too_long = slot.append(&[0; 64]);
    assert!(matches!(too_long, Err(PushError::TooLong { .. })), "{too_long:?}");
    slot.commit(3, 5, 9);
    assert!(pair.producer.publish());
    let mut payload = Vec::new();
    let header = pair.consumer.next(&mut payload).unwrap().unwrap();
    assert_eq!(payload, b"one payload");
    assert_eq!((header.kind, header.flags, header.id), (3, 5, 9));
    assert_eq!(pair.consumer.next(&mut payload), Ok(None));
}
