//! Hardware virtualization through `/dev/kvm`: one vCPU, and none of the kernel's devices.
//!
//! Made by [`super::select`], run by the machine's run loop, on one thread for life (the alarm rings on the thread it
//! was made on; `KvmEngine` is not `Send`). Interrupt controllers and timers are the chipset's, so every APIC access
//! is an exit. In here nobody may block but in KVM_RUN, and nothing may enter the guest while an access is half
//! answered.
//!
//! | module | holds |
//! |---|---|
//! | [`probe`] | opening, asking and measuring the host's KVM |
//! | `vm` | memory slots, register routing, CPUID |
//! | `run_page`, `ioctls` | the page shared with the kernel, calls without a safe wrapper |
//! | `kick` | kicks and the alarm |
//! | `transfer` | strings and odd lengths, piece by piece |
//! | `registers`, `tsc` | model-specific registers, the time stamp counter |
//! | `convert` | [`CpuState`] to KVM's structures and back |

mod convert;
mod ioctls;
mod kick;
pub mod probe;
mod registers;
mod run_page;
mod transfer;
mod tsc;
mod vm;

#[cfg(test)]
mod tests;

use super::cpu_model::{CpuModel, XCR0_SUPPORTED, features::ARCH_CAPABILITIES};
use super::state::CpuState;
use super::{Engine, EngineError, Entry, Exit, Inject, Kick, Op, Reply, View};
use crate::mem::GuestMemory;
use kick::{Alarm, Kicker};
use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO,
    KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_SET_TPR, KVM_EXIT_SHUTDOWN,
    KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use nix::errno::Errno;
use nix::unistd::{Pid, gettid};
use run_page::RunPage;
use std::sync::Arc;
use std::time::Duration;
use transfer::Transfer;
use tsc::TscOffset;
use vm::host;

/// Its name in the config, the status and the first line of output.
pub const NAME: &str = "kvm";
const RFLAGS_IF: u64 = 1 << 9;
/// How often `load` pushes a half-done instruction on before it gives up: far more pieces than any has once its
/// repeat count is gone.
const MOST_PIECES: u32 = 64;

/// What the last exit is still owed.
#[derive(Clone, Copy, Debug)]
enum Owed {
    Nothing,
    Transfer(Transfer),
    Msr { read: bool },
}

/// The engine. Fields drop in order: first the timer that points into the page, last the memory under the machine.
pub struct KvmEngine {
    alarm: Alarm,
    kicker: Arc<Kicker>,
    page: RunPage,
    vcpu: VcpuFd,
    _vm: VmFd,
    _memory: Arc<GuestMemory>,
    model: CpuModel,
    tsc: TscOffset,
    thread: Pid,
    warnings: Vec<String>,
    owed: Owed,
    /// KVM has an instruction to finish on the next entry.
    unfinished: bool,
    /// An exit that came up while saving and was not handed out yet.
    kept: Option<Exit>,
    /// In HLT: KVM leaves that to whoever owns the interrupt controller.
    halted: bool,
    view: View,
}

impl KvmEngine {
    /// A machine with this memory and one vCPU in its RESET state, to be run on the calling thread. The model is
    /// fitted to the host first ([`KvmEngine::model`]); what got lost is in [`KvmEngine::warnings`].
    pub fn new(kvm: &Kvm, memory: Arc<GuestMemory>, mut model: CpuModel) -> Result<Self, EngineError> {
        let vm = vm::create(kvm, &memory)?;
        let asked = model.clone();
        vm::fit_model(kvm, &mut model)?;
        let mut warnings = Vec::new();
        let vcpu = vm.create_vcpu(0).map_err(host("creating the vCPU"))?;
        if model.has(ARCH_CAPABILITIES) && !registers::set_arch_capabilities(kvm, &vcpu) {
            model.hide(ARCH_CAPABILITIES);
            warnings.push("KVM refuses register ARCH_CAPABILITIES (0x10a): the feature is hidden".to_owned());
        }
        warnings.extend(vm::route_msrs(kvm, &vm, &mut model)?);
        model.set_tsc_khz(tsc::khz(&vcpu));
        warnings.extend(vm::set_cpuid(&vcpu, &mut model)?);
        let missing = asked.lost_in(&model);
        if !missing.is_empty() {
            warnings.push(format!("this host's KVM lacks {}", missing.join(", ")));
        }

        let page_len = kvm
            .get_vcpu_mmap_size()
            .map_err(host("asking for the size of the shared page"))?;
        let page = RunPage::map(ioctls::descriptor(&vcpu), page_len)?;
        let kicker = Arc::new(Kicker::new(page.mapping())?);
        let mut engine = Self {
            alarm: Alarm::new(page.mapping())?,
            kicker,
            page,
            tsc: TscOffset::new(&vcpu),
            vcpu,
            _vm: vm,
            _memory: memory,
            model,
            thread: gettid(),
            warnings,
            owed: Owed::Nothing,
            unfinished: false,
            kept: None,
            halted: false,
            view: View::default(),
        };
        engine.replace(&CpuState::reset())?;
        Ok(engine)
    }

