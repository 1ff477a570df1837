//! One instruction on the host CPU, between a state loaded whole and one saved whole.
#![allow(
    unsafe_code,
    reason = "runs emitted code, and catches SIGFPE as the host's way to report #XM"
)]

use crate::engine::interp::thunk::arena::Arena;
use crate::engine::soft::xstate::Legacy;
use iced_x86::Instruction;
use iced_x86::code_asm::*;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Registers before or after. RSP and R15 are the stub's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Registers {
    pub legacy: Legacy,
    pub gprs: [u64; 16],
    pub rflags: u64,
}

#[repr(C, align(64))]
struct Frame {
    before: Registers,
    after: Registers,
}

/// Where a stub goes on when its instruction raised SIGFPE; 0: none runs.
static RESUME: AtomicU64 = AtomicU64::new(0);
static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_sigfpe(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let context = context.cast::<libc::ucontext_t>();
    let resume = RESUME.load(Relaxed);
    if resume == 0 {
        // SAFETY: abort is async-signal-safe.
        unsafe { libc::abort() };
    }
    CAUGHT.fetch_add(1, Relaxed);
    // SAFETY: the kernel passes the interrupted context of this thread.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] = resume as i64 };
}

pub struct Native {
    arena: Arena,
}

/// A stub for one instruction.
pub struct Stub {
    run: extern "sysv64" fn(*mut Frame),
    instr_at: u64,
    resume_at: u64,
}

const GPRS: [AsmRegister64; 16] = [
    rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15,
];
const KEPT: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];

impl Native {
    pub fn new() -> Self {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            // SAFETY: a zeroed sigaction is valid, and the handler is async-signal-safe.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_sigfpe as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
                assert_eq!(libc::sigaction(libc::SIGFPE, &action, std::ptr::null_mut()), 0);
            }
        });
        Self {
            arena: Arena::new(NonZeroUsize::new(64 << 20).unwrap()).unwrap(),
        }
    }

    pub fn stub(&mut self, instr: &Instruction) -> Stub {
        let mut a = CodeAssembler::new(64).unwrap();
        let before = |at: usize| r15 + (offset_of!(Frame, before) + at) as i32;
        let after = |at: usize| r15 + (offset_of!(Frame, after) + at) as i32;
        let gpr = |n: usize| offset_of!(Registers, gprs) + 8 * n;
        for register in KEPT {
            a.push(register).unwrap();
        }
        a.mov(r15, rdi).unwrap();
        a.fxrstor64(ptr(before(offset_of!(Registers, legacy)))).unwrap();
        a.push(qword_ptr(before(offset_of!(Registers, rflags)))).unwrap();
        a.popfq().unwrap();
        for (n, register) in GPRS.into_iter().enumerate().filter(|(n, _)| ![4, 15].contains(n)) {
            a.mov(register, qword_ptr(before(gpr(n)))).unwrap();
        }
        let head = a.assemble(0).unwrap();
        let mut encoder = iced_x86::Encoder::new(64);
        encoder.encode(instr, 0).unwrap();
        let body = encoder.take_buffer();
        let mut a = CodeAssembler::new(64).unwrap();
        for (n, register) in GPRS.into_iter().enumerate().filter(|(n, _)| ![4, 15].contains(n)) {
            a.mov(qword_ptr(after(gpr(n))), register).unwrap();
        }
        a.pushfq().unwrap();
        a.pop(qword_ptr(after(offset_of!(Registers, rflags)))).unwrap();
        a.fxsave64(ptr(after(offset_of!(Registers, legacy)))).unwrap();
        a.fninit().unwrap();
        a.push(0x1f80).unwrap();
        a.ldmxcsr(dword_ptr(rsp)).unwrap();
        a.pop(rax).unwrap();
        for register in KEPT.into_iter().rev() {
            a.pop(register).unwrap();
        }
        a.ret().unwrap();
        let tail = a.assemble(0).unwrap();
        let (instr_at, resume_at) = (head.len(), head.len() + body.len());
        let code = self.arena.add(&[head, body, tail].concat()).unwrap();
        let at = code.as_ptr().addr() as u64;
        Stub {
            // SAFETY: the code above is a function of this type that keeps what the ABI wants kept.
            run: unsafe {
                std::mem::transmute::<std::ptr::NonNull<u8>, extern "sysv64" fn(*mut Frame)>(code)
            },
            instr_at: at + instr_at as u64,
            resume_at: at + resume_at as u64,
        }
    }
}

impl Stub {
    /// Runs it. The state after, with FIP relative to the instruction if it changed, and whether #XM was raised.
    pub fn run(&self, before: &Registers) -> (Registers, bool) {
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut frame = Box::new(Frame {
            before: before.clone(),
            after: before.clone(),
        });
        let caught = CAUGHT.load(Relaxed);
        RESUME.store(self.resume_at, Relaxed);
        (self.run)(&mut *frame);
        RESUME.store(0, Relaxed);
        let faulted = CAUGHT.load(Relaxed) != caught;
        let mut after = frame.after;
        if after.legacy.fip == self.instr_at {
            after.legacy.fip = 0;
        }
        (after, faulted)
    }
}
