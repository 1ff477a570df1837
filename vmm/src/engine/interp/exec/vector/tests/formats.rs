//! Save formats: those the host can write are compared with the host's, the others with the manual's figures.

use super::machine::{RIP, long_mode, protected_mode, put, run, take};
use super::native::Native;
use super::operands::{Random, state};
use crate::engine::soft::cpu::Cpu;
use crate::engine::soft::xstate::{Legacy, MXCSR_INIT, XState};
use crate::engine::state::{CS, CpuState};

const AREA: u64 = 0x30_0000;
const RBX: usize = 3;

#[repr(C, align(64))]
struct Area([u8; 640]);

fn at_area(cpu: &mut Cpu, rax: u64) {
    let mut gprs = [0; 16];
    (gprs[0], gprs[RBX]) = (rax, AREA);
    cpu.regs.set_all(&gprs);
}

fn area(cpu: &Cpu) -> [u8; 640] {
    let mut bytes = [0; 640];
    cpu.memory.read(AREA, &mut bytes).unwrap();
    bytes
}

/// Without the host's MXCSR mask and reserved bytes.
fn without_host_marks(legacy: &Legacy) -> Legacy {
    let mut state = XState {
        legacy: legacy.clone(),
        xcr0: 3,
    };
    let image = state.save();
    state.load(&image, 3);
    state.legacy
}

/// Runs on host and guest with the same area and state; both areas and states after. RBX points to the area.
fn both(bytes: &[u8], random: &mut Random, content: &[u8; 640], rax: u64) -> [([u8; 640], Legacy); 2] {
    let mut before = state(random, true);
    before.gprs[0] = rax;
    before.gprs[2] = 0;
    let mut host = Box::new(Area(*content));
    let mut on_host = before.clone();
    on_host.gprs[RBX] = std::ptr::from_mut(&mut *host).expose_provenance() as u64;
    let instr = super::machine::decode(bytes, 64);
    let mut native = Native::new();
    let stub = native.stub(&instr);
    let (after, _) = stub.run(&on_host);
    let mut cpu = long_mode();
    let mut on_guest = before;
    on_guest.gprs[RBX] = AREA;
    put(&mut cpu, &on_guest);
    cpu.memory.write(AREA, content).unwrap();
    run(&mut cpu, bytes).unwrap();
    let mut result = [(area(&cpu), take(&cpu).legacy), (host.0, after.legacy)];
    for (_, legacy) in &mut result {
        (legacy.fop, legacy.fip, legacy.fdp) = (0, 0, 0);
        *legacy = without_host_marks(legacy);
    }
    result
}

#[test]
fn saves_and_environments_are_the_hosts() {
    // Instruction at [rbx], and which bytes of the area are not compared: the MXCSR mask, and what FXSAVE may write
    // beyond the registers.
    type Free = &'static [std::ops::Range<usize>];
    let table: &[(&str, &[u8], Free)] = &[
        ("fnstenv", &[0xd9, 0x33], &[]),
        ("fnstenv 16", &[0x66, 0xd9, 0x33], &[]),
        ("fnsave", &[0xdd, 0x33], &[]),
        ("fnsave 16", &[0x66, 0xdd, 0x33], &[]),
        ("fxsave", &[0x0f, 0xae, 0x03], &[28..32, 416..464]),
        ("fxsave64", &[0x48, 0x0f, 0xae, 0x03], &[28..32, 416..464]),
        ("stmxcsr", &[0x0f, 0xae, 0x1b], &[]),
    ];
    let mut random = Random::new(11);
    for (name, bytes, free) in table {
        for round in 0..16 {
            let [(found, state), (expected, host)] = both(bytes, &mut random, &[0xa5; 640], 3);
            for i in (0..640).filter(|i| !free.iter().any(|range| range.contains(i))) {
                assert_eq!(found[i], expected[i], "{name}, round {round}, byte {i}");
            }
            assert_eq!(state, host, "{name}");
        }
    }
}

#[test]
fn loads_are_the_hosts() {
    let table: &[(&str, &[u8], &[u8])] = &[
        ("fldenv", &[0xd9, 0x33], &[0xd9, 0x23]),
        ("fldenv 16", &[0x66, 0xd9, 0x33], &[0x66, 0xd9, 0x23]),
        ("frstor", &[0xdd, 0x33], &[0xdd, 0x23]),
        ("frstor 16", &[0x66, 0xdd, 0x33], &[0x66, 0xdd, 0x23]),
        ("fxrstor", &[0x0f, 0xae, 0x03], &[0x0f, 0xae, 0x0b]),
        ("fxrstor64", &[0x48, 0x0f, 0xae, 0x03], &[0x48, 0x0f, 0xae, 0x0b]),
    ];
    let mut random = Random::new(13);
    for (name, save, load) in table {
        for round in 0..16u16 {
            let [(mut image, _), _] = both(save, &mut random, &[0; 640], 3);
            // Control and status words as no computation leaves them: unmasked flags, wrong summary.
            let words = if save.contains(&0x66) { [0, 2] } else { [0, 4] };
            let words = if save.contains(&0xae) { [0, 2] } else { words };
            if round % 2 == 1 {
                image[words[0]] ^= 0x1f;
                image[words[1]] ^= 0x9f;
            }
            let [(_, state), (_, host)] = both(load, &mut random, &image, 3);
            assert_eq!(state, host, "{name}, round {round}");
        }
    }
}

