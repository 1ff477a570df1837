//! The interpreter's side: the same instruction, compiled and run on a [`Cpu`] at CPL 3, paging on.
#![allow(
    unsafe_code,
    reason = "compares guest memory in place: millions of times, too often for copies"
)]

use super::native::{SCRATCH, SCRATCH_LEN};
use super::state::{Bits, Fault, State};
use std::sync::Arc;
use vmm::engine::cpu_model::CpuModel;
use vmm::engine::interp::compile::{Source, compile, decode};
use vmm::engine::soft::cpu::{Cpu, Leave, vector};
use vmm::engine::state::{CS, CpuState, Segment};
use vmm::mem::GuestMemory;

/// The scratch pages' places, swapped: an access that crosses them must be split.
const PAGES: [u64; 2] = [0x9000, 0x8000];
const PRESENT_WRITABLE_USER: u64 = 7;

/// A vCPU.
pub struct Subject {
    cpu: Cpu,
    memory: Arc<GuestMemory>,
}

impl Subject {
    /// In long mode, user code of the size asked for.
    pub fn new(bits: Bits) -> Self {
        let memory = Arc::new(GuestMemory::new(1 << 20).unwrap());
        let index = |level: u32| SCRATCH >> (12 + 9 * level) & 0x1ff;
        for (table, level, next) in [(0x1000, 3, 0x2000), (0x2000, 2, 0x3000), (0x3000, 1, 0x4000u64)] {
            let at = table + 8 * index(level);
            memory.write_obj(at, &(next | PRESENT_WRITABLE_USER)).unwrap();
        }
        for (n, page) in PAGES.into_iter().enumerate() {
            let at = 0x4000 + 8 * (index(0) + n as u64);
            memory.write_obj(at, &(page | PRESENT_WRITABLE_USER)).unwrap();
        }
        let mut cpu = Cpu::new(Arc::new(CpuModel::default_level()), memory.clone());
        cpu.load_state(&user_state(bits)).unwrap();
        Self { cpu, memory }
    }

    /// Starts afresh.
    pub fn set(&mut self, state: &State) {
        self.cpu.regs.set_all(&state.gprs);
        self.cpu.flags.set_rflags(state.rflags);
        let mut xsave = state.fx.to_vec();
        // The header: x87 and SSE are in the image.
        xsave.extend([3]);
        xsave.resize(576, 0);
        let xcr0 = self.cpu.xstate.xcr0;
        self.cpu.xstate.load(&xsave, xcr0);
    }

    /// Changes one general register.
    pub fn poke(&mut self, register: usize, value: u64) {
        let mut all = self.cpu.regs.all();
        all[register] = value;
        self.cpu.regs.set_all(&all);
    }

    /// Adopts flags that the architecture leaves undefined.
    pub fn adopt_flags(&mut self, rflags: u64) {
        self.cpu.flags.set_rflags(rflags);
    }

    /// Runs one instruction as if it lay at `at`.
    pub fn run(&mut self, bytes: &[u8], at: u64) -> (State, Option<Fault>) {
        let instr = decode(bytes, self.cpu.mode, 0).unwrap();
        let op = compile(Source {
            model: &self.cpu.model,
            instr: &instr,
            mode: self.cpu.mode,
        });
        self.cpu.rip = at;
        let mut ran = (op.run)(&mut self.cpu, &op);
        // A repetition pauses at itself.
        while ran == Err(Leave::Jump) && self.cpu.rip == at {
            self.cpu.attention = false;
            ran = (op.run)(&mut self.cpu, &op);
        }
        let fault = match ran {
            Ok(()) => {
                self.cpu.rip = at + bytes.len() as u64;
                None
            }
            Err(Leave::Jump) => None,
            Err(Leave::Fault) => self.cpu.fault.take().map(|fault| Fault {
                vector: fault.vector,
                code: fault.code.unwrap_or(0),
                address: if fault.vector == vector::PF {
                    fault.address
                } else {
                    0
                },
            }),
            Err(leave) => panic!("{leave:?}: {:?}", self.cpu.exit),
        };
        let mut fx = [0; 512];
        fx.copy_from_slice(&self.cpu.xstate.image()[..512]);
        let state = State {
            gprs: self.cpu.regs.all(),
            rflags: self.cpu.flags.rflags(),
            rip: self.cpu.rip,
            fx,
        };
        (state, fault)
    }

    /// The scratch memory as the guest sees it, page by page.
    pub fn scratch(&mut self) -> [&mut [u8]; 2] {
        let low = self.memory.regions()[0].host;
        PAGES.map(|page| {
            // SAFETY: both pages lie in the first region, are distinct, and the vCPU runs only in `run`, which
            // borrows `self` too.
            unsafe { std::slice::from_raw_parts_mut(low.as_ptr().add(page as usize), SCRATCH_LEN / 2) }
        })
    }
}

fn user_state(bits: Bits) -> CpuState {
    let mut state = CpuState::reset();
    let data = Segment {
        selector: 0x2b,
        base: 0,
        limit: u32::MAX,
        attributes: 0xc0f3,
    };
    state.segments.user = [data; 6];
    state.segments.user[CS] = Segment {
        selector: if bits == Bits::B64 { 0x33 } else { 0x23 },
        attributes: if bits == Bits::B64 { 0xa0fb } else { 0xc0fb },
        ..data
    };
    state.segments.tr.attributes = 0x8b;
    state.rip = 0;
    state.cr0 = 0x8005_0033;
    state.cr3 = 0x1000;
    state.cr4 = 0x620;
    state.efer = 0xd01;
    state
}
