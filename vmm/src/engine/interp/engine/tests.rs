//! The engine as the run loop sees it: guest code in, exits out. What single instructions do is tested beside them.

use super::*;
use crate::bus::Width;
use crate::engine::soft::state_io::interp_model;
use crate::engine::{Inject, Op, Reply};
use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, al, byte_ptr, dword_ptr, eax, ecx, ptr, qword_ptr, rax, rbx, rcx, rdi, rsi, rsp,
};
use shared::ring::{Owed, Side};
use std::time::Instant;

const CODE: u64 = 0x10_0000;
const TABLES: u64 = 0x18_0000;
const IDT: u64 = 0x1a_0000;
const STACK: u64 = 0x1c_0000;
/// All memory again, one GiB up.
const ALIAS: u64 = 1 << 30;
/// First byte behind conventional memory: the VGA window, which is nobody's memory here.
const WINDOW: u64 = 0xa_0000;

struct Rig {
    engine: InterpEngine,
    memory: Arc<GuestMemory>,
}

impl Rig {
    /// 64-bit code at [`CODE`], low memory mapped to itself and at [`ALIAS`].
    fn new(code: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Self {
        let mut a = CodeAssembler::new(64).unwrap();
        code(&mut a).unwrap();
        Self::with_bytes(&a.assemble(CODE).unwrap())
    }

    fn with_bytes(code: &[u8]) -> Self {
        let memory = Arc::new(GuestMemory::new(2 << 20).unwrap());
        memory.write(CODE, code).unwrap();
        memory.write_obj(TABLES, &(TABLES + 0x1003)).unwrap();
        for n in 0..2u64 {
            memory
                .write_obj(TABLES + 0x1000 + 8 * n, &(TABLES + 0x2003))
                .unwrap();
        }
        memory.write_obj(TABLES + 0x2000, &0x83u64).unwrap();
        let mut model = interp_model();
        model.set_tsc_khz(host::tsc_khz());
        let mut rig = Self {
            engine: InterpEngine::new(Arc::clone(&memory), model),
            memory,
        };
        rig.load(|_| {});
        rig
    }

    fn load(&mut self, change: impl FnOnce(&mut CpuState)) {
        let mut state = CpuState::long64(CODE, TABLES);
        state.gprs[4] = STACK;
        // Behind the code descriptor's place in the table that interrupts read.
        state.gdtr.base = IDT + 0x1000;
        state.gdtr.limit = 0x27;
        state.idtr.base = IDT;
        state.idtr.limit = 0xfff;
        self.memory
            .write_obj(IDT + 0x1010, &0x00af_9b00_0000_ffffu64)
            .unwrap();
        self.memory
            .write_obj(IDT + 0x1018, &0x00cf_9300_0000_ffffu64)
            .unwrap();
        change(&mut state);
        self.engine.load(&state).unwrap();
    }

    /// An interrupt gate to `code`, put at `at`.
    fn handler(&self, vector: u64, at: u64, code: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) {
        let mut a = CodeAssembler::new(64).unwrap();
        code(&mut a).unwrap();
        self.memory.write(at, &a.assemble(at).unwrap()).unwrap();
        let low = (at & 0xffff) | 0x10 << 16 | 0x8e00 << 32 | (at >> 16 & 0xffff) << 48;
        self.memory.write_obj(IDT + vector * 16, &low).unwrap();
        self.memory.write_obj(IDT + vector * 16 + 8, &0u64).unwrap();
    }

    fn run(&mut self, reply: Reply) -> Exit {
        self.engine.run(Entry {
            reply,
            ..Entry::default()
        })
    }

    /// Runs to the next OUT to port 80, gives AL.
    fn out(&mut self) -> u64 {
        match self.run(Reply::None) {
            Exit::Port {
                port: 0x80,
                op: Op::Write(value),
                ..
            } => value,
            other => panic!("{other:?}"),
        }
    }

    fn register(&mut self, number: usize) -> u64 {
        self.engine.save().unwrap().gprs[number]
    }
}

fn read(at: u64, width: Width) -> Exit {
    Exit::Mmio {
        at,
        width,
        op: Op::Read,
    }
}

fn write(at: u64, width: Width, value: u64) -> Exit {
    Exit::Mmio {
        at,
        width,
        op: Op::Write(value),
    }
}

/// `mov al, 1; out 80h, al`, the 1 to be patched.
const SPEAK: [u8; 4] = [0xb0, 1, 0xe6, 0x80];

#[test]
fn a_store_behind_rip_in_its_own_trace_counts_at_once() {
    for base in [CODE, ALIAS + CODE] {
        // mov byte [patched], 5, whose address is absolute; then the speaker.
        let mut a = CodeAssembler::new(64).unwrap();
        a.mov(rdi, base + 0x101).unwrap();
        a.nop().unwrap();
        a.mov(byte_ptr(rdi), 5).unwrap();
        let mut code = a.assemble(CODE).unwrap();
        let at = code.len() as u64;
        code.splice(2..10, (base + at + 1).to_le_bytes());
        code.extend(SPEAK);
        assert_eq!(Rig::with_bytes(&code).out(), 5, "by {base:#x}");
    }
}

#[test]
fn a_store_before_rip_and_to_itself_counts_the_next_time_round() {
    // again: mov al, 1; mov byte [again + 1], 7 ; out; jmp again
    let before = [
        0xb0, 1, 0xc6, 0x05, 0xf8, 0xff, 0xff, 0xff, 7, 0xe6, 0x80, 0xeb, 0xf3,
    ];
    let mut rig = Rig::with_bytes(&before);
    assert_eq!((rig.out(), rig.out(), rig.out()), (1, 7, 7));
    // again: mov byte [rip - 1], 9 changes its own immediate, and AL is what it wrote first.
    let itself = [
        0xc6, 0x05, 0xff, 0xff, 0xff, 0xff, 3, // mov byte [itself + 6], 3
        0x8a, 0x05, 0xf9, 0xff, 0xff, 0xff, // mov al, [itself + 6]
        0xe6, 0x80, 0xeb, 0xef,
    ];
    let mut rig = Rig::with_bytes(&itself);
    assert_eq!((rig.out(), rig.out()), (3, 3));
}

#[test]
fn code_of_another_trace_page_or_writer_is_dropped_when_it_is_written() {
    let far = CODE + 0x3000;
    let mut rig = Rig::new(|a| {
        a.mov(rdi, far + 1)?;
        a.call(far)?;
        a.mov(byte_ptr(rdi), 5)?;
        a.call(far)?;
        a.mov(eax, 6)?;
        a.mov(ecx, 1)?;
        a.rep().stosb()?;
        a.call(far)?;
        a.call(far)
    });
    rig.memory.write(far, &[0xb0, 1, 0xe6, 0x80, 0xc3]).unwrap();
    assert_eq!((rig.out(), rig.out(), rig.out()), (1, 5, 6));
    rig.memory.write(far, &[0xb0, 8]).unwrap();
    assert_eq!(rig.out(), 8, "after a device's write");
}

#[test]
fn an_instruction_that_runs_alone_is_the_one_that_lies_there_now() {
    // Behind STI an instruction runs alone: sti; mov al, 1; out 0x80, al; cli; jmp back.
    let code = |operand| [0xfb, 0xb0, operand, 0xe6, 0x80, 0xfa, 0xeb, 0xf8];
    // The second one's operand is in the next page.
    let places = [CODE + 0x1fe, CODE + 0xffe];
    let mut rig = Rig::with_bytes(&[]);
    for at in places {
        rig.memory.write(at, &code(1)).unwrap();
        rig.load(|state| state.rip = at);
        assert_eq!((rig.out(), rig.out()), (1, 1));
        rig.memory.write(at + 2, &[7]).unwrap();
        assert_eq!((rig.out(), rig.out()), (7, 7), "at {at:x}");
    }
    rig.memory.write(places[0], &code(0)).unwrap();
    rig.load(|state| state.rip = places[0]);
    assert_eq!((rig.out(), rig.out()), (0, 0), "after one that crosses pages");
}

#[test]
fn an_instruction_that_is_too_long_faults_alone_as_in_a_trace() {
    let fault = |first, at| {
        let mut code = [0x66; 17];
        (code[0], code[16]) = (first, 0x90);
        let mut rig = Rig::with_bytes(&[]);
        rig.memory.write(at, &code).unwrap();
        for vector in [6, 13] {
            rig.handler(vector, CODE + 0x4000 + vector * 16, |a| {
                a.mov(al, vector as i32)?;
                a.out(0x80, al)
            });
        }
        rig.load(|state| state.rip = at);
        rig.out()
    };
    // 16 bytes of NOP behind a NOP, and behind STI; in the middle of a page, up to its end, and beyond it.
    for at in [0x100, 0x1000 - 17, 0x1000 - 16, 0x1000 - 15] {
        assert_eq!(fault(0xfb, CODE + at), fault(0x90, CODE + at), "at {at:x}");
    }
}

#[test]
fn an_instruction_that_runs_alone_is_decoded_for_the_mode() {
    // sti; then add al, 2 with a prefix, or dec eax and add al, 2; out 0x80, al.
    let mut rig = Rig::with_bytes(&[0xfb, 0x48, 0x04, 0x02, 0xe6, 0x80]);
    assert_eq!(rig.out(), 2);
    rig.engine.load(&CpuState::flat32(CODE as u32)).unwrap();
    assert_eq!(rig.out(), 1);
}

#[test]
fn a_link_to_a_trace_ends_when_its_code_is_written() {
    let far = CODE + 0x3000;
    let mut rig = Rig::new(|a| {
        let (mut outer, mut again) = (a.create_label(), a.create_label());
        a.mov(rdi, far + 1)?;
        a.set_label(&mut outer)?;
        a.mov(ecx, 100)?;
        a.set_label(&mut again)?;
        a.call(far)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.out(0x80, al)?;
        a.add(byte_ptr(rdi), 4)?;
        a.jmp(outer)
    });
    rig.memory.write(far, &[0xb0, 1, 0xc3]).unwrap();
    assert_eq!((rig.out(), rig.out(), rig.out()), (1, 5, 9));
    rig.memory.write(far, &[0xb0, 20]).unwrap();
    assert_eq!((rig.out(), rig.out()), (24, 28), "after a device's write");
}

#[test]
fn a_link_to_a_trace_ends_when_its_page_is_mapped_elsewhere() {
    let (far, table, pages) = (2 << 20, TABLES + 0x3000, CODE + 0x3000);
    let mut rig = Rig::new(|a| {
        let (mut outer, mut again) = (a.create_label(), a.create_label());
        a.mov(rbx, table)?;
        a.mov(rsi, far)?;
        a.set_label(&mut outer)?;
        a.mov(ecx, 100)?;
        a.set_label(&mut again)?;
        a.call(far)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.out(0x80, al)?;
        a.xor(qword_ptr(rbx), 0x7000)?;
        a.invlpg(ptr(rsi))?;
        a.jmp(outer)
    });
    rig.memory.write_obj(TABLES + 0x2008, &(table | 3)).unwrap();
    rig.memory.write_obj(table, &(pages | 3)).unwrap();
    rig.memory.write(pages, &[0xb0, 1, 0xc3]).unwrap();
    rig.memory.write(pages ^ 0x7000, &[0xb0, 2, 0xc3]).unwrap();
    assert_eq!((rig.out(), rig.out(), rig.out()), (1, 2, 1));
}

#[test]
fn an_instruction_across_a_page_is_dropped_with_either_page() {
    let edge = CODE + 0x1000;
    let mut rig = Rig::new(|a| {
        a.mov(rdi, edge - 1)?;
        for value in [0u32, 4, 9] {
            if value != 0 {
                a.mov(byte_ptr(rdi), value)?;
            }
            a.call(edge - 2)?;
            a.mov(rdi, edge)?;
        }
        Ok(())
    });
    // mov eax, imm32 at edge - 2: one byte of the immediate in the first page, three in the second.
    let code = [0xb8, 1, 0, 0, 0, 0xe6, 0x80, 0xc3];
    rig.memory.write(edge - 2, &code).unwrap();
    assert_eq!(rig.out(), 1);
    assert_eq!(rig.register(0), 1);
    // The first store goes by `edge`, set after the first call: the second byte of the immediate.
    assert_eq!(rig.out() & 0xff, 1);
    assert_eq!(rig.register(0), 0x401);
    assert_eq!(rig.out() & 0xff, 1);
    assert_eq!(rig.register(0), 0x901);
}

#[test]
fn a_read_modify_write_of_a_device_reads_once_and_writes_once() {
    let mut rig = Rig::new(|a| {
        a.mov(rdi, WINDOW)?;
        a.add(dword_ptr(rdi), 5)?;
        a.mov(rax, qword_ptr(rdi + 0xffc))?;
        a.out(0x80, eax)
    });
    assert_eq!(rig.run(Reply::None), read(WINDOW, Width::Dword));
    assert!(!rig.engine.view().interruptible);
    assert!(rig.engine.save().is_err(), "an answer is owed");
    assert_eq!(rig.run(Reply::Value(37)), write(WINDOW, Width::Dword, 42));
    assert_eq!(rig.run(Reply::None), read(WINDOW + 0xffc, Width::Dword));
    assert_eq!(rig.run(Reply::Value(0x1111)), read(WINDOW + 0x1000, Width::Dword));
    match rig.run(Reply::Value(0x2222)) {
        Exit::Port { op, .. } => assert_eq!(op, Op::Write(0x1111)),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.register(0), 0x2222_0000_1111);
}

#[test]
fn memory_beside_a_device_changes_only_when_every_answer_is_there() {
    let mut rig = Rig::new(|a| {
        a.mov(rdi, WINDOW - 4)?;
        a.add(qword_ptr(rdi), 1)?;
        a.out(0x80, eax)
    });
    rig.memory.write_obj(WINDOW - 4, &u32::MAX).unwrap();
    assert_eq!(rig.run(Reply::None), read(WINDOW, Width::Dword));
    assert_eq!(rig.run(Reply::Value(7)), write(WINDOW, Width::Dword, 8));
    assert_eq!(rig.memory.read_obj::<u32>(WINDOW - 4).unwrap(), u32::MAX);
    rig.out();
    assert_eq!(rig.memory.read_obj::<u32>(WINDOW - 4).unwrap(), 0);
}

#[test]
fn the_window_opens_one_instruction_behind_sti_and_mov_ss() {
    for mov_ss in [false, true] {
        let mut rig = Rig::new(|a| {
            a.xor(ecx, ecx)?;
            a.sti()?;
            if mov_ss {
                // In STI's shadow, and casts its own.
                a.mov(iced_x86::code_asm::ss, ecx)?;
            }
            a.mov(eax, 1)?;
            a.mov(eax, 2)?;
            a.out(0x80, eax)
        });
        let exit = rig.engine.run(Entry {
            want_window: true,
            ..Entry::default()
        });
        assert_eq!(exit, Exit::Window);
        assert!(rig.engine.view().interruptible);
        assert_eq!(rig.register(0), 1, "MOV SS: {mov_ss}");
    }
}

#[test]
fn sti_hlt_halts_interruptibly_and_an_interrupt_goes_on_behind_it() {
    let mut rig = Rig::new(|a| {
        a.sti()?;
        a.hlt()?;
        a.mov(al, 2)?;
        a.out(0x80, al)
    });
    rig.handler(0x40, CODE + 0x800, |a| {
        a.mov(al, 1)?;
        a.out(0x80, al)?;
        a.iretq()
    });
    assert_eq!(rig.run(Reply::None), Exit::Halt);
    assert_eq!(rig.run(Reply::None), Exit::Halt, "and stays");
    assert!(rig.engine.view().interruptible);
    let exit = rig.engine.run(Entry {
        inject: Some(Inject::Interrupt(0x40)),
        ..Entry::default()
    });
    assert!(matches!(exit, Exit::Port { op: Op::Write(1), .. }), "{exit:?}");
    assert_eq!(rig.out(), 2);
}

#[test]
fn a_kick_is_never_lost() {
    let mut rig = Rig::with_bytes(&[0xeb, 0xfe]);
    let kick = rig.engine.kick_handle();
    kick.kick();
    assert_eq!(rig.run(Reply::None), Exit::Kicked, "one that came before");
    let ready = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                ready.wait();
                kick.kick();
            }
        });
        for _ in 0..200 {
            ready.wait();
            assert_eq!(rig.run(Reply::None), Exit::Kicked);
        }
    });
}

