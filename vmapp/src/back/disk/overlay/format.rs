//! The overlay file's layout, and its header: what is where, who may read it, what is refused.
//!
//! Nothing in the file is a position or a length: all follow from the size of the disk, so that a hostile header can
//! send nobody anywhere. Bytes are little-endian; every structure is one sector of 512 bytes, which media write whole
//! or not at all, and carries a check sum over all of it.

use crate::back::disk::DiskError;
use crate::back::disk::medium::Medium;
use shared::msg::disk::SECTOR;
use shared::spec::MAX_SECTORS;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use thiserror::Error;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How an overlay begins.
const MAGIC: [u8; 8] = *b"WSoverly";
/// How its session sector begins.
const SESSION_MAGIC: [u8; 8] = *b"WSsessn\n";
/// The format's version.
const VERSION: u32 = 1;
/// Where the header is.
const HEADER_AT: u64 = 0;
/// Where the session sector is.
const SESSION_AT: u64 = 4096;
/// Where the maps begin.
const MAPS_AT: u64 = 8192;
/// Sectors one block of a map speaks of: a sector of bits, less 8 bytes.
pub const PER_BLOCK: u64 = (SECTOR as u64 - 8) * 8;
/// What the data are aligned to: more than any host's block.
const ALIGN: u64 = 64 << 10;

/// One sector.
pub type Sector = [u8; SECTOR];

/// Why a file is not used as an overlay.
#[derive(Debug, Error)]
pub enum OverlayError {
    /// Reading or writing it failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Something else than an overlay.
    #[error("this is no overlay file")]
    NotOverlay,
    /// Made by another program version.
    #[error("the overlay has format {0}, this program knows format {VERSION}")]
    Version(u32),
    /// The header's check sum is wrong, or it says what no header says.
    #[error("the overlay's header is damaged: {0}")]
    Header(&'static str),
    /// The file is shorter than its disk.
    #[error("the overlay has {have} bytes instead of {need}: somebody cut it, and changes are lost")]
    Cut {
        /// Bytes there are.
        have: u64,
        /// Bytes there must be.
        need: u64,
    },
    /// A commit began.
    #[error("a commit of this overlay was interrupted")]
    Merging,
    /// A discard, or the end of a commit, began.
    #[error("discarding this overlay was interrupted")]
    Emptying,
    /// The base has another size.
    #[error("the base has {base} sectors, the overlay was made for {overlay}")]
    BaseSize {
        /// Sectors of the base now.
        base: u64,
        /// Sectors it had.
        overlay: u64,
    },
    /// The base was written to.
    #[error("the base was changed after the overlay was made for it: the two together are no disk")]
    BaseChanged {
        /// Its time of modification then: seconds and nanoseconds.
        was: (i64, u32),
    },
}

impl From<io::Error> for OverlayError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.into())
    }
}

/// What an overlay knows its base by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Size.
    pub sectors: u64,
    /// Last modification in seconds and nanoseconds; a block device's says nothing.
    pub modified: Option<(i64, u32)>,
}

impl Identity {
    /// Of an open base of so many sectors.
    pub fn new(sectors: u64, base: &Metadata) -> Self {
        let modified = (base.mtime(), u32::try_from(base.mtime_nsec()).unwrap_or(0));
        Self {
            sectors,
            modified: (!base.file_type().is_block_device()).then_some(modified),
        }
    }
}

/// What is going on with an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It may be used.
    Ready = 0,
    /// Its sectors are being copied into the base. It is whole, and stays so to the end.
    Merging = 1,
    /// It is being emptied; what it held is of no more use.
    Emptying = 2,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    state: U32,
    sectors: U64,
    modified_seconds: I64,
    modified_nanos: U32,
    /// 1: the time of modification counts.
    has_modified: U32,
    reserved: [u8; 468],
    check: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawSession {
    magic: [u8; 8],
    boot: [u8; 16],
    reserved: [u8; 484],
    check: U32,
}

const _: () = {
    assert!(size_of::<RawHeader>() == SECTOR);
    assert!(size_of::<RawSession>() == SECTOR);
};

/// The header, accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What goes on.
    pub state: State,
    /// The base it was made for.
    pub base: Identity,
}

