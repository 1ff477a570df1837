//! Shared memory: what the supervisor makes a worker can take up, and nothing else.

use memfd::{FileSeal, MemfdOptions};
use shared::abi::{ChannelKind, ChannelShape, Header, Layout, LayoutError};
use shared::mem::Memory;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use vmdriver_shim::memory::{MemoryError, SharedMemory};
use zerocopy::IntoBytes;

const SHAPES: [ChannelShape; 1] = [ChannelShape {
    kind: ChannelKind::Control,
    down_slots: 4,
    up_slots: 4,
    slot_bytes: 128,
}];

const ALL_SEALS: [FileSeal; 3] = [FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealSeal];

/// A memfd as a hostile supervisor could make it.
fn memfd(len: u64, header: &[u8], seals: &[FileSeal]) -> OwnedFd {
    let memfd = MemfdOptions::new().allow_sealing(true).create("test").unwrap();
    memfd.as_file().set_len(len).unwrap();
    memfd.as_file().write_all_at(header, 0).unwrap();
    memfd.add_seals(seals).unwrap();
    memfd.into_file().into()
}

fn good() -> (Header, u64) {
    let layout = Layout::plan(&SHAPES).unwrap();
    (layout.header(), layout.total() as u64)
}

fn refusal(fd: OwnedFd) -> MemoryError {
    match SharedMemory::attach(fd) {
        Ok(_) => panic!("taken up"),
        Err(error) => error,
    }
}

#[test]
fn what_one_side_writes_the_other_reads() {
    let made = SharedMemory::create(&SHAPES).unwrap();
    let fd = made.fd().try_clone_to_owned().unwrap();
    let taken = SharedMemory::attach(fd).unwrap();
    assert_eq!(made.layout(), taken.layout());
    made.mem().store_u32(0x5000, 0xabcd, Relaxed);
    assert_eq!(taken.mem().load_u32(0x5000, Relaxed), 0xabcd);
}

#[test]
fn nobody_can_resize_it_or_take_its_seals() {
    let made = SharedMemory::create(&SHAPES).unwrap();
    let file = File::from(made.fd().try_clone_to_owned().unwrap());
    let size = file.metadata().unwrap().len();
    assert_eq!(size, made.layout().total() as u64);
    for other in [0, size - 1, size + 4096] {
        assert!(file.set_len(other).is_err(), "{other} bytes");
    }
}

#[test]
fn it_stays_mapped_as_long_as_anyone_looks_through_it() {
    let mem = SharedMemory::create(&SHAPES).unwrap().mem();
    mem.store_u64(0x1000, 7, Relaxed);
    assert_eq!(mem.load_u64(0x1000, Relaxed), 7);
}

#[test]
fn a_short_memfd_is_refused() {
    for len in [0, 1, size_of::<Header>() as u64 - 1] {
        let error = refusal(memfd(len, &[], &ALL_SEALS));
        assert!(
            matches!(error, MemoryError::Short { actual } if actual == len),
            "{error}"
        );
    }
}

#[test]
fn a_memfd_of_another_size_than_its_header_says_is_refused() {
    let (header, total) = good();
    for len in [size_of::<Header>() as u64, total - 1, total + 4096] {
        let error = refusal(memfd(len, header.as_bytes(), &ALL_SEALS));
        let expected = LayoutError::Size {
            header: total,
            actual: len,
        };
        assert!(
            matches!(&error, MemoryError::Layout(e) if *e == expected),
            "{error}"
        );
    }
}

#[test]
fn a_memfd_without_any_one_of_the_seals_is_refused() {
    let (header, total) = good();
    for missing in ALL_SEALS {
        let seals: Vec<_> = ALL_SEALS.into_iter().filter(|seal| *seal != missing).collect();
        let error = refusal(memfd(total, header.as_bytes(), &seals));
        assert!(matches!(error, MemoryError::NotSealed(_)), "{missing:?}: {error}");
    }
}

#[test]
fn a_memfd_that_cannot_be_written_is_refused() {
    let (header, total) = good();
    let seals = [&ALL_SEALS[..], &[FileSeal::SealWrite]].concat();
    let error = refusal(memfd(total, header.as_bytes(), &seals));
    assert!(matches!(error, MemoryError::Map { .. }), "{error}");
}

#[test]
fn a_wrong_header_is_refused() {
    let (header, total) = good();
    let wrong_magic = Header { magic: 1, ..header };
    let error = refusal(memfd(total, wrong_magic.as_bytes(), &ALL_SEALS));
    assert!(
        matches!(error, MemoryError::Layout(LayoutError::Magic(1))),
        "{error}"
    );
    let wrong_version = Header { version: 9, ..header };
    let error = refusal(memfd(total, wrong_version.as_bytes(), &ALL_SEALS));
    assert!(
        matches!(error, MemoryError::Layout(LayoutError::Version { found: 9 })),
        "{error}"
    );
}

#[test]
fn other_descriptors_are_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let (pipe, _other_end) = nix::unistd::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    for fd in [OwnedFd::from(file), pipe, null.into()] {
        let error = refusal(fd);
        // A file of a tmpfs knows seals, but cannot have ours.
        assert!(
            matches!(error, MemoryError::NotMemfd | MemoryError::NotSealed(_)),
            "{error}"
        );
    }
}
