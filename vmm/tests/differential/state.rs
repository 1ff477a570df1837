//! What both sides start from and are compared by.

/// Which code is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// 64-bit code.
    B64,
    /// Flat 32-bit code in compatibility mode.
    B32,
}

impl Bits {
    /// For decoder and encoder.
    pub fn bitness(self) -> u32 {
        match self {
            Self::B64 => 64,
            Self::B32 => 32,
        }
    }
}

/// The registers a user program can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8..R15.
    pub gprs: [u64; 16],
    /// Flags.
    pub rflags: u64,
    /// Next instruction, or the faulting one.
    pub rip: u64,
    /// x87 and SSE in FXSAVE layout.
    pub fx: [u8; 512],
}

/// An exception. The address counts for page faults only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Vector.
    pub vector: u8,
    /// Error code, or 0.
    pub code: u32,
    /// CR2.
    pub address: u64,
}

/// The flags compared: arithmetic ones and DF. The rest is the operating system's, or never changes here.
pub const FLAGS: u64 = 0xcd5;

/// The parts of an FXSAVE image that are compared: all but the pointers to the last x87 instruction, which AMD saves
/// only with an exception pending, MXCSR_MASK and what is reserved.
pub fn fx_compared(fx: &[u8; 512]) -> impl Iterator<Item = &u8> {
    let registers = (0..8).flat_map(|n| 32 + 16 * n..42 + 16 * n);
    (0..5)
        .chain(24..28)
        .chain(registers)
        .chain(160..416)
        .map(|n| &fx[n])
}
