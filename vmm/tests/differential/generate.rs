//! One random instruction of a given encoding, operands and all.
//!
//! Registers that address memory are given their value right before the instruction ([`Draft::pokes`]), so that every
//! operand lies in the scratch pages, whatever the instructions before have left.

use super::native::{LANDING, SCRATCH, SCRATCH_LEN};
use super::random::Random;
use super::state::Bits;
use iced_x86::{Code, Encoder, Instruction, OpCodeOperandKind as Kind, OpKind, Register};

/// Room for the widest operand, and its neighbours.
const REACH: u64 = 64;

/// An instruction in the making.
pub struct Draft<'a> {
    /// Source of everything.
    pub random: &'a mut Random,
    /// Size of the code.
    pub bits: Bits,
    /// Where it will lie.
    pub slot: u64,
    /// The instruction.
    pub instr: Instruction,
    /// General registers to be set first: number and value.
    pub pokes: Vec<(usize, u64)>,
    /// Where its memory operand begins, if it has one.
    pub at: u64,
}

impl<'a> Draft<'a> {
    /// Random operands for `code`; `None` for operands this generator does not know.
    pub fn new(random: &'a mut Random, bits: Bits, slot: u64, code: Code) -> Option<Self> {
        let mut draft = Self {
            random,
            bits,
            slot,
            instr: Instruction::new(),
            pokes: Vec::new(),
            at: 0,
        };
        draft.instr.set_code(code);
        for (n, &kind) in code.op_code().op_kinds().iter().enumerate() {
            draft.operand(n as u32, kind)?;
        }
        if draft.at != 0 && draft.instr.op0_kind() == OpKind::Memory && code.op_code().can_use_lock_prefix() {
            let lock = draft.random.one_in(4);
            draft.instr.set_has_lock_prefix(lock);
        }
        Some(draft)
    }

