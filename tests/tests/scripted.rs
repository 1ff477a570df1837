//! The real board and run loop under the scripted engine: no CPU, no KVM, everything else as in a machine. These tests
//! run everywhere; where KVM is missing they are the ones that cover the platform end to end.

use shared::abi::counters::VmmCounter;
use shared::msg::console::{Down, Up};
use shared::msg::handover::{Outcome, ToVmm};
use shared::ring::Side;
use shared::spec::{BootSpec, EngineChoice, IoSpec, MachineSpec, Notify, OnReset};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vmdriver_shim::crossing::{Bells, Crossing};
use vmdriver_shim::handover::Socket;
use vmdriver_shim::memory::SharedMemory;
use vmm::bus::Width::{Byte, Dword, Word};
use vmm::dev::chipset::lapic::TscScale;
use vmm::engine::scripted::{Results, Script};
use vmm::engine::{Engine, Exit, Inject};
use vmm::machine::{Board, BoardConfig, Ear, Machine};
use vmm::mem::GuestMemory;
use vmm::time::{Clock, Ns};

const COM1: u16 = 0x3f8;
const LSR: u16 = COM1 + 5;
const DEBUG_EXIT: u16 = 0xf4;

/// A machine that plays `script`, with this test as supervisor and, on a thread of its own, as I/O worker.
struct Bench {
    machine: Machine,
    results: Results,
    supervisor: Socket,
    vmm: Arc<Crossing>,
    worker: Worker,
}

fn bench(script: Script, notify: Notify) -> Bench {
    let io = IoSpec {
        notify,
        ..IoSpec::default()
    };
    let shapes = [
        shared::abi::ChannelShape {
            kind: shared::abi::ChannelKind::Control,
            down_slots: 4,
            up_slots: 4,
            slot_bytes: 256,
        },
        shared::abi::ChannelShape {
            kind: shared::abi::ChannelKind::Console,
            down_slots: 4,
            up_slots: 4,
            slot_bytes: 64,
        },
    ];
    let memory = SharedMemory::create(&shapes).expect("shared memory");
    let bells = Bells::new().expect("doorbells");
    let worker = Worker::start(Crossing::new(
        Side::App,
        &memory,
        bells.try_clone().expect("doorbells"),
        io,
    ));
    let kick_bell = bells.vmm_kick.try_clone().expect("a doorbell");
    let vmm = Crossing::new(Side::Vmm, &memory, bells, io);
    let (engine, results) = script.build();
    let (supervisor, socket) = Socket::pair().expect("a socket pair");
    let ear = Ear::listen(Arc::new(socket), kick_bell, engine.kick_handle()).expect("an ear");
    let clock = Clock::start();
    let board = Board::new(BoardConfig {
        memory: Arc::new(GuestMemory::new(2 << 20).expect("guest memory")),
        crossing: Arc::clone(&vmm),
        tsc: TscScale {
            at: Ns(0),
            tsc: 0,
            khz: 1_000_000,
        },
        unix_ns: 1_000_000_000_000_000_000,
        phys_bits: 40,
        spec: spec(io),
    })
    .expect("a board");
    Bench {
        machine: Machine::new(Box::new(engine), board, Arc::clone(&vmm), ear, clock),
        results,
        supervisor,
        vmm,
        worker,
    }
}

fn spec(io: IoSpec) -> MachineSpec {
    MachineSpec {
        name: "scripted".into(),
        memory_bytes: 2 << 20,
        cpus: 1,
        engine: EngineChoice::Auto,
        boot: BootSpec::Image,
        on_reset: OnReset::Exit,
        debug_exit: Some(DEBUG_EXIT),
        test_device: false,
        require_jail: false,
        io,
        nets: Vec::new(),
        disks: Vec::new(),
    }
}

/// The other side of the console: collects what comes, returns what it is told to return.
struct Worker {
    over: Arc<AtomicBool>,
    thread: JoinHandle<String>,
}

impl Worker {
    fn start(crossing: Arc<Crossing>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut console = crossing.channel(1).expect("the console's channel");
            let (mut text, mut payload) = (String::new(), Vec::new());
            loop {
                let last_round = told.load(Ordering::Acquire);
                crossing.look();
                while let Some(slot) = console.next(&mut payload).expect("an honest vmm") {
                    assert_eq!(Down::try_from(slot.kind), Ok(Down::Output));
                    text.push_str(&String::from_utf8_lossy(&payload));
                    console.release(1).expect("a doorbell");
                    if payload.contains(&b'?') {
                        console.push(Up::Input as u16, 0, b"yes").expect("credit");
                        console.flush().expect("a doorbell");
                    }
                }
                if last_round {
                    return text;
                }
                crossing
                    .sleep(Some(Duration::from_millis(10)), &[])
                    .expect("sleep");
            }
        });
        Self { over, thread }
    }

    fn text(self) -> String {
        self.over.store(true, Ordering::Release);
        self.thread.join().expect("the worker does not panic")
    }
}

