//! Header, channel table, ring and slot layout, and the one place that turns untrusted numbers into a [`Layout`].

use super::{ABI_VERSION, MAGIC, MAX_CHANNELS, MAX_SLOT_BYTES, MAX_SLOTS, MAX_TOTAL_BYTES, PAGE, RINGS_AT};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a channel carries. Values are ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ChannelKind {
    /// Start, heartbeat, synchronous calls. Exactly one, channel 0.
    Control = 1,
    /// A serial port's bytes.
    Console = 2,
    /// Ethernet frames.
    Net = 3,
    /// Sectors.
    Disk = 4,
}

impl TryFrom<u32> for ChannelKind {
    type Error = LayoutError;
    fn try_from(raw: u32) -> Result<Self, LayoutError> {
        Ok(match raw {
            1 => Self::Control,
            2 => Self::Console,
            3 => Self::Net,
            4 => Self::Disk,
            other => return Err(LayoutError::UnknownKind(other)),
        })
    }
}

/// One row of the channel table, as it stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ChannelDesc {
    /// A [`ChannelKind`].
    pub kind: u32,
    /// Slots of the down ring; a power of two, 2..=[`MAX_SLOTS`].
    pub down_slots: u32,
    /// Slots of the up ring; a power of two, 2..=[`MAX_SLOTS`].
    pub up_slots: u32,
    /// Bytes of a slot in both rings, [`SlotHeader`] included; a multiple of 64 up to [`MAX_SLOT_BYTES`].
    pub slot_bytes: u32,
    /// Offset of the down ring; page aligned.
    pub down_at: u64,
    /// Offset of the up ring; page aligned.
    pub up_at: u64,
}

/// The table: [`MAX_CHANNELS`] rows, the first `channels` of them in use.
pub type ChannelTable = [ChannelDesc; MAX_CHANNELS];

/// First page of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub version: u32,
    /// Rows of the table in use, 1..=64.
    pub channels: u32,
    /// Size of the whole memory in bytes; equals the size of the memfd.
    pub total_bytes: u64,
    /// Zero.
    pub reserved: [u64; 5],
    /// The channels.
    pub table: ChannelTable,
}

/// First bytes of a slot; the payload follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SlotHeader {
    /// Bytes of payload in use.
    pub len: u32,
    /// What the payload is; see [`crate::msg`].
    pub kind: u16,
    /// Kind-specific.
    pub flags: u16,
    /// Request id; a completion repeats the id of its request.
    pub id: u64,
}

impl SlotHeader {
    /// Bytes the header takes in a slot.
    pub const BYTES: usize = size_of::<Self>();
}

/// Where things are inside one ring.
#[derive(Clone, Copy, Debug)]
pub struct RingOffsets;

impl RingOffsets {
    /// `u32`: next index the producer will publish; free running. Written by the producer.
    pub const HEAD: usize = 0;
    /// `u32`, not 0: the producer waits for credit. Set by the producer, taken by the consumer.
    pub const WANTED: usize = 64;
    /// `u32`: next index the consumer has not given back; free running. Written by the consumer.
    pub const TAIL: usize = 128;
    /// First slot.
    pub const SLOTS: usize = 256;
}

const _: () = {
    assert!(size_of::<ChannelDesc>() == 32);
    assert!(std::mem::offset_of!(ChannelDesc, down_at) == 16);
    assert!(std::mem::offset_of!(ChannelDesc, up_at) == 24);
    assert!(std::mem::offset_of!(Header, version) == 8);
    assert!(std::mem::offset_of!(Header, channels) == 12);
    assert!(std::mem::offset_of!(Header, total_bytes) == 16);
    assert!(std::mem::offset_of!(Header, table) == 64);
    assert!(size_of::<Header>() == 64 + 32 * MAX_CHANNELS);
    assert!(size_of::<Header>() <= PAGE);
    assert!(size_of::<SlotHeader>() == 16);
    assert!(std::mem::offset_of!(SlotHeader, kind) == 4);
    assert!(std::mem::offset_of!(SlotHeader, flags) == 6);
    assert!(std::mem::offset_of!(SlotHeader, id) == 8);
};