    /// The CPU the guest sees here.
    pub fn model(&self) -> &CpuModel {
        &self.model
    }

    /// What this host could not give, in words, each once.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn step(&mut self, entry: &Entry) -> Result<Exit, String> {
        if let Some(exit) = self.kept.take() {
            return Ok(exit);
        }
        if let Some(next_piece) = self.settle(entry.reply)? {
            return Ok(next_piece);
        }
        self.inject(entry.inject)?;
        self.page.prepare(entry.want_window, entry.cr8);
        loop {
            if let Some(exit) = self.enter()? {
                return Ok(exit);
            }
        }
    }

    /// Puts the answer where KVM finds it. More of the same access comes out as the next exit, without KVM.
    fn settle(&mut self, reply: Reply) -> Result<Option<Exit>, String> {
        let unanswered = || "the run loop left a read unanswered".to_owned();
        match std::mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::Nothing => Ok(None),
            Owed::Transfer(transfer) => {
                transfer.answer(&mut self.page, reply).ok_or_else(unanswered)?;
                transfer.rest().map(|rest| self.hand_out(rest)).transpose()
            }
            Owed::Msr { read } => {
                let value = match reply {
                    Reply::Value(value) => Some(value),
                    Reply::Fault => None,
                    Reply::None if read => return Err(unanswered()),
                    Reply::None => Some(0),
                };
                self.page.answer_msr(value);
                Ok(None)
            }
        }
    }

    fn hand_out(&mut self, transfer: Transfer) -> Result<Exit, String> {
        self.owed = Owed::Transfer(transfer);
        let exit = transfer.exit(&self.page);
        exit.ok_or_else(|| "KVM placed data outside the shared page".to_owned())
    }

    /// HLT goes on until something is injected: KVM would run on.
    fn stay_halted(&self, entry: &Entry) -> Exit {
        if self.kicker.take() {
            Exit::Kicked
        } else if entry.want_window && self.view.interrupts_on {
            Exit::Window
        } else {
            Exit::Halt
        }
    }

    fn inject(&mut self, what: Option<Inject>) -> Result<(), String> {
        let (allowed, injected) = match what {
            None => return Ok(()),
            Some(Inject::Interrupt(vector)) if self.view.interruptible => {
                (true, ioctls::interrupt(&self.vcpu, vector))
            }
            // KVM itself holds an NMI until the guest can take it.
            Some(Inject::Nmi) if self.view.nmi_ready => {
                (true, self.vcpu.nmi().map_err(|e| Errno::from_raw(e.errno())))
            }
            Some(_) => (false, Ok(())),
        };
        if !allowed {
            return Err(format!(
                "the run loop injected {what:?} where the vCPU could not take it"
            ));
        }
        self.halted = false;
        injected.map_err(|errno| format!("injecting {what:?}: {errno}"))
    }

    /// KVM_RUN once. `None`: the exit was answered in here, go on.
    fn enter(&mut self) -> Result<Option<Exit>, String> {
        self.kicker.enter(self.thread);
        let outcome = ioctls::run(&self.vcpu);
        self.kicker.leave();
        self.unfinished = false;
        match outcome {
            Ok(()) => self.translate(),
            Err(Errno::EINTR | Errno::EAGAIN) => {
                self.kicker.take();
                Ok(Some(Exit::Kicked))
            }
            Err(Errno::EFAULT | Errno::EHWPOISON) if self.page.exit_reason() == KVM_EXIT_MEMORY_FAULT => {
                Err(self.page.memory_fault())
            }
            Err(errno) => Err(format!("KVM_RUN: {errno}")),
        }
    }

    fn translate(&mut self) -> Result<Option<Exit>, String> {
        let odd = || "KVM reported an access x86 does not have".to_owned();
        let reason = self.page.exit_reason();
        Ok(Some(match reason {
            KVM_EXIT_IO => {
                self.unfinished = true;
                let access = self.page.port_access();
                self.hand_out(Transfer::port(&access).ok_or_else(odd)?)?
            }
            KVM_EXIT_MMIO => {
                self.unfinished = true;
                let access = self.page.mmio_access();
                self.hand_out(Transfer::mmio(&access).ok_or_else(odd)?)?
            }
            KVM_EXIT_X86_RDMSR | KVM_EXIT_X86_WRMSR => {
                self.unfinished = true;
                let (index, data) = self.page.msr_access();
                let op = if reason == KVM_EXIT_X86_RDMSR {
                    Op::Read
                } else {
                    Op::Write(data)
                };
                return Ok(self.msr_exit(op, index));
            }
            KVM_EXIT_HLT => {
                self.halted = true;
                Exit::Halt
            }
            KVM_EXIT_IRQ_WINDOW_OPEN => Exit::Window,
            // The guest lowered CR8: something masked may be due.
            KVM_EXIT_INTR | KVM_EXIT_SET_TPR => Exit::Kicked,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_DEBUG => Exit::Debug,
            KVM_EXIT_FAIL_ENTRY => return Err(self.page.entry_failure()),
            KVM_EXIT_INTERNAL_ERROR => {
                let at = self.vcpu.get_regs().map_or(0, |regs| regs.rip);
                return Err(format!("{}, at rip {at:#x}", self.page.internal_error()));
            }
            other => {
                return Err(format!(
                    "KVM came out for reason {other}, which this version does not know"
                ));
            }
        }))
    }

    /// What the shared page says, corrected by what KVM does not know of.
    fn look(&self) -> View {
        let whole = match &self.owed {
            Owed::Nothing => self.kept.is_none(),
            // A read may still fault when KVM finishes it; an interrupt accepted before would come too early.
            Owed::Transfer(transfer) => !transfer.is_read() && !transfer.has_more(),
            Owed::Msr { .. } => false,
        };
        let interrupts_on = self.page.interrupts_on();
        View {
            interruptible: whole && (self.page.interruptible() || (self.halted && interrupts_on)),
            interrupts_on,
            nmi_ready: whole,
            cr8: self.page.cr8(),
        }
    }

    /// Lets KVM finish the instruction of the last exit without running the guest: KVM completes it before it looks
    /// at `immediate_exit`. The flag stays up, because a kick that came meanwhile hides behind it; the next run
    /// comes out with `Kicked` once for nothing. The finishing may come up with the next piece, which is returned.
    fn finish(&mut self) -> Result<Option<Exit>, String> {
        if !self.unfinished {
            return Ok(None);
        }
        self.kicker.raise();
        let exit = self.enter()?;
        self.kicker.raise();
        Ok(exit.filter(|exit| *exit != Exit::Kicked))
    }

    /// Gets rid of whatever instruction is half done, by answering anything and taking its repeat count away; for
    /// `load`, which replaces all it could have changed in the vCPU. Its writes to devices are not made.
    fn abandon(&mut self) -> Result<(), EngineError> {
        self.kept = None;
        for _ in 0..MOST_PIECES {
            while self.settle(Reply::Value(0)).map_err(abandoned)?.is_some() {}
            if !self.unfinished {
                return Ok(());
            }
            let mut regs = self.vcpu.get_regs().map_err(host("reading registers"))?;
            regs.rcx = 0;
            self.vcpu
                .set_regs(&regs)
                .map_err(host("ending a string instruction"))?;
            self.finish().map_err(abandoned)?;
        }
        Err(abandoned("it does not end".to_owned()))
    }

    /// `load` without a word about what KVM refuses; that is in [`KvmEngine::warnings`].
    fn replace(&mut self, state: &CpuState) -> Result<(), EngineError> {
        state.check()?;
        self.abandon()?;
        let vcpu = &self.vcpu;
        vcpu.set_sregs(&convert::to_sregs(state))
            .map_err(host("loading system registers"))?;
        vcpu.set_regs(&convert::to_regs(state))
            .map_err(host("loading registers"))?;
        vcpu.set_xcrs(&convert::to_xcrs(state.xcr0))
            .map_err(host("loading XCR0"))?;
        ioctls::set_xsave(vcpu, &convert::to_xsave(&state.xsave)).map_err(host("loading the FPU"))?;
        vcpu.set_debug_regs(&convert::to_debugregs(&state.debug))
            .map_err(host("loading debug registers"))?;
        vcpu.set_vcpu_events(&convert::to_events(&state.pending))
            .map_err(host("loading events"))?;
        self.load_msrs(&state.msrs)?;
        self.halted = state.pending.halted;
        let interrupts_on = state.rflags & RFLAGS_IF != 0;
        let pending = &state.pending;
        let undisturbed = !pending.sti_shadow
            && !pending.mov_ss_shadow
            && pending.exception.is_none()
            && pending.interrupt.is_none();
        self.view = View {
            interruptible: interrupts_on && undisturbed,
            interrupts_on,
            nmi_ready: true,
            cr8: (state.cr8 & 0xf) as u8,
        };
        Ok(())
    }
}