#[test]
fn the_alarm_rings_in_time_and_once() {
    let mut rig = Rig::with_bytes(&[0xeb, 0xfe]);
    let start = Instant::now();
    rig.engine.alarm(Some(Duration::from_millis(3)));
    assert_eq!(rig.run(Reply::None), Exit::Kicked);
    // The counter's measured frequency is good to far less than 1 %.
    assert!(
        start.elapsed() >= Duration::from_micros(2900),
        "{:?}",
        start.elapsed()
    );
    rig.engine.alarm(Some(Duration::ZERO));
    rig.engine.alarm(None);
    assert!(!rig.engine.interp.outside.wants_out(), "silenced");
}

#[test]
fn a_bit_set_by_the_other_side_gets_the_vcpu_out_unkicked() {
    let words = Mapped::heap(16384);
    let mut rig = Rig::with_bytes(&[0xeb, 0xfe]);
    let ours = Attention::new(words.clone(), Side::Vmm);
    rig.engine.watch(ours.clone());
    let peer = Attention::new(words, Side::App);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(peer.signal(3), Owed::Nothing));
        assert_eq!(rig.run(Reply::None), Exit::Kicked);
    });
    assert_eq!(ours.take(), 1 << 3);
}

#[test]
fn a_long_string_instruction_lets_a_kick_in_and_goes_on() {
    let mut rig = Rig::new(|a| {
        a.mov(rsi, 0u64)?;
        a.mov(ecx, 200_000)?;
        a.rep().lodsb()?;
        a.out(0x80, al)
    });
    rig.memory.write(199_999, &[0x5a]).unwrap();
    rig.engine.kick_handle().kick();
    assert_eq!(rig.run(Reply::None), Exit::Kicked);
    let state = rig.engine.save().unwrap();
    assert!(state.gprs[1] > 0 && state.gprs[6] + state.gprs[1] == 200_000);
    assert_eq!(rig.out(), 0x5a);
}