impl Header {
    /// Reads and accepts the header.
    pub fn read(file: &mut impl Medium) -> Result<Self, OverlayError> {
        let mut sector = [0; SECTOR];
        match file.read_at(HEADER_AT, &mut sector) {
            Err(DiskError::Cut) => return Err(OverlayError::NotOverlay),
            read => read?,
        }
        let raw: RawHeader = zerocopy::transmute!(sector);
        if raw.magic != MAGIC {
            return Err(OverlayError::NotOverlay);
        }
        if raw.version != VERSION {
            return Err(OverlayError::Version(raw.version.get()));
        }
        if !is_sealed(&sector, HEADER_AT) {
            return Err(OverlayError::Header("its check sum is wrong"));
        }
        Self::accept(&raw)
    }

    fn accept(raw: &RawHeader) -> Result<Self, OverlayError> {
        let state = match raw.state.get() {
            0 => State::Ready,
            1 => State::Merging,
            2 => State::Emptying,
            _ => return Err(OverlayError::Header("its state is none")),
        };
        let sectors = raw.sectors.get();
        if !(1..=MAX_SECTORS).contains(&sectors) {
            return Err(OverlayError::Header("no disk has this size"));
        }
        if raw.reserved != [0; 468] {
            return Err(OverlayError::Header("its reserved bytes are not zero"));
        }
        let modified = (raw.modified_seconds.get(), raw.modified_nanos.get());
        let modified = match raw.has_modified.get() {
            0 if modified == (0, 0) => None,
            1 if modified.1 < 1_000_000_000 => Some(modified),
            _ => return Err(OverlayError::Header("no file is as old as it says the base is")),
        };
        let base = Identity { sectors, modified };
        Ok(Self { state, base })
    }

    /// Writes the header.
    pub fn write(&self, file: &mut impl Medium) -> Result<(), DiskError> {
        let (seconds, nanos) = self.base.modified.unwrap_or_default();
        let raw = RawHeader {
            magic: MAGIC,
            version: VERSION.into(),
            state: (self.state as u32).into(),
            sectors: self.base.sectors.into(),
            modified_seconds: seconds.into(),
            modified_nanos: nanos.into(),
            has_modified: u32::from(self.base.modified.is_some()).into(),
            reserved: [0; 468],
            check: 0.into(),
        };
        let mut sector: Sector = zerocopy::transmute!(raw);
        seal(&mut sector, HEADER_AT);
        file.write_at(HEADER_AT, &sector)
    }

    /// Whether an overlay with this header belongs to `base`.
    pub fn belongs_to(&self, base: &Identity) -> Result<(), OverlayError> {
        if self.base.sectors != base.sectors {
            return Err(OverlayError::BaseSize {
                base: base.sectors,
                overlay: self.base.sectors,
            });
        }
        match self.base.modified {
            Some(was) if base.modified != Some(was) => Err(OverlayError::BaseChanged { was }),
            _ => Ok(()),
        }
    }
}

/// A run of the host's kernel: what it holds unwritten is gone with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId([u8; 16]);

impl BootId {
    /// From 32 hexadecimal digits, dashes between them or not.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
        let number = u128::from_str_radix(&digits, 16)
            .ok()
            .filter(|_| digits.len() == 32)?;
        Some(Self(number.to_be_bytes()))
    }

    /// This one (random(4)).
    pub fn current() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The one the file was last open in; `None` if it cannot be told.
    pub fn read(file: &mut impl Medium) -> Result<Option<Self>, DiskError> {
        let mut sector = [0; SECTOR];
        file.read_at(SESSION_AT, &mut sector)?;
        let raw: RawSession = zerocopy::transmute!(sector);
        let good = raw.magic == SESSION_MAGIC && is_sealed(&sector, SESSION_AT);
        Ok(good.then_some(Self(raw.boot)))
    }

    /// Notes that the file is open in this one.
    pub fn write(self, file: &mut impl Medium) -> Result<(), DiskError> {
        let raw = RawSession {
            magic: SESSION_MAGIC,
            boot: self.0,
            reserved: [0; 484],
            check: 0.into(),
        };
        let mut sector: Sector = zerocopy::transmute!(raw);
        seal(&mut sector, SESSION_AT);
        file.write_at(SESSION_AT, &sector)
    }
}