/// Why a header was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// Not our memory.
    #[error("shared memory does not start with the Worldswitch magic (found {0:#018x})")]
    Magic(u64),
    /// Built from another revision.
    #[error(
        "shared memory has ABI version {found}, this program speaks {ABI_VERSION}: vmapp and vmm must come from one build"
    )]
    Version {
        /// The peer's version.
        found: u32,
    },
    /// A reserved word of the header is in use.
    #[error("reserved words of the shared memory's header are not zero")]
    Reserved,
    /// No channel, or more than the words have bits.
    #[error("{0} channels announced, 1 to {MAX_CHANNELS} possible")]
    Channels(u32),
    /// The header's idea of the size is not the descriptor's.
    #[error("header says {header} bytes, the descriptor has {actual}")]
    Size {
        /// What the header says.
        header: u64,
        /// What the memfd has.
        actual: u64,
    },
    /// Not a [`ChannelKind`].
    #[error("unknown channel kind {0}")]
    UnknownKind(u32),
    /// Channel 0 must be control, and only channel 0.
    #[error("channel {0}: the control channel is channel 0 and no other")]
    Control(u8),
    /// Slot count not a power of two in range.
    #[error("channel {channel}: {slots} slots; a power of two from 2 to {MAX_SLOTS} is needed")]
    Slots {
        /// Channel number.
        channel: u8,
        /// What was announced.
        slots: u32,
    },
    /// Slot size not a multiple of 64 in range.
    #[error(
        "channel {channel}: slots of {bytes} bytes; a multiple of 64 from 64 to {MAX_SLOT_BYTES} is needed"
    )]
    SlotBytes {
        /// Channel number.
        channel: u8,
        /// What was announced.
        bytes: u32,
    },
    /// A ring that is not where the layout rule puts it.
    #[error("channel {channel}: ring announced at {found:#x}, the layout puts it at {expected:#x}")]
    Place {
        /// Channel number.
        channel: u8,
        /// What was announced.
        found: u64,
        /// Where it must be.
        expected: u64,
    },
    /// More memory than [`MAX_TOTAL_BYTES`].
    #[error("the channels need {0} bytes, {MAX_TOTAL_BYTES} is the most")]
    TooLarge(u64),
}

/// One ring, checked: all arithmetic on it stays inside the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// Offset of the ring in the memory.
    pub at: usize,
    /// Slots, a power of two.
    pub slots: u32,
    /// Bytes of one slot, header included.
    pub slot_bytes: u32,
}

impl RingLayout {
    /// Bytes of payload a slot can carry.
    pub fn payload_max(&self) -> usize {
        self.slot_bytes as usize - SlotHeader::BYTES
    }

    /// Offset of the slot a free-running index names.
    pub fn slot_at(&self, index: u32) -> usize {
        self.at + RingOffsets::SLOTS + (index & (self.slots - 1)) as usize * self.slot_bytes as usize
    }

    /// Bytes the ring takes, rounded up to whole pages.
    pub fn bytes(&self) -> usize {
        (RingOffsets::SLOTS + self.slots as usize * self.slot_bytes as usize).next_multiple_of(PAGE)
    }
}

/// One channel, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLayout {
    /// What it carries.
    pub kind: ChannelKind,
    /// vmm to vmapp.
    pub down: RingLayout,
    /// vmapp to vmm.
    pub up: RingLayout,
}

/// A whole memory, checked. The only way to one is [`Layout::plan`] (ours) or [`Layout::check`] (a peer's header).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    channels: Vec<ChannelLayout>,
    total: usize,
}

/// What the planner needs to know of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelShape {
    /// What it carries.
    pub kind: ChannelKind,
    /// Slots of the down ring.
    pub down_slots: u32,
    /// Slots of the up ring.
    pub up_slots: u32,
    /// Bytes of a slot, header included.
    pub slot_bytes: u32,
}

