//! What the architecture leaves undefined, and so is not compared.

use iced_x86::{Instruction, RflagsBits};

/// RFLAGS bits that the instruction leaves undefined (Intel SDM volume 2, by iced-x86's table).
pub fn flags(instr: &Instruction) -> u64 {
    let undefined = instr.rflags_undefined();
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