/// Where everything is, for a disk of some size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Blocks of either map.
    pub blocks: u64,
    /// The map of what lasts.
    pub lasting_at: u64,
    /// The map of what is.
    pub current_at: u64,
    /// Sector 0's data; all others follow.
    pub data_at: u64,
    /// Size of the file.
    pub end: u64,
}

impl Layout {
    /// For `sectors`, 1 to [`MAX_SECTORS`].
    pub fn new(sectors: u64) -> Self {
        let sectors = sectors.min(MAX_SECTORS);
        let blocks = sectors.div_ceil(PER_BLOCK);
        let map = (blocks * SECTOR as u64).next_multiple_of(4096);
        let data_at = (MAPS_AT + 2 * map).next_multiple_of(ALIGN);
        Self {
            blocks,
            lasting_at: MAPS_AT,
            current_at: MAPS_AT + map,
            data_at,
            end: data_at + sectors * SECTOR as u64,
        }
    }
}

/// Makes `file` an empty overlay for `base`, whatever it was; all of it lasts when this returns.
pub fn make_empty(file: &mut impl Medium, base: Identity) -> Result<(), DiskError> {
    let state = State::Emptying;
    if file.size()? < MAPS_AT {
        file.resize(MAPS_AT)?;
    }
    Header { state, base }.write(file)?;
    file.sync()?;
    // Interrupted from here on, it is known to be done again.
    file.resize(MAPS_AT)?;
    file.resize(Layout::new(base.sectors).end)?;
    file.sync()?;
    let state = State::Ready;
    Header { state, base }.write(file)?;
    file.sync()
}

/// Puts the check sum behind a sector that is for `at`: one found elsewhere is wrong too.
pub fn seal(sector: &mut Sector, at: u64) {
    let check = check_sum(sector, at).to_le_bytes();
    if let Some(field) = sector.last_chunk_mut() {
        *field = check;
    }
}

/// Whether the check sum is right.
pub fn is_sealed(sector: &Sector, at: u64) -> bool {
    sector.last_chunk() == Some(&check_sum(sector, at).to_le_bytes())
}

