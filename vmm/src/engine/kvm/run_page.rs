//! The page a vCPU shares with the kernel (`struct kvm_run`), read and written field by field through raw pointers.
//!
//! Owned by the vCPU; the kernel writes it only inside KVM_RUN, on the same thread, so between runs it is the vCPU's
//! alone, with one exception: `immediate_exit`, which any thread may set ([`Mapping::immediate_exit`]). That is why
//! this is a mapping of our own and not kvm-ioctls' `&mut kvm_run`. No Rust reference into the page ever exists but
//! that one atomic. Numbers in it come from the kernel; offsets are checked all the same.
#![allow(
    unsafe_code,
    reason = "fields of the page shared with the kernel are reached through raw pointers"
)]

use crate::bus::Width;
use crate::engine::EngineError;
use kvm_bindings::{KVM_EXIT_IO_OUT, KVM_INTERNAL_ERROR_EMULATION, kvm_run};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

/// The mapping, kept alive by everybody who may still kick.
pub(super) struct Mapping {
    base: NonNull<kvm_run>,
    len: usize,
}

// SAFETY: the only thing reached through a shared `Mapping` is the atomic `immediate_exit`; all else goes through
// the one `RunPage`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The flag that makes KVM_RUN return before guest code runs (KVM API, 5. The kvm_run structure).
    pub(super) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: inside the live mapping (checked on making it), one byte, and only ever reached as an atomic
        // on our side; the kernel reads it with READ_ONCE.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.base.as_ptr()).immediate_exit) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped whole by `RunPage::map`, unmapped once, here; `immediate_exit` borrows end before.
        let _ends_anyway = unsafe { munmap(self.base.cast(), self.len) };
    }
}

/// KVM_EXIT_IO.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortAccess {
    pub(super) port: u16,
    pub(super) size: u8,
    pub(super) count: u32,
    pub(super) write: bool,
    /// Where in the page the elements lie.
    pub(super) offset: usize,
}

/// KVM_EXIT_MMIO.
#[derive(Clone, Copy, Debug)]
pub(super) struct MmioAccess {
    pub(super) at: u64,
    pub(super) len: u32,
    pub(super) write: bool,
    /// Where in the page the bytes lie.
    pub(super) offset: usize,
}

/// The vCPU's side of the page.
pub(super) struct RunPage {
    map: Arc<Mapping>,
}

macro_rules! field {
    ($page:expr, $($path:tt)+) => {{
        let base = $page.map.base.as_ptr();
        // SAFETY: the field lies in the live mapping, which is at least size_of::<kvm_run>() bytes; every bit
        // pattern is a value of the integer types used here; the kernel does not write it outside KVM_RUN.
        unsafe { (&raw const (*base).$($path)+).read_volatile() }
    }};
}

impl RunPage {
    /// Maps the page of a vCPU; `len` is KVM_GET_VCPU_MMAP_SIZE.
    pub(super) fn map(vcpu: BorrowedFd<'_>, len: usize) -> Result<Self, EngineError> {
        let host_error = |source: nix::Error| EngineError::Host {
            what: "mapping the page shared with KVM",
            source: source.into(),
        };
        let size = NonZeroUsize::new(len)
            .filter(|len| len.get() >= size_of::<kvm_run>())
            .ok_or(host_error(nix::Error::EINVAL))?;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the descriptor is a vCPU's.
        let base = unsafe { mmap(None, size, rights, MapFlags::MAP_SHARED, vcpu, 0) };
        let base = base.map_err(host_error)?.cast();
        Ok(Self {
            map: Arc::new(Mapping { base, len }),
        })
    }

    pub(super) fn mapping(&self) -> Arc<Mapping> {
        Arc::clone(&self.map)
    }

    /// What KVM_RUN looks at on entry, `immediate_exit` aside.
    pub(super) fn prepare(&mut self, want_window: bool, cr8: u8) {
        let base = self.map.base.as_ptr();
        // SAFETY: inside the live mapping; `&mut self` and the kernel being outside KVM_RUN make us the only writer.
        unsafe {
            (&raw mut (*base).request_interrupt_window).write_volatile(want_window.into());
            (&raw mut (*base).cr8).write_volatile((cr8 & 0xf).into());
        }
    }

    pub(super) fn exit_reason(&self) -> u32 {
        field!(self, exit_reason)
    }

    pub(super) fn interruptible(&self) -> bool {
        field!(self, ready_for_interrupt_injection) != 0
    }

    pub(super) fn interrupts_on(&self) -> bool {
        field!(self, if_flag) != 0
    }

    pub(super) fn cr8(&self) -> u8 {
        (field!(self, cr8) & 0xf) as u8
    }

