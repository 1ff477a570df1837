//! Memory for native code, mapped twice: written through one mapping, run through the other, so that no page is ever
//! writable and executable at one address. Pages are taken from the host when first written, and never given back.
#![allow(
    unsafe_code,
    reason = "maps executable memory; the bump pointer is the bound of every write"
)]

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

/// Thunks start on this boundary: most lie in one or two lines of the instruction cache.
const ALIGN: usize = 32;

/// The memory. Dropping it unmaps the code: nobody may hold an address of it then.
pub struct Arena {
    writable: NonNull<u8>,
    code: NonNull<u8>,
    bytes: NonZeroUsize,
    used: usize,
}

// SAFETY: the mappings belong to the arena alone and are good on any thread; writes need `&mut`.
unsafe impl Send for Arena {}

impl Arena {
    /// Room for `bytes` of code (rounded up to pages).
    pub fn new(bytes: NonZeroUsize) -> nix::Result<Self> {
        let fd = memfd_create(c"thunks", MFdFlags::MFD_CLOEXEC)?;
        ftruncate(&fd, i64::try_from(bytes.get()).unwrap_or(i64::MAX))?;
        let writable = map(&fd, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        let code = map(&fd, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC);
        let code = match code {
            Ok(code) => code,
            Err(error) => {
                unmap(writable, bytes);
                return Err(error);
            }
        };
        Ok(Self {
            writable,
            code,
            bytes,
            used: 0,
        })
    }

    /// Adds code; its address to be run at, which stays as long as the arena. `None`: full.
    pub fn add(&mut self, code: &[u8]) -> Option<NonNull<u8>> {
        let at = self.used.next_multiple_of(ALIGN);
        let end = at
            .checked_add(code.len())
            .filter(|end| *end <= self.bytes.get())?;
        // SAFETY: `at..end` is inside the writable mapping, beyond all code handed out before.
        unsafe {
            self.writable
                .add(at)
                .copy_from_nonoverlapping(NonNull::from(code).cast(), code.len());
        }
        self.used = end;
        // Code written through another address is sure to be seen only behind a serializing instruction
        // (Intel SDM volume 3, section 10.1.3).
        std::arch::x86_64::__cpuid(0);
        // SAFETY: `at` is inside the executable mapping, which is as long.
        Some(unsafe { self.code.add(at) })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        unmap(self.writable, self.bytes);
        unmap(self.code, self.bytes);
    }
}

fn map(fd: &OwnedFd, bytes: NonZeroUsize, protection: ProtFlags) -> nix::Result<NonNull<u8>> {
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
    let at = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, fd, 0) }?;
    Ok(at.cast())
}

fn unmap(at: NonNull<u8>, bytes: NonZeroUsize) {
    // SAFETY: only called with a mapping of this file's making, when nobody uses it any more.
    let unmapped = unsafe { munmap(at.cast(), bytes.get()) };
    debug_assert!(unmapped.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

    #[test]
    fn code_runs_and_no_mapping_is_writable_and_executable() {
        let mut arena = Arena::new(PAGE).unwrap();
        // mov eax, 42; ret
        let code = arena.add(&[0xb8, 42, 0, 0, 0, 0xc3]).unwrap();
        // SAFETY: the bytes above are a function that takes nothing, changes RAX only and returns.
        let run = unsafe { std::mem::transmute::<NonNull<u8>, extern "sysv64" fn() -> u32>(code) };
        assert_eq!(run(), 42);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ours: Vec<&str> = maps.lines().filter(|l| l.contains("memfd:thunks")).collect();
        assert!(ours.iter().any(|l| l.contains("r-xs")), "{ours:?}");
        assert!(ours.iter().all(|l| !l.contains("rwx")), "{ours:?}");
    }

    #[test]
    fn a_full_arena_says_so() {
        let mut arena = Arena::new(PAGE).unwrap();
        assert!(arena.add(&[0x90; 4000]).is_some());
        assert!(arena.add(&[0x90; 97]).is_none());
        assert!(arena.add(&[0xc3]).is_some());
    }
}