    /// The bytes; `None`: these operands have no encoding together (AH with a REX prefix).
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut encoder = Encoder::new(self.bits.bitness());
        encoder.encode(&self.instr, self.slot).ok()?;
        Some(encoder.take_buffer())
    }

    /// Gives a general register a value before the instruction.
    pub fn poke(&mut self, register: Register, value: u64) {
        let number = register.full_register() as usize - Register::RAX as usize;
        let value = match self.bits {
            Bits::B64 => value,
            Bits::B32 => value & 0xffff_ffff,
        };
        self.pokes.retain(|(n, _)| *n != number);
        self.pokes.push((number, value));
    }

    /// Moves the memory operand: `by` bytes are added to its displacement.
    pub fn shift_memory(&mut self, by: u64) {
        let displacement = self.instr.memory_displacement64().wrapping_add(by);
        self.instr.set_memory_displacement64(displacement);
        self.at = self.at.wrapping_add(by);
    }

    fn operand(&mut self, n: u32, kind: Kind) -> Option<()> {
        let (r8, r16, r32, r64) = (Register::AL, Register::AX, Register::EAX, Register::RAX);
        match kind {
            Kind::r8_or_mem => self.register_or_memory(n, r8),
            Kind::r16_or_mem => self.register_or_memory(n, r16),
            Kind::r32_or_mem => self.register_or_memory(n, r32),
            Kind::r64_or_mem => self.register_or_memory(n, r64),
            Kind::xmm_or_mem => self.register_or_memory(n, Register::XMM0),
            Kind::mm_or_mem => self.register_or_memory(n, Register::MM0),
            Kind::mem | Kind::mem_offs | Kind::seg_rBX_al => self.memory(n, kind),
            Kind::seg_rSI => self.string(n, Register::RSI, [OpKind::MemorySegRSI, OpKind::MemorySegESI]),
            Kind::es_rDI => self.string(n, Register::RDI, [OpKind::MemoryESRDI, OpKind::MemoryESEDI]),
            Kind::r8_reg | Kind::r8_opcode => self.register(n, r8),
            Kind::r16_reg | Kind::r16_opcode | Kind::r16_rm => self.register(n, r16),
            Kind::r32_reg | Kind::r32_opcode | Kind::r32_rm => self.register(n, r32),
            Kind::r64_reg | Kind::r64_opcode | Kind::r64_rm => self.register(n, r64),
            Kind::xmm_reg | Kind::xmm_rm => self.register(n, Register::XMM0),
            Kind::mm_reg | Kind::mm_rm => self.register(n, Register::MM0),
            Kind::al => self.fixed(n, Register::AL),
            Kind::cl => self.fixed(n, Register::CL),
            Kind::ax => self.fixed(n, Register::AX),
            Kind::eax => self.fixed(n, Register::EAX),
            Kind::rax => self.fixed(n, Register::RAX),
            _ => self.immediate(n, kind)?,
        }
        Some(())
    }

    /// A string operand, of the code's own address size.
    fn string(&mut self, n: u32, register: Register, [wide, narrow]: [OpKind; 2]) {
        let is_wide = self.bits == Bits::B64;
        self.instr.set_op_kind(n, if is_wide { wide } else { narrow });
        let at = self.scratch_address();
        self.poke(register, at);
    }

    fn immediate(&mut self, n: u32, kind: Kind) -> Option<()> {
        let value = self.random.value();
        let op_kind = match kind {
            Kind::imm8 | Kind::imm8_const_1 => OpKind::Immediate8,
            Kind::imm8sex16 => OpKind::Immediate8to16,
            Kind::imm8sex32 => OpKind::Immediate8to32,
            Kind::imm8sex64 => OpKind::Immediate8to64,
            Kind::imm16 => OpKind::Immediate16,
            Kind::imm32 => OpKind::Immediate32,
            Kind::imm32sex64 => OpKind::Immediate32to64,
            Kind::imm64 => OpKind::Immediate64,
            Kind::br32_1 | Kind::br32_4 => OpKind::NearBranch32,
            Kind::br64_1 | Kind::br64_4 => OpKind::NearBranch64,
            _ => return None,
        };
        self.instr.set_op_kind(n, op_kind);
        match op_kind {
            OpKind::NearBranch32 => self.instr.set_near_branch32((self.slot + LANDING) as u32),
            OpKind::NearBranch64 => self.instr.set_near_branch64(self.slot + LANDING),
            OpKind::Immediate8 if kind == Kind::imm8_const_1 => self.instr.set_immediate8(1),
            OpKind::Immediate8 => self.instr.set_immediate8(value as u8),
            OpKind::Immediate8to16 => self.instr.set_immediate8to16(i16::from(value as i8)),
            OpKind::Immediate8to32 => self.instr.set_immediate8to32(i32::from(value as i8)),
            OpKind::Immediate8to64 => self.instr.set_immediate8to64(i64::from(value as i8)),
            OpKind::Immediate16 => self.instr.set_immediate16(value as u16),
            OpKind::Immediate32 => self.instr.set_immediate32(value as u32),
            OpKind::Immediate32to64 => self.instr.set_immediate32to64(i64::from(value as i32)),
            _ => self.instr.set_immediate64(value),
        }
        Some(())
    }

    fn fixed(&mut self, n: u32, register: Register) {
        self.instr.set_op_kind(n, OpKind::Register);
        self.instr.set_op_register(n, register);
    }

    /// A register of the bank that begins with `first`.
    fn register(&mut self, n: u32, first: Register) {
        let wide = self.bits == Bits::B64;
        let count = match first {
            // AL to BH, SPL to DIL, R8L to R15L.
            Register::AL if wide => 20,
            Register::MM0 => 8,
            _ if wide => 16,
            _ => 8,
        };
        let number = self.random.below(count) as u32;
        self.fixed(n, first + number);
    }

    fn register_or_memory(&mut self, n: u32, first: Register) {
        if self.random.one_in(2) {
            self.register(n, first);
        } else {
            self.memory(n, Kind::mem);
        }
    }

    /// Whether all that lies around the memory operand can be reached.
    pub fn well_inside(&self) -> bool {
        (SCRATCH + REACH..SCRATCH + SCRATCH_LEN as u64 - REACH).contains(&self.at)
    }

    /// An address in the scratch pages: half of them around their border, a few across one of their ends, where the
    /// access faults.
    pub fn scratch_address(&mut self) -> u64 {
        let border = SCRATCH_LEN as u64 / 2;
        if self.random.one_in(32) {
            let end = self.random.pick(&[SCRATCH, SCRATCH + SCRATCH_LEN as u64]);
            return end - 16 + self.random.below(32);
        }
        SCRATCH
            + if self.random.one_in(2) {
                border - 16 + self.random.below(32)
            } else {
                REACH + self.random.below(SCRATCH_LEN as u64 - 3 * REACH)
            }
    }

    fn memory(&mut self, n: u32, kind: Kind) {
        self.at = self.scratch_address();
        self.instr.set_op_kind(n, OpKind::Memory);
        match kind {
            Kind::mem_offs => self.absolute(),
            Kind::seg_rBX_al => self.table(),
            _ => match self.random.below(16) {
                0 => self.absolute(),
                1 if self.bits == Bits::B64 => {
                    self.instr.set_memory_base(Register::RIP);
                    self.instr.set_memory_displ_size(8);
                    self.instr.set_memory_displacement64(self.at);
                }
                _ => self.computed(),
            },
        }
    }

    fn absolute(&mut self) {
        let size = if self.bits == Bits::B64 && !self.random.one_in(4) {
            8
        } else {
            4
        };
        self.instr.set_memory_displ_size(size);
        self.instr.set_memory_displacement64(self.at);
    }

    /// XLAT's operand: at most 255 bytes behind rBX.
    fn table(&mut self) {
        let base = self.address_bank();
        let base = if base == Register::RAX {
            Register::RBX
        } else {
            Register::EBX
        };
        self.instr.set_memory_base(base);
        self.instr.set_memory_index(Register::AL);
        self.poke(base, self.at - self.at.saturating_sub(SCRATCH).min(255));
    }

    /// The first register of the address size: as a rule the code's own.
    fn address_bank(&mut self) -> Register {
        if self.bits == Bits::B64 && !self.random.one_in(8) {
            Register::RAX
        } else {
            Register::EAX
        }
    }

    fn computed(&mut self) {
        let bank = self.address_bank();
        let count = if self.bits == Bits::B64 { 16 } else { 8 };
        let base = self.random.below(count) as u32;
        let index = self.random.below(count) as u32;
        let displacement = match self.random.below(3) {
            0 => 0,
            1 => self.random.next() as i8 as i64,
            _ => i64::from(self.random.next() as i32) >> self.random.below(24),
        } as u64;
        let mut rest = self.at.wrapping_sub(displacement);
        // RSP is no index.
        if self.random.one_in(2) && index != 4 && index != base {
            let scale = self.random.below(4) as u32;
            let value = self.random.value();
            self.instr.set_memory_index(bank + index);
            self.instr.set_memory_index_scale(1 << scale);
            self.poke(Register::RAX + index, value);
            let value = if self.bits == Bits::B64 {
                value
            } else {
                value & 0xffff_ffff
            };
            rest = rest.wrapping_sub(value << scale);
        }
        self.instr.set_memory_base(bank + base);
        self.instr.set_memory_displacement64(displacement);
        let full = if bank == Register::RAX { 8 } else { 4 };
        self.instr
            .set_memory_displ_size(if displacement == 0 { 0 } else { full });
        if bank == Register::EAX {
            // The upper half of a 32-bit address's registers is ignored.
            self.instr.set_memory_displacement64(displacement & 0xffff_ffff);
            rest = rest & 0xffff_ffff | self.random.next() << 32;
        } else if self.random.one_in(8) {
            // Its base is 0, as the guest's.
            self.instr.set_segment_prefix(Register::GS);
        }
        self.poke(Register::RAX + base, rest);
    }
}
