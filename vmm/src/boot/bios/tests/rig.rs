//! A machine small enough to see everything the BIOS does: the interpreter, real interrupt controllers, clock, PCI and
//! power management, and a serial port that a test types at. Time passes by a microsecond an exit and a tick a halt.

use super::super::{Setup, place};
use crate::boot::e820;
use crate::bus::{Access, PortIo, Signal, Signals, Width, Wires};
use crate::dev::chipset::pci::PciBus;
use crate::dev::chipset::pic::PicPair;
use crate::dev::chipset::pm::Pm;
use crate::dev::chipset::rtc::{Cmos, Rtc};
use crate::engine::interp::engine::InterpEngine;
use crate::engine::soft::state_io::interp_model;
use crate::engine::state::{CS, CpuState, DS, ES, SS};
use crate::engine::{Engine, Entry, Exit, Inject, Op, Reply};
use crate::mem::GuestMemory;
use crate::time::Ns;
use std::collections::VecDeque;
use std::sync::Arc;

/// Nanoseconds of 65536 periods of the 8254's clock.
const TICK: u64 = 54_925_493;
const SEGMENT: u16 = 0x1000;
const STACK: u16 = 0xe000;
/// Where calls are made, with the stack below and the caller's data segments elsewhere.
const CALL: u64 = 0x600;
const CALL_STACK: u64 = 0x7000;
const DATA: [u16; 2] = [0x3000, 0x4000];
/// Exits no call needs.
const MOST_EXITS: usize = 300_000;
pub const RAM: u64 = 32 << 20;
/// A loader has put something into the last 5 MiB.
pub const FREE_END: u64 = 27 << 20;
/// 2026-11-21 12:34:56, a Saturday.
pub const UNIX: u64 = 1_795_264_496;

/// The registers a call is made with and comes back with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regs {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    pub es: u16,
    pub carry: bool,
    pub zero: bool,
}

pub struct Rig {
    pub engine: InterpEngine,
    pub memory: Arc<GuestMemory>,
    pub now: Ns,
    pub a20: u8,
    /// What waits in the serial port, and what comes once the CPU halts.
    pub typed: VecDeque<u8>,
    pub typed_later: Vec<u8>,
    pub printed: Vec<u8>,
    pub halts: u32,
    pub reset: bool,
    pub off: bool,
    ier: u8,
    line_control: u8,
    pub divisor: u8,
    pic: PicPair,
    rtc: Rtc,
    pci: PciBus,
    pm: Pm,
    signals: Signals,
}

impl Rig {
    /// After the power-on code, where it enters the boot program.
    pub fn new() -> Self {
        let memory = Arc::new(GuestMemory::new(RAM).unwrap());
        memory.write(u64::from(SEGMENT) * 16 + 0x200, &[0xf4]).unwrap();
        let setup = Setup {
            map: &e820::map(&memory),
            free_end: FREE_END,
            segment: SEGMENT,
            stack: STACK,
        };
        let state = place(&memory, &setup).unwrap();
        let (wires, signals) = (Wires::default(), Signals::default());
        let cmos = Cmos {
            below_4g: RAM,
            ..Cmos::default()
        };
        let mut rig = Self {
            engine: InterpEngine::new(Arc::clone(&memory), interp_model()),
            memory,
            now: Ns(0),
            a20: 0,
            typed: VecDeque::new(),
            typed_later: Vec::new(),
            printed: Vec::new(),
            halts: 0,
            reset: false,
            off: false,
            ier: 0,
            line_control: 0,
            divisor: 0,
            pic: PicPair::new(),
            rtc: Rtc::new(wires.line(8).unwrap(), UNIX * Ns::SECOND, &cmos),
            pci: PciBus::new(&wires, signals.clone()).unwrap(),
            pm: Pm::new(wires.line(9).unwrap(), signals.clone()),
            signals,
        };
        rig.engine.load(&state).unwrap();
        rig.run(u64::from(SEGMENT) * 16 + 0x201);
        rig
    }

    pub fn state(&mut self) -> CpuState {
        self.engine.save().unwrap()
    }

    /// Makes the call from 0000:0600 with interrupts on and checks what every service owes its caller: to come back, with stack,
    /// data segments and interrupt flag as they were.
    pub fn call(&mut self, interrupt: u8, regs: Regs) -> Regs {
        self.start(&[0xcd, interrupt, 0xf4], regs);
        self.run(CALL + 3);
        let state = self.state();
        let word = |n: usize| state.gprs[n] as u32;
        assert_eq!(state.gprs[4], CALL_STACK, "SP");
        assert_eq!(state.segments.user[DS].selector, DATA[0], "DS");
        assert_eq!(state.segments.user[SS].selector, 0, "SS");
        assert_eq!(state.rflags & 0x200, 0x200, "IF");
        Regs {
            eax: word(0),
            ecx: word(1),
            edx: word(2),
            ebx: word(3),
            ebp: word(5),
            esi: word(6),
            edi: word(7),
            es: state.segments.user[ES].selector,
            carry: state.rflags & 1 != 0,
            zero: state.rflags & 0x40 != 0,
        }
    }

