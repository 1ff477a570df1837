//! x87, MMX and SSE state in the layout of FXSAVE (Intel SDM volume 1, sections 10.5.1 and 13.4), and what the x87 makes
//! of it: the register stack, the tag word, the MMX view.
//!
//! The software engines load this image into the host's own registers, so nothing may ever stand in it that the host's
//! FXRSTOR refuses: [`XState::load`] and the guest's own loads check MXCSR before they write it.

use crate::engine::cpu_model::XSAVE_BYTES;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// MXCSR bits the model has; loading another faults. (AMD's misaligned mode, bit 17, is not offered.)
pub const MXCSR_MASK: u32 = 0xffff;
/// MXCSR after RESET: every exception masked, round to nearest.
pub const MXCSR_INIT: u32 = 0x1f80;
/// MXCSR's six exception flags; the masks are the same bits moved up by [`MXCSR_MASKS_AT`].
pub const MXCSR_FLAGS: u32 = 0x3f;
/// Position of MXCSR's exception masks.
pub const MXCSR_MASKS_AT: u32 = 7;
/// x87 control word after FNINIT.
pub const FCW_INIT: u16 = 0x37f;
/// The six exception masks of the x87 control word.
pub const FCW_MASKS: u16 = 0x3f;
/// x87 status word: an unmasked exception waits to be taken.
pub const FSW_ES: u16 = 1 << 7;
/// x87 status word: busy, a copy of [`FSW_ES`].
pub const FSW_B: u16 = 1 << 15;
/// State component x87 in XCR0 and XSTATE_BV.
pub const COMPONENT_X87: u64 = 1;
/// State component SSE.
pub const COMPONENT_SSE: u64 = 2;

const TOP_AT: u32 = 11;
const TOP: u16 = 7 << TOP_AT;
/// What every MMX write leaves above the 64 bits: sign and exponent all ones.
const MMX_UPPER: u128 = 0xffff << 64;
/// Bytes 512.. of the XSAVE image: XSTATE_BV.
const HEADER_AT: usize = 512;
/// MXCSR_MASK in the image.
const MXCSR_MASK_AT: std::ops::Range<usize> = 28..32;

/// The 512 bytes of FXSAVE64.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(16))]
pub struct Legacy {
    /// x87 control word.
    pub fcw: u16,
    /// x87 status word.
    pub fsw: u16,
    /// Abridged tag word: bit n set, physical register n is not empty.
    pub ftw: u8,
    reserved_5: u8,
    /// Opcode of the last non-control x87 instruction: 11 bits.
    pub fop: u16,
    /// Its address (offset in CS; in real and virtual-8086 mode the linear address).
    pub fip: u64,
    /// Address of its memory operand, likewise.
    pub fdp: u64,
    /// SSE control and status.
    pub mxcsr: u32,
    mxcsr_mask: u32,
    /// ST(0)..ST(7), 80 bits each.
    pub st: [u128; 8],
    /// XMM0..XMM15.
    pub xmm: [u128; 16],
    reserved_416: [u8; 96],
}

const _: () = assert!(size_of::<Legacy>() == HEADER_AT);

/// Initial: what RESET and FNINIT agree on, empty registers, zero XMM.
impl Default for Legacy {
    fn default() -> Self {
        Self {
            fcw: FCW_INIT,
            fsw: 0,
            ftw: 0,
            reserved_5: 0,
            fop: 0,
            fip: 0,
            fdp: 0,
            mxcsr: MXCSR_INIT,
            mxcsr_mask: MXCSR_MASK,
            st: [0; 8],
            xmm: [0; 16],
            reserved_416: [0; 96],
        }
    }
}

impl Legacy {
    /// Number of the physical register that is ST(0).
    pub fn top(&self) -> u16 {
        (self.fsw & TOP) >> TOP_AT
    }

    /// Whether an unmasked x87 exception waits: the next waiting instruction raises #MF.
    #[inline(always)]
    pub fn pending(&self) -> bool {
        self.fsw & FSW_ES != 0
    }

