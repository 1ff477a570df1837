//! What a thunk does: the instruction with its operands renamed, and what goes in and comes out.

use iced_x86::{
    CodeSize, CpuidFeature, Encoder, EncodingKind, Instruction, InstructionInfoFactory, MemorySize, Mnemonic,
    OpAccess, OpKind, Register,
};

/// Host register of the first vector operand: XMM1 or MM1. XMM0 stays what it is, for implicit use.
const FIRST: u32 = 1;
/// Marks [`Plan::fop`] as there: FADD [rax] is opcode 0.
const FOP_THERE: u16 = 1 << 11;

/// A vector register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vector {
    /// XMM register.
    Xmm,
    /// MM register.
    Mm,
}

/// How the memory operand is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Read.
    Load,
    /// Written.
    Store,
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    /// Bytes, 1..=16.
    pub bytes: u8,
    /// Direction.
    pub direction: Direction,
    /// #GP(0) if not aligned to its size.
    pub aligned: bool,
}

/// A general register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum General {
    /// Read.
    In,
    /// Written, all 64 bits.
    Out,
}

/// Implicit operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Implicit {
    /// None.
    None,
    /// Reads XMM0 (BLENDVPS and friends).
    ReadXmm0,
    /// Explicit lengths in EAX and EDX (RAX, RDX with REX.W), index to ECX.
    LengthsToIndex,
    /// Explicit lengths, mask to XMM0.
    LengthsToMask,
    /// Index to ECX.
    Index,
    /// Mask to XMM0.
    Mask,
}

/// Arithmetic flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlagUse {
    /// Untouched.
    None,
    /// Read or partly written.
    Read,
    /// All six written.
    Write,
}

/// The instruction set, which decides what state there is to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The whole x87 state.
    X87,
    /// MMX and SSE without MXCSR.
    Integer,
    /// SSE with MXCSR's rounding and flags.
    Float,
}

/// Operands and effects; equal plans share a thunk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The instruction, operands renamed: vector registers to number 1 and 2, general register to RAX, memory to RSI.
    pub renamed: Instruction,
    /// Unit.
    pub unit: Unit,
    /// Vector registers in operand order.
    pub vectors: [Option<Vector>; 2],
    /// Whether the first vector register is written. The second never is.
    pub writes: bool,
    /// Memory operand; the thunk's second.
    pub memory: Option<Memory>,
    /// General register operand.
    pub general: Option<General>,
    /// Implicit operands.
    pub implicit: Implicit,
    /// Flags.
    pub flags: FlagUse,
    /// What the x87 remembers as opcode: low three bits of the first byte, and the ModRM byte (and a bit above that marks it there). 0 for others, and for
    /// control instructions, which leave opcode and pointers alone (Intel SDM volume 1, sections 8.1.8 and 8.1.9).
    pub fop: u16,
    /// Whether an unmasked underflow exception is raised by a tiny exact result too: arithmetic that can give one.
    pub can_underflow: bool,
}

impl Plan {
    /// `None`: not an instruction for a thunk.
    pub fn new(instr: &Instruction) -> Option<Self> {
        if instr.op_code().encoding() != EncodingKind::Legacy {
            return None;
        }
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(instr);
        let mut renamed = Instruction::default();
        renamed.set_code(instr.code());
        let mut plan = Self {
            renamed,
            unit: unit(instr),
            vectors: [None; 2],
            writes: false,
            memory: None,
            general: None,
            implicit: implicit(instr.mnemonic()),
            flags: flag_use(instr),
            fop: fop(instr),
            can_underflow: can_underflow(instr.mnemonic()),
        };
        for n in 0..instr.op_count() {
            plan.operand(instr, n, info.op_access(n))?;
        }
        // Without a vector operand it is another group's: CRC32, MOVNTI, fences, XGETBV.
        let ours = plan.unit != Unit::Integer || plan.vectors[0].is_some();
        ours.then_some(plan)
    }

