//! The header: its bytes are pinned, and every field of it is judged.

use shared::abi::{
    ABI_VERSION, ChannelDesc, ChannelKind, ChannelShape, Header, Layout, LayoutError, MAGIC, MAX_CHANNELS,
    MAX_SLOT_BYTES, MAX_SLOTS, PAGE, RINGS_AT,
};
use zerocopy::IntoBytes;

const SHAPES: [ChannelShape; 2] = [
    ChannelShape {
        kind: ChannelKind::Control,
        down_slots: 16,
        up_slots: 16,
        slot_bytes: 256,
    },
    ChannelShape {
        kind: ChannelKind::Console,
        down_slots: 64,
        up_slots: 16,
        slot_bytes: 512,
    },
];

fn good() -> (Header, u64) {
    let layout = Layout::plan(&SHAPES).unwrap();
    (layout.header(), layout.total() as u64)
}

/// Changing these bytes is changing the ABI: raise [`ABI_VERSION`] with them.
#[test]
fn header_bytes_are_those_of_abi_version_1() {
    assert_eq!(ABI_VERSION, 1);
    #[rustfmt::skip]
    let golden: [u8; 128] = [
        b'W', b'S', b'W', b'I', b'T', b'C', b'H', 0,    1, 0, 0, 0,         2, 0, 0, 0,
        0x00, 0x40, 0x01, 0, 0, 0, 0, 0,                0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,                         0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,                         0, 0, 0, 0, 0, 0, 0, 0,
        // control: 16 and 16 slots of 256 bytes; down at 0x4000, up at 0x6000
        1, 0, 0, 0,         16, 0, 0, 0,                16, 0, 0, 0,        0x00, 0x01, 0, 0,
        0x00, 0x40, 0, 0, 0, 0, 0, 0,                   0x00, 0x60, 0, 0, 0, 0, 0, 0,
        // console: 64 and 16 slots of 512 bytes; down at 0x8000, up at 0x11000
        2, 0, 0, 0,         64, 0, 0, 0,                16, 0, 0, 0,        0x00, 0x02, 0, 0,
        0x00, 0x80, 0, 0, 0, 0, 0, 0,                   0x00, 0x10, 0x01, 0, 0, 0, 0, 0,
    ];
    let (header, _) = good();
    assert_eq!(header.as_bytes()[..128], golden);
    assert!(
        header.as_bytes()[128..].iter().all(|&b| b == 0),
        "unused rows are zero"
    );
}

#[test]
fn planned_header_is_accepted_and_gives_the_plan_back() {
    let (header, total) = good();
    assert_eq!(Layout::check(&header, total), Layout::plan(&SHAPES));
}

type Change = fn(&mut Header);