    pub(super) fn port_access(&self) -> PortAccess {
        let io = field!(self, __bindgen_anon_1.io);
        PortAccess {
            port: io.port,
            size: io.size,
            count: io.count,
            write: u32::from(io.direction) == KVM_EXIT_IO_OUT,
            offset: usize::try_from(io.data_offset).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn mmio_access(&self) -> MmioAccess {
        let mmio = field!(self, __bindgen_anon_1.mmio);
        MmioAccess {
            at: mmio.phys_addr,
            len: mmio.len,
            write: mmio.is_write != 0,
            offset: offset_of!(kvm_run, __bindgen_anon_1.mmio.data),
        }
    }

    /// KVM_EXIT_X86_RDMSR and WRMSR: index and data.
    pub(super) fn msr_access(&self) -> (u32, u64) {
        let msr = field!(self, __bindgen_anon_1.msr);
        (msr.index, msr.data)
    }

    /// Answers an MSR exit; `None` is #GP.
    pub(super) fn answer_msr(&mut self, value: Option<u64>) {
        let base = self.map.base.as_ptr();
        // SAFETY: as in `prepare`; only called while the exit is an MSR exit, so that `msr` is the union's field.
        unsafe {
            (&raw mut (*base).__bindgen_anon_1.msr.error).write_volatile(value.is_none().into());
            (&raw mut (*base).__bindgen_anon_1.msr.data).write_volatile(value.unwrap_or(0));
        }
    }

    /// Reads an element of port or MMIO data; `None` if it is not inside the page.
    pub(super) fn read_data(&self, offset: usize, width: Width) -> Option<u64> {
        let from = self.data(offset, width)?;
        let mut bytes = [0; 8];
        // SAFETY: `data` checked that width.bytes() <= 8 bytes lie inside the mapping.
        unsafe { shared::mem::copy_from(&mut bytes[..width.bytes().into()], from) };
        Some(u64::from_le_bytes(bytes))
    }

    /// Writes an element of port or MMIO data; `None` if it is not inside the page.
    pub(super) fn write_data(&mut self, offset: usize, width: Width, value: u64) -> Option<()> {
        let to = self.data(offset, width)?;
        // SAFETY: as in `read_data`; `&mut self` makes us the only writer.
        unsafe { shared::mem::copy_to(to, &value.to_le_bytes()[..width.bytes().into()]) };
        Some(())
    }

    fn data(&self, offset: usize, width: Width) -> Option<*mut u8> {
        let end = offset.checked_add(width.bytes().into())?;
        // SAFETY: `offset` lies inside the mapping.
        (end <= self.map.len).then(|| unsafe { self.map.base.as_ptr().cast::<u8>().add(offset) })
    }

    /// KVM_EXIT_INTERNAL_ERROR in words: the suberror, and the instruction bytes or data words that come with it.
    pub(super) fn internal_error(&self) -> String {
        let error = field!(self, __bindgen_anon_1.internal);
        let words = &error.data[..error.data.len().min(error.ndata as usize)];
        let what = match error.suberror {
            KVM_INTERNAL_ERROR_EMULATION => "KVM could not emulate an instruction",
            kvm_bindings::KVM_INTERNAL_ERROR_SIMUL_EX => "KVM met two exceptions at once",
            kvm_bindings::KVM_INTERNAL_ERROR_DELIVERY_EV => "KVM could not deliver an event",
            kvm_bindings::KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "KVM met an unexpected hardware exit",
            _ => "KVM internal error",
        };
        if error.suberror == KVM_INTERNAL_ERROR_EMULATION
            && let [flags, insn, rest @ ..] = words
            && flags & u64::from(kvm_bindings::KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0
        {
            // insn_size, then up to 15 bytes.
            let bytes: Vec<u8> = [*insn, rest.first().copied().unwrap_or(0)]
                .into_iter()
                .flat_map(u64::to_le_bytes)
                .collect();
            let count = usize::from(bytes[0]).min(15);
            return format!("{what}: bytes {:02x?}", &bytes[1..=count]);
        }
        format!("{what} (suberror {}, data {words:x?})", error.suberror)
    }

    /// KVM_EXIT_FAIL_ENTRY in words.
    pub(super) fn entry_failure(&self) -> String {
        let failure = field!(self, __bindgen_anon_1.fail_entry);
        let reason = failure.hardware_entry_failure_reason;
        format!("the processor refused to enter the guest (hardware reason {reason:#x})")
    }

    /// KVM_EXIT_MEMORY_FAULT in words.
    pub(super) fn memory_fault(&self) -> String {
        let fault = field!(self, __bindgen_anon_1.memory_fault);
        format!(
            "the host could not provide guest memory at {:#x}+{:#x}",
            fault.gpa, fault.size
        )
    }
}