    fn operand(&mut self, instr: &Instruction, n: u32, access: OpAccess) -> Option<()> {
        let writes = matches!(
            access,
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        match instr.op_kind(n) {
            OpKind::Register => {
                let register = instr.op_register(n);
                let renamed = self.register(register, writes)?;
                self.renamed.set_op_kind(n, OpKind::Register);
                self.renamed.set_op_register(n, renamed);
            }
            OpKind::Memory => {
                let size = instr.memory_size();
                self.memory = Some(Memory {
                    bytes: u8::try_from(size.size()).ok().filter(|b| (1..=16).contains(b))?,
                    direction: if writes { Direction::Store } else { Direction::Load },
                    aligned: needs_alignment(instr, size),
                });
                self.renamed.set_op_kind(n, OpKind::Memory);
                self.renamed.set_memory_base(Register::RSI);
            }
            OpKind::Immediate8 => {
                self.renamed.set_op_kind(n, OpKind::Immediate8);
                self.renamed.set_immediate8(instr.immediate8());
            }
            _ => return None,
        }
        Some(())
    }

    fn register(&mut self, register: Register, writes: bool) -> Option<Register> {
        if register.is_st() {
            return Some(register);
        }
        if register.is_gpr() {
            self.general = Some(if writes { General::Out } else { General::In });
            return match register.size() {
                4 => Some(Register::EAX),
                8 => Some(Register::RAX),
                _ => None,
            };
        }
        let (vector, base) = if register.is_xmm() {
            (Vector::Xmm, Register::XMM0)
        } else if register.is_mm() {
            (Vector::Mm, Register::MM0)
        } else {
            return None;
        };
        let slot = self.vectors.iter().position(Option::is_none)?;
        if slot == 0 {
            self.writes = writes;
        } else if writes {
            return None;
        }
        self.vectors[slot] = Some(vector);
        Some(base + (FIRST + slot as u32))
    }

    /// Whether an MM register is an operand: the instruction puts the x87 into MMX's order.
    pub fn enters_mmx(&self) -> bool {
        self.vectors.contains(&Some(Vector::Mm))
    }

    /// Whether there is nothing but XMM registers, and memory that is read: the quick handlers' case.
    pub fn is_plain(&self) -> bool {
        self.unit != Unit::X87
            && self.writes
            && !self.enters_mmx()
            && self.general.is_none()
            && self.implicit == Implicit::None
            && self.flags == FlagUse::None
            && self.memory.is_none_or(|m| m.direction == Direction::Load)
    }
}

fn unit(instr: &Instruction) -> Unit {
    if is_x87(instr) {
        Unit::X87
    } else if is_float(instr.mnemonic()) {
        Unit::Float
    } else {
        Unit::Integer
    }
}

fn is_x87(instr: &Instruction) -> bool {
    use CpuidFeature as F;
    let x87 = |f: &F| matches!(f, F::FPU | F::FPU287 | F::FPU387);
    instr.cpuid_features().iter().any(x87)
}

fn bitness(size: CodeSize) -> u32 {
    match size {
        CodeSize::Code16 => 16,
        CodeSize::Code32 => 32,
        CodeSize::Code64 | CodeSize::Unknown => 64,
    }
}

fn fop(instr: &Instruction) -> u16 {
    let control = matches!(
        instr.mnemonic(),
        Mnemonic::Fninit | Mnemonic::Fnclex | Mnemonic::Fldcw | Mnemonic::Fnstcw | Mnemonic::Fnstsw
    );
    if control || !is_x87(instr) {
        return 0;
    }
    // The decoder keeps no bytes: encode it again.
    let mut encoder = Encoder::new(bitness(instr.code_size()));
    if encoder.encode(instr, instr.ip()).is_err() {
        return 0;
    }
    let bytes = encoder.take_buffer();
    let opcode = bytes.iter().position(|b| (0xd8..=0xdf).contains(b));
    opcode.map_or(0, |at| {
        let modrm = bytes.get(at + 1).copied().unwrap_or(0);
        FOP_THERE | u16::from(bytes[at] & 7) << 8 | u16::from(modrm)
    })
}

/// 16-byte operands must be aligned, but for the instructions made for others (Intel SDM volume 2, table 2-18).
fn needs_alignment(instr: &Instruction, size: MemorySize) -> bool {
    size.size() == 16
        && !matches!(
            instr.mnemonic(),
            Mnemonic::Movups
                | Mnemonic::Movupd
                | Mnemonic::Movdqu
                | Mnemonic::Lddqu
                | Mnemonic::Pcmpestri
                | Mnemonic::Pcmpestrm
                | Mnemonic::Pcmpistri
                | Mnemonic::Pcmpistrm
        )
}

fn implicit(mnemonic: Mnemonic) -> Implicit {
    match mnemonic {
        Mnemonic::Blendvps | Mnemonic::Blendvpd | Mnemonic::Pblendvb => Implicit::ReadXmm0,
        Mnemonic::Pcmpestri | Mnemonic::Pcmpestri64 => Implicit::LengthsToIndex,
        Mnemonic::Pcmpestrm | Mnemonic::Pcmpestrm64 => Implicit::LengthsToMask,
        Mnemonic::Pcmpistri => Implicit::Index,
        Mnemonic::Pcmpistrm => Implicit::Mask,
        _ => Implicit::None,
    }
}

fn flag_use(instr: &Instruction) -> FlagUse {
    if instr.rflags_modified() == 0 && instr.rflags_read() == 0 {
        FlagUse::None
    } else if is_x87(instr) {
        FlagUse::Read
    } else {
        FlagUse::Write
    }
}

/// SSE instructions that round, or can set flags in MXCSR.
fn is_float(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    can_underflow(mnemonic)
        || matches!(
            mnemonic,
            M::Sqrtps
                | M::Sqrtpd
                | M::Sqrtss
                | M::Sqrtsd
                | M::Minps
                | M::Minpd
                | M::Minss
                | M::Minsd
                | M::Maxps
                | M::Maxpd
                | M::Maxss
                | M::Maxsd
                | M::Cmpps
                | M::Cmppd
                | M::Cmpss
                | M::Cmpsd
                | M::Comiss
                | M::Comisd
                | M::Ucomiss
                | M::Ucomisd
                | M::Cvtdq2ps
                | M::Cvtps2dq
                | M::Cvttps2dq
                | M::Cvtdq2pd
                | M::Cvtpd2dq
                | M::Cvttpd2dq
                | M::Cvtps2pd
                | M::Cvtss2sd
                | M::Cvtsi2ss
                | M::Cvtsi2sd
                | M::Cvtss2si
                | M::Cvttss2si
                | M::Cvtsd2si
                | M::Cvttsd2si
                | M::Cvtpi2ps
                | M::Cvtpi2pd
                | M::Cvtps2pi
                | M::Cvttps2pi
                | M::Cvtpd2pi
                | M::Cvttpd2pi
                | M::Roundps
                | M::Roundpd
                | M::Roundss
                | M::Roundsd
        )
}

fn can_underflow(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Addps
            | M::Addpd
            | M::Addss
            | M::Addsd
            | M::Subps
            | M::Subpd
            | M::Subss
            | M::Subsd
            | M::Mulps
            | M::Mulpd
            | M::Mulss
            | M::Mulsd
            | M::Divps
            | M::Divpd
            | M::Divss
            | M::Divsd
            | M::Addsubps
            | M::Addsubpd
            | M::Haddps
            | M::Haddpd
            | M::Hsubps
            | M::Hsubpd
            | M::Cvtpd2ps
            | M::Cvtsd2ss
            | M::Dpps
            | M::Dppd
    )
}
