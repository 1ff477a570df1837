//! What the witness writes and says, one text for the guest's program and the host's tests: records on disks, blocks of the
//! stream, lines on the console.
//!
//! Every byte of a record or block follows from its kind and number, so whoever reads one knows whether it is whole: no
//! checksum is stronger. What must never happen here: a piece of one record taken for a piece of another.

/// The largest record, and the room each has: they differ in length, and a short one leaves an older one's rest behind it.
pub const SLOT: usize = 16 << 10;
/// Records are whole pages: direct I/O asks for sectors, and several of them can be torn apart.
pub const PAGE: usize = 4 << 10;
/// Bytes of a block of the stream: it crosses segments.
pub const BLOCK: usize = 2000;
/// The block after the last.
pub const END: u64 = u64::MAX;

/// What is written, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Over and over in one file of a file system.
    File = 1,
    /// Each a file that takes an older one's name.
    Name = 2,
    /// Over and over on a disk without a file system, past the guest's cache.
    Raw = 3,
    /// From the guest to the host.
    Up = 4,
    /// From the host to the guest.
    Down = 5,
}

impl Kind {
    /// Places for records: number n is at place n modulo this, where it takes the place of an older one. So a write that
    /// comes late is found out as well as one that never comes.
    pub fn places(self) -> u64 {
        match self {
            Self::File => 256,
            Self::Name => 16,
            Self::Raw => 64,
            Self::Up | Self::Down => 1,
        }
    }
}

/// What is where a record or block should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Zeros: nothing was ever written.
    Nothing,
    /// All of the record or block of this number.
    Whole(u64),
    /// Neither.
    Torn,
}

/// A number nobody would guess from the one before (the finalizer of splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Length of record `number`: one to four pages.
pub fn record_bytes(number: u64) -> usize {
    PAGE * (1 + mix(number) as usize % (SLOT / PAGE))
}

/// Makes `bytes` the record or block `number`: the number, and then what follows from it.
pub fn fill(bytes: &mut [u8], kind: Kind, number: u64) {
    for (word, chunk) in words(kind, number).zip(bytes.chunks_mut(8)) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

/// What `bytes` are: of a block, all of it; of a record, its slot.
pub fn look(bytes: &[u8], kind: Kind) -> Found {
    let Some(head) = bytes.first_chunk() else {
        return Found::Torn;
    };
    let number = u64::from_le_bytes(*head);
    if number == 0 {
        return if bytes.iter().all(|&byte| byte == 0) {
            Found::Nothing
        } else {
            Found::Torn
        };
    }
    let len = match kind {
        Kind::File | Kind::Name | Kind::Raw => record_bytes(number),
        Kind::Up | Kind::Down => BLOCK,
    };
    let Some(bytes) = bytes.get(..len) else {
        return Found::Torn;
    };
    let same = |(word, chunk): (u64, &[u8])| word.to_le_bytes()[..chunk.len()] == *chunk;
    if words(kind, number).zip(bytes.chunks(8)).all(same) {
        Found::Whole(number)
    } else {
        Found::Torn
    }
}

fn words(kind: Kind, number: u64) -> impl Iterator<Item = u64> {
    let seed = mix(number ^ (kind as u64) << 56);
    std::iter::once(number).chain((1..).map(move |at| mix(seed.wrapping_add(at))))
}

/// A line of the witness's: the kernel may write into it, and a console that is served anew may repeat pieces of it.
pub fn line(text: &str) -> String {
    format!("@{text}#{:08x}", sum(text))
}

/// What stands behind a text: FNV-1a, 32 bits.
pub fn sum(text: &str) -> u32 {
    let add = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, add)
}
