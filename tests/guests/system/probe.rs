//! The probe: runs a few instructions at any privilege level, in 64-bit or 32-bit code, until the processor traps, and
//! says what it then saw. Every case of this guest is a probe; nothing else here changes the processor's mode.
//!
//! The instructions are copied to one physical page, [`CODE`], which user code sees at [`USER_CODE`], and end in UD2:
//! a #UD behind the last byte is the sign that all went well. Traps come through an IDT of the probe's own, on a stack of
//! its own (IST 3, or the ring-0 stack of the 32-bit TSS).

use core::arch::asm;

/// Selectors of the probe's GDT; the first three are those of `rt`.
pub const CODE64: u16 = 0x08;
pub const DATA: u16 = 0x10;
pub const CODE32: u16 = 0x28;
/// The TSS of `rt`, and one for 32-bit code.
pub const TSS64: u16 = 0x18;
pub const TSS32: u16 = 0x30;
pub const USER_DATA: u16 = 0x3b;
pub const USER_CODE64: u16 = 0x43;
pub const USER_CODE32: u16 = 0x4b;
/// Slot for a descriptor under test, of up to 16 bytes.
pub const SLOT: u16 = 0x50;
/// Last byte of the GDT.
pub const GDT_LIMIT: u16 = 0x6f;

/// Physical pages the cases work on, all supervisor's and writable in the identity map.
pub const CODE: u64 = 0x40_0000;
pub const TABLES: u64 = 0x40_8000;
pub const FRAME: u64 = 0x80_0000;
/// Where the 64-bit map shows user code ([`CODE`]) and a user stack.
pub const USER_CODE: u64 = 0x4000_0000;
pub const USER_STACK_TOP: u64 = 0x4000_2000;
/// Stack of kernel code under test.
pub const KERNEL_STACK_TOP: u64 = 0x40_2000;

/// What the assembly shares with Rust; offsets are in `trampoline.rs`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Context {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: at the start, then at the trap.
    pub gprs: [u64; 16],
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub ss: u64,
    pub vector: u64,
    /// [`NO_ERROR`] for a vector without.
    pub error: u64,
    pub cr2: u64,
    /// DS, ES, FS, GS at the trap, from the low end; at the start DS and ES of 32-bit code.
    pub selectors: [u16; 4],
    /// CS and SS of the handler, where its frame begins behind the error code, and its flags.
    pub handler: [u64; 4],
    /// CR0, CR3, CR4 of 32-bit code.
    pub control: [u64; 3],
    host: [u64; 8],
}

pub const NO_ERROR: u64 = u64::MAX;
pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RBX: usize = 3;
pub const RSP: usize = 4;
pub const RSI: usize = 6;
pub const RDI: usize = 7;
pub const R11: usize = 11;

/// Flags.
pub const TF: u64 = 1 << 8;
pub const IF: u64 = 1 << 9;
pub const IOPL3: u64 = 3 << 12;
pub const AC: u64 = 1 << 18;

unsafe extern "C" {
    static mut probe_context: Context;
    static mut probe_gdt: [u64; 14];
    static mut probe_idt64: [[u64; 2]; 256];
    static mut probe_idt32: [u64; 256];
    static mut probe_tss32: [u32; 26];
    static mut boot_gdt: [u64; 5];
    static probe_stubs64: u8;
    static probe_stubs32: u8;
    static probe_stack_top: u8;
    fn probe_run64();
    fn probe_run32();
}

/// Instructions of a case, assembled where they stand: bits, then lines.
#[macro_export]
macro_rules! code {
    ($bits:literal, $($line:literal),+ $(,)?) => {{
        let (start, end): (u64, u64);
        // SAFETY: two addresses of a section that is only read.
        unsafe {
            core::arch::asm!(
                ".pushsection .rodata.cases, \"a\"",
                concat!(".code", $bits),
                "770:", $($line,)+ "771:",
                ".code64",
                ".popsection",
                "lea {0}, [rip + 770b]", "lea {1}, [rip + 771b]",
                out(reg) start, out(reg) end, options(pure, nomem, nostack)
            );
            core::slice::from_raw_parts(start as *const u8, (end - start) as usize)
        }
    }};
}

/// A probe about to run.
pub struct Probe {
    pub context: Context,
    length: u64,
    code_at: u64,
}

/// What was seen.
pub struct Seen {
    pub context: Context,
    /// The instructions under test came to their end.
    pub done: bool,
    /// Of the trap, from the first instruction under test.
    pub offset: u64,
}

