//! ELF executables, 32 and 64 bit, little-endian x86: program headers only (System V gABI, chapter 5).
//!
//! Segments go to their *physical* addresses. All of them are claimed before the first byte is copied, so overlapping or
//! misplaced ones are refused with guest memory untouched.

use super::place::Places;
use super::source::{Source, clear};
use super::{BootError, Piece, Place};
use crate::mem::GuestMemory;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const ET_EXEC: u16 = 2;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Most program headers: Linux has 5, the most elaborate kernels a dozen.
const MOST_HEADERS: u16 = 64;
/// Bytes of a note segment that are looked through.
const MOST_NOTES: u64 = 64 << 10;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ident {
    magic: [u8; 4],
    class: u8,
    data: u8,
    version: u8,
    padding: [u8; 9],
    kind: U16,
    machine: U16,
}

/// The rest of the file header, after [`Ident`].
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Rest32 {
    version: U32,
    entry: U32,
    phoff: U32,
    shoff: U32,
    flags: U32,
    ehsize: U16,
    phentsize: U16,
    phnum: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Rest64 {
    version: U32,
    entry: U64,
    phoff: U64,
    shoff: U64,
    flags: U32,
    ehsize: U16,
    phentsize: U16,
    phnum: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header32 {
    kind: U32,
    offset: U32,
    vaddr: U32,
    paddr: U32,
    filesz: U32,
    memsz: U32,
    flags: U32,
    align: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header64 {
    kind: U32,
    flags: U32,
    offset: U64,
    vaddr: U64,
    paddr: U64,
    filesz: U64,
    memsz: U64,
    align: U64,
}

const _: () = assert!(
    size_of::<Ident>() == 20
        && size_of::<Rest32>() == 52 - 20 - 6
        && size_of::<Rest64>() == 64 - 20 - 6
        && size_of::<Header32>() == 32
        && size_of::<Header64>() == 56
);

/// A program header of either class.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Place in the header table.
    index: usize,
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

/// A note: name (without its zero byte) and descriptor.
pub(super) struct Note<'a> {
    pub name: &'a [u8],
    pub kind: u32,
    pub desc: &'a [u8],
}

/// An executable's headers, checked on their own; nothing loaded yet.
#[derive(Debug)]
pub(super) struct Elf {
    entry: u64,
    segments: Vec<Segment>,
}

fn malformed(why: &'static str) -> BootError {
    BootError::Malformed {
        what: Piece::Kernel,
        why,
    }
}

impl Elf {
    /// Reads the headers; `None` where the file is no ELF at all.
    pub fn parse(source: &Source) -> Result<Option<Self>, BootError> {
        let magic = source.head(MAGIC.len())?;
        if magic != MAGIC {
            return Ok(None);
        }
        let ident: Ident = source.read_obj(0, "ELF header")?;
        if ident.data != LITTLE_ENDIAN {
            return Err(malformed("the ELF is not little-endian"));
        }
        if ident.kind.get() != ET_EXEC {
            return Err(malformed(
                "the ELF is no executable (type EXEC); link it without -pie",
            ));
        }
        let at = size_of::<Ident>() as u64;
        let (entry, table, size, count) = match (ident.class, ident.machine.get()) {
            (CLASS_32, EM_386) => {
                let rest: Rest32 = source.read_obj(at, "ELF header")?;
                let table = u64::from(rest.phoff.get());
                (
                    u64::from(rest.entry.get()),
                    table,
                    rest.phentsize.get(),
                    rest.phnum.get(),
                )
            }
            (CLASS_64, EM_X86_64) => {
                let rest: Rest64 = source.read_obj(at, "ELF header")?;
                (
                    rest.entry.get(),
                    rest.phoff.get(),
                    rest.phentsize.get(),
                    rest.phnum.get(),
                )
            }
            _ => return Err(malformed("the ELF is neither for i386 nor for x86-64")),
        };
        let wide = ident.class == CLASS_64;
        let expected = if wide {
            size_of::<Header64>()
        } else {
            size_of::<Header32>()
        };
        if usize::from(size) != expected {
            return Err(malformed("ELF program headers of an unknown size"));
        }
        if count > MOST_HEADERS {
            return Err(malformed("more than 64 ELF program headers"));
        }
        source.check(
            table,
            u64::from(count) * u64::from(size),
            "ELF program header table",
        )?;
        let segments = (0..usize::from(count))
            .map(|index| segment(source, index, table + (index * usize::from(size)) as u64, wide))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Self { entry, segments }))
    }

    /// Loads every PT_LOAD segment at its physical address, zeroing what the file does not fill.
    pub fn load(&self, source: &Source, memory: &GuestMemory, places: &mut Places) -> Result<(), BootError> {
        let loads = || self.segments.iter().filter(|s| s.kind == PT_LOAD && s.memsz > 0);
        if loads().next().is_none() {
            return Err(malformed("the ELF has nothing to load"));
        }
        for s in loads() {
            if s.filesz > s.memsz {
                return Err(malformed("an ELF segment is larger in the file than in memory"));
            }
            source.check(s.offset, s.filesz, "ELF segment")?;
            places.claim(Place::Segment(s.index), s.paddr, s.memsz)?;
        }
        for s in loads() {
            source.copy(s.offset, s.filesz, memory, s.paddr, "ELF segment")?;
            clear(memory, s.paddr + s.filesz, s.memsz - s.filesz)?;
        }
        Ok(())
    }

    /// The entry point as a physical address. Where the header gives a virtual one, as for kernels linked high, the
    /// segment that holds it tells the difference (GRUB and QEMU do the same).
    pub fn physical_entry(&self) -> Result<u32, BootError> {
        let at = |s: &&Segment, base: u64| {
            s.kind == PT_LOAD
                && self
                    .entry
                    .checked_sub(base)
                    .is_some_and(|offset| offset < s.memsz)
        };
        let by_virtual = self.segments.iter().find(|s| at(s, s.vaddr));
        let by_physical = || self.segments.iter().find(|s| at(s, s.paddr));
        let entry = match (by_virtual, by_physical()) {
            (Some(s), _) => s.paddr.checked_add(self.entry - s.vaddr),
            (None, Some(_)) => Some(self.entry),
            (None, None) => None,
        };
        entry
            .and_then(|entry| u32::try_from(entry).ok())
            .ok_or_else(|| malformed("the entry point lies in no loaded segment"))
    }

    /// Whether this physical address is loaded.
    pub fn loads(&self, at: u32) -> bool {
        let at = u64::from(at);
        self.segments
            .iter()
            .any(|s| s.kind == PT_LOAD && at.checked_sub(s.paddr).is_some_and(|offset| offset < s.memsz))
    }

    /// The first note that `wanted` takes, from the PT_NOTE segments (the first 64 KiB of each).
    pub fn note<T>(
        &self,
        source: &Source,
        mut wanted: impl FnMut(&Note) -> Option<T>,
    ) -> Result<Option<T>, BootError> {
        for s in self.segments.iter().filter(|s| s.kind == PT_NOTE) {
            source.check(s.offset, s.filesz, "ELF note segment")?;
            let mut bytes = vec![0; s.filesz.min(MOST_NOTES) as usize];
            source.read(s.offset, &mut bytes, "ELF note segment")?;
            // gABI: 4-byte alignment, except in segments that declare 8 (GNU property notes).
            let align = if s.align == 8 { 8 } else { 4 };
            let mut rest = &bytes[..];
            while let Some((note, after)) = next_note(rest, align) {
                if let Some(found) = wanted(&note) {
                    return Ok(Some(found));
                }
                rest = after;
            }
        }
        Ok(None)
    }
}