fn abandoned(why: String) -> EngineError {
    EngineError::Host {
        what: "ending a half-done instruction",
        source: std::io::Error::other(why),
    }
}

impl Engine for KvmEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, entry: Entry) -> Exit {
        if self.halted && entry.inject.is_none() {
            return self.stay_halted(&entry);
        }
        let exit = self.step(&entry).unwrap_or_else(Exit::Failed);
        self.view = self.look();
        exit
    }

    fn view(&self) -> View {
        self.view
    }

    fn polls(&self) -> bool {
        false
    }

    fn kick_handle(&self) -> Arc<dyn Kick> {
        Arc::<Kicker>::clone(&self.kicker)
    }

    fn alarm(&mut self, after: Option<Duration>) {
        self.alarm.set(after);
    }

    fn tsc(&self) -> u64 {
        self.tsc.now()
    }

    fn tsc_khz(&self) -> u32 {
        self.model.tsc_khz()
    }

    fn save(&mut self) -> Result<CpuState, EngineError> {
        let half_done = match &self.owed {
            Owed::Nothing => self.kept.is_some(),
            Owed::Transfer(transfer) => transfer.is_read() || transfer.has_more(),
            Owed::Msr { .. } => true,
        };
        if half_done {
            return Err(EngineError::NotSavable);
        }
        self.owed = Owed::Nothing;
        self.kept = self.finish().map_err(abandoned)?;
        if self.kept.is_some() {
            self.view = self.look();
            return Err(EngineError::NotSavable);
        }
        let vcpu = &self.vcpu;
        let regs = vcpu.get_regs().map_err(host("saving registers"))?;
        let sregs = vcpu.get_sregs().map_err(host("saving system registers"))?;
        let xcrs = vcpu.get_xcrs().map_err(host("saving XCR0"))?;
        let xsave = vcpu.get_xsave().map_err(host("saving the FPU"))?;
        let xcr0 = convert::xcr0(&xcrs);
        if xcr0 & !XCR0_SUPPORTED != 0 {
            return Err(probe::unavailable(&format!(
                "the guest uses processor state beyond the CPU model (XCR0 {xcr0:#x}), which this KVM shows unasked"
            )));
        }
        let debug = vcpu.get_debug_regs().map_err(host("saving debug registers"))?;
        let events = vcpu.get_vcpu_events().map_err(host("saving events"))?;
        let mut state = CpuState {
            gprs: convert::gprs(&regs),
            rip: regs.rip,
            rflags: regs.rflags,
            xcr0,
            xsave: convert::xsave(&xsave),
            debug: convert::debug(&debug),
            pending: convert::pending(&events, self.halted),
            msrs: self.save_msrs()?,
            ..CpuState::reset()
        };
        convert::take_sregs(&mut state, &sregs);
        Ok(state)
    }

    fn load(&mut self, state: &CpuState) -> Result<(), EngineError> {
        let known = self.warnings.len();
        self.replace(state)?;
        for warning in self.warnings.iter().skip(known) {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}