fn write_text(script: Script, text: &str) -> Script {
    text.bytes()
        .fold(script, |script, byte| script.write_port(COM1, Byte, byte.into()))
}

/// SLP_TYP of S5 and SLP_EN into PM1a_CNT.
fn power_off(script: Script) -> Script {
    script.write_port(0x604, Word, 1 << 13)
}

#[test]
fn console_output_crosses_and_s5_powers_off() {
    for notify in [Notify::Bitmap, Notify::Select] {
        let text =
            "no CPU ran to print this, and it is longer than all four slots of the ring together, ".repeat(8);
        let script = text.bytes().fold(Script::new(), |script, byte| {
            // A driver waits for THRE; so does this one, as often as it takes.
            script
                .write_port(COM1, Byte, byte.into())
                .read_port(0x80, Byte, 0)
        });
        let mut bench = bench(power_off(script.write_port(COM1 + 2, Byte, 0)), notify);
        assert_eq!(
            bench.machine.run(),
            Outcome::PoweredOff,
            "{:?}",
            bench.results.mismatches()
        );
        assert!(
            bench.results.mismatches().is_empty(),
            "{:?}",
            bench.results.mismatches()
        );
        let written = bench.vmm.vmm_counters().get(VmmCounter::ConsoleOut);
        assert_eq!(
            bench.worker.text().len() as u64,
            written,
            "what left the transmitter has crossed"
        );
        assert_eq!(bench.vmm.vmm_counters().get(VmmCounter::PeerErrors), 0);
    }
}

#[test]
fn input_comes_back_as_an_interrupt_of_the_serial_port() {
    // ICW1..4 with vectors from 0x20, everything masked but IRQ 4; receiver interrupts on, OUT2 on.
    let script = Script::new()
        .write_port(0x20, Byte, 0x11)
        .write_port(0x21, Byte, 0x20)
        .write_port(0x21, Byte, 0x04)
        .write_port(0x21, Byte, 0x01)
        .write_port(0x21, Byte, 0xef)
        .write_port(COM1 + 4, Byte, 0x0b)
        .write_port(COM1 + 1, Byte, 0x01);
    let script = write_text(script, "ready?")
        .interrupt(0x24)
        .read_port(COM1, Byte, b'y'.into());
    let mut bench = bench(script.write_port(DEBUG_EXIT, Byte, 7), Notify::Bitmap);
    assert_eq!(
        bench.machine.run(),
        Outcome::DebugExit(7),
        "{:?}",
        bench.results.mismatches()
    );
    assert_eq!(
        bench.results.injected(),
        [Inject::Interrupt(0x24)],
        "{:?}",
        bench.results.mismatches()
    );
    assert_eq!(bench.worker.text(), "ready?");
}

#[test]
fn the_pit_interrupts_a_halted_vcpu_through_the_pic_and_through_the_io_apic() {
    let pic = Script::new()
        .write_port(0x20, Byte, 0x11)
        .write_port(0x21, Byte, 0x20)
        .write_port(0x21, Byte, 0x04)
        .write_port(0x21, Byte, 0x01)
        .write_port(0x21, Byte, 0xfe);
    // Pin 2: vector 0x31, edge, to CPU 0; local APIC on, with all LVTs as they are but LINT0 masked.
    let io_apic = Script::new()
        .write_port(0x21, Byte, 0xff)
        .write_mmio(0xfee0_00f0, Dword, 0x1ff)
        .write_mmio(0xfee0_0350, Dword, 1 << 16)
        .write_mmio(0xfec0_0000, Dword, 0x10 + 2 * 2)
        .write_mmio(0xfec0_0010, Dword, 0x31);
    for (script, vector) in [(pic, 0x20), (io_apic, 0x31)] {
        let eoi = |script: Script| match vector {
            0x20 => script.write_port(0x20, Byte, 0x20),
            _ => script.write_mmio(0xfee0_00b0, Dword, 0),
        };
        // Mode 2, count 1193: a thousand a second.
        let script = script
            .write_port(0x43, Byte, 0x34)
            .write_port(0x40, Byte, 0xa9)
            .write_port(0x40, Byte, 0x04);
        let script = eoi(eoi(script.interrupt(vector)).interrupt(vector)).interrupt(vector);
        let mut bench = bench(power_off(script), Notify::Bitmap);
        assert_eq!(
            bench.machine.run(),
            Outcome::PoweredOff,
            "{:?}",
            bench.results.mismatches()
        );
        assert_eq!(
            bench.results.injected(),
            [Inject::Interrupt(vector); 3],
            "{:?}",
            bench.results.mismatches()
        );
    }
}

