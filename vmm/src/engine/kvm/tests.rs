//! The engine against real (or nested) KVM, with guests of a few bytes. Each prints "skipped" where there is no KVM.

use super::*;
use crate::bus::Width;
use crate::engine::cpu_model::{Dynamic, msrs};
use std::time::Instant;

/// Where guests start, and where they leave what they found.
const CODE: u32 = 0x7c00;
const FOUND: u64 = 0x500;
/// Memory-mapped, nobody's.
const HOLE: u64 = 0xd000_0000;
/// A test that runs guest code longer is stuck: the alarm ends it with an unexpected `Kicked`.
const STUCK: Duration = Duration::from_secs(10);

struct Guest {
    engine: KvmEngine,
    memory: Arc<GuestMemory>,
}

impl Guest {
    /// 2 MiB, with this code at [`CODE`], about to start in this state.
    fn new(state: &CpuState, code: &[u8]) -> Option<Self> {
        Self::with_rom(state, code, None)
    }

    fn with_rom(state: &CpuState, code: &[u8], rom: Option<u64>) -> Option<Self> {
        let kvm = match probe::open() {
            Ok(kvm) => kvm,
            Err(error) => {
                println!("skipped: kvm engine: /dev/kvm: {error}");
                return None;
            }
        };
        let mut memory = GuestMemory::new(2 << 20).unwrap();
        if let Some(base) = rom {
            memory.add_rom(base, &[0xa5; 4096]).unwrap();
        }
        memory.write(CODE.into(), code).unwrap();
        let memory = Arc::new(memory);
        let mut engine = KvmEngine::new(&kvm, Arc::clone(&memory), CpuModel::default_level()).unwrap();
        engine.load(state).unwrap();
        engine.alarm(Some(STUCK));
        Some(Self { engine, memory })
    }

    /// In real mode; interrupt vector n goes to 0000:(0x3000 + 16 n), where IRET is.
    fn real(code: &[u8]) -> Option<Self> {
        let guest = Self::new(&CpuState::real_mode(0, CODE as u16), code)?;
        for vector in 0..256u64 {
            let handler = 0x3000 + 16 * vector;
            guest.memory.write_obj(vector * 4, &(handler as u32)).unwrap();
            guest.memory.write(handler, &[0xcf]).unwrap();
        }
        Some(guest)
    }

    /// The handler of a real-mode interrupt.
    fn handler(&self, vector: u8, code: &[u8]) {
        self.memory.write(0x3000 + 16 * u64::from(vector), code).unwrap();
    }

    /// In 64-bit mode, the first 4 GiB mapped 1:1 in pages of 2 MiB (not every KVM has larger ones).
    fn long(code: &[u8]) -> Option<Self> {
        let guest = Self::new(&CpuState::long64(CODE.into(), 0x1000), code)?;
        guest.memory.write_obj(0x1000, &0x10_2003u64).unwrap();
        for gib in 0..4u64 {
            let directory = 0x10_3000 + (gib << 12);
            guest
                .memory
                .write_obj(0x10_2000 + gib * 8, &(directory | 3))
                .unwrap();
            for page in 0..512 {
                let entry = gib << 30 | page << 21 | 0x83;
                guest.memory.write_obj(directory + page * 8, &entry).unwrap();
            }
        }
        Some(guest)
    }

    fn go(&mut self) -> Exit {
        self.engine.run(Entry::default())
    }

    fn answer(&mut self, value: u64) -> Exit {
        self.engine.run(Entry {
            reply: Reply::Value(value),
            ..Entry::default()
        })
    }

    fn inject(&mut self, inject: Inject) -> Exit {
        self.engine.run(Entry {
            inject: Some(inject),
            ..Entry::default()
        })
    }

    fn found(&self) -> u32 {
        self.memory.read_obj(FOUND).unwrap()
    }
}

fn out(port: u16, width: Width, value: u64) -> Exit {
    let op = Op::Write(value);
    Exit::Port { port, width, op }
}

fn input(port: u16, width: Width) -> Exit {
    let op = Op::Read;
    Exit::Port { port, width, op }
}

