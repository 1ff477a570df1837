//! What stands in front of each frame on a tap that was opened for it: which work on the frame is left to the other side.
//!
//! [`burst`](super::burst) leaves work to the kernel by it, and [`segments`](super::segments) does what the kernel left. What
//! must never happen here: a layout that is not the kernel's.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct virtio_net_hdr` of linux/virtio_net.h, in the host's byte order, as a tap with `IFF_VNET_HDR` has it in front of
/// each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Offload {
    /// [`Self::NEEDS_CSUM`] and others, which only inform.
    pub flags: u8,
    /// Zero: the frame is one segment.
    pub gso_type: u8,
    /// Octets of all headers; a hint when the kernel says it.
    pub hdr_len: u16,
    /// Octets of payload of each segment but the last.
    pub gso_size: u16,
    /// Where the checksum begins to count, from the frame's first octet on.
    pub csum_start: u16,
    /// Where it belongs, from there on.
    pub csum_offset: u16,
}

impl Offload {
    /// The checksum is to be made. What is there in its place, the sum of the pseudo-header, counts.
    pub const NEEDS_CSUM: u8 = 1;
    /// Segments of TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// Datagrams of UDP.
    pub const GSO_UDP_L4: u8 = 5;
    /// Octets of it.
    pub const BYTES: usize = size_of::<Self>();
    /// In front of a frame that is one segment, with its checksum.
    pub const NONE: Self = Self {
        flags: 0,
        gso_type: 0,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    /// Whether the frame behind it is to get its checksum.
    pub fn lacks_checksum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }
}
