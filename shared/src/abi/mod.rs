//! The layout of one VM's shared memory: the truth both processes are compiled against.
//!
//! One sealed memfd per VM holds, page by page:
//!
//! | offset | what | written by |
//! |---|---|---|
//! | `0x0000` | [`Header`] and the channel table | the supervisor, before the memory is passed; constant after |
//! | `0x1000` | [`words`]: pending word, IRQ bitmap, waiting words, heartbeat | as each word says |
//! | `0x2000` | counters of the vmm ([`counters::VmmCounter`]) | vmm |
//! | `0x3000` | counters of the I/O worker ([`counters::AppCounter`]) | vmapp |
//! | `0x4000` | the rings, each on its own page: *down* then *up* for every channel in table order | see [`RingOffsets`] |
//!
//! All integers are little-endian and naturally aligned. A change to anything in this module changes
//! [`ABI_VERSION`].

pub mod counters;
mod layout;
pub mod words;

pub use layout::{
    ChannelDesc, ChannelKind, ChannelLayout, ChannelShape, ChannelTable, Header, Layout, LayoutError,
    RingLayout, RingOffsets, SlotHeader,
};

/// First eight bytes of the memory: "WSWITCH" and a zero.
pub const MAGIC: u64 = u64::from_le_bytes(*b"WSWITCH\0");
/// Raised on every incompatible change of this module.
pub const ABI_VERSION: u32 = 1;
/// Alignment of every area of the memory.
pub const PAGE: usize = 4096;
/// Channels per VM: one bit each in the pending word and in the IRQ bitmap.
pub const MAX_CHANNELS: usize = 64;
/// Channel 0 is always the control channel.
pub const CONTROL_CHANNEL: u8 = 0;
/// Most slots of one ring.
pub const MAX_SLOTS: u32 = 4096;
/// Largest slot, header included, in bytes.
pub const MAX_SLOT_BYTES: u32 = 1 << 17;
/// Largest memory a peer may announce, in bytes.
pub const MAX_TOTAL_BYTES: u64 = 1 << 30;

/// Offset of the shared words.
pub const WORDS_AT: usize = PAGE;
/// Offset of the vmm's counters.
pub const VMM_COUNTERS_AT: usize = 2 * PAGE;
/// Offset of the I/O worker's counters.
pub const APP_COUNTERS_AT: usize = 3 * PAGE;
/// Offset of the first ring.
pub const RINGS_AT: usize = 4 * PAGE;