fn segment(source: &Source, index: usize, at: u64, wide: bool) -> Result<Segment, BootError> {
    let part = "ELF program header table";
    Ok(if wide {
        let h: Header64 = source.read_obj(at, part)?;
        Segment {
            index,
            kind: h.kind.get(),
            offset: h.offset.get(),
            vaddr: h.vaddr.get(),
            paddr: h.paddr.get(),
            filesz: h.filesz.get(),
            memsz: h.memsz.get(),
            align: h.align.get(),
        }
    } else {
        let h: Header32 = source.read_obj(at, part)?;
        Segment {
            index,
            kind: h.kind.get(),
            offset: h.offset.get().into(),
            vaddr: h.vaddr.get().into(),
            paddr: h.paddr.get().into(),
            filesz: h.filesz.get().into(),
            memsz: h.memsz.get().into(),
            align: h.align.get().into(),
        }
    })
}

/// Splits the first note off; `None` at the end and at a note that does not fit. Each step consumes at least 12 bytes.
fn next_note(bytes: &[u8], align: usize) -> Option<(Note<'_>, &[u8])> {
    let ([name_len, desc_len, kind], rest) = <[U32; 3]>::read_from_prefix(bytes).ok()?;
    let (name_len, desc_len) = (name_len.get() as usize, desc_len.get() as usize);
    let name = rest.get(..name_len)?;
    let rest = rest.get(name_len.checked_next_multiple_of(align)?..)?;
    let desc = rest.get(..desc_len)?;
    // The last descriptor need not be padded.
    let after = rest
        .get(desc_len.checked_next_multiple_of(align)?..)
        .unwrap_or_default();
    let note = Note {
        name: name.strip_suffix(&[0]).unwrap_or(name),
        kind: kind.get(),
        desc,
    };
    Some((note, after))
}
