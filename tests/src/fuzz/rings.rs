//! The shared memory against a hostile peer: headers nobody of ours wrote, indices that jump, slots that change.

use super::input::Input;
use shared::abi::{ChannelKind, ChannelShape, Header, Layout, RINGS_AT, RingLayout, RingOffsets};
use shared::mem::{Mapped, Memory};
use shared::ring::{Consumer, Producer};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering::Relaxed;
use vmdriver_shim::memory::SharedMemory;
use zerocopy::{FromBytes, IntoBytes};

/// A header of two channels, overwritten in places, or nothing but the input; whatever [`Layout::check`]
/// accepts must be a memory on which no ring leaves its place.
pub fn layout(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let shape = |kind| ChannelShape {
        kind,
        down_slots: 8,
        up_slots: 4,
        slot_bytes: 128,
    };
    let plan = Layout::plan(&[shape(ChannelKind::Control), shape(ChannelKind::Net)]);
    let mut image = plan.expect("a layout of our own").header().as_bytes().to_vec();
    let mut actual = FromBytes::read_from_bytes(&image)
        .map(|header: Header| header.total_bytes)
        .unwrap_or(0);
    if input.flag() {
        actual = input.number(8);
    }
    if input.flag() {
        let rest = input.rest();
        let count = rest.len().min(image.len());
        image[..count].copy_from_slice(&rest[..count]);
    }
    while !input.is_empty() {
        let at = input.number(2) as usize % image.len();
        let count = (usize::from(input.byte()) % 8 + 1).min(image.len() - at);
        image[at..at + count].copy_from_slice(&input.number(count).to_le_bytes()[..count]);
    }
    let header = Header::read_from_bytes(&image).expect("the image has the header's size");
    let checked = Layout::check(&header, actual);
    if let Ok(layout) = &checked {
        assert_eq!(layout.total() as u64, actual);
        let mut end = RINGS_AT;
        for ring in layout
            .channels()
            .iter()
            .flat_map(|channel| [channel.down, channel.up])
        {
            assert!(ring.at >= end, "{ring:?} begins before {end:#x}");
            end = ring.at + ring.bytes();
            let last = ring.slot_at(ring.slots - 1) + ring.slot_bytes as usize;
            assert!(last <= end && ring.slot_at(u32::MAX) < end);
        }
        assert!(end <= layout.total());
        assert_eq!(Layout::check(&layout.header(), actual).as_ref(), Ok(layout));
    }
    digest(&format!("{checked:?}"))
}

const RING: RingLayout = RingLayout {
    at: 0,
    slots: 8,
    slot_bytes: 64,
};

/// Both ends of one ring over memory a peer writes at any place and time.
pub fn ring(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let memory = Mapped::heap(RING.bytes());
    for word in [RingOffsets::HEAD, RingOffsets::TAIL] {
        memory.store_u32(word, input.number(4) as u32, Relaxed);
    }
    let consumer = Consumer::attach(memory.clone(), RING);
    let producer = Producer::attach(memory.clone(), RING);
    let (Ok(mut consumer), Ok(mut producer)) = (consumer, producer) else {
        return digest("refused");
    };
    let mut seen = DefaultHasher::new();
    let mut payload = Vec::new();
    while !input.is_empty() {
        let what = match input.byte() % 8 {
            0 => format!("{:?}", consumer.ready()),
            1 => format!("{:?} {payload:?}", consumer.next(&mut payload)),
            2 => {
                let _owed = consumer.release(input.number(4) as u32);
                String::new()
            }
            3 => format!("{:?}", producer.credit()),
            4 => {
                let bytes = vec![0x5a; usize::from(input.byte())];
                format!(
                    "{:?}",
                    producer.push(input.number(2) as u16, input.number(8), &bytes)
                )
            }
            5 => format!("{}", producer.publish()),
            6 => {
                let word = input.choose(&[RingOffsets::HEAD, RingOffsets::TAIL, RingOffsets::WANTED]);
                memory.store_u32(word, input.number(4) as u32, Relaxed);
                String::new()
            }
            _ => {
                let at = input.number(2) as usize % (RING.bytes() - 8);
                memory.write(at, &input.number(8).to_le_bytes());
                String::new()
            }
        };
        what.hash(&mut seen);
        assert!(payload.len() <= RING.payload_max());
        assert!(
            consumer.held() <= RING.slots,
            "{} of {} slots held",
            consumer.held(),
            RING.slots
        );
        assert!(producer.unpublished() <= RING.slots);
    }
    seen.finish()
}

fn digest(what: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What a hostile peer does to a slot of one of `rings`: up to eight bytes, beginning among the first `within`.
pub(super) fn scribble_slot(
    memory: &SharedMemory,
    rings: &[RingLayout],
    within: usize,
    input: &mut Input<'_>,
) {
    let ring = input.choose(rings);
    let at = usize::from(input.byte()) % within;
    let count = usize::from(input.byte()) % 8 + 1;
    let slot = ring.slot_at(u32::from(input.byte()));
    let bytes = input.number(count).to_le_bytes();
    memory.mem().write(slot + at, &bytes[..count]);
}

/// What a hostile peer does to an index, or the wish for credit, of one of `rings`.
pub(super) fn scribble_index(memory: &SharedMemory, rings: &[RingLayout], input: &mut Input<'_>) {
    let ring = input.choose(rings);
    let word = input.choose(&[RingOffsets::HEAD, RingOffsets::TAIL, RingOffsets::WANTED]);
    let near = input.flag();
    let value = input.number(if near { 1 } else { 4 }) as u32;
    memory.mem().store_u32(ring.at + word, value, Relaxed);
}