    /// MM register `n` (masked to 0..=7).
    pub fn mm(&self, n: u8) -> u64 {
        let stack = u16::from(n).wrapping_sub(self.top()) & 7;
        self.st[usize::from(stack)] as u64
    }

    /// Sets an MM register. Only after [`enter_mmx`](Self::enter_mmx).
    pub fn set_mm(&mut self, n: u8, value: u64) {
        self.st[usize::from(n & 7)] = u128::from(value) | MMX_UPPER;
    }

    /// What every MMX instruction does to the x87: register 0 becomes the top, no register is empty
    /// (Intel SDM volume 1, section 9.5.1).
    pub fn enter_mmx(&mut self) {
        self.reset_top();
        self.ftw = 0xff;
    }

    /// EMMS: all registers are empty.
    pub fn leave_mmx(&mut self) {
        self.reset_top();
        self.ftw = 0;
    }

    /// The physical registers keep their contents; their stack names change.
    fn reset_top(&mut self) {
        let top = self.top();
        self.st.rotate_right(usize::from(top));
        self.fsw &= !TOP;
    }

    /// The full tag word, two bits per physical register (Intel SDM volume 1, section 8.1.7).
    pub fn full_tags(&self) -> u16 {
        (0..8u16).fold(0, |tags, n| {
            let value = self.st[usize::from(n.wrapping_sub(self.top()) & 7)];
            let tag = if self.ftw >> n & 1 == 0 { 3 } else { tag_of(value) };
            tags | tag << (2 * n)
        })
    }

    /// Takes a full tag word: only empty or not matters, the rest follows from the contents.
    pub fn set_full_tags(&mut self, tags: u16) {
        self.ftw = (0..8).fold(0, |ftw, n| ftw | u8::from(tags >> (2 * n) & 3 != 3) << n);
    }

    /// Puts a part of the x87 component into its initial state: all of it but the registers' contents with
    /// `registers` false (FNINIT), else the contents too (XRSTOR).
    pub fn init_x87(&mut self, registers: bool) {
        self.reset_top();
        (self.fcw, self.fsw, self.ftw) = (FCW_INIT, 0, 0);
        (self.fop, self.fip, self.fdp) = (0, 0, 0);
        if registers {
            self.st = [0; 8];
        }
    }
}

/// Tag of a register that is not empty: 0 valid, 1 zero, 2 special.
fn tag_of(value: u128) -> u16 {
    let exponent = (value >> 64) as u16 & 0x7fff;
    let significand = value as u64;
    match (exponent, significand) {
        (0, 0) => 1,
        (0 | 0x7fff, _) => 2,
        (_, s) if s >> 63 == 0 => 2,
        _ => 0,
    }
}

/// The extended state of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XState {
    /// x87, MMX and SSE.
    pub legacy: Legacy,
    /// XCR0.
    pub xcr0: u64,
}

impl Default for XState {
    fn default() -> Self {
        Self {
            legacy: Legacy::default(),
            xcr0: COMPONENT_X87,
        }
    }
}

impl XState {
    /// Takes an XSAVE image in the standard format. A component whose bit is clear in XSTATE_BV is in its initial
    /// state, whatever the image's bytes; bytes that are missing count as zero; MXCSR bits the model lacks are dropped.
    pub fn load(&mut self, xsave: &[u8], xcr0: u64) {
        let mut image = [0; XSAVE_BYTES];
        let len = xsave.len().min(image.len());
        image[..len].copy_from_slice(&xsave[..len]);
        let present = u64::from(image[HEADER_AT]);
        self.legacy = Legacy::read_from_bytes(&image[..HEADER_AT]).unwrap_or_default();
        let initial = Legacy::default();
        if present & COMPONENT_X87 == 0 {
            self.legacy.init_x87(true);
        }
        if present & COMPONENT_SSE == 0 {
            self.legacy.xmm = initial.xmm;
            self.legacy.mxcsr = initial.mxcsr;
        }
        self.legacy.mxcsr &= MXCSR_MASK;
        self.legacy.mxcsr_mask = initial.mxcsr_mask;
        self.legacy.reserved_416 = initial.reserved_416;
        self.xcr0 = xcr0;
    }

