//! Many elements of a string instruction at once, as far as one page goes.
//!
//! Called by an engine's REP handlers with the direction flag clear. A run touches only pages the TLB already serves:
//! RAM (ROM for reading) that holds no decoded code and that no breakpoint watches. Where the TLB has nothing to say
//! a run is empty, and the caller does one element the long way, which faults, asks, or fills the TLB. Nothing here
//! faults, asks the chipset or changes a register.
#![allow(
    unsafe_code,
    reason = "reaches guest RAM by host address, as `access` does: the TLB holds addresses of live RAM and ROM pages only"
)]

use super::cpu::Cpu;
use super::word::Word;

const PAGE: u64 = 4096;

/// What [`Cpu::compare_run`] and [`Cpu::scan_run`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared<W> {
    /// Elements compared, at least one.
    pub elements: u64,
    /// The last pair: the flags follow from it.
    pub last: (W, W),
}

/// Whole elements from `linear` to the end of its page.
fn room<W: Word>(linear: u64) -> u64 {
    (PAGE - linear % PAGE) / W::BYTES as u64
}

fn pointer<W: Word>(host: u64) -> *mut W {
    std::ptr::with_exposed_provenance_mut(host as usize)
}

impl Cpu {
    /// Copies up to `count` elements upwards, with the result of copying them one by one (a destination just above
    /// its source repeats a pattern). Returns how many it copied.
    pub fn copy_run<W: Word>(&mut self, from: u64, to: u64, count: u64) -> u64 {
        let hosts = (self.tlb.read(from, W::BYTES), self.tlb.write(to, W::BYTES));
        let (Some(source), Some(target)) = hosts else {
            return 0;
        };
        let elements = count.min(room::<W>(from)).min(room::<W>(to));
        let bytes = elements as usize * W::BYTES;
        let (source_at, target_at) = (pointer::<W>(source), pointer::<W>(target));
        let propagates = target > source && target - source < bytes as u64;
        if propagates {
            for i in 0..elements as usize {
                // SAFETY: the TLB gave both addresses as inside a live guest page, the second of RAM; `room` keeps
                // element `i` inside the same page; every bit pattern is a valid unsigned integer.
                unsafe {
                    let value = source_at.add(i).read_unaligned();
                    target_at.add(i).write_unaligned(value);
                }
            }
        } else {
            // SAFETY: as above, for all elements; `copy` allows what overlap is left, and copying downwards one by
            // one gives what it gives.
            unsafe { source_at.cast::<u8>().copy_to(target_at.cast::<u8>(), bytes) };
        }
        elements
    }

    /// Stores `value` up to `count` times, upwards. Returns how often it did.
    pub fn fill_run<W: Word>(&mut self, to: u64, value: W, count: u64) -> u64 {
        let Some(target) = self.tlb.write(to, W::BYTES) else {
            return 0;
        };
        let elements = count.min(room::<W>(to));
        let target = pointer::<W>(target);
        for i in 0..elements as usize {
            // SAFETY: as in `copy_run`.
            unsafe { target.add(i).write_unaligned(value) };
        }
        elements
    }

    /// Compares up to `count` elements upwards, and stops behind the first pair that is equal (`until_equal`) or
    /// unequal.
    pub fn compare_run<W: Word>(
        &self,
        left: u64,
        right: u64,
        count: u64,
        until_equal: bool,
    ) -> Option<Compared<W>> {
        let a = pointer::<W>(self.tlb.read(left, W::BYTES)?);
        let b = pointer::<W>(self.tlb.read(right, W::BYTES)?);
        let most = count.min(room::<W>(left)).min(room::<W>(right));
        compare(most, until_equal, |i| {
            // SAFETY: as in `copy_run`, reading only.
            unsafe { (a.add(i).read_unaligned(), b.add(i).read_unaligned()) }
        })
    }

    /// Compares `value` with up to `count` elements upwards, and stops as [`compare_run`](Self::compare_run) does.
    pub fn scan_run<W: Word>(&self, value: W, at: u64, count: u64, until_equal: bool) -> Option<Compared<W>> {
        let elements = pointer::<W>(self.tlb.read(at, W::BYTES)?);
        compare(count.min(room::<W>(at)), until_equal, |i| {
            // SAFETY: as in `copy_run`, reading only.
            (value, unsafe { elements.add(i).read_unaligned() })
        })
    }
}

#[inline(always)]
fn compare<W: Word>(most: u64, until_equal: bool, pair: impl Fn(usize) -> (W, W)) -> Option<Compared<W>> {
    let mut compared = None;
    for i in 0..most as usize {
        let last = pair(i);
        compared = Some(Compared {
            elements: i as u64 + 1,
            last,
        });
        if (last.0 == last.1) == until_equal {
            break;
        }
    }
    compared
}