#[test]
fn a_state_saved_at_a_write_does_not_write_again() {
    let mut rig = Rig::new(|a| {
        a.mov(al, 1)?;
        a.out(0x80, al)?;
        a.mov(al, 2)?;
        a.out(0x80, al)
    });
    assert_eq!(rig.out(), 1);
    let state = rig.engine.save().unwrap();
    rig.load(|_| {});
    rig.engine.load(&state).unwrap();
    assert_eq!(rig.out(), 2);
}

#[test]
fn single_step_traps_behind_each_instruction_that_began_with_tf() {
    let mut rig = Rig::new(|a| {
        a.xor(ecx, ecx)?;
        a.pushfq()?;
        a.or(dword_ptr(rsp), 0x100)?;
        a.popfq()?;
        a.nop()?;
        a.nop()?;
        a.pushfq()?;
        a.and(dword_ptr(rsp), !0x100i32)?;
        a.popfq()?;
        a.mov(eax, ecx)?;
        a.out(0x80, al)
    });
    rig.handler(1, CODE + 0x800, |a| {
        a.inc(rcx)?;
        a.iretq()
    });
    assert_eq!(rig.out(), 5);
}

/// The number of single steps of code behind `popf` that sets TF, to its OUT.
fn steps(bytes: &[u8], change: impl FnOnce(&mut CpuState)) -> u64 {
    let mut code = vec![0x9d]; // popfq
    code.extend(bytes);
    code.extend([0x89, 0xc8, 0xe6, 0x80]); // mov eax, ecx; out 80h, al
    let mut rig = Rig::with_bytes(&code);
    rig.memory.write_obj(STACK, &0x102u64).unwrap();
    rig.handler(1, CODE + 0x800, |a| {
        a.inc(ecx)?;
        // Ends the steps.
        a.and(dword_ptr(rsp + 16), !0x100i32)?;
        a.iretq()
    });
    rig.handler(0x40, CODE + 0x900, |a| a.iretq());
    rig.load(|state| {
        state.gprs[1] = 0;
        change(state);
    });
    rig.out()
}