impl Layout {
    /// Lays channels out one behind the other.
    pub fn plan(shapes: &[ChannelShape]) -> Result<Self, LayoutError> {
        let count = shapes.len();
        if count == 0 || count > MAX_CHANNELS {
            return Err(LayoutError::Channels(u32::try_from(count).unwrap_or(u32::MAX)));
        }
        let mut at = RINGS_AT;
        let mut channels = Vec::with_capacity(count);
        for (number, shape) in (0u8..).zip(shapes) {
            if (shape.kind == ChannelKind::Control) != (number == super::CONTROL_CHANNEL) {
                return Err(LayoutError::Control(number));
            }
            let down = ring(number, at, shape.down_slots, shape.slot_bytes)?;
            let up = ring(number, at + down.bytes(), shape.up_slots, shape.slot_bytes)?;
            at = up.at + up.bytes();
            channels.push(ChannelLayout {
                kind: shape.kind,
                down,
                up,
            });
            if at as u64 > MAX_TOTAL_BYTES {
                return Err(LayoutError::TooLarge(at as u64));
            }
        }
        Ok(Self { channels, total: at })
    }

    /// Accepts or refuses a header that came from outside, of a memory `actual` bytes long. The header must be a
    /// private copy: nothing here looks at shared memory.
    pub fn check(header: &Header, actual: u64) -> Result<Self, LayoutError> {
        if header.magic != MAGIC {
            return Err(LayoutError::Magic(header.magic));
        }
        if header.version != ABI_VERSION {
            return Err(LayoutError::Version {
                found: header.version,
            });
        }
        if header.reserved.iter().any(|&word| word != 0) {
            return Err(LayoutError::Reserved);
        }
        let count = header.channels as usize;
        if count == 0 || count > MAX_CHANNELS {
            return Err(LayoutError::Channels(header.channels));
        }
        let mut shapes = Vec::with_capacity(count);
        for desc in header.table.iter().take(count) {
            shapes.push(ChannelShape {
                kind: ChannelKind::try_from(desc.kind)?,
                down_slots: desc.down_slots,
                up_slots: desc.up_slots,
                slot_bytes: desc.slot_bytes,
            });
        }
        let layout = Self::plan(&shapes)?;
        for ((number, desc), channel) in (0u8..).zip(&header.table).zip(&layout.channels) {
            for (found, ring) in [(desc.down_at, channel.down), (desc.up_at, channel.up)] {
                if found != ring.at as u64 {
                    return Err(LayoutError::Place {
                        channel: number,
                        found,
                        expected: ring.at as u64,
                    });
                }
            }
        }
        if header.total_bytes != layout.total as u64 || actual != layout.total as u64 {
            return Err(LayoutError::Size {
                header: header.total_bytes,
                actual,
            });
        }
        Ok(layout)
    }

    /// The header that describes this layout.
    pub fn header(&self) -> Header {
        let unused = ChannelDesc {
            kind: 0,
            down_slots: 0,
            up_slots: 0,
            slot_bytes: 0,
            down_at: 0,
            up_at: 0,
        };
        let mut table = [unused; MAX_CHANNELS];
        for (row, channel) in table.iter_mut().zip(&self.channels) {
            *row = ChannelDesc {
                kind: channel.kind as u32,
                down_slots: channel.down.slots,
                up_slots: channel.up.slots,
                slot_bytes: channel.down.slot_bytes,
                down_at: channel.down.at as u64,
                up_at: channel.up.at as u64,
            };
        }
        Header {
            magic: MAGIC,
            version: ABI_VERSION,
            channels: self.channels.len() as u32,
            total_bytes: self.total as u64,
            reserved: [0; 5],
            table,
        }
    }

    /// The channels, by number.
    pub fn channels(&self) -> &[ChannelLayout] {
        &self.channels
    }

    /// Bytes of the whole memory.
    pub fn total(&self) -> usize {
        self.total
    }
}

fn ring(channel: u8, at: usize, slots: u32, slot_bytes: u32) -> Result<RingLayout, LayoutError> {
    if !slots.is_power_of_two() || !(2..=MAX_SLOTS).contains(&slots) {
        return Err(LayoutError::Slots { channel, slots });
    }
    if slot_bytes == 0 || !slot_bytes.is_multiple_of(64) || slot_bytes > MAX_SLOT_BYTES {
        return Err(LayoutError::SlotBytes {
            channel,
            bytes: slot_bytes,
        });
    }
    Ok(RingLayout {
        at,
        slots,
        slot_bytes,
    })
}