const WRONG: &[(&str, Change, LayoutError)] = &[
    ("magic", |h| h.magic ^= 1, LayoutError::Magic(MAGIC ^ 1)),
    ("version", |h| h.version = 2, LayoutError::Version { found: 2 }),
    ("no channels", |h| h.channels = 0, LayoutError::Channels(0)),
    ("65 channels", |h| h.channels = 65, LayoutError::Channels(65)),
    (
        "all ones",
        |h| h.channels = u32::MAX,
        LayoutError::Channels(u32::MAX),
    ),
    ("row missing", |h| h.channels = 3, LayoutError::UnknownKind(0)),
    ("kind", |h| h.table[1].kind = 9, LayoutError::UnknownKind(9)),
    ("no control", |h| h.table[0].kind = 2, LayoutError::Control(0)),
    ("two controls", |h| h.table[1].kind = 1, LayoutError::Control(1)),
    (
        "down slots odd",
        |h| h.table[1].down_slots = 63,
        LayoutError::Slots {
            channel: 1,
            slots: 63,
        },
    ),
    (
        "down slots 0",
        |h| h.table[0].down_slots = 0,
        LayoutError::Slots { channel: 0, slots: 0 },
    ),
    (
        "down slots 1",
        |h| h.table[0].down_slots = 1,
        LayoutError::Slots { channel: 0, slots: 1 },
    ),
    (
        "up slots many",
        |h| h.table[0].up_slots = 2 * MAX_SLOTS,
        LayoutError::Slots {
            channel: 0,
            slots: 2 * MAX_SLOTS,
        },
    ),
    (
        "slot 0 bytes",
        |h| h.table[1].slot_bytes = 0,
        LayoutError::SlotBytes { channel: 1, bytes: 0 },
    ),
    (
        "slot odd",
        |h| h.table[1].slot_bytes = 500,
        LayoutError::SlotBytes {
            channel: 1,
            bytes: 500,
        },
    ),
    (
        "slot large",
        |h| h.table[1].slot_bytes = MAX_SLOT_BYTES + 64,
        LayoutError::SlotBytes {
            channel: 1,
            bytes: MAX_SLOT_BYTES + 64,
        },
    ),
    (
        "down over header",
        |h| h.table[0].down_at = 0,
        LayoutError::Place {
            channel: 0,
            found: 0,
            expected: RINGS_AT as u64,
        },
    ),
    (
        "rings overlap",
        |h| h.table[1].down_at = h.table[0].down_at,
        LayoutError::Place {
            channel: 1,
            found: 0x4000,
            expected: 0x8000,
        },
    ),
    (
        "up beyond",
        |h| h.table[1].up_at = u64::MAX,
        LayoutError::Place {
            channel: 1,
            found: u64::MAX,
            expected: 0x1_1000,
        },
    ),
    (
        "total",
        |h| h.total_bytes += 1,
        LayoutError::Size {
            header: 0x1_4001,
            actual: 0x1_4000,
        },
    ),
];

#[test]
fn every_field_is_judged() {
    for (name, change, expected) in WRONG {
        let (mut header, total) = good();
        change(&mut header);
        assert_eq!(Layout::check(&header, total), Err(expected.clone()), "{name}");
    }
    let (header, total) = good();
    for actual in [0, total - 1, total + 1, u64::MAX] {
        let expected = LayoutError::Size {
            header: total,
            actual,
        };
        assert_eq!(Layout::check(&header, actual), Err(expected));
    }
}

#[test]
fn reserved_words_must_be_zero() {
    let (mut header, total) = good();
    header.reserved[4] = 1;
    assert_eq!(Layout::check(&header, total), Err(LayoutError::Reserved));
}

#[test]
fn no_plan_is_larger_than_the_limit() {
    let huge = ChannelShape {
        kind: ChannelKind::Net,
        down_slots: MAX_SLOTS,
        up_slots: MAX_SLOTS,
        slot_bytes: MAX_SLOT_BYTES,
    };
    let mut shapes = vec![SHAPES[0]];
    shapes.resize(MAX_CHANNELS, huge);
    assert!(matches!(Layout::plan(&shapes), Err(LayoutError::TooLarge(_))));
    shapes.push(huge);
    assert_eq!(Layout::plan(&shapes), Err(LayoutError::Channels(65)));
    assert_eq!(Layout::plan(&[]), Err(LayoutError::Channels(0)));
}

/// Slots of neighbouring rings never touch, whatever the index.
#[test]
fn every_slot_lies_in_its_own_ring() {
    let layout = Layout::plan(&SHAPES).unwrap();
    let mut end_of_last = RINGS_AT;
    for ring in layout.channels().iter().flat_map(|c| [c.down, c.up]) {
        assert_eq!((ring.at, ring.at % PAGE), (end_of_last, 0));
        end_of_last = ring.at + ring.bytes();
        for index in (0..2 * ring.slots).chain([u32::MAX, 1 << 31, 0x1234_5678]) {
            let at = ring.slot_at(index);
            assert!(
                at >= ring.at + 256 && at + ring.slot_bytes as usize <= end_of_last,
                "{index:#x}"
            );
            assert_eq!(at % 64, 0);
        }
    }
    assert_eq!(end_of_last, layout.total());
    assert_eq!(size_of::<ChannelDesc>() * MAX_CHANNELS + 64, size_of::<Header>());
}
