//! Native code for x87, MMX and SSE instructions: one small function per distinct instruction, which loads the operands
//! from where it is told, runs the very instruction, and stores the result. Exact by construction: the host's silicon
//! computes.
//!
//! Registers are renamed and the memory operand becomes a pointer ([`plan`]), so that `addps xmm3, [rax]` and `addps
//! xmm9, [rbx+8]` share one thunk, and there are a few ten thousand at most (those with an immediate byte): they are
//! made when an instruction is first compiled and live as long as the process, in one table, since they depend on
//! nothing but the instruction.
//!
//! Measured on a Zen 4 at 2.6 GHz, handler included: integer XMM 6 ns, with MXCSR 13, MMX 22, x87 115.
//!
//! A thunk only ever touches the operands it is given: no guest address reaches it. What it is to compute with
//! (rounding, masks) comes in [`Args`]; it leaves the host's own MXCSR and an empty x87 behind.
#![allow(
    unsafe_code,
    reason = "turns emitted code into functions; `emit` is the only source of that code"
)]

pub(in crate::engine::interp) mod arena;
mod emit;
pub mod plan;

use crate::engine::soft::xstate::Legacy;
use arena::Arena;
use iced_x86::Instruction;
use plan::Plan;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Room for code. A thunk takes 20 to 120 bytes.
const ARENA_BYTES: NonZeroUsize = NonZeroUsize::new(8 << 20).unwrap();
/// MXCSR for the code of this process itself.
const HOST_MXCSR: u32 = 0x1f80;

/// What a thunk gets besides its two operands. `emit` knows the offsets.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Args {
    /// MXCSR to compute with, and after: all exceptions must be masked.
    pub mxcsr: u32,
    host_mxcsr: u32,
    /// Arithmetic flags: OF in bit 0, and SF, ZF, AF, PF, CF in bits 8-15 as LAHF has them.
    pub flags: u16,
    /// RAX, RDX, RCX: general register operands. The explicit one, if any, is RAX.
    pub rax: u64,
    /// Implicit operand of PCMPESTRI and PCMPESTRM.
    pub rdx: u64,
    /// Index that PCMPESTRI and PCMPISTRI give.
    pub rcx: u64,
    /// XMM0, for the instructions that name it implicitly.
    pub xmm0: u128,
}

impl Args {
    /// For a computation with this MXCSR.
    pub fn new(mxcsr: u32) -> Self {
        Self {
            mxcsr,
            host_mxcsr: HOST_MXCSR,
            flags: 0,
            rax: 0,
            rdx: 0,
            rcx: 0,
            xmm0: 0,
        }
    }
}

type Code = unsafe extern "sysv64" fn(*mut u128, *mut u128, *mut Args);

/// One instruction's native code and how to call it.
pub struct Thunk {
    code: Code,
    /// Operands and effects.
    pub plan: Plan,
}

impl Thunk {
    /// Runs the instruction on its first and second operand ([`Plan::vectors`], [`Plan::memory`]; an x87 instruction's
    /// first is the [`Legacy`] state). The two may be the same.
    ///
    /// # Safety
    /// `first` is good for 16 bytes, or 512 for an x87 instruction, whose MXCSR is such that FXRSTOR takes it;
    /// `second` for 16; both aligned to 16. `args` points to an [`Args`]; it is not used if the plan
    /// [is plain](Plan::is_plain) and of [`plan::Unit::Integer`].
    #[inline(always)]
    pub unsafe fn call(&self, first: *mut u128, second: *mut u128, args: *mut Args) {
        // SAFETY: `code` was emitted for `plan` and touches what the caller vouches for; it keeps the registers the
        // ABI wants kept.
        unsafe { (self.code)(first, second, args) }
    }
}

/// Makes a state that was put together from parts what the silicon makes of it when it is loaded: reserved bits, and
/// the summary of pending exceptions. Pointers and opcode stay.
pub fn settle(state: &mut Legacy) {
    let kept = (state.fop, state.fip, state.fdp);
    let host = HOST_MXCSR;
    // SAFETY: `Legacy` is FXSAVE's 512 bytes, aligned, and its MXCSR is kept valid by all who write it. FNINIT takes no
    // pending exception; the x87 is left empty and MXCSR as it was, as the ABI wants them.
    unsafe {
        std::arch::asm!(
            "fxrstor64 [{state}]",
            "fxsave64 [{state}]",
            "fninit",
            "ldmxcsr [{host}]",
            state = in(reg) std::ptr::from_mut(state),
            host = in(reg) &raw const host,
            clobber_abi("sysv64"),
            options(nostack)
        );
    }
    (state.fop, state.fip, state.fdp) = kept;
}

struct Table {
    /// `None`: the host refused executable memory.
    arena: Option<Arena>,
    thunks: HashMap<Plan, &'static Thunk>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(|| {
    Mutex::new(Table {
        arena: Arena::new(ARENA_BYTES)
            .inspect_err(|error| tracing::error!("no memory for native code: {error}"))
            .ok(),
        thunks: HashMap::new(),
    })
});

/// Takes the code memory from the host now, before the process is jailed. False: the host refused, and every x87, MMX and
/// SSE instruction will be undefined.
pub fn prepare() -> bool {
    TABLE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .arena
        .is_some()
}

/// The thunk for an instruction. `None`: it is none that a thunk can run, or there is no code memory.
pub fn get(instr: &Instruction) -> Option<&'static Thunk> {
    let plan = Plan::new(instr)?;
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(thunk) = table.thunks.get(&plan) {
        return Some(thunk);
    }
    let bytes = emit::emit(&plan).ok()?;
    let code = table.arena.as_mut()?.add(&bytes)?;
    // SAFETY: `emit` makes functions of this type, and the arena, never dropped, keeps this one.
    let code = unsafe { std::mem::transmute::<std::ptr::NonNull<u8>, Code>(code) };
    let thunk: &'static Thunk = Box::leak(Box::new(Thunk {
        code,
        plan: plan.clone(),
    }));
    table.thunks.insert(plan, thunk);
    Some(thunk)
}