/// A guest may set its counter, and the host's two clocks drift apart: what held at the start does not hold for ever.
#[test]
fn a_tsc_deadline_is_reckoned_from_what_the_counter_shows_when_it_is_set() {
    const HOUR: u64 = 3600 * Ns::SECOND;
    let script = Script::new()
        .write_mmio(0xfee0_00f0, Dword, 0x1ff)
        .write_mmio(0xfee0_0320, Dword, 2 << 17 | 0x40)
        .tsc(HOUR)
        .write_msr(0x6e0, HOUR + 1_000_000)
        .interrupt(0x40);
    let Bench {
        mut machine,
        supervisor,
        results,
        ..
    } = bench(power_off(script), Notify::Bitmap);
    let (over, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if watched.recv_timeout(tests::product::LIMIT).is_err() {
            supervisor.send(&ToVmm::Stop, &[]).expect("the ear listens");
        }
        supervisor
    });
    let outcome = machine.run();
    over.send(()).expect("the watch waits");
    watch.join().expect("the watch does not panic");
    assert_eq!(outcome, Outcome::PoweredOff, "{:?}", results.mismatches());
    assert_eq!(results.injected(), [Inject::Interrupt(0x40)]);
}

#[test]
fn every_way_to_reset_and_a_triple_fault_end_the_run() {
    let ways: [(Script, Outcome); 4] = [
        (Script::new().write_port(0x64, Byte, 0xfe), Outcome::Reset),
        (
            Script::new()
                .write_port(0xcf9, Byte, 2)
                .write_port(0xcf9, Byte, 6),
            Outcome::Reset,
        ),
        (Script::new().write_port(0x92, Byte, 3), Outcome::Reset),
        (Script::new().exit(Exit::Shutdown), Outcome::TripleFault),
    ];
    for (script, outcome) in ways {
        let mut bench = bench(script, Notify::Bitmap);
        assert_eq!(bench.machine.run(), outcome);
    }
}

#[test]
fn nobody_answers_where_nothing_is_and_the_bus_counts_it() {
    let script = Script::new()
        .read_port(0x2f8, Byte, 0xff)
        .read_port(0x1234, Dword, 0xffff_ffff)
        .read_mmio(0xd000_0000, Dword, 0xffff_ffff)
        .write_port(0xffff, Dword, 1)
        // A wide access to byte-wide devices is cut up: index and data port of the RTC, CMOS byte 0x0f.
        .write_port(0x70, Byte, 0x0f)
        .read_port(LSR, Word, 0x60 | 0xb0 << 8);
    let mut bench = bench(power_off(script), Notify::Bitmap);
    assert_eq!(bench.machine.run(), Outcome::PoweredOff);
    assert!(
        bench.results.mismatches().is_empty(),
        "{:?}",
        bench.results.mismatches()
    );
    assert_eq!(bench.vmm.vmm_counters().get(VmmCounter::BusUnclaimed), 4);
}

#[test]
fn the_supervisors_orders_reach_a_halted_and_a_busy_vcpu() {
    let busy = (0..200_000).fold(Script::new(), |script, _| script.read_port(0x80, Byte, 0));
    for script in [Script::new().interrupt(0x99), busy] {
        let mut bench = bench(script, Notify::Bitmap);
        bench.supervisor.send(&ToVmm::Stop, &[]).expect("the ear listens");
        assert_eq!(bench.machine.run(), Outcome::Stopped);
        assert!(!bench.results.finished());
    }
    // The power button: PWRBTN_EN set, SCI is IRQ 9 of the slave.
    let script = Script::new()
        .write_port(0x20, Byte, 0x11)
        .write_port(0x21, Byte, 0x20)
        .write_port(0x21, Byte, 0x04)
        .write_port(0x21, Byte, 0x01)
        .write_port(0x21, Byte, 0xfb)
        .write_port(0xa0, Byte, 0x11)
        .write_port(0xa1, Byte, 0x28)
        .write_port(0xa1, Byte, 0x02)
        .write_port(0xa1, Byte, 0x01)
        .write_port(0xa1, Byte, 0xfd)
        .write_port(0x602, Word, 1 << 8)
        .interrupt(0x29);
    let mut bench = bench(power_off(script), Notify::Bitmap);
    bench
        .supervisor
        .send(&ToVmm::PowerButton, &[])
        .expect("the ear listens");
    assert_eq!(
        bench.machine.run(),
        Outcome::PoweredOff,
        "{:?}",
        bench.results.mismatches()
    );
    assert_eq!(bench.results.injected(), [Inject::Interrupt(0x29)]);
}

#[test]
fn a_dead_supervisor_is_an_order_to_stop() {
    let Bench {
        mut machine,
        supervisor,
        ..
    } = bench(Script::new().interrupt(0x99), Notify::Bitmap);
    drop(supervisor);
    assert_eq!(machine.run(), Outcome::Stopped);
}
