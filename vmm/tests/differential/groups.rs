//! The instructions under test, by group. A new group is a row of [`GROUPS`].
//!
//! Encodings are all those of the mnemonics that the mode has, EVEX and VEX excepted. What random operands alone would
//! not make sense of, a group's `adjust` puts right.

use super::generate::Draft;
use super::native::{LANDING, SCRATCH, SCRATCH_LEN};
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
    Group {
        name: "flag",
        mnemonics: &[
            Mnemonic::Cmc,
            Mnemonic::Clc,
            Mnemonic::Stc,
            Mnemonic::Cld,
            Mnemonic::Std,
            Mnemonic::Lahf,
            Mnemonic::Sahf,
            Mnemonic::Cli,
            Mnemonic::Sti,
            Mnemonic::Hlt,
            Mnemonic::Ud2,
            Mnemonic::Bound,
        ],
        adjust: as_it_is,
    },
    Group {
        name: "stack",
        mnemonics: &[
            Mnemonic::Push,
            Mnemonic::Pop,
            Mnemonic::Pushf,
            Mnemonic::Pushfd,
            Mnemonic::Pushfq,
            Mnemonic::Pusha,
            Mnemonic::Pushad,
            Mnemonic::Popa,
            Mnemonic::Popad,
            Mnemonic::Enter,
            Mnemonic::Leave,
        ],
        adjust: stack_in_scratch,
    },
    Group {
        name: "branch",
        mnemonics: &[
            Mnemonic::Jmp,
            Mnemonic::Call,
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
            Mnemonic::Jecxz,
            Mnemonic::Jrcxz,
            Mnemonic::Loop,
            Mnemonic::Loope,
            Mnemonic::Loopne,
        ],
        adjust: to_the_landing,
    },
    Group {
        name: "string",
        mnemonics: &[
            Mnemonic::Movsb,
            Mnemonic::Movsw,
            Mnemonic::Movsd,
            Mnemonic::Movsq,
            Mnemonic::Stosb,
            Mnemonic::Stosw,
            Mnemonic::Stosd,
            Mnemonic::Stosq,
            Mnemonic::Lodsb,
            Mnemonic::Lodsw,
            Mnemonic::Lodsd,
            Mnemonic::Lodsq,
            Mnemonic::Cmpsb,
            Mnemonic::Cmpsw,
            Mnemonic::Cmpsd,
            Mnemonic::Cmpsq,
            Mnemonic::Scasb,
            Mnemonic::Scasw,
            Mnemonic::Scasd,
            Mnemonic::Scasq,
        ],
        adjust: repeated,
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

/// Encodings tested elsewhere, by written expectations: special registers (no random value will do, and most of it is
/// for CPL 0), far transfers, near ones to low addresses.
pub fn elsewhere(code: Code) -> bool {
    use iced_x86::OpCodeOperandKind as Kind;
    let special = [
        Kind::seg_reg,
        Kind::cr_reg,
        Kind::dr_reg,
        Kind::tr_reg,
        // PUSH and POP: the host's selectors are not the guest's.
        Kind::es,
        Kind::cs,
        Kind::ss,
        Kind::ds,
        Kind::fs,
        Kind::gs,
        // Targets below 64 KiB, where the host has no code, and far ones.
        Kind::br16_1,
        Kind::br16_2,
        Kind::farbr2_2,
        Kind::farbr4_2,
    ];
    let others = [
        Code::Jmp_rm16,
        Code::Call_rm16,
        Code::Jmp_m1616,
        Code::Jmp_m1632,
        Code::Jmp_m1664,
        Code::Call_m1616,
        Code::Call_m1632,
        Code::Call_m1664,
        // SSE instructions with a string instruction's name.
        Code::Movsd_xmm_xmmm64,
        Code::Movsd_xmmm64_xmm,
        Code::Cmpsd_xmm_xmmm64_imm8,
    ];
    let op_code = code.op_code();
    others.contains(&code) || op_code.op_kinds().iter().any(|kind| special.contains(kind))
}

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

/// RSP, and RBP for frames, point into the scratch pages; segment registers stay out of it (the host's differ).
fn stack_in_scratch(draft: &mut Draft<'_>) -> Option<()> {
    let addressed = |register| [draft.instr.memory_base(), draft.instr.memory_index()].contains(&register);
    if elsewhere(draft.instr.code()) || addressed(Register::RSP) || addressed(Register::ESP) {
        return None;
    }
    let stack = draft.scratch_address();
    draft.poke(Register::RSP, stack);
    if matches!(draft.instr.mnemonic(), Mnemonic::Popa | Mnemonic::Popad) {
        // Zen keeps what it popped before a fault; the interpreter has all or nothing.
        let inside = SCRATCH + 0x800 + draft.random.below(0x1000);
        draft.poke(Register::RSP, inside);
    }
    if matches!(draft.instr.mnemonic(), Mnemonic::Enter | Mnemonic::Leave) {
        let frame = draft.scratch_address();
        draft.poke(Register::RBP, frame);
    }
    if draft.instr.mnemonic() == Mnemonic::Enter {
        // A frame that fits, with links to it below RBP and room above the end of the pages.
        let (size, level) = (draft.random.below(0x200), draft.random.below(34));
        draft.instr.set_op1_kind(OpKind::Immediate8_2nd);
        draft.instr.set_immediate16(size as u16);
        draft.instr.set_immediate8_2nd(level as u8);
        let top = SCRATCH + 0x1000 + draft.random.below(0x800);
        draft.poke(Register::RSP, top);
        let frame = SCRATCH + 0x1000 + draft.random.below(0x800);
        draft.poke(Register::RBP, frame);
    }
    Some(())
}

/// Branches go to the slot's landing; counts are small now and then.
fn to_the_landing(draft: &mut Draft<'_>) -> Option<()> {
    let target = draft.slot + LANDING;
    let instr = draft.instr;
    let far = instr.is_jmp_far()
        || instr.is_jmp_far_indirect()
        || instr.is_call_far()
        || instr.is_call_far_indirect();
    if far || instr.op0_kind() == OpKind::Memory {
        return None;
    }
    if instr.op0_kind() == OpKind::Register {
        let register = instr.op0_register();
        let native = register.size() * 8 == draft.bits.bitness() as usize;
        if !native || matches!(register, Register::RSP | Register::ESP) {
            return None;
        }
        let nowhere = draft.bits == Bits::B64 && draft.random.one_in(8);
        draft.poke(register, if nowhere { 1 << 47 | target } else { target });
    } else {
        let count = match draft.random.below(3) {
            0 => draft.random.value(),
            1 => draft.random.below(3),
            _ => draft.random.value() << 32 | draft.random.below(3),
        };
        draft.poke(Register::RCX, count);
    }
    if instr.mnemonic() == Mnemonic::Call {
        let stack = draft.scratch_address();
        draft.poke(Register::RSP, stack);
    }
    Some(())
}

/// A repeat prefix now and then, and a count that mostly stays in the scratch pages.
fn repeated(draft: &mut Draft<'_>) -> Option<()> {
    if !draft.instr.is_string_instruction() {
        return None;
    }
    match draft.random.below(4) {
        0 => draft.instr.set_has_repne_prefix(true),
        1 | 2 => draft.instr.set_has_rep_prefix(true),
        _ => {}
    }
    let count = if draft.random.one_in(16) {
        draft.random.below(0x2000)
    } else {
        draft.random.below(80)
    };
    draft.poke(Register::RCX, count);
    let compares = matches!(
        draft.instr.mnemonic(),
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq
    );
    if compares {
        // Which of two faulting operands is reported depends on how far Zen's loop is: only one can fault.
        let inside = SCRATCH + 0xc00 + draft.random.below(0x800);
        draft.poke(Register::RDI, inside);
        draft.poke(Register::RCX, count.min(0x80));
    } else if draft.random.one_in(4) {
        // Operands that overlap.
        let from = draft.scratch_address();
        let distance = draft.random.below(32);
        draft.poke(Register::RSI, from);
        draft.poke(Register::RDI, from + 16 - distance);
    }
    Some(())
}