#[test]
fn a_handler_entered_by_software_is_not_stepped_into() {
    // After the handler's IRET brought TF back, the next instruction is stepped: once, for the step ends TF.
    assert_eq!(steps(&[0xcd, 0x40, 0x90], |_| {}), 1, "INT n");
    // INT1's own #DB, which ends TF before any step.
    assert_eq!(steps(&[0xf1, 0x90], |_| {}), 1, "INT1");
    // mov ss, edx; INT1: nothing was held back but a step that INT1 took over.
    assert_eq!(
        steps(&[0x8e, 0xd2, 0xf1, 0x90], |state| state.gprs[2] = 0x18),
        1,
        "MOV SS"
    );
    assert_eq!(steps(&[0x90], |_| {}), 1, "NOP");
}

#[test]
fn an_instruction_breakpoint_counts_right_behind_mov_ss() {
    // mov ss, edx; nop, watched; mov eax, ecx; out 80h, al
    let mut rig = Rig::with_bytes(&[0x8e, 0xd2, 0x90, 0x89, 0xc8, 0xe6, 0x80]);
    rig.handler(1, CODE + 0x800, |a| {
        a.inc(ecx)?;
        // RF, so that the instruction runs.
        a.or(dword_ptr(rsp + 16), 0x1_0000)?;
        a.iretq()
    });
    rig.load(|state| {
        state.gprs[1] = 0;
        state.gprs[2] = 0x18;
        state.debug[0] = CODE + 2;
        state.debug[5] = 0x402;
    });
    assert_eq!(rig.out(), 1);
}

