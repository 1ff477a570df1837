//! The architectural state of one vCPU, engine-neutral: plain data any engine can load and save.
//!
//! Segments carry their hidden parts; x87, SSE and wider state are in XSAVE layout (Intel SDM volume 1, chapter 13).

use serde::{Deserialize, Serialize};

/// General registers in encoding order: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8..R15.
pub type Gprs = [u64; 16];

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Visible part.
    pub selector: u16,
    /// Linear base.
    pub base: u64,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Descriptor attributes: bits 0-3 type, 4 S, 5-6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G; bit 16 set: unusable.
    pub attributes: u32,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRegister {
    /// Linear base.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u16,
}

/// The six segment registers in encoding order, and the two system ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// ES, CS, SS, DS, FS, GS.
    pub user: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
}

/// Index of ES in [`Segments::user`].
pub const ES: usize = 0;
/// Index of CS.
pub const CS: usize = 1;
/// Index of SS.
pub const SS: usize = 2;
/// Index of DS.
pub const DS: usize = 3;
/// Index of FS.
pub const FS: usize = 4;
/// Index of GS.
pub const GS: usize = 5;

/// Interruptibility and pending events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// One instruction after STI.
    pub sti_shadow: bool,
    /// One instruction after MOV SS or POP SS.
    pub mov_ss_shadow: bool,
    /// An NMI handler runs (until IRET).
    pub nmi_masked: bool,
    /// An NMI waits.
    pub nmi_pending: bool,
    /// An exception to be delivered: vector and error code.
    pub exception: Option<(u8, Option<u32>)>,
    /// An external interrupt already accepted.
    pub interrupt: Option<u8>,
    /// In HLT.
    pub halted: bool,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuState {
    /// General registers.
    pub gprs: Gprs,
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Segments.
    pub segments: Segments,
    /// Global descriptor table.
    pub gdtr: TableRegister,
    /// Interrupt descriptor table.
    pub idtr: TableRegister,
    /// Control registers.
    pub cr0: u64,
    /// Fault address.
    pub cr2: u64,
    /// Page table base.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Task priority.
    pub cr8: u64,
    /// Extended control register 0.
    pub xcr0: u64,
    /// DR0..DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// Extended features.
    pub efer: u64,
    /// Model-specific registers beyond EFER: index and value, ascending, those of [`super::cpu_model::MSRS`].
    pub msrs: Vec<(u32, u64)>,
    /// XSAVE image, standard (not compacted) format, at least 576 bytes.
    pub xsave: Vec<u8>,
    /// Interruptibility and pending events.
    pub pending: Pending,
}

impl CpuState {
    /// The state after RESET (Intel SDM volume 3, table 10-1): real mode, CS:IP F000:FFF0 with base FFFF0000.
    pub fn reset() -> Self {
        let data = Segment {
            selector: 0,
            base: 0,
            limit: 0xffff,
            attributes: 0x93,
        };
        let mut user = [data; 6];
        user[CS] = Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            limit: 0xffff,
            attributes: 0x9b,
        };
        let mut xsave = vec![0; 576];
        xsave[0..2].copy_from_slice(&0x0040u16.to_le_bytes()); // FCW after RESET
        xsave[24..28].copy_from_slice(&0x1f80u32.to_le_bytes()); // MXCSR
        xsave[512] = 3; // XSTATE_BV: x87 and SSE are in the image
        let mut gprs = [0; 16];
        gprs[2] = u64::from(super::cpu_model::SIGNATURE);
        Self {
            gprs,
            rip: 0xfff0,
            rflags: 2,
            segments: Segments {
                user,
                ldtr: Segment {
                    selector: 0,
                    base: 0,
                    limit: 0xffff,
                    attributes: 0x82,
                },
                tr: Segment {
                    selector: 0,
                    base: 0,
                    limit: 0xffff,
                    attributes: 0x8b,
                },
            },
            gdtr: TableRegister {
                base: 0,
                limit: 0xffff,
            },
            idtr: TableRegister {
                base: 0,
                limit: 0xffff,
            },
            cr0: 0x6000_0010,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            xcr0: 1,
            debug: [0, 0, 0, 0, 0xffff_0ff0, 0x400],
            efer: 0,
            msrs: Vec::new(),
            xsave,
            pending: Pending::default(),
        }
    }
}
