//! The silicon's side: one instruction at a time on the host CPU, with every register as asked.
//!
//! Everything lies at fixed low addresses, so that host and guest see the same ones: the exchange block ([`Exchange`]),
//! two pages of scratch memory, and code slots of 64 bytes. Code is written through one mapping and run through
//! another (no page is ever both). A slot holds the instruction and a jump back; 32 bytes in, a branch's landing. A fault
//! arrives as a signal on a stack of its own, which records the registers and goes on as if the slot had been left.
#![allow(
    unsafe_code,
    reason = "maps pages at fixed addresses, calls generated code, handles signals: the point of the test"
)]

use super::state::{Bits, Fault, State};
use iced_x86::code_asm::*;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::{NonNull, addr_of, addr_of_mut, with_exposed_provenance_mut};
use std::sync::{Mutex, MutexGuard};

const PAGE: u64 = 4096;
/// Scratch memory, two pages.
pub const SCRATCH: u64 = 0x2000_0000;
/// Bytes of it.
pub const SCRATCH_LEN: usize = 8192;
/// The slots, behind one page of entry and exit code.
const CODE: u64 = 0x3000_0000;
const CODE_LEN: usize = 1 << 20;
const SLOT: u64 = 64;
const FIRST_SLOT: u64 = CODE + PAGE;
/// Where in its slot a branch lands.
pub const LANDING: u64 = 32;
const EXCHANGE: u64 = 0x1000_0000;
/// Linux's user selectors (arch/x86/include/asm/segment.h).
const CS64: u16 = 0x33;
const CS32: u16 = 0x23;
const DATA: u32 = 0x2b;

/// What crosses between Rust and the generated code.
#[repr(C, align(64))]
struct Exchange {
    fx: [u8; 512],
    host_fx: [u8; 512],
    gprs: [u64; 16],
    rflags: u64,
    host_rsp: u64,
    /// Far pointer to the slot.
    target: u32,
    target_selector: u32,
    landed: u64,
    /// Exit code without saving: the signal handler saved already.
    after_fault: u64,
    faulted: u64,
    vector: u64,
    code: u64,
    address: u64,
    fault_rip: u64,
}

fn exchange() -> *mut Exchange {
    with_exposed_provenance_mut(EXCHANGE as usize)
}

const fn field(offset: usize) -> u64 {
    EXCHANGE + offset as u64
}

macro_rules! field {
    ($name:ident) => {
        field(std::mem::offset_of!(Exchange, $name))
    };
}

/// The host CPU, for one test at a time: the addresses are fixed.
pub struct Native {
    writable: *mut u8,
    next: u64,
    entry: extern "C" fn(),
    exit: u64,
    _only: MutexGuard<'static, ()>,
}

/// An instruction in its slot.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Its address.
    pub at: u64,
}

impl Native {
    /// Maps what is needed and takes over the fault signals.
    pub fn new() -> Self {
        static ONLY: Mutex<()> = Mutex::new(());
        static MAPPED: Mutex<Option<usize>> = Mutex::new(None);
        let only = ONLY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut mapped = MAPPED.lock().unwrap();
        let writable: *mut u8 = with_exposed_provenance_mut(*mapped.get_or_insert_with(map_all));
        install_handlers();
        let (code, exit, after_fault) = trampoline();
        // SAFETY: both mappings exist (`map_all`), are big enough for the page of entry code and ours alone.
        unsafe {
            writable.copy_from_nonoverlapping(code.as_ptr(), code.len());
            (*exchange()).after_fault = after_fault;
        }
        // SAFETY: CODE now holds a function with this signature; it keeps to the System V ABI.
        let entry = unsafe { std::mem::transmute::<usize, extern "C" fn()>(CODE as usize) };
        Self {
            writable,
            next: FIRST_SLOT,
            entry,
            exit,
            _only: only,
        }
    }

    /// Where the next instruction will lie: branches and RIP-relative operands are encoded for it.
    pub fn next_slot(&self) -> u64 {
        self.next
    }

    /// Writes an instruction into the next slot.
    pub fn place(&mut self, bytes: &[u8], bits: Bits) -> Placed {
        let at = self.next;
        let mut slot = Vec::with_capacity(SLOT as usize);
        slot.extend_from_slice(bytes);
        self.leave(&mut slot, at, bits);
        slot.resize(LANDING as usize, 0xcc);
        match bits {
            Bits::B64 => slot.extend([0x48, 0xc7, 0x04, 0x25]),
            Bits::B32 => slot.extend([0xc7, 0x05]),
        }
        slot.extend((field!(landed) as u32).to_le_bytes());
        slot.extend(1u32.to_le_bytes());
        self.leave(&mut slot, at, bits);
        // SAFETY: slots lie inside the code mapping; nothing runs there now.
        unsafe {
            self.writable
                .add((at - CODE) as usize)
                .copy_from_nonoverlapping(slot.as_ptr(), slot.len());
        }
        self.next += SLOT;
        if self.next == CODE + CODE_LEN as u64 {
            self.next = FIRST_SLOT;
        }
        Placed { at }
    }