fn mmio(at: u64, width: Width, op: Op) -> Exit {
    Exit::Mmio { at, width, op }
}

fn msr(index: u32, op: Op) -> Exit {
    Exit::Msr { index, op }
}

#[test]
fn port_accesses_carry_port_width_and_data_both_ways() {
    let code = [
        0xba, 0x34, 0x12, // mov dx, 0x1234
        0xb0, 0x5a, 0xee, // mov al, 0x5a; out dx, al
        0xb8, 0xcd, 0xab, 0xef, // mov ax, 0xabcd; out dx, ax
        0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0x66, 0xef, // mov eax, 0x12345678; out dx, eax
        0xe4, 0x42, 0xa2, 0x00, 0x05, // in al, 0x42; mov [0x500], al
        0x66, 0xed, 0x66, 0xa3, 0x00, 0x05, // in eax, dx; mov [0x500], eax
        0xf4, // hlt
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    assert_eq!(guest.go(), out(0x1234, Width::Byte, 0x5a));
    assert_eq!(guest.go(), out(0x1234, Width::Word, 0xabcd));
    assert_eq!(guest.go(), out(0x1234, Width::Dword, 0x1234_5678));
    assert_eq!(guest.go(), input(0x42, Width::Byte));
    assert_eq!(guest.answer(0x99), input(0x1234, Width::Dword));
    assert_eq!(guest.found() & 0xff, 0x99);
    assert_eq!(guest.answer(0xcafe_f00d), Exit::Halt);
    assert_eq!(guest.found(), 0xcafe_f00d);
}

#[test]
fn strings_of_ports_come_out_by_element() {
    let code = [
        0xba, 0xf0, 0x01, // mov dx, 0x1f0
        0xbe, 0x00, 0x06, 0xb9, 0x03, 0x00, 0xf3, 0x6e, // mov si, 0x600; mov cx, 3; rep outsb
        0xbf, 0x00, 0x05, 0xb9, 0x04, 0x00, 0xf3, 0x6d, // mov di, 0x500; mov cx, 4; rep insw
        0xf4, // hlt
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    guest.memory.write(0x600, &[7, 8, 9]).unwrap();
    for byte in [7, 8, 9] {
        assert_eq!(guest.go(), out(0x1f0, Width::Byte, byte));
    }
    assert_eq!(guest.go(), input(0x1f0, Width::Word));
    for word in [0x1111, 0x2222, 0x3333] {
        assert_eq!(guest.answer(word), input(0x1f0, Width::Word));
        assert!(matches!(guest.engine.save(), Err(EngineError::NotSavable)));
    }
    assert_eq!(guest.answer(0x4444), Exit::Halt);
    let words: [u16; 4] = guest.memory.read_obj(FOUND).unwrap();
    assert_eq!(words, [0x1111, 0x2222, 0x3333, 0x4444]);
}

#[test]
fn memory_that_is_not_ram_comes_out_in_every_width() {
    let code = [
        0xbb, 0x00, 0x00, 0x00, 0xd0, // mov ebx, HOLE
        0xb8, 0x44, 0x33, 0x22, 0x11, // mov eax, 0x11223344
        0x88, 0x03, 0x66, 0x89, 0x43, 0x02, 0x89, 0x43,
        0x04, // mov [rbx], al; [rbx+2], ax; [rbx+4], eax
        0x48, 0x89, 0x43, 0x08, // mov [rbx+8], rax
        0x8a, 0x03, 0x66, 0x8b, 0x43, 0x02, 0x8b, 0x43,
        0x04, // mov al, [rbx]; ax, [rbx+2]; eax, [rbx+4]
        0x48, 0x8b, 0x43, 0x08, // mov rax, [rbx+8]
        0x48, 0x89, 0x04, 0x25, 0x00, 0x05, 0x00, 0x00, // mov [0x500], rax
        0xf4, // hlt
    ];
    let Some(mut guest) = Guest::long(&code) else {
        return;
    };
    assert_eq!(guest.go(), mmio(HOLE, Width::Byte, Op::Write(0x44)));
    assert_eq!(guest.go(), mmio(HOLE + 2, Width::Word, Op::Write(0x3344)));
    assert_eq!(guest.go(), mmio(HOLE + 4, Width::Dword, Op::Write(0x1122_3344)));
    assert_eq!(guest.go(), mmio(HOLE + 8, Width::Qword, Op::Write(0x1122_3344)));
    assert_eq!(guest.go(), mmio(HOLE, Width::Byte, Op::Read));
    assert_eq!(guest.answer(1), mmio(HOLE + 2, Width::Word, Op::Read));
    assert_eq!(guest.answer(2), mmio(HOLE + 4, Width::Dword, Op::Read));
    assert_eq!(guest.answer(3), mmio(HOLE + 8, Width::Qword, Op::Read));
    assert_eq!(guest.answer(0x0123_4567_89ab_cdef), Exit::Halt);
    assert_eq!(
        guest.memory.read_obj::<u64>(FOUND).unwrap(),
        0x0123_4567_89ab_cdef
    );
}

#[test]
fn rom_is_read_in_place_and_its_writes_come_out() {
    let code = [
        0xa1, 0x00, 0x00, 0xf0, 0xff, // mov eax, [0xfff00000]
        0xa3, 0x00, 0x05, 0x00, 0x00, // mov [0x500], eax
        0xa3, 0x00, 0x00, 0xf0, 0xff, // mov [0xfff00000], eax
        0xa1, 0x00, 0x00, 0xf0, 0xff, 0xf4, // mov eax, [0xfff00000]; hlt
    ];
    let rom = 0xfff0_0000;
    let Some(mut guest) = Guest::with_rom(&CpuState::flat32(CODE), &code, Some(rom)) else {
        return;
    };
    assert_eq!(guest.go(), mmio(rom, Width::Dword, Op::Write(0xa5a5_a5a5)));
    assert_eq!(guest.found(), 0xa5a5_a5a5);
    assert_eq!(guest.go(), Exit::Halt);
}

#[test]
fn an_interrupt_goes_in_when_its_window_opens() {
    let code = [
        0xfa, 0xe6, 0x01, // cli; out 1, al
        0xfb, 0x90, 0xeb, 0xfd, // sti; nop; again: jmp to the nop
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    guest.handler(0x21, &[0xe6, 0x02, 0xcf]); // out 2, al; iret
    assert_eq!(guest.go(), out(1, Width::Byte, 0));
    let view = guest.engine.view();
    assert!(!view.interruptible && !view.interrupts_on);
    let exit = guest.engine.run(Entry {
        want_window: true,
        ..Entry::default()
    });
    assert_eq!(exit, Exit::Window);
    let view = guest.engine.view();
    assert!(view.interruptible && view.interrupts_on);
    assert_eq!(guest.inject(Inject::Interrupt(0x21)), out(2, Width::Byte, 0));
    assert!(
        !guest.engine.view().interruptible,
        "the handler runs with interrupts off"
    );
}

#[test]
fn no_interrupt_is_taken_while_an_answer_is_owed() {
    let code = [
        0xfb, 0x90, 0xe6, 0x01, 0xe4, 0x02, // sti; nop; out 1, al; in al, 2
        0x66, 0xb9, 0xe0, 0x06, 0x00, 0x00, 0x0f, 0x30, // mov ecx, 0x6e0; wrmsr
        0xf4,
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    assert_eq!(guest.go(), out(1, Width::Byte, 0));
    assert!(guest.engine.view().interruptible);
    assert_eq!(guest.go(), input(2, Width::Byte));
    let view = guest.engine.view();
    assert!(!view.interruptible && !view.nmi_ready && view.interrupts_on);
    if matches!(guest.answer(0), Exit::Msr { .. }) {
        assert!(!guest.engine.view().interruptible);
    }
}

#[test]
fn an_interrupt_where_none_can_be_taken_is_refused() {
    let Some(mut guest) = Guest::real(&[0xfa, 0xe6, 0x01, 0xf4]) else {
        return;
    };
    guest.go();
    let exit = guest.inject(Inject::Interrupt(0x21));
    assert!(matches!(exit, Exit::Failed(_)), "{exit:?}");
}

#[test]
fn halt_lasts_until_an_interrupt_comes() {
    let code = [0xfb, 0xf4, 0xe6, 0x03, 0xfa, 0xf4]; // sti; hlt; out 3, al; cli; hlt
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    assert_eq!(guest.go(), Exit::Halt);
    assert_eq!(guest.go(), Exit::Halt, "nothing has woken it");
    assert!(guest.engine.view().interruptible);
    let saved = guest.engine.save().unwrap();
    assert!(saved.pending.halted);
    guest.engine.load(&saved).unwrap();
    assert_eq!(guest.go(), Exit::Halt);
    assert_eq!(guest.inject(Inject::Interrupt(0x20)), out(3, Width::Byte, 0));
    assert_eq!(guest.go(), Exit::Halt);
    assert!(!guest.engine.view().interruptible);
    guest.handler(2, &[0xe6, 0x04, 0xcf]); // out 4, al; iret
    assert_eq!(guest.inject(Inject::Nmi), out(4, Width::Byte, 0));
}

#[test]
fn registers_of_the_chipset_come_out_and_can_fault() {
    let code = [
        0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32, // mov ecx, 0x1b; rdmsr
        0x66, 0xa3, 0x00, 0x05, // mov [0x500], eax
        0x66, 0xb9, 0xe0, 0x06, 0x00, 0x00, 0x0f, 0x30, // mov ecx, 0x6e0; wrmsr
        0x66, 0xb9, 0x02, 0x08, 0x00, 0x00, 0x0f, 0x32, // mov ecx, 0x802; rdmsr
        0xf4, // hlt
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    guest.handler(13, &[0xe6, 0x0d, 0xf4]); // out 13, al; hlt
    if !guest.engine.model().has("X2APIC") {
        println!("skipped: kvm msrs: this KVM cannot pass registers out");
        return;
    }
    assert_eq!(guest.go(), msr(msrs::APIC_BASE, Op::Read));
    let deadline = 0x1_fee0_0900;
    assert_eq!(
        guest.answer(deadline),
        msr(msrs::TSC_DEADLINE, Op::Write(deadline))
    );
    assert!(!guest.engine.view().interruptible);
    assert!(matches!(guest.engine.save(), Err(EngineError::NotSavable)));
    assert_eq!(guest.found(), deadline as u32);
    assert_eq!(guest.go(), msr(0x802, Op::Read));
    let fault = guest.engine.run(Entry {
        reply: Reply::Fault,
        ..Entry::default()
    });
    assert_eq!(fault, out(13, Width::Byte, deadline & 0xff));
}

#[test]
fn registers_of_the_model_are_answered_inside() {
    let code = [
        0x66, 0xb9, 0xfe, 0x00, 0x00, 0x00, 0x0f, 0x32, // mov ecx, 0xfe (MTRRCAP); rdmsr
        0x66, 0xa3, 0x00, 0x05, 0xe6, 0x01, // mov [0x500], eax; out 1, al
        0x66, 0xb9, 0x11, 0x22, 0x00, 0x00, 0x0f, 0x32, // mov ecx, 0x2211; rdmsr
        0xf4,
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    guest.handler(13, &[0xe6, 0x0d, 0xf4]);
    assert_eq!(guest.go(), out(1, Width::Byte, 8));
    assert_eq!(guest.found(), 0x508);
    assert_eq!(guest.go(), out(13, Width::Byte, 8), "an unknown register faults");
}

#[test]
fn the_time_stamp_counter_is_the_one_the_guest_sees() {
    let code = [
        0x0f, 0x31, 0x66, 0xa3, 0x00, 0x05, 0x66, 0x89, 0x16, 0x04,
        0x05, // rdtsc; mov [0x500], eax; [0x504], edx
        0xe6, 0x01, // out 1, al
        0x66, 0xb9, 0x10, 0x00, 0x00, 0x00, 0x66, 0x31, 0xc0, // mov ecx, 0x10; xor eax, eax
        0x66, 0xba, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x30, // mov edx, 0x100; wrmsr
        0xeb, 0xe0, // again
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    let ignored = guest.engine.warnings().iter().any(|w| w.contains("TSC offset"));
    for at_least in [0, 0x100_0000_0000u64] {
        let before = guest.engine.tsc();
        assert!(matches!(guest.go(), Exit::Port { port: 1, .. }));
        let seen: u64 = guest.memory.read_obj(FOUND).unwrap();
        let after = guest.engine.tsc();
        // The second time the guest has moved its counter after `before`.
        assert!(seen >= at_least || ignored, "{seen:#x}");
        assert!(seen >= before || at_least > 0, "{before:#x} {seen:#x}");
        assert!(
            seen <= after && after - seen < 10_000_000_000,
            "{seen:#x} {after:#x}"
        );
    }
    assert!(guest.engine.tsc_khz() > 100_000);
    let adjust = guest.engine.save().unwrap().msrs;
    assert!(
        adjust.iter().any(|&(i, v)| i == msrs::TSC_ADJUST && v > 0),
        "a write of TSC moves TSC_ADJUST"
    );
}

#[test]
fn the_guest_sees_the_model() {
    let code = [
        0x89, 0xc8, 0x31, 0xc9, 0x0f, 0xa2, // mov eax, ecx; xor ecx, ecx; cpuid
        0xe7, 0x01, 0x89, 0xd8, 0xe7, 0x01, // out 1, eax; mov eax, ebx; out 1, eax
        0x89, 0xc8, 0xe7, 0x01, 0x89, 0xd0, 0xe7, 0x01, // ecx; edx
    ];
    for leaf in [
        0,
        7,
        0x4000_0000,
        0x4000_0010,
        0x8000_0001,
        0x8000_0002,
        0x8000_0008,
    ] {
        let mut state = CpuState::flat32(CODE);
        state.gprs[1] = leaf.into();
        let Some(mut guest) = Guest::new(&state, &code) else {
            return;
        };
        let expected = guest.engine.model().cpuid(leaf, 0, &Dynamic::default());
        let got = [(); 4].map(|()| match guest.go() {
            Exit::Port {
                op: Op::Write(value), ..
            } => value as u32,
            other => panic!("{other:?}"),
        });
        let more = guest
            .engine
            .warnings()
            .iter()
            .any(|w| w.contains("more than the CPU model"));
        let common = std::array::from_fn(|i| if more { got[i] & expected[i] } else { got[i] });
        assert_eq!(common, expected, "leaf {leaf:#x}");
    }
}

#[test]
fn a_state_saved_in_one_machine_goes_on_in_another() {
    let code = [
        0xf3, 0x0f, 0x6f, 0x04, 0x25, 0x00, 0x06, 0x00, 0x00, // movdqu xmm0, [0x600]
        0xe6, 0x01, // out 1, al
        0xf3, 0x0f, 0x7f, 0x04, 0x25, 0x00, 0x05, 0x00, 0x00, // movdqu [0x500], xmm0
        0xf4, // hlt
    ];
    let (Some(mut one), Some(mut other)) = (Guest::long(&code), Guest::long(&code)) else {
        return;
    };
    let mut state = CpuState::long64(CODE.into(), 0x1000);
    state.cr4 |= 1 << 9; // OSFXSR
    state.gprs = std::array::from_fn(|i| 0x1111_1111_1111_1111 * i as u64);
    state.debug[0] = 0x1234;
    state.segments.user[5].base = 0xffff_8000_0000_1000;
    state.msrs = vec![(0xc000_0082, 0xffff_ffff_8100_0000), (0xc000_0102, 0x7000)];
    one.engine.load(&state).unwrap();
    one.memory.write_obj(0x600, &0x4045_0000_0000_0000u64).unwrap();
    assert_eq!(one.go(), out(1, Width::Byte, 0));
    let saved = one.engine.save().unwrap();
    assert_eq!(saved.rip, u64::from(CODE) + 11, "the OUT is finished");
    other.engine.load(&saved).unwrap();
    let mut again = other.engine.save().unwrap();
    let tsc = |s: &CpuState| s.msrs.iter().position(|&(i, _)| i == msrs::TSC).unwrap();
    let (before, after) = (saved.msrs[tsc(&saved)].1, again.msrs[tsc(&again)].1);
    assert!(after >= before, "time goes on from where it stood");
    let at = tsc(&again);
    again.msrs[at].1 = before;
    assert_eq!(saved, again);
    for (index, value) in state.msrs {
        assert!(saved.msrs.contains(&(index, value)), "{index:#x}");
    }
    assert_eq!((saved.gprs[7], saved.debug[0]), (state.gprs[7], 0x1234));
    assert_eq!(other.go(), Exit::Halt);
    assert_eq!(
        other.memory.read_obj::<u64>(FOUND).unwrap(),
        0x4045_0000_0000_0000
    );
}

#[test]
fn a_load_in_the_middle_of_an_access_forgets_it() {
    let code = [
        0xba, 0xf0, 0x01, 0xbe, 0x00, 0x06, 0xb9, 0x00, 0x80, 0xf3, 0x6e, // rep outsb, 32768 times
        0xf4,
    ];
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    guest
        .memory
        .write(u64::from(CODE) + 0x100, &[0xe4, 0x42, 0xf4])
        .unwrap(); // in al, 0x42; hlt
    let start = CpuState::real_mode(0, CODE as u16 + 0x100);
    guest.go();
    guest.go();
    guest.engine.load(&start).unwrap();
    assert_eq!(guest.engine.save().unwrap().rip, start.rip);
    while guest.go() == Exit::Kicked {}
    guest.engine.load(&start).unwrap();
    let saved = guest.engine.save().unwrap();
    assert_eq!(
        (saved.rip, saved.gprs[0]),
        (start.rip, 0),
        "the IN of before does not write AL"
    );
}

#[test]
fn a_page_crossing_write_is_not_savable_half_way() {
    let code = [
        0xc7, 0x05, 0xfe, 0x0f, 0x00, 0xd0, 0x44, 0x33, 0x22,
        0x11, // mov dword [HOLE + 0xffe], 0x11223344
        0xf4,
    ];
    let Some(mut guest) = Guest::new(&CpuState::flat32(CODE), &code) else {
        return;
    };
    let first = guest.go();
    if first != mmio(HOLE + 0xffe, Width::Word, Op::Write(0x3344)) {
        assert_eq!(
            first,
            mmio(HOLE + 0xffe, Width::Dword, Op::Write(0x1122_3344)),
            "not split at all"
        );
        return;
    }
    let half = guest.engine.save();
    assert!(matches!(half, Err(EngineError::NotSavable)), "{half:?}");
    assert_eq!(guest.go(), mmio(HOLE + 0x1000, Width::Word, Op::Write(0x1122)));
    assert_eq!(guest.engine.save().unwrap().rip, u64::from(CODE) + 10);
}

#[test]
fn triple_fault_shuts_down() {
    let Some(mut guest) = Guest::new(&CpuState::flat32(CODE), &[0x0f, 0x0b]) else {
        return;
    };
    assert_eq!(guest.go(), Exit::Shutdown);
}

#[test]
fn code_where_no_memory_is_fails_with_a_reason() {
    let state = CpuState::flat32(HOLE as u32);
    let Some(mut guest) = Guest::new(&state, &[]) else {
        return;
    };
    match guest.go() {
        Exit::Failed(why) => assert!(why.contains("KVM") && why.contains("rip 0xd0000000"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unanswered_read_is_a_failure_not_a_guess() {
    let Some(mut guest) = Guest::real(&[0xe4, 0x42, 0xf4]) else {
        return;
    };
    guest.go();
    assert!(matches!(guest.go(), Exit::Failed(_)));
}

#[test]
fn cr8_goes_in_and_comes_out() {
    let code = [
        0x44, 0x0f, 0x20, 0xc0, 0xe6, 0x01, // mov rax, cr8; out 1, al
        0xb8, 0x03, 0x00, 0x00, 0x00, 0x44, 0x0f, 0x22, 0xc0, // mov eax, 3; mov cr8, rax
        0xf4,
    ];
    let Some(mut guest) = Guest::long(&code) else {
        return;
    };
    let entry = Entry {
        cr8: 9,
        ..Entry::default()
    };
    assert_eq!(guest.engine.run(entry), out(1, Width::Byte, 9));
    assert_eq!(guest.engine.view().cr8, 9);
    // VT-x and SVM come out where CR8 is lowered; a KVM that interprets may go on to the HLT.
    let exit = guest.engine.run(entry);
    assert!(matches!(exit, Exit::Kicked | Exit::Halt), "{exit:?}");
    assert_eq!(guest.engine.view().cr8, 3);
}

#[test]
fn no_kick_is_lost_wherever_it_hits() {
    const KICKS: u32 = 4000;
    // Spins, and comes out every so often so that kicks hit every window.
    let code = [0x41, 0x81, 0xe1, 0x07, 0x00, 0x75, 0xf9, 0xe6, 0x01, 0xeb, 0xf5]; // inc cx; and cx, 7; jnz; out
    let Some(mut guest) = Guest::real(&code) else {
        return;
    };
    let kick = guest.engine.kick_handle();
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let answered = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let kicker = std::thread::spawn({
        let (asked, answered) = (Arc::clone(&asked), Arc::clone(&answered));
        move || {
            for round in 1..=KICKS {
                asked.store(round, std::sync::atomic::Ordering::SeqCst);
                kick.kick();
                while answered.load(std::sync::atomic::Ordering::SeqCst) < round {
                    std::hint::spin_loop();
                }
            }
        }
    });
    let start = Instant::now();
    let mut done = 0;
    while done < KICKS {
        match guest.go() {
            Exit::Kicked => {
                done = asked.load(std::sync::atomic::Ordering::SeqCst);
                answered.store(done, std::sync::atomic::Ordering::SeqCst);
            }
            Exit::Port { .. } => assert!(start.elapsed() < STUCK, "kick {done} was lost"),
            other => panic!("{other:?}"),
        }
    }
    kicker.join().unwrap();
}

#[test]
fn a_kick_before_the_run_and_one_for_a_gone_vcpu_are_safe() {
    let Some(mut guest) = Guest::real(&[0xeb, 0xfe]) else {
        return;
    };
    let kick = guest.engine.kick_handle();
    kick.kick();
    kick.kick();
    assert_eq!(guest.go(), Exit::Kicked);
    drop(guest);
    kick.kick();
}

#[test]
fn the_alarm_rings_in_the_guest_and_outside_of_it_and_only_once() {
    let Some(mut guest) = Guest::real(&[0xeb, 0xfe]) else {
        return;
    };
    let after = Duration::from_millis(2);
    let start = Instant::now();
    guest.engine.alarm(Some(after));
    assert_eq!(guest.go(), Exit::Kicked);
    assert!(start.elapsed() >= after);
    // Rings before the run: the handler itself raises the flag.
    guest.engine.alarm(Some(Duration::from_nanos(1)));
    let rung = Instant::now() + Duration::from_millis(1);
    while Instant::now() < rung {
        std::hint::spin_loop();
    }
    let lost = Duration::from_secs(5);
    let rescue = guest.engine.kick_handle();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let rescuer = std::thread::spawn(move || {
        // Ends when the sender is dropped, or has to help.
        if ended.recv_timeout(lost) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            rescue.kick();
        }
    });
    assert_eq!(guest.go(), Exit::Kicked);
    assert!(rung.elapsed() < lost, "the alarm was lost");
    drop(done);
    rescuer.join().unwrap();
    // Silenced, it does not ring: only the later kick comes.
    guest.engine.alarm(Some(Duration::from_millis(1)));
    guest.engine.alarm(None);
    let kick = guest.engine.kick_handle();
    let kicker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        kick.kick();
    });
    let start = Instant::now();
    assert_eq!(guest.go(), Exit::Kicked);
    assert!(start.elapsed() > Duration::from_millis(15));
    kicker.join().unwrap();
}
