//! The instructions under test, by group. A new group is a row of [`GROUPS`].
//!
//! Encodings are all those of the mnemonics that the mode has, EVEX and VEX excepted. What random operands alone would
//! not make sense of, a group's `adjust` puts right.

use super::generate::Draft;
use super::native::{SCRATCH, SCRATCH_LEN};
use super::state::Bits;
use iced_x86::{Code, EncodingKind, Mnemonic, OpKind, Register};

/// Instructions of a kind.
pub struct Group {
    /// Its name, for WORLDSWITCH_GROUP.
    pub name: &'static str,
    /// What it has.
    pub mnemonics: &'static [Mnemonic],
    /// Makes sense of a draft: pokes registers, moves operands. `None`: leave this one out.
    pub adjust: fn(&mut Draft<'_>) -> Option<()>,
}

/// Every group.
pub const GROUPS: &[Group] = &[
    Group {
        name: "alu",
        mnemonics: &[
            Mnemonic::Add,
            Mnemonic::Adc,
            Mnemonic::Sub,
            Mnemonic::Sbb,
            Mnemonic::Cmp,
            Mnemonic::And,
            Mnemonic::Or,
            Mnemonic::Xor,
            Mnemonic::Test,
        ],
        adjust: as_it_is,
    },
    Group {
        name: "unary",
        mnemonics: &[Mnemonic::Inc, Mnemonic::Dec, Mnemonic::Neg, Mnemonic::Not],
        adjust: as_it_is,
    },
    Group {
        name: "data",
        mnemonics: &[
            Mnemonic::Mov,
            Mnemonic::Movnti,
            Mnemonic::Movzx,
            Mnemonic::Movsx,
            Mnemonic::Movsxd,
            Mnemonic::Lea,
            Mnemonic::Xchg,
            Mnemonic::Bswap,
            Mnemonic::Xlatb,
            Mnemonic::Cbw,
            Mnemonic::Cwde,
            Mnemonic::Cdqe,
            Mnemonic::Cwd,
            Mnemonic::Cdq,
            Mnemonic::Cqo,
            Mnemonic::Salc,
            Mnemonic::Nop,
            Mnemonic::Pause,
            Mnemonic::Endbr64,
            Mnemonic::Prefetchw,
            Mnemonic::Prefetcht0,
            Mnemonic::Clflush,
            Mnemonic::Mfence,
        ],
        adjust: no_special_registers,
    },
    Group {
        name: "conditional",
        mnemonics: &[
            Mnemonic::Cmovo,
            Mnemonic::Cmovno,
            Mnemonic::Cmovb,
            Mnemonic::Cmovae,
            Mnemonic::Cmove,
            Mnemonic::Cmovne,
            Mnemonic::Cmovbe,
            Mnemonic::Cmova,
            Mnemonic::Cmovs,
            Mnemonic::Cmovns,
            Mnemonic::Cmovp,
            Mnemonic::Cmovnp,
            Mnemonic::Cmovl,
            Mnemonic::Cmovge,
            Mnemonic::Cmovle,
            Mnemonic::Cmovg,
            Mnemonic::Seto,
            Mnemonic::Setno,
            Mnemonic::Setb,
            Mnemonic::Setae,
            Mnemonic::Sete,
            Mnemonic::Setne,
            Mnemonic::Setbe,
            Mnemonic::Seta,
            Mnemonic::Sets,
            Mnemonic::Setns,
            Mnemonic::Setp,
            Mnemonic::Setnp,
            Mnemonic::Setl,
            Mnemonic::Setge,
            Mnemonic::Setle,
            Mnemonic::Setg,
        ],
        adjust: as_it_is,
    },
    Group {
        name: "shift",
        mnemonics: &[
            Mnemonic::Shl,
            Mnemonic::Sal,
            Mnemonic::Shr,
            Mnemonic::Sar,
            Mnemonic::Rol,
            Mnemonic::Ror,
            Mnemonic::Rcl,
            Mnemonic::Rcr,
            Mnemonic::Shld,
            Mnemonic::Shrd,
        ],
        adjust: as_it_is,
    },
    Group {
        name: "muldiv",
        mnemonics: &[Mnemonic::Mul, Mnemonic::Imul, Mnemonic::Div, Mnemonic::Idiv],
        adjust: small_dividend,
    },
    Group {
        name: "bit",
        mnemonics: &[
            Mnemonic::Bt,
            Mnemonic::Bts,
            Mnemonic::Btr,
            Mnemonic::Btc,
            Mnemonic::Bsf,
            Mnemonic::Bsr,
            Mnemonic::Popcnt,
            Mnemonic::Crc32,
        ],
        adjust: near_bit,
    },
    Group {
        name: "atomic",
        mnemonics: &[
            Mnemonic::Xadd,
            Mnemonic::Cmpxchg,
            Mnemonic::Cmpxchg8b,
            Mnemonic::Cmpxchg16b,
        ],
        adjust: often_aligned,
    },
    Group {
        name: "branch",
        mnemonics: &[
            Mnemonic::Jo,
            Mnemonic::Jno,
            Mnemonic::Jb,
            Mnemonic::Jae,
            Mnemonic::Je,
            Mnemonic::Jne,
            Mnemonic::Jbe,
            Mnemonic::Ja,
            Mnemonic::Js,
            Mnemonic::Jns,
            Mnemonic::Jp,
            Mnemonic::Jnp,
            Mnemonic::Jl,
            Mnemonic::Jge,
            Mnemonic::Jle,
            Mnemonic::Jg,
            Mnemonic::Jmp,
            Mnemonic::Jcxz,
            Mnemonic::Jecxz,
            Mnemonic::Jrcxz,
            Mnemonic::Loop,
            Mnemonic::Loope,
            Mnemonic::Loopne,
        ],
        adjust: short_count,
    },
    Group {
        name: "flag",
        mnemonics: &[
            Mnemonic::Clc,
            Mnemonic::Stc,
            Mnemonic::Cmc,
            Mnemonic::Cld,
            Mnemonic::Std,
            Mnemonic::Lahf,
            Mnemonic::Sahf,
        ],
        adjust: as_it_is,
    },
    Group {
        name: "stack",
        mnemonics: &[Mnemonic::Push, Mnemonic::Pop, Mnemonic::Call],
        adjust: stack_in_scratch,
    },
    Group {
        name: "decimal",
        mnemonics: &[
            Mnemonic::Daa,
            Mnemonic::Das,
            Mnemonic::Aaa,
            Mnemonic::Aas,
            Mnemonic::Aam,
            Mnemonic::Aad,
        ],
        adjust: as_it_is,
    },
];

impl Group {
    /// Its encodings in code of this size.
    pub fn codes(&self, bits: Bits) -> Vec<Code> {
        let fits = |code: Code| {
            let info = code.op_code();
            let mode = match bits {
                Bits::B64 => info.mode64(),
                Bits::B32 => info.mode32(),
            };
            mode && info.encoding() == EncodingKind::Legacy && info.is_instruction()
        };
        Code::values()
            .filter(|code| self.mnemonics.contains(&code.mnemonic()) && fits(*code))
            .collect()
    }
}

fn as_it_is(_: &mut Draft<'_>) -> Option<()> {
    Some(())
}

/// Segment, control and debug registers, for which no random value will do; indirect and far branches, which would go
/// anywhere; branches that cut the address to 16 bits.
pub fn elsewhere(code: Code) -> bool {
    use iced_x86::{FlowControl, OpCodeOperandKind as Kind};
    let special = |kind: &Kind| {
        matches!(
            kind,
            Kind::seg_reg
                | Kind::cr_reg
                | Kind::dr_reg
                | Kind::tr_reg
                | Kind::es
                | Kind::cs
                | Kind::ss
                | Kind::ds
                | Kind::fs
                | Kind::gs
                | Kind::br16_1
                | Kind::br16_2
                | Kind::farbr2_2
                | Kind::farbr4_2
        )
    };
    let indirect = matches!(
        code.flow_control(),
        FlowControl::IndirectBranch | FlowControl::IndirectCall
    );
    indirect || code.op_code().op_kinds().iter().any(special)
}

/// Without what is tested [`elsewhere`].
fn no_special_registers(draft: &mut Draft<'_>) -> Option<()> {
    (!elsewhere(draft.instr.code())).then_some(())
}

/// Most divisions are to have a quotient that fits: the dividend's upper half is small, or just a sign.
fn small_dividend(draft: &mut Draft<'_>) -> Option<()> {
    let value = draft.random.value();
    let rax = draft.random.value();
    let upper = match draft.random.below(4) {
        0 => return Some(()),
        1 => value,
        2 => draft.random.below(16),
        _ => (rax as i64 >> 63) as u64,
    };
    let uses = |register: Register| {
        draft
            .pokes
            .iter()
            .any(|(n, _)| *n == register as usize - Register::RAX as usize)
    };
    if uses(Register::RAX) || uses(Register::RDX) {
        return Some(());
    }
    draft.poke(Register::RDX, upper);
    let lower = if draft.random.one_in(2) { rax } else { rax & 0xff };
    draft.poke(Register::RAX, lower);
    Some(())
}

/// The bit number in a register reaches as far as it likes: keep it in the scratch pages.
fn near_bit(draft: &mut Draft<'_>) -> Option<()> {
    let instr = draft.instr;
    if instr.op0_kind() != OpKind::Memory || instr.op1_kind() != OpKind::Register {
        return Some(());
    }
    let register = instr.op1_register();
    if !draft.well_inside() {
        return None;
    }
    let (low, high) = (
        draft.at - SCRATCH - 16,
        SCRATCH_LEN as u64 - (draft.at - SCRATCH) - 16,
    );
    let bit = draft.random.below(8 * (low + high)) as i64 - 8 * low as i64;
    if draft
        .pokes
        .iter()
        .any(|(n, _)| *n == register.full_register() as usize - Register::RAX as usize)
    {
        return None;
    }
    draft.poke(register, bit as u64);
    Some(())
}

/// CMPXCHG16B must be aligned: mostly it is. CMPXCHG finds what it expects now and then.
fn often_aligned(draft: &mut Draft<'_>) -> Option<()> {
    if draft.instr.mnemonic() == Mnemonic::Cmpxchg16b && !draft.random.one_in(4) {
        draft.shift_memory((draft.at % 16).wrapping_neg());
    }
    Some(())
}

/// LOOP and JCXZ see a small count every other time.
fn short_count(draft: &mut Draft<'_>) -> Option<()> {
    no_special_registers(draft)?;
    if draft.random.one_in(2) {
        let count = draft.random.below(3);
        draft.poke(Register::RCX, count);
    }
    Some(())
}

/// The stack lies in the scratch pages, or across the upper end.
fn stack_in_scratch(draft: &mut Draft<'_>) -> Option<()> {
    no_special_registers(draft)?;
    if let Some((_, top)) = draft.pokes.iter().find(|(n, _)| *n == 4) {
        // RSP addresses the operand too: good if it points at a stack all the same.
        return (top.wrapping_sub(SCRATCH) < SCRATCH_LEN as u64).then_some(());
    }
    let top = SCRATCH + draft.random.below(SCRATCH_LEN as u64 + 4);
    draft.poke(Register::RSP, top);
    Some(())
}