/// CRC-32C (RFC 3720, appendix B.4) of the position and the sector up to the check sum.
fn check_sum(sector: &Sector, at: u64) -> u32 {
    let body = sector.split_last_chunk::<4>().map_or(&[][..], |(body, _)| body);
    let bytes = at.to_le_bytes();
    let sum = bytes.iter().chain(body).fold(u32::MAX, |sum, &byte| {
        CRC_TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8
    });
    !sum
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    /// The polynomial, least significant bit first.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut sum = n as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 {
                sum >> 1 ^ POLYNOMIAL
            } else {
                sum >> 1
            };
            bit += 1;
        }
        table[n] = sum;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::back::disk::medium::HostFile;

    const BASE: Identity = Identity {
        sectors: 5000,
        modified: Some((1_000, 999_999_999)),
    };

    fn file() -> HostFile {
        let mut file = HostFile::new(tempfile::tempfile().unwrap().into()).unwrap();
        make_empty(&mut file, BASE).unwrap();
        file
    }

    /// The header with `change` done to it, its check sum right again.
    fn read_changed(change: impl FnOnce(&mut Sector)) -> Result<Header, OverlayError> {
        let mut file = file();
        let mut sector = [0; SECTOR];
        file.read_at(HEADER_AT, &mut sector).unwrap();
        change(&mut sector);
        seal(&mut sector, HEADER_AT);
        file.write_at(HEADER_AT, &sector).unwrap();
        Header::read(&mut file)
    }

    #[test]
    fn the_check_sum_is_crc_32c() {
        // RFC 3720, appendix B.4, has 32 bytes of zeros; over the published check string "123456789" it is e3069283.
        let sum = b"123456789".iter().fold(u32::MAX, |sum, &byte| {
            CRC_TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8
        });
        assert_eq!(!sum, 0xe306_9283);
    }

    /// Bug class 15: every bit of what is loaded is accepted by name, or refused.
    #[test]
    fn every_byte_of_the_header_is_guarded() {
        let mut whole = file();
        let mut sector = [0; SECTOR];
        whole.read_at(HEADER_AT, &mut sector).unwrap();
        assert_eq!(Header::read(&mut whole).unwrap().base, BASE);
        for byte in 0..SECTOR {
            for bit in [1, 0x80] {
                let mut bad = sector;
                bad[byte] ^= bit;
                whole.write_at(HEADER_AT, &bad).unwrap();
                let refused = Header::read(&mut whole).unwrap_err();
                let right = match byte {
                    0..8 => matches!(refused, OverlayError::NotOverlay),
                    8..12 => matches!(refused, OverlayError::Version(_)),
                    _ => matches!(refused, OverlayError::Header(_)),
                };
                assert!(right, "byte {byte}: {refused}");
            }
        }
    }

    #[test]
    fn every_field_of_a_hostile_header_with_a_right_check_sum_is_checked() {
        let put = |at: usize, bytes: &[u8]| {
            let bytes = bytes.to_vec();
            move |sector: &mut Sector| sector[at..at + bytes.len()].copy_from_slice(&bytes)
        };
        let header = |refused| matches!(refused, Err(OverlayError::Header(_)));
        assert!(matches!(
            read_changed(put(0, b"QFI\xfb")),
            Err(OverlayError::NotOverlay)
        ));
        for version in [0u32, 2, u32::MAX] {
            let refused = read_changed(put(8, &version.to_le_bytes()));
            assert!(matches!(refused, Err(OverlayError::Version(found)) if found == version));
        }
        for state in [3u32, u32::MAX] {
            assert!(
                header(read_changed(put(12, &state.to_le_bytes()))),
                "state {state}"
            );
        }
        for sectors in [0u64, MAX_SECTORS + 1, u64::MAX] {
            assert!(
                header(read_changed(put(16, &sectors.to_le_bytes()))),
                "{sectors} sectors"
            );
        }
        assert!(
            header(read_changed(put(32, &1_000_000_000u32.to_le_bytes()))),
            "nanoseconds"
        );
        for flag in [0u32, 2, u32::MAX] {
            assert!(header(read_changed(put(36, &flag.to_le_bytes()))), "flag {flag}");
        }
        for at in [40, 507] {
            assert!(header(read_changed(put(at, &[1]))), "reserved byte {at}");
        }
        // Right in form, and about another base.
        let longer = read_changed(put(16, &5001u64.to_le_bytes())).unwrap();
        assert!(matches!(
            longer.belongs_to(&BASE),
            Err(OverlayError::BaseSize { .. })
        ));
        let older = read_changed(put(24, &(-1i64).to_le_bytes())).unwrap();
        assert!(matches!(
            older.belongs_to(&BASE),
            Err(OverlayError::BaseChanged { .. })
        ));
    }

    #[test]
    fn a_session_that_is_torn_is_none() {
        let mut file = file();
        let boot = BootId::parse("01234567-89ab-cdef-0123-456789abcdef").unwrap();
        assert_eq!(BootId::read(&mut file).unwrap(), None);
        boot.write(&mut file).unwrap();
        assert_eq!(BootId::read(&mut file).unwrap(), Some(boot));
        for byte in [0, 8, 23, 100, 511] {
            let mut sector = [0; SECTOR];
            file.read_at(SESSION_AT, &mut sector).unwrap();
            sector[byte] ^= 1;
            file.write_at(SESSION_AT, &sector).unwrap();
            assert_eq!(BootId::read(&mut file).unwrap(), None, "byte {byte}");
            boot.write(&mut file).unwrap();
        }
        assert_eq!(BootId::parse("0123"), None);
        assert!(BootId::current().is_ok());
    }

    #[test]
    fn the_largest_disk_has_a_layout_and_the_parts_never_touch() {
        for sectors in [1, PER_BLOCK, PER_BLOCK + 1, 1 << 31, MAX_SECTORS] {
            let layout = Layout::new(sectors);
            let map = layout.blocks * SECTOR as u64;
            assert!(layout.blocks * PER_BLOCK >= sectors);
            assert!(layout.lasting_at >= MAPS_AT);
            assert!(layout.lasting_at + map <= layout.current_at);
            assert!(layout.current_at + map <= layout.data_at);
            assert_eq!(layout.end - layout.data_at, sectors * SECTOR as u64);
            assert!(i64::try_from(layout.end).is_ok());
        }
    }
}
