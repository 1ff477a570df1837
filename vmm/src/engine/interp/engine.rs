//! The interpreter as an [`Engine`]: clock, kick, IRQ bitmap, state in and out.
//!
//! A kick is a flag the vCPU looks at every few microseconds; it stays up until a run has answered it with
//! [`Exit::Kicked`], so one that comes before the run is not lost. The alarm is an instant of the host's time stamp
//! counter, compared at the same look; so no other thread and no signal is needed. Only a guest that halts sleeps, and then
//! the run loop does.

use super::run::{Interp, Outside};
use crate::engine::cpu_model::CpuModel;
use crate::engine::soft::cpu::Cpu;
use crate::engine::soft::system::host;
use crate::engine::state::CpuState;
use crate::engine::{Engine, EngineError, Entry, Exit, Kick, View};
use crate::mem::GuestMemory;
use shared::mem::Mapped;
use shared::ring::Attention;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::Duration;

/// The kick flag.
#[derive(Default)]
struct Flag(AtomicBool);

impl Flag {
    fn take(&self) -> bool {
        self.0.load(Relaxed) && self.0.swap(false, Acquire)
    }
}

impl Kick for Flag {
    fn kick(&self) {
        self.0.store(true, Release);
    }
}

/// What the vCPU looks at while guest code runs.
struct World {
    kicked: Arc<Flag>,
    attention: Option<Attention<Mapped>>,
    /// When the alarm rings, by the host's time stamp counter; `u64::MAX`: never.
    due: u64,
}

impl Outside for World {
    fn wants_out(&mut self) -> bool {
        let kicked = self.kicked.take();
        let rings = self.due != u64::MAX && host::tsc() >= self.due;
        if rings {
            self.due = u64::MAX;
        }
        kicked || rings || self.attention.as_ref().is_some_and(Attention::any)
    }
}

/// The engine `interp`.
pub struct InterpEngine {
    interp: Interp<World>,
    /// Of the host's counter, and so of the guest's.
    tsc_khz: u32,
}

impl InterpEngine {
    /// A vCPU in the RESET state. `model` holds only what software engines can
    /// ([`software_model`](crate::engine::soft::state_io::software_model)).
    pub fn new(memory: Arc<GuestMemory>, model: CpuModel) -> Self {
        let world = World {
            kicked: Arc::default(),
            attention: None,
            due: u64::MAX,
        };
        Self {
            tsc_khz: model.tsc_khz(),
            interp: Interp::new(Cpu::new(Arc::new(model), memory), world),
        }
    }
}

impl Engine for InterpEngine {
    fn name(&self) -> &'static str {
        "interp"
    }

    fn run(&mut self, entry: Entry) -> Exit {
        self.interp.run(entry)
    }

    fn view(&self) -> View {
        self.interp.view()
    }

    fn polls(&self) -> bool {
        true
    }

    fn watch(&mut self, attention: Attention<Mapped>) {
        self.interp.outside.attention = Some(attention);
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        Arc::<Flag>::clone(&self.interp.outside.kicked)
    }

    fn alarm(&mut self, after: Option<Duration>) {
        self.interp.outside.due = after.map_or(u64::MAX, |after| {
            let ticks = after.as_nanos() * u128::from(self.tsc_khz) / 1_000_000;
            host::tsc().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
        });
    }

    fn set_a20(&mut self, open: bool) {
        self.interp.cpu.a20 = open;
        self.interp.cpu.tlb.flush();
    }

    fn tsc(&self) -> u64 {
        host::tsc().wrapping_add(self.interp.cpu.tsc_offset)
    }

    fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    fn instructions(&self) -> Option<u64> {
        Some(self.interp.instructions())
    }

    fn save(&mut self) -> Result<CpuState, EngineError> {
        if !self.interp.settle() {
            return Err(EngineError::NotSavable);
        }
        Ok(self.interp.cpu.save_state())
    }

    fn load(&mut self, state: &CpuState) -> Result<(), EngineError> {
        self.interp.cpu.load_state(state)?;
        self.interp.forget();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