    /// Puts the CPU before code of the test's own.
    pub fn start(&mut self, code: &[u8], regs: Regs) {
        self.memory.write(CALL, code).unwrap();
        let mut state = CpuState::real_mode(0, CALL as u16);
        let [ax, cx, dx, bx] = [regs.eax, regs.ecx, regs.edx, regs.ebx].map(u64::from);
        let [bp, si, di] = [regs.ebp, regs.esi, regs.edi].map(u64::from);
        state.gprs[..8].copy_from_slice(&[ax, cx, dx, bx, CALL_STACK, bp, si, di]);
        for (segment, selector) in [(DS, DATA[0]), (ES, if regs.es == 0 { DATA[1] } else { regs.es })] {
            state.segments.user[segment].selector = selector;
            state.segments.user[segment].base = u64::from(selector) * 16;
        }
        state.rflags = 0x202 | u64::from(regs.carry) | u64::from(regs.zero) << 6;
        self.engine.load(&state).unwrap();
    }

    /// Sleeps through one tick, in code that only halts.
    pub fn run_a_tick(&mut self) {
        self.now = self.now.after(TICK);
        self.halts += 1;
        self.pic.pulse(0);
        self.run(CALL + 1);
    }

    /// Runs until the CPU halts with its next instruction at linear address `end`.
    pub fn run(&mut self, end: u64) {
        assert!(self.runs_to(Some(end)), "does not come to {end:#x}");
    }

    /// Runs until a reset, power-off or triple fault; `false`: none came.
    pub fn run_to_its_end(&mut self) -> bool {
        self.runs_to(None)
    }

    fn runs_to(&mut self, end: Option<u64>) -> bool {
        let mut reply = Reply::None;
        for _ in 0..MOST_EXITS {
            self.now = self.now.after(1000);
            self.pic.set_irq(4, self.ier & 1 != 0 && !self.typed.is_empty());
            let inject = (self.engine.view().interruptible && self.pic.output())
                .then(|| Inject::Interrupt(self.pic.acknowledge()));
            let exit = self.engine.run(Entry {
                reply,
                inject,
                want_window: self.pic.output(),
                ..Entry::default()
            });
            reply = match exit {
                Exit::Port { port, width, op } => self.port(port, width, op),
                Exit::Halt => {
                    let state = self.state();
                    let at = state.segments.user[CS].base + state.rip;
                    if end == Some(at) {
                        return true;
                    }
                    self.halts += 1;
                    self.now = self.now.after(TICK);
                    self.typed.extend(self.typed_later.drain(..));
                    self.pic.pulse(0);
                    Reply::None
                }
                Exit::Window => Reply::None,
                Exit::Shutdown => return end.is_none(),
                other => panic!("{other:?}"),
            };
            for signal in self.signals.take() {
                self.reset |= signal == Signal::Reset;
                self.off |= signal == Signal::PowerOff;
            }
            if self.reset || self.off {
                return end.is_none();
            }
        }
        false
    }

    fn port(&mut self, port: u16, width: Width, op: Op) -> Reply {
        let device: &mut dyn PortIo = match port {
            0x20..=0x21 | 0xa0..=0xa1 => &mut self.pic,
            0x70..=0x73 => &mut self.rtc,
            0xcf8..=0xcff => &mut self.pci,
            0x600..=0x63f => &mut self.pm,
            _ => return self.own_port(port, op),
        };
        match op {
            Op::Read => match device.port_read(self.now, port, width) {
                Access::Done(value) => Reply::Value(value.into()),
                other => panic!("port {port:#x}: {other:?}"),
            },
            Op::Write(value) => {
                assert_eq!(
                    device.port_write(self.now, port, width, value as u32),
                    Access::Done(()),
                    "port {port:#x}"
                );
                Reply::None
            }
        }
    }

    fn own_port(&mut self, port: u16, op: Op) -> Reply {
        match (port, op) {
            (0x3fd, Op::Read) => return Reply::Value(0x60 | u64::from(!self.typed.is_empty())),
            (0x3f8, Op::Read) => return Reply::Value(self.typed.pop_front().unwrap().into()),
            (0x92, Op::Read) => return Reply::Value(self.a20.into()),
            (0x92, Op::Write(value)) => {
                assert_eq!(value & 1, 0, "bit 0 resets");
                self.a20 = value as u8;
            }
            (0x3fb, Op::Write(value)) => self.line_control = value as u8,
            (0x3f8, Op::Write(value)) if self.line_control & 0x80 != 0 => self.divisor = value as u8,
            (0x3f9, Op::Write(value)) if self.line_control & 0x80 != 0 => assert_eq!(value, 0),
            (0x3f9, Op::Write(value)) => self.ier = value as u8,
            (0x3f8, Op::Write(value)) => self.printed.push(value as u8),
            (0x3fa | 0x3fc | 0x40 | 0x43, Op::Write(_)) => {}
            other => panic!("{other:x?}"),
        }
        Reply::None
    }

    /// What was printed since the last look, escape characters as `^`.
    pub fn text(&mut self) -> String {
        let bytes = std::mem::take(&mut self.printed);
        String::from_utf8(bytes).unwrap().replace('\x1b', "^")
    }

    /// A word of the data area.
    pub fn data(&self, offset: u64) -> u16 {
        self.memory.read_obj(0x400 + offset).unwrap()
    }
}
