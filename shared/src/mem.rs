//! Memory another process may write at any moment, made usable without undefined behaviour.
//!
//! [`Memory`] is all the ring code knows of memory, so the same code runs over a mapping ([`Mapped`]), over loom's
//! atomics and under a fuzzer. Words are atomics; payloads are copied with [`copy_from`] and [`copy_to`], whose
//! bytes may be torn by a hostile peer but are read once and never aliased by a Rust reference.
//!
//! The only module of this crate with `unsafe`. It must never hand out a reference into the memory.
#![allow(
    unsafe_code,
    reason = "raw access to memory shared with another process; see the SAFETY comments"
)]

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Shared memory as the rings see it: aligned words with an ordering, and byte copies.
///
/// Offsets come from a checked [`crate::abi::Layout`]; one outside the memory is a bug of this program and panics.
pub trait Memory: Clone {
    /// Size in bytes.
    fn len(&self) -> usize;
    /// Whether there is no memory at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Loads the `u32` at a 4-byte aligned offset.
    fn load_u32(&self, at: usize, order: Ordering) -> u32;
    /// Stores the `u32` at a 4-byte aligned offset.
    fn store_u32(&self, at: usize, value: u32, order: Ordering);
    /// Stores the `u32` at a 4-byte aligned offset, returns what was there.
    fn swap_u32(&self, at: usize, value: u32, order: Ordering) -> u32;
    /// Loads the `u64` at an 8-byte aligned offset.
    fn load_u64(&self, at: usize, order: Ordering) -> u64;
    /// Stores the `u64` at an 8-byte aligned offset.
    fn store_u64(&self, at: usize, value: u64, order: Ordering);
    /// Stores the `u64` at an 8-byte aligned offset, returns what was there.
    fn swap_u64(&self, at: usize, value: u64, order: Ordering) -> u64;
    /// Sets bits of the `u64` at an 8-byte aligned offset, returns what was there.
    fn fetch_or_u64(&self, at: usize, bits: u64, order: Ordering) -> u64;
    /// Full fence between a store of one word and a load of another (the sleep protocol's).
    fn fence(&self);
    /// Copies out. Bytes a peer writes meanwhile may be torn.
    fn read(&self, at: usize, into: &mut [u8]);
    /// Copies `len` bytes out, in place of what `into` holds.
    fn read_vec(&self, at: usize, len: usize, into: &mut Vec<u8>) {
        into.resize(len, 0);
        self.read(at, into);
    }
    /// Copies in.
    fn write(&self, at: usize, from: &[u8]);
}

/// A mapping of shared memory, or heap memory standing in for one.
#[derive(Clone)]
pub struct Mapped {
    base: NonNull<u8>,
    len: usize,
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: every access through `base` is an atomic operation or an opaque byte copy, valid from any thread for as
// long as `_owner` lives, and `_owner` is itself Send + Sync.
unsafe impl Send for Mapped {}
// SAFETY: as above; no method hands out a reference into the memory.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Wraps memory that `owner` keeps mapped.
    ///
    /// # Safety
    /// `base..base + len` must stay mapped readable and writable until `owner` is dropped, be 8-byte aligned, and
    /// never be reached through a Rust reference.
    pub unsafe fn new(base: NonNull<u8>, len: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        assert!(
            base.as_ptr().addr().is_multiple_of(8),
            "shared memory must be aligned to 8 bytes"
        );
        Self {
            base,
            len,
            _owner: owner,
        }
    }

    /// Private zeroed memory of `len` bytes (rounded up to 8): for tests and benchmarks inside one process.
    pub fn heap(len: usize) -> Self {
        let words: Arc<Vec<AtomicU64>> = Arc::new((0..len.div_ceil(8)).map(|_| AtomicU64::new(0)).collect());
        let base = NonNull::from(&**words).cast::<u8>();
        let len = words.len() * 8;
        // SAFETY: the vector is never resized, lives in the Arc kept as owner, is 8-byte aligned, and consists of
        // atomics, so that writing through a shared pointer is allowed.
        unsafe { Self::new(base, len, words) }
    }

    #[inline]
    fn word<T>(&self, at: usize) -> &T {
        assert!(
            at.is_multiple_of(size_of::<T>())
                && at.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len),
            "offset {at:#x} is not a word of this memory"
        );
        // SAFETY: only called with T = AtomicU32 or AtomicU64 (private); in bounds and aligned by the assertion
        // and the constructor's contract; atomics may be shared with a peer that writes.
        unsafe { self.base.add(at).cast::<T>().as_ref() }
    }

    #[inline]
    fn bytes(&self, at: usize, len: usize) -> *mut u8 {
        assert!(
            at.checked_add(len).is_some_and(|end| end <= self.len),
            "bytes {at:#x}+{len:#x} are outside the memory"
        );
        // SAFETY: in bounds by the assertion.
        unsafe { self.base.add(at).as_ptr() }
    }
}