/// Sets up tables and the user's view of the code page. Once.
pub fn init() {
    // SAFETY: the tables are ours alone; the processor is told of them when they are complete.
    unsafe {
        let gdt = &raw mut probe_gdt;
        (&raw mut (*gdt)[..5]).cast::<[u64; 5]>().write(boot_gdt);
        let tss32 = &raw const probe_tss32 as u64;
        (*gdt)[5] = 0x00cf_9b00_0000_ffff;
        (*gdt)[6] = 103 | (tss32 & 0xff_ffff) << 16 | 0x89 << 40 | (tss32 >> 24) << 56;
        (*gdt)[7] = 0x00cf_f300_0000_ffff;
        (*gdt)[8] = 0x00af_fb00_0000_ffff;
        (*gdt)[9] = 0x00cf_fb00_0000_ffff;
        let top = &raw const probe_stack_top as u64;
        (*&raw mut probe_tss32)[1] = top as u32;
        (*&raw mut probe_tss32)[2] = DATA.into();
        (*&raw mut probe_tss32)[25] = 104 << 16;
        // RSP0 of the TSS that rt made.
        let tss = boot_gdt[3] >> 16 & 0xff_ffff | boot_gdt[3] >> 56 << 24;
        ((tss + 4) as *mut u32).write_volatile(top as u32);
        // And its IST 3, which rt leaves alone.
        ((tss + 52) as *mut u32).write_volatile(top as u32);
        for vector in 0..256 {
            plain_gate(vector);
        }
        let table: [u16; 5] = [GDT_LIMIT, gdt as u64 as u16, (gdt as u64 >> 16) as u16, 0, 0];
        asm!("lgdt [{}]", in(reg) &table, options(nostack));
        // 1 GiB: a page table with code and stack for users; see `paging.rs` for the rest.
        let directory = TABLES as *mut u64;
        let pages = (TABLES + 0x1000) as *mut u64;
        for at in 0..1024 {
            directory.add(at).write_volatile(0);
        }
        directory.write_volatile(TABLES + 0x1000 | 7);
        pages.write_volatile(CODE | 7);
        pages.add(1).write_volatile(CODE + 0x2000 | 7);
    }
    set_gigabyte(1, TABLES | 7);
    flush();
}

/// The page-directory-pointer table that `rt` made.
fn pointers() -> *mut u64 {
    let pml4 = (control().1 & !0xfff) as *mut u64;
    // SAFETY: the tables are ours. Users may pass the level above.
    unsafe {
        let entry = pml4.read_volatile() | 7;
        pml4.write_volatile(entry);
        (entry & !0xfff) as *mut u64
    }
}

/// Maps a GiB of the 64-bit map.
pub fn set_gigabyte(index: usize, entry: u64) {
    // SAFETY: as above.
    unsafe { pointers().add(index).write_volatile(entry) };
}

pub fn gigabyte(index: usize) -> u64 {
    // SAFETY: as above; the processor may set bits.
    unsafe { pointers().add(index).read_volatile() }
}

/// CR0, CR3, CR4.
pub fn control() -> (u64, u64, u64) {
    let (cr0, cr3, cr4);
    // SAFETY: reads.
    unsafe { asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4) };
    (cr0, cr3, cr4)
}

pub fn set_cr0(value: u64) {
    // SAFETY: cases put back what they change.
    unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack)) };
}

pub fn set_cr4(value: u64) {
    // SAFETY: as above.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack)) };
}

