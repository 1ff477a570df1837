//! What the architecture leaves undefined, and so cannot be compared on every host.
//!
//! The interpreter does what AMD's Zen does, DIV and IDIV excepted, whose flags there follow no rule worth having: on
//! such a host everything else is compared. On other hosts what the manuals call undefined is left out.

use iced_x86::{Instruction, Mnemonic, RflagsBits};

/// What the host's silicon can be held to.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    zen: bool,
}

impl Host {
    /// This one. Zen is AMD's family 17h and later (CPUID 0 and 1).
    pub fn here() -> Self {
        let vendor = std::arch::x86_64::__cpuid(0);
        let signature = std::arch::x86_64::__cpuid(1).eax;
        let family = (signature >> 8 & 15) + (signature >> 20 & 0xff);
        let amd = [vendor.ebx, vendor.edx, vendor.ecx]
            .map(u32::to_le_bytes)
            .concat()
            == b"AuthenticAMD";
        Self {
            zen: amd && family >= 0x17,
        }
    }

    /// RFLAGS bits that are not compared after the instruction (Intel SDM volume 2, as iced-x86 has it in tables).
    pub fn undefined_flags(self, instr: &Instruction) -> u64 {
        let undefined = instr.rflags_undefined();
        if self.zen && !matches!(instr.mnemonic(), Mnemonic::Div | Mnemonic::Idiv) {
            return 0;
        }
        [
            (RflagsBits::CF, 0),
            (RflagsBits::PF, 2),
            (RflagsBits::AF, 4),
            (RflagsBits::ZF, 6),
            (RflagsBits::SF, 7),
            (RflagsBits::OF, 11),
        ]
        .into_iter()
        .filter(|(bit, _)| undefined & bit != 0)
        .fold(0, |flags, (_, place)| flags | 1 << place)
    }

    /// Whether the result itself can be undefined: a bit scan of 0, a 16-bit double shift or byte swap; or differ by
    /// maker: the upper half of a register that CMPXCHG leaves alone, how much a 16-bit MOVSXD loads.
    pub fn undefined_result(self, instr: &Instruction) -> bool {
        let sixteen = instr.op0_register().size() == 2 || instr.memory_size().size() == 2;
        !self.zen
            && match instr.mnemonic() {
                Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Cmpxchg => true,
                Mnemonic::Shld | Mnemonic::Shrd | Mnemonic::Bswap | Mnemonic::Movsxd => sixteen,
                _ => false,
            }
    }
}