#[test]
fn a_step_of_hlt_ends_it() {
    assert_eq!(steps(&[0xf4], |_| {}), 1);
}

#[test]
fn an_nmi_that_came_in_the_handler_of_another_is_taken_right_behind_its_iret() {
    let mut rig = Rig::new(|a| {
        a.inc(rbx)?;
        a.inc(rbx)?;
        a.out(0x80, al)
    });
    rig.handler(2, CODE + 0x800, |a| a.iretq());
    rig.engine.run(Entry {
        inject: Some(Inject::Nmi),
        want_window: true,
        nmi_waits: true,
        ..Entry::default()
    });
    assert!(rig.engine.view().nmi_ready);
    assert_eq!(rig.engine.save().unwrap().rip, CODE, "no instruction in between");
    // The window is offered once.
    let exit = rig.engine.run(Entry {
        want_window: true,
        ..Entry::default()
    });
    assert!(matches!(exit, Exit::Port { .. }), "{exit:?}");
}

#[test]
fn a_device_access_with_interrupts_off_offers_a_window_for_an_nmi_alone() {
    for nmi_waits in [false, true] {
        let mut rig = Rig::new(|a| {
            a.cli()?;
            a.out(0x80, al)?;
            a.inc(rax)?;
            a.out(0x81, al)
        });
        let entry = Entry {
            want_window: true,
            nmi_waits,
            ..Entry::default()
        };
        let exit = rig.engine.run(entry);
        assert!(matches!(exit, Exit::Port { port: 0x80, .. }), "{exit:?}");
        let exit = rig.engine.run(entry);
        let window = exit == Exit::Window;
        assert_eq!(window, nmi_waits, "{exit:?}");
        assert!(
            window || matches!(exit, Exit::Port { port: 0x81, .. }),
            "{exit:?}"
        );
    }
}

#[test]
fn a_closed_line_20_folds_the_second_megabyte_onto_the_first() {
    let mut rig = Rig::new(|a| {
        a.mov(rbx, 0x1f_0000u64)?;
        a.mov(al, ptr(rbx))?;
        a.out(0x80, al)?;
        a.mov(al, ptr(rbx))?;
        a.out(0x80, al)
    });
    // Open: the code itself lies in the second megabyte, so it and the page tables get twins in the first.
    let mut code = [0; 64];
    rig.memory.read(CODE, &mut code).unwrap();
    rig.memory.write(CODE - 0x10_0000 + 0x5000, &code).unwrap();
    let mut tables = vec![0; 0x3000];
    rig.memory.read(TABLES, &mut tables).unwrap();
    rig.memory.write(TABLES - 0x10_0000, &tables).unwrap();
    rig.memory.write(0x1f_0000, &[4]).unwrap();
    rig.memory.write(0xf_0000, &[3]).unwrap();
    rig.load(|state| state.rip = 0x5000);
    assert_eq!(rig.out(), 4);
    rig.engine.set_a20(false);
    assert_eq!(rig.out(), 3);
}