impl Memory for Mapped {
    fn len(&self) -> usize {
        self.len
    }
    #[inline]
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.word::<AtomicU32>(at).load(order)
    }
    #[inline]
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.word::<AtomicU32>(at).store(value, order);
    }
    #[inline]
    fn swap_u32(&self, at: usize, value: u32, order: Ordering) -> u32 {
        self.word::<AtomicU32>(at).swap(value, order)
    }
    #[inline]
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.word::<AtomicU64>(at).load(order)
    }
    #[inline]
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.word::<AtomicU64>(at).store(value, order);
    }
    #[inline]
    fn swap_u64(&self, at: usize, value: u64, order: Ordering) -> u64 {
        self.word::<AtomicU64>(at).swap(value, order)
    }
    #[inline]
    fn fetch_or_u64(&self, at: usize, bits: u64, order: Ordering) -> u64 {
        self.word::<AtomicU64>(at).fetch_or(bits, order)
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    #[inline]
    fn read(&self, at: usize, into: &mut [u8]) {
        let from = self.bytes(at, into.len());
        // SAFETY: `bytes` checked that the range lies in the mapping.
        unsafe { copy_from(into, from) }
    }
    /// As the default, without filling with zeros first what is about to be overwritten.
    #[inline]
    fn read_vec(&self, at: usize, len: usize, into: &mut Vec<u8>) {
        let from = self.bytes(at, len);
        into.clear();
        into.reserve(len);
        // SAFETY: `bytes` checked that the source lies in the mapping; `reserve` made room for `len` bytes behind the
        // vector's pointer, and they are initialised when its length says so.
        unsafe {
            copy_opaque(into.as_mut_ptr(), from, len);
            into.set_len(len);
        }
    }
    #[inline]
    fn write(&self, at: usize, from: &[u8]) {
        let to = self.bytes(at, from.len());
        // SAFETY: `bytes` checked that the range lies in the mapping.
        unsafe { copy_to(to, from) }
    }
}

/// Copies out of memory that others may write meanwhile.
///
/// Opaque instructions do the copy: the compiler can neither assume the source constant nor go back to it.
///
/// # Safety
/// `from..from + into.len()` must be mapped readable, and not overlap `into`.
#[inline]
pub unsafe fn copy_from(into: &mut [u8], from: *const u8) {
    // SAFETY: the caller's contract; `into` is ours alone.
    unsafe { copy_opaque(into.as_mut_ptr(), from, into.len()) }
}

/// Copies into memory that others may read or write meanwhile.
///
/// # Safety
/// `to..to + from.len()` must be mapped writable, and not overlap `from`.
#[inline]
pub unsafe fn copy_to(to: *mut u8, from: &[u8]) {
    // SAFETY: the caller's contract.
    unsafe { copy_opaque(to, from.as_ptr(), from.len()) }
}

/// Longest copy made of single moves, in bytes. `rep movsb` pays for its start: little on processors with fast short
/// strings (about 2 ns), tens of nanoseconds on those without, and small messages
/// are what a ring is full of. Beyond, it is the fastest copy there is.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const MOVES_MAX: usize = 256;

/// # Safety
/// Both ranges of `len` bytes must be mapped with the rights the copy needs.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_opaque(to: *mut u8, from: *const u8, len: usize) {
    if len > MOVES_MAX {
        // SAFETY: the ABI keeps the direction flag clear; the ranges are the caller's contract.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
        }
        return;
    }
    // Moves of falling width, each byte touched once: an overlapping last move would be shorter, but it would write bytes
    // a second time that the other side may have answered already. A word of its own length is moved whole.
    //
    // SAFETY: the moves follow each other and their widths add up to `len`.
    unsafe {
        let mut at = 0;
        while len - at >= 16 {
            move_16(to.add(at), from.add(at));
            at += 16;
        }
        if len & 8 != 0 {
            move_8(to.add(at), from.add(at));
            at += 8;
        }
        if len & 4 != 0 {
            move_4(to.add(at), from.add(at));
            at += 4;
        }
        if len & 2 != 0 {
            move_2(to.add(at), from.add(at));
            at += 2;
        }
        if len & 1 != 0 {
            move_1(to.add(at), from.add(at));
        }
    }
}

/// One opaque load and one opaque store, so that an aligned word is never torn.
#[cfg(all(target_arch = "x86_64", not(miri)))]
macro_rules! opaque_move {
    ($name:ident, $class:ident, $load:literal, $store:literal) => {
        /// # Safety
        /// The bytes at `from` must be readable and those at `to` writable; neither need be aligned.
        #[inline]
        unsafe fn $name(to: *mut u8, from: *const u8) {
            // SAFETY: the caller's contract.
            unsafe {
                std::arch::asm!(
                    $load, $store,
                    value = out($class) _, from = in(reg) from, to = in(reg) to,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
opaque_move!(
    move_16,
    xmm_reg,
    "movups {value}, [{from}]",
    "movups [{to}], {value}"
);
#[cfg(all(target_arch = "x86_64", not(miri)))]
opaque_move!(move_8, reg, "mov {value:r}, [{from}]", "mov [{to}], {value:r}");
#[cfg(all(target_arch = "x86_64", not(miri)))]
opaque_move!(move_4, reg, "mov {value:e}, [{from}]", "mov [{to}], {value:e}");
#[cfg(all(target_arch = "x86_64", not(miri)))]
opaque_move!(move_2, reg, "mov {value:x}, [{from}]", "mov [{to}], {value:x}");
#[cfg(all(target_arch = "x86_64", not(miri)))]
opaque_move!(move_1, reg_byte, "mov {value}, [{from}]", "mov [{to}], {value}");

/// # Safety
/// Both ranges of `len` bytes must be mapped with the rights the copy needs.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
unsafe fn copy_opaque(to: *mut u8, from: *const u8, len: usize) {
    for i in 0..len {
        // SAFETY: i < len, inside both ranges.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) }
    }
}