#[test]
fn xsave_writes_and_xrstor_takes_what_is_requested() {
    let mut random = Random::new(17);
    let mut cpu = long_mode();
    for rfbm in 0..4u64 {
        let start = state(&mut random, true);
        put(&mut cpu, &start);
        at_area(&mut cpu, rfbm | 0xff00);
        cpu.memory.write(AREA, &[0xa5; 512]).unwrap();
        let mut header = [0; 64];
        header[0] = 1;
        cpu.memory.write(AREA + 512, &header).unwrap();
        run(&mut cpu, &[0x48, 0x0f, 0xae, 0x23]).unwrap();
        let saved = area(&cpu);
        let untouched = |range: std::ops::Range<usize>| saved[range].iter().all(|b| *b == 0xa5);
        assert_eq!(untouched(0..24), rfbm & 1 == 0);
        assert_eq!(untouched(32..160), rfbm & 1 == 0);
        assert_eq!(untouched(24..28), rfbm & 2 == 0);
        assert_eq!(untouched(160..416), rfbm & 2 == 0);
        assert!(untouched(416..512));
        assert_eq!(saved[512], 1 | rfbm as u8);

        // Back into another state: requested and there, requested and not there, not requested.
        let other = state(&mut random, true);
        for (present, wanted) in [(3, rfbm), (rfbm, 3), (0, 3), (3, 0)] {
            let mut image = cpu.memory.read_obj::<[u8; 576]>(AREA).unwrap();
            image[512] = present as u8;
            image[24..28].copy_from_slice(&0x1fa0u32.to_le_bytes());
            image[0..4].fill(0);
            cpu.memory.write(AREA, &image).unwrap();
            put(&mut cpu, &other);
            at_area(&mut cpu, wanted);
            run(&mut cpu, &[0x48, 0x0f, 0xae, 0x2b]).unwrap();
            let now = &cpu.xstate.legacy;
            let byte = |at: usize| u128::from(image[at]);
            let xmm0 = match (wanted & 2, present & 2) {
                (0, _) => other.legacy.xmm[0] as u8 as u128,
                (_, 0) => 0,
                _ => byte(160),
            };
            assert_eq!(now.xmm[0] & 0xff, xmm0, "{present} {wanted}");
            let mxcsr = if wanted & 2 == 0 {
                other.legacy.mxcsr
            } else {
                0x1fa0
            };
            assert_eq!(now.mxcsr, mxcsr);
            let fcw = match (wanted & 1, present & 1) {
                (0, _) => other.legacy.fcw,
                (_, 0) => 0x37f,
                _ => 0x40,
            };
            assert_eq!(now.fcw, fcw, "{present} {wanted}");
        }
    }
}

#[test]
fn malformed_images_fault_and_change_nothing() {
    let fxrstor: &[u8] = &[0x0f, 0xae, 0x0b];
    let xrstor: &[u8] = &[0x0f, 0xae, 0x2b];
    let ldmxcsr: &[u8] = &[0x0f, 0xae, 0x13];
    // Instruction, byte of the area, its value, faults.
    let table: &[(&[u8], usize, u8, bool)] = &[
        (fxrstor, 26, 1, true),
        (fxrstor, 28, 1, false),
        (xrstor, 26, 1, true),
        (xrstor, 512, 4, true),
        (xrstor, 527, 0x80, true),
        (xrstor, 520, 1, true),
        (xrstor, 528, 1, true),
        (xrstor, 536, 1, false),
        (ldmxcsr, 2, 1, true),
        (ldmxcsr, 1, 0xff, false),
    ];
    for (bytes, at, value, faults) in table {
        let mut cpu = long_mode();
        let mut image = [0; 640];
        image[*at] = *value;
        cpu.memory.write(AREA, &image).unwrap();
        at_area(&mut cpu, 3);
        let before = take(&cpu);
        assert_eq!(run(&mut cpu, bytes).is_err(), *faults, "{bytes:x?} {at}");
        if *faults {
            assert_eq!(take(&cpu), before);
        }
    }
}