    /// A jump to the exit code.
    fn leave(&self, slot: &mut Vec<u8>, at: u64, bits: Bits) {
        match bits {
            Bits::B64 => {
                slot.push(0xe9);
                let from = at + slot.len() as u64 + 4;
                slot.extend((self.exit.wrapping_sub(from) as u32).to_le_bytes());
            }
            Bits::B32 => {
                slot.push(0xea);
                slot.extend((self.exit as u32).to_le_bytes());
                slot.extend(CS64.to_le_bytes());
            }
        }
    }

    /// Runs a slot. `state.rip` comes back as the slot's end, its landing, or the faulting instruction.
    pub fn run(&mut self, placed: Placed, len: usize, bits: Bits, state: &mut State) -> Option<Fault> {
        let x = exchange();
        // SAFETY: the exchange block is mapped and only used by this thread while `_only` is held; the slot was
        // written by `place`; a serializing instruction stands between writing code and running it.
        unsafe {
            (*x).fx = state.fx;
            (*x).gprs = state.gprs;
            (*x).rflags = state.rflags;
            (*x).target = placed.at as u32;
            (*x).target_selector = u32::from(match bits {
                Bits::B64 => CS64,
                Bits::B32 => CS32,
            });
            (*x).landed = 0;
            (*x).faulted = 0;
            if placed.at == FIRST_SLOT {
                // Old slots come back with new code: CPUID drops what was prefetched (Intel SDM volume 3, 9.1.3).
                std::hint::black_box(std::arch::x86_64::__cpuid(0));
            }
        }
        (self.entry)();
        // SAFETY: as above; the generated code has returned.
        unsafe {
            state.fx = (*x).fx;
            state.gprs = (*x).gprs;
            state.rflags = (*x).rflags;
            if (*x).faulted != 0 {
                state.rip = (*x).fault_rip;
                return Some(Fault {
                    vector: (*x).vector as u8,
                    code: (*x).code as u32,
                    address: if (*x).vector == 14 { (*x).address } else { 0 },
                });
            }
            state.rip = placed.at + if (*x).landed != 0 { LANDING } else { len as u64 };
        }
        None
    }

    /// The scratch memory.
    pub fn scratch(&mut self) -> &mut [u8] {
        // SAFETY: mapped by `map_all`; generated code writes it only inside `run`, which borrows `self` too.
        unsafe { std::slice::from_raw_parts_mut(with_exposed_provenance_mut(SCRATCH as usize), SCRATCH_LEN) }
    }
}

fn fixed(at: u64, len: usize) -> (Option<NonZeroUsize>, NonZeroUsize) {
    (NonZeroUsize::new(at as usize), NonZeroUsize::new(len).unwrap())
}

/// Maps all, returns the writable view of the code.
fn map_all() -> usize {
    let data = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // Pages before and behind the scratch memory fault, whatever the kernel would have put there.
    let around = (SCRATCH - PAGE, SCRATCH_LEN + 2 * PAGE as usize);
    for ((at, len), rights) in [((EXCHANGE, PAGE as usize), data), (around, ProtFlags::PROT_NONE)] {
        let (at, len) = fixed(at, len);
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: NOREPLACE: takes only free addresses.
        unsafe { mmap_anonymous(at, len, rights, flags) }.unwrap();
    }
    let scratch = NonNull::new(with_exposed_provenance_mut(SCRATCH as usize)).unwrap();
    // SAFETY: inside the mapping just made.
    unsafe { mprotect(scratch, SCRATCH_LEN, data) }.unwrap();
    let file: OwnedFd = memfd_create("differential", MFdFlags::empty()).unwrap();
    nix::unistd::ftruncate(&file, CODE_LEN as i64).unwrap();
    let (at, len) = fixed(CODE, CODE_LEN);
    let executable = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
    let shared = MapFlags::MAP_SHARED;
    // SAFETY: as above; the second mapping goes where the kernel likes.
    let writable = unsafe {
        mmap(
            at,
            len,
            executable,
            shared | MapFlags::MAP_FIXED_NOREPLACE,
            &file,
            0,
        )
        .unwrap();
        mmap(None, len, data, shared, &file, 0).unwrap()
    };
    writable.as_ptr().expose_provenance()
}

