//! What every software engine is built from, whatever it does with instructions: the vCPU's live state and the rules of
//! the architecture that are not arithmetic.
//!
//! | module | what it owns |
//! |---|---|
//! | [`cpu`] | [`Cpu`](cpu::Cpu): the live state, and how an instruction leaves it ([`Leave`](cpu::Leave)) |
//! | [`regs`] | general registers, addressed by byte so that one accessor serves AL, AH, AX, EAX, RAX |
//! | [`word`] | [`Word`](word::Word): u8..u64 with the arithmetic instructions need |
//! | [`flags`] | lazy arithmetic flags |
//! | [`mode`] | mode bits: what a decoded instruction depends on |
//! | [`walk`] | page walks of every kind, accessed and dirty bits, protection, fault codes |
//! | [`tlb`] | software TLB: one compare checks tag, right and page crossing |
//! | [`access`] | loads and stores by linear address: fast path, split pages, MMIO, pages that hold code |
//! | [`bulk`] | runs of string elements inside a page |
//! | [`descriptor`] | descriptors and gates, read from GDT and LDT |
//! | [`segment`] | segment registers: loads, checks, segmented addresses |
//! | [`stack`] | pushes and pops of every width |
//! | [`deliver`] | exceptions and interrupts through IVT, IDT, TSS; IRET; double and triple fault |
//! | [`transfer`] | far jumps, calls and returns, gates, task switches, SYSCALL and SYSENTER |
//! | [`debug`] | breakpoints, single step, DR6 and DR7 |
//! | [`state_io`] | making a vCPU; loading and saving its state |
//! | [`system`] | control and debug registers, MSRs, CPUID, TLB maintenance, and the rest of CPL 0 |
//! | [`xstate`] | x87, MMX and SSE state in FXSAVE layout |
//!
//! A software engine's wall (engines.md section 4) is here: guest code reaches memory only through [`access`].

pub mod access;
pub mod bulk;
pub mod cpu;
pub mod debug;
pub mod deliver;
pub mod descriptor;
#[cfg(test)]
pub(crate) mod fixture;
pub mod flags;
pub mod mode;
pub mod regs;
pub mod segment;
pub mod stack;
pub mod state_io;
pub mod system;
pub mod tlb;
pub mod transfer;
pub mod walk;
pub mod word;
pub mod xstate;