#[test]
fn eight_xmm_registers_outside_64_bit_code() {
    let mut cpu = protected_mode();
    cpu.xstate.legacy.xmm = std::array::from_fn(|n| n as u128 + 1);
    at_area(&mut cpu, 3);
    cpu.memory.write(AREA, &[0xa5; 640]).unwrap();
    run(&mut cpu, &[0x0f, 0xae, 0x03]).unwrap();
    let saved = area(&cpu);
    assert_eq!((saved[160 + 7 * 16], saved[160 + 8 * 16]), (8, 0xa5));
    cpu.xstate.legacy.xmm = [99; 16];
    run(&mut cpu, &[0x0f, 0xae, 0x0b]).unwrap();
    assert_eq!((cpu.xstate.legacy.xmm[7], cpu.xstate.legacy.xmm[8]), (8, 99));
}

#[test]
fn pointers_and_opcode_tell_of_the_last_non_control_instruction() {
    let mut cpu = long_mode();
    at_area(&mut cpu, 0);
    cpu.rip = RIP;
    // FADD m32 [rbx+8]: opcode D8 43.
    run(&mut cpu, &[0xd8, 0x43, 8]).unwrap();
    let seen = |cpu: &Cpu| {
        let l = &cpu.xstate.legacy;
        (l.fop, l.fip, l.fdp)
    };
    assert_eq!(seen(&cpu), (0x043, RIP, AREA + 8));
    // FNSTCW and FLDCW are control instructions; FXSAVE64 and back keep all.
    cpu.rip = RIP + 64;
    run(&mut cpu, &[0xd9, 0x3b]).unwrap();
    run(&mut cpu, &[0xd9, 0x2b]).unwrap();
    run(&mut cpu, &[0x48, 0x0f, 0xae, 0x03]).unwrap();
    run(&mut cpu, &[0x48, 0x0f, 0xae, 0x0b]).unwrap();
    assert_eq!(seen(&cpu), (0x043, RIP, AREA + 8));
    // FCHS has no memory operand: FDP stays. FS-based operands are offsets.
    run(&mut cpu, &[0xd9, 0xe0]).unwrap();
    assert_eq!(seen(&cpu), (0x1e0, RIP + 64, AREA + 8));
    cpu.segments[4].base = 0x1000;
    run(&mut cpu, &[0x64, 0xd8, 0x03]).unwrap();
    assert_eq!(seen(&cpu).2, AREA);
    run(&mut cpu, &[0xdb, 0xe3]).unwrap();
    assert_eq!(seen(&cpu), (0, 0, 0));
}

#[test]
fn real_mode_environments_hold_linear_addresses() {
    let mut cpu = long_mode();
    let mut state = CpuState::reset();
    state.segments.user[CS].base = 0xf0000;
    state.rip = 0x123;
    cpu.load_state(&state).unwrap();
    let mut gprs = [0; 16];
    gprs[RBX] = 0x4000;
    cpu.regs.set_all(&gprs);
    cpu.segments[3].base = 0x30000;
    cpu.xstate.legacy.mxcsr = MXCSR_INIT;
    // FADD m32 [bx]; FNSTENV [bx], 16-bit and 32-bit.
    run(&mut cpu, &[0xd8, 0x07]).unwrap();
    run(&mut cpu, &[0xd9, 0x37]).unwrap();
    let words: [u16; 7] = cpu.memory.read_obj(0x34000).unwrap();
    assert_eq!(words[3..], [0x0123, 0xf007, 0x4000, 0x3000]);
    run(&mut cpu, &[0x66, 0xd9, 0x37]).unwrap();
    let fields: [u32; 7] = cpu.memory.read_obj(0x34000).unwrap();
    assert_eq!(fields[3..], [0xffff_0123, 0xf007, 0xffff_4000, 0x3000]);
    // And back.
    run(&mut cpu, &[0x66, 0xd9, 0x27]).unwrap();
    let l = &cpu.xstate.legacy;
    assert_eq!((l.fop, l.fip, l.fdp), (7, 0xf0123, 0x34000));
}

#[test]
fn emms_empties_and_mmx_fills() {
    let mut cpu = long_mode();
    cpu.regs.set_all(&[0; 16]);
    run(&mut cpu, &[0xd9, 0xe8]).unwrap();
    assert_eq!(cpu.xstate.legacy.ftw, 0x80);
    run(&mut cpu, &[0x0f, 0xfc, 0xc1]).unwrap();
    assert_eq!((cpu.xstate.legacy.ftw, cpu.xstate.legacy.top()), (0xff, 0));
    run(&mut cpu, &[0x0f, 0x77]).unwrap();
    assert_eq!(cpu.xstate.legacy.ftw, 0);
}
