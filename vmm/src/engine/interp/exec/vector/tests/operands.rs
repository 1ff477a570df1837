//! Random operands: instructions with random registers, and states full of values where arithmetic is interesting.

use super::native::Registers;
use crate::engine::soft::flags::ARITHMETIC;
use crate::engine::soft::xstate::Legacy;
use iced_x86::{Code, Instruction, OpCodeOperandKind as K, OpKind, Register};

/// xorshift64*: the same operands in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// General registers an operand may be: not RSP and R15 (the stub's), RBX and RDI (the buffer's).
const GENERAL: [u32; 11] = [0, 1, 2, 5, 6, 8, 9, 10, 11, 12, 14];

/// An instruction with this code and random operands. `None`: it has an operand this does not know.
pub fn instruction(code: Code, random: &mut Random) -> Option<Instruction> {
    let mut instr = Instruction::default();
    instr.set_code(code);
    let memory = random.below(2) == 0;
    for n in 0..instr.op_count() {
        let kind = code.op_code().op_kind(n);
        match kind {
            K::xmm_or_mem | K::mm_or_mem | K::r32_or_mem | K::r64_or_mem if memory => {
                set_memory(&mut instr, n)
            }
            K::mem => set_memory(&mut instr, n),
            K::imm8 => {
                instr.set_op_kind(n, OpKind::Immediate8);
                instr.set_immediate8(random.next() as u8);
            }
            K::seg_rDI => instr.set_op_kind(n, OpKind::MemorySegRDI),
            _ => {
                let register = register(kind, random)?;
                instr.set_op_kind(n, OpKind::Register);
                instr.set_op_register(n, register);
            }
        }
    }
    if (0..instr.op_count()).any(|n| instr.op_kind(n) == OpKind::Memory) {
        // RBX, or RDI, or R8-class bases are all the same to a thunk; displacement picks alignment and page crossing.
        let aligned = instr.memory_size().size() == 16;
        let at = random.below(48);
        instr.set_memory_base(Register::RBX);
        instr.set_memory_displ_size(1);
        instr.set_memory_displacement64(if aligned { at & !15 } else { at });
    }
    Some(instr)
}

fn set_memory(instr: &mut Instruction, n: u32) {
    instr.set_op_kind(n, OpKind::Memory);
}

fn register(kind: K, random: &mut Random) -> Option<Register> {
    Some(match kind {
        K::xmm_reg | K::xmm_rm | K::xmm_or_mem => Register::XMM0 + random.below(16) as u32,
        K::mm_reg | K::mm_rm | K::mm_or_mem => Register::MM0 + random.below(8) as u32,
        K::r32_reg | K::r32_or_mem | K::r32_rm => Register::EAX + random.pick(&GENERAL),
        K::r64_reg | K::r64_or_mem | K::r64_rm => Register::RAX + random.pick(&GENERAL),
        K::ax => Register::AX,
        K::st0 => Register::ST0,
        K::sti_opcode => Register::ST0 + random.below(8) as u32,
        _ => return None,
    })
}

const SINGLES: [u32; 14] = [
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbfc0_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0001,
    0x7f80_0001,
    1,
    0x007f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0x4b80_0001,
    0xcf00_0000,
];
const DOUBLES: [u64; 14] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff8_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0001,
    0x7ff0_0000_0000_0001,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x41e0_0000_0010_0000,
    0x36a0_0000_0000_0000,
];
const EXTENDED: [(u16, u64); 14] = [
    (0, 0),
    (0x8000, 0),
    (0x3fff, 1 << 63),
    (0xbfff, 3 << 62),
    (0x7fff, 1 << 63),
    (0xffff, 1 << 63),
    (0x7fff, 3 << 62),
    (0x7fff, 1 << 63 | 1),
    (0, 1),
    (1, 1 << 63),
    (0x7ffe, u64::MAX),
    (0x3fff, 1),
    (0x403e, u64::MAX),
    (0x400d, 0xb504_f333_f9de_6484),
];

pub fn quad(random: &mut Random) -> u64 {
    match random.below(5) {
        0 => u64::from(random.pick(&SINGLES)) | u64::from(random.pick(&SINGLES)) << 32,
        1 | 2 => random.pick(&DOUBLES),
        3 => random.next(),
        _ => u64::from_le_bytes(std::array::from_fn(|_| {
            b"aab\0c\x80\xffz"[random.below(8) as usize]
        })),
    }
}

fn extended(random: &mut Random) -> u128 {
    let (exponent, significand) = match random.below(4) {
        0 => (random.next() as u16, random.next()),
        1 => (0x3ff0 + random.below(32) as u16, random.next() | 1 << 63),
        _ => random.pick(&EXTENDED),
    };
    u128::from(exponent) << 64 | u128::from(significand)
}

/// A state. `masked`: all exceptions are.
pub fn state(random: &mut Random, masked: bool) -> Registers {
    let mut legacy = Legacy::default();
    let masks = if masked { 0x3f } else { random.next() as u16 & 0x3f };
    // Precision control 1 is reserved, but the silicon defines it.
    legacy.fcw = 0x40 | masks | (random.next() as u16 & 0xf00);
    // Flags already up are masked ones: nothing pends.
    legacy.fsw = random.next() as u16 & (0x7f00 | masks);
    legacy.ftw = if random.below(3) == 0 {
        random.next() as u8
    } else {
        0xff
    };
    legacy.st = std::array::from_fn(|_| extended(random));
    legacy.xmm = std::array::from_fn(|_| u128::from(quad(random)) | u128::from(quad(random)) << 64);
    let masks = if masked { 0x3f } else { random.next() as u32 & 0x3f };
    legacy.mxcsr = masks << 7 | (random.next() as u32 & 0xe07f & (!0x3f | masks));
    let gprs = std::array::from_fn(|_| match random.below(3) {
        0 => random.next(),
        1 => quad(random),
        _ => random.below(40).wrapping_sub(20),
    });
    Registers {
        legacy,
        gprs,
        rflags: 2 | (random.next() & ARITHMETIC),
    }
}
