//! x87, MMX, SSE and AVX state in XSAVE layout.

/// The state, in the standard (not compacted) XSAVE format.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct XState {
    /// Legacy region and header (576 bytes), then AVX.
    pub image: [u8; 1024],
    /// XCR0.
    pub xcr0: u64,
}