/// Forgets all translations.
pub fn flush() {
    // SAFETY: the map of the code that runs does not change.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}

/// Puts a descriptor into the GDT.
pub fn set_descriptor(selector: u16, value: u64) {
    // SAFETY: only the slots for tests are written while they are not in use.
    unsafe { (*&raw mut probe_gdt)[usize::from(selector / 8)] = value };
}

pub fn descriptor(selector: u16) -> u64 {
    // SAFETY: as above.
    unsafe { (*&raw const probe_gdt)[usize::from(selector / 8)] }
}

/// Points a vector at the probe again, with the plain kind of gate.
pub fn plain_gate(vector: usize) {
    set_gate64(vector, CODE64, 0x8e, 3);
    set_gate32(vector, CODE32, 0x8e);
}

/// The address at which the probe waits for a vector of 64-bit code, and of 32-bit code.
pub fn entry64(vector: usize) -> u64 {
    &raw const probe_stubs64 as u64 + 16 * vector as u64
}

pub fn entry32(vector: usize) -> u64 {
    &raw const probe_stubs32 as u64 + 16 * vector as u64
}

pub fn set_gate64(vector: usize, selector: u16, rights: u64, ist: u64) {
    let at = entry64(vector);
    let low = at & 0xffff | u64::from(selector) << 16 | ist << 32 | rights << 40 | (at >> 16 & 0xffff) << 48;
    // SAFETY: as for descriptors.
    unsafe { (*&raw mut probe_idt64)[vector] = [low, at >> 32] };
}

pub fn set_gate32(vector: usize, selector: u16, rights: u64) {
    let at = entry32(vector);
    let gate = at & 0xffff | u64::from(selector) << 16 | rights << 40 | (at >> 16 & 0xffff) << 48;
    // SAFETY: as for descriptors.
    unsafe { (*&raw mut probe_idt32)[vector] = gate };
}

/// Loads the TSS that `rt` made, whatever was loaded before.
pub fn reload_task_register() {
    set_descriptor(TSS64, descriptor(TSS64) & !(1 << 41));
    // SAFETY: the descriptor is there.
    unsafe { asm!("ltr {0:x}", in(reg) TSS64, options(nostack)) };
}

/// LDTR as it was: null.
pub fn clear_ldt() {
    // SAFETY: nothing uses the LDT.
    unsafe { asm!("lldt {0:x}", in(reg) 0u16, options(nostack)) };
}

impl Probe {
    fn new(code: &[u8], code_at: u64) -> Self {
        // SAFETY: the code page is ours, and nothing runs there now.
        unsafe {
            for (at, &byte) in code.iter().chain(&[0x0f, 0x0b]).enumerate() {
                (CODE as *mut u8).add(at).write_volatile(byte);
            }
        }
        // SAFETY: all zeros is a context.
        let mut context: Context = unsafe { core::mem::zeroed() };
        context.rip = code_at;
        context.rflags = 2;
        Self {
            context,
            length: code.len() as u64,
            code_at,
        }
    }

    /// 64-bit code at CPL 0.
    pub fn kernel(code: &[u8]) -> Self {
        let mut probe = Self::new(code, CODE);
        probe.context.cs = CODE64.into();
        probe.context.ss = DATA.into();
        probe.context.gprs[RSP] = KERNEL_STACK_TOP;
        probe
    }

    /// 64-bit code at CPL 3.
    pub fn user(code: &[u8]) -> Self {
        let mut probe = Self::new(code, USER_CODE);
        probe.context.cs = USER_CODE64.into();
        probe.context.ss = USER_DATA.into();
        probe.context.gprs[RSP] = USER_STACK_TOP;
        probe
    }

    /// 32-bit code of protected mode at CPL 0 or 3, with these control registers. Paged, users run at [`USER_CODE`].
    pub fn legacy(code: &[u8], user: bool, control: [u64; 3]) -> Self {
        let paged = control[0] >> 31 & 1 == 1;
        let mut probe = Self::new(code, if user && paged { USER_CODE } else { CODE });
        probe.context.cs = if user { USER_CODE32 } else { CODE32 }.into();
        probe.context.ss = if user { USER_DATA } else { DATA }.into();
        probe.context.gprs[RSP] = if user && paged {
            USER_STACK_TOP
        } else {
            KERNEL_STACK_TOP
        };
        probe.context.selectors = [USER_DATA; 4];
        probe.context.control = control;
        probe
    }

    /// With this in a register.
    pub fn with(mut self, register: usize, value: u64) -> Self {
        self.context.gprs[register] = value;
        self
    }

    /// With more flags than the always-set one.
    pub fn flags(mut self, flags: u64) -> Self {
        self.context.rflags |= flags;
        self
    }

    /// Runs 64-bit code.
    pub fn run(self) -> Seen {
        // SAFETY: the assembly puts everything back but the context.
        unsafe {
            (&raw mut probe_context).write(self.context);
            probe_run64();
        }
        self.seen()
    }

    /// Runs 32-bit code.
    pub fn run_legacy(self) -> Seen {
        set_descriptor(TSS32, descriptor(TSS32) & !(1 << 41));
        // SAFETY: as above.
        unsafe {
            (&raw mut probe_context).write(self.context);
            set_descriptor(TSS64, descriptor(TSS64) & !(1 << 41));
            probe_run32();
        }
        self.seen()
    }

    fn seen(&self) -> Seen {
        // SAFETY: nothing writes it now.
        let context = unsafe { (&raw const probe_context).read() };
        let offset = context.rip.wrapping_sub(self.code_at);
        Seen {
            done: context.vector == 6 && offset == self.length,
            offset,
            context,
        }
    }
}