/// The general registers in encoding order.
fn registers() -> [AsmRegister64; 16] {
    [
        rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
    ]
}

/// Entry and exit code; addresses of the exit and of what follows a fault.
fn trampoline() -> (Vec<u8>, u64, u64) {
    let mut a = CodeAssembler::new(64).unwrap();
    let saved = [rbx, rbp, r12, r13, r14, r15];
    let gprs = field!(gprs);
    let mut exit = a.create_label();
    let mut after_fault = a.create_label();
    (|| {
        for register in saved {
            a.push(register)?;
        }
        a.mov(eax, DATA)?;
        a.mov(ds, eax)?;
        a.mov(es, eax)?;
        a.mov(qword_ptr(field!(host_rsp)), rsp)?;
        a.fxsave64(ptr(field!(host_fx)))?;
        a.fxrstor64(ptr(field!(fx)))?;
        a.push(qword_ptr(field!(rflags)))?;
        a.popfq()?;
        for (n, register) in registers().into_iter().enumerate() {
            a.mov(register, qword_ptr(gprs + 8 * n as u64))?;
        }
        a.jmp(fword_ptr(field!(target)))?;
        a.set_label(&mut exit)?;
        for (n, register) in registers().into_iter().enumerate() {
            a.mov(qword_ptr(gprs + 8 * n as u64), register)?;
        }
        a.mov(rsp, qword_ptr(field!(host_rsp)))?;
        a.pushfq()?;
        a.pop(qword_ptr(field!(rflags)))?;
        a.fxsave64(ptr(field!(fx)))?;
        a.set_label(&mut after_fault)?;
        a.mov(rsp, qword_ptr(field!(host_rsp)))?;
        a.fxrstor64(ptr(field!(host_fx)))?;
        a.push(2)?;
        a.popfq()?;
        for register in saved.into_iter().rev() {
            a.pop(register)?;
        }
        a.ret()
    })()
    .unwrap();
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let done = a.assemble_options(CODE, options).unwrap();
    let address = |label| done.label_ip(label).unwrap();
    let addresses = (address(&exit), address(&after_fault));
    (done.inner.code_buffer, addresses.0, addresses.1)
}

const SIGNALS: [i32; 5] = [
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGILL,
    libc::SIGBUS,
    libc::SIGTRAP,
];

/// Handlers for this process, and a signal stack for this thread: the guest's RSP is no stack.
fn install_handlers() {
    const STACK: usize = 64 << 10;
    let stack = Box::leak(vec![0u8; STACK].into_boxed_slice());
    let alternate = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: STACK,
    };
    // SAFETY: the stack is leaked, so it outlives the thread; the handler is async-signal-safe: it copies memory.
    unsafe {
        assert_eq!(libc::sigaltstack(&alternate, std::ptr::null_mut()), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for signal in SIGNALS {
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
    }
}

/// ucontext's names of the general registers, in encoding order.
const GREGS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

extern "C" fn on_fault(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let context: *mut libc::ucontext_t = context.cast();
    let x = exchange();
    // SAFETY: the kernel passes a valid context; the exchange block is mapped before any handler is installed.
    unsafe {
        let registers = addr_of_mut!((*context).uc_mcontext.gregs).cast::<u64>();
        let register = |n: i32| registers.add(n as usize);
        let rip = *register(libc::REG_RIP);
        if !(FIRST_SLOT..CODE + CODE_LEN as u64).contains(&rip) {
            // Not ours: let it kill the process as it would have.
            libc::signal(signal, libc::SIG_DFL);
            return;
        }
        for (n, &greg) in GREGS.iter().enumerate() {
            (*x).gprs[n] = *register(greg);
        }
        let fx = addr_of!(*(*context).uc_mcontext.fpregs).cast::<u8>();
        fx.copy_to_nonoverlapping(addr_of_mut!((*x).fx).cast(), 512);
        (*x).rflags = *register(libc::REG_EFL);
        (*x).faulted = 1;
        (*x).vector = *register(libc::REG_TRAPNO);
        (*x).code = *register(libc::REG_ERR);
        (*x).address = *register(libc::REG_CR2);
        (*x).fault_rip = rip;
        *register(libc::REG_RIP) = (*x).after_fault;
        *register(libc::REG_EFL) = 2;
        let selectors = register(libc::REG_CSGSFS);
        *selectors = (*selectors & !0xffff) | u64::from(CS64);
    }
}