    /// The XSAVE image, both components present. The MXCSR mask is a property of the model, not of the state: zero.
    pub fn save(&self) -> Vec<u8> {
        let mut image = self.image().to_vec();
        image[MXCSR_MASK_AT].fill(0);
        image.resize(XSAVE_BYTES, 0);
        image[HEADER_AT] = (COMPONENT_X87 | COMPONENT_SSE) as u8;
        image
    }

    /// The legacy region as FXSAVE64 shows it: the mask is the model's, not the host's.
    pub fn image(&self) -> [u8; HEADER_AT] {
        let mut shown = self.legacy.clone();
        shown.mxcsr_mask = MXCSR_MASK;
        shown.reserved_5 = 0;
        let mut image = [0; HEADER_AT];
        image.copy_from_slice(shown.as_bytes());
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_from_contents_by_physical_register() {
        let one = 0x3fff_8000_0000_0000_0000u128;
        let mut legacy = Legacy {
            fsw: 5 << TOP_AT,
            ftw: 0b1110_0001,
            ..Legacy::default()
        };
        // ST(0) is register 5, ST(3) register 0.
        legacy.st[0] = one;
        legacy.st[1] = 0x7fff << 64 | 1 << 63;
        legacy.st[2] = 1;
        legacy.st[3] = 0;
        let tags = legacy.full_tags();
        let expected = [1, 3, 3, 3, 3, 0, 2, 2];
        for (n, tag) in expected.into_iter().enumerate() {
            assert_eq!(tags >> (2 * n) & 3, tag, "register {n}");
        }
        // An unnormal (no integer bit) is special.
        assert_eq!(tag_of(0x3fff << 64 | 1), 2);
        let before = legacy.ftw;
        legacy.set_full_tags(tags);
        assert_eq!(legacy.ftw, before);
    }

    #[test]
    fn mmx_sees_physical_registers_whatever_the_top() {
        let mut legacy = Legacy {
            fsw: 3 << TOP_AT | 0x4100,
            ..Legacy::default()
        };
        for n in 0..8 {
            legacy.st[n] = n as u128;
        }
        assert_eq!((legacy.mm(3), legacy.mm(2), legacy.mm(0)), (0, 7, 5));
        let before: Vec<u64> = (0..8).map(|n| legacy.mm(n)).collect();
        legacy.enter_mmx();
        assert_eq!((legacy.top(), legacy.ftw, legacy.fsw), (0, 0xff, 0x4100));
        assert_eq!((0..8).map(|n| legacy.mm(n)).collect::<Vec<_>>(), before);
        legacy.set_mm(6, 9);
        assert_eq!(legacy.st[6], 9 | MMX_UPPER);
    }

    #[test]
    fn an_image_survives_a_round_trip_and_absent_components_are_initial() {
        let mut state = XState::default();
        state.legacy.fcw = 0x27f;
        state.legacy.st[2] = 77;
        state.legacy.xmm[15] = u128::MAX;
        state.legacy.mxcsr = 0x1fa0;
        let image = state.save();
        assert_eq!(image.len(), XSAVE_BYTES);
        let mut again = XState::default();
        again.load(&image, 3);
        assert_eq!((&again.legacy, again.xcr0), (&state.legacy, 3));
        let mut none = image.clone();
        none[HEADER_AT] = 0;
        again.load(&none, 1);
        assert_eq!(again.legacy, Legacy::default());
        // What the host would refuse never gets in.
        let mut bad = image;
        bad[26] = 0xff;
        again.load(&bad, 3);
        assert_eq!(again.legacy.mxcsr & !MXCSR_MASK, 0);
    }
}
