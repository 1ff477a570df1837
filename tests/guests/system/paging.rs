//! Page faults: every combination of a leaf's rights, of access, privilege and control bits, in every paging mode and
//! page size. A line gives the outcome of six accesses: kernel's and user's read, write and fetch; `ok`, or the error
//! code of the #PF in hexadecimal. Sources: Intel SDM volume 3, sections 4.6 (access rights), 4.7 (error code), 4.8.

use crate::code;
use crate::probe::{
    AC, CODE, FRAME, Probe, RAX, RBX, Seen, TABLES, USER_CODE, control, flush, set_cr0, set_cr4, set_gigabyte,
};
use rt::io::{rdmsr, wrmsr};
use rt::say;
use rt::serial::Hex;

const P: u64 = 1;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;
/// Stands for a bit that is reserved in a large page: 13, or 21 with 4 MiB, where 13 to 20 are of the address.
const RESERVED: u64 = 1 << 13;

/// What is put into the leaf: all rights of a page that is there, pages that are not, a page with a reserved bit.
const RIGHTS: [u64; 11] = [
    P,
    P | W,
    P | U,
    P | W | U,
    P | NX,
    P | W | NX,
    P | U | NX,
    P | W | U | NX,
    0,
    W | U,
    P | W | U | RESERVED,
];

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER: u32 = 0xc000_0080;
const EFER_NXE: u64 = 1 << 11;

/// Tables beside the probe's own: a page table for the page under test, and those of the 32-bit modes.
const TEST_TABLE: u64 = TABLES + 0x2000;
const LEGACY_DIRECTORY: u64 = TABLES + 0x3000;
const LEGACY_TABLE: u64 = TABLES + 0x4000;
const PAE_POINTERS: u64 = TABLES + 0x5000;
const PAE_DIRECTORY: u64 = TABLES + 0x6000;

/// A kind of page: where the page under test is seen, and the entry that maps it.
struct Kind {
    name: &'static str,
    mode: Mode,
    linear: u64,
    entry: u64,
    /// Bits of the entry besides rights.
    base: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Long,
    Pae,
    Bits32,
}

const KINDS: [Kind; 7] = [
    Kind {
        name: "long 4k",
        mode: Mode::Long,
        linear: 0x4020_0000,
        entry: TEST_TABLE,
        base: FRAME,
    },
    Kind {
        name: "long 2m",
        mode: Mode::Long,
        linear: 0x4040_0000,
        entry: TABLES + 16,
        base: FRAME | PS,
    },
    Kind {
        name: "long 1g",
        mode: Mode::Long,
        linear: 0x8000_0000 + FRAME,
        entry: 0,
        base: PS,
    },
    Kind {
        name: "pae 4k",
        mode: Mode::Pae,
        linear: 0x4020_0000,
        entry: TEST_TABLE,
        base: FRAME,
    },
    Kind {
        name: "pae 2m",
        mode: Mode::Pae,
        linear: 0x4040_0000,
        entry: TABLES + 16,
        base: FRAME | PS,
    },
    Kind {
        name: "32 4k",
        mode: Mode::Bits32,
        linear: 0x4020_0000,
        entry: LEGACY_TABLE + 0x800,
        base: FRAME,
    },
    Kind {
        name: "32 4m",
        mode: Mode::Bits32,
        linear: 0x4080_0000,
        entry: LEGACY_DIRECTORY + 0x408,
        base: FRAME | PS,
    },
];

/// Control bits a line is for.
struct Setting {
    name: &'static str,
    wp: bool,
    cr4: u64,
    ac: bool,
    nxe: bool,
}

const SETTINGS: [Setting; 6] = [
    Setting {
        name: "wp",
        wp: true,
        cr4: 0,
        ac: false,
        nxe: true,
    },
    Setting {
        name: "no-wp",
        wp: false,
        cr4: 0,
        ac: false,
        nxe: true,
    },
    Setting {
        name: "smep",
        wp: true,
        cr4: CR4_SMEP,
        ac: false,
        nxe: true,
    },
    Setting {
        name: "smap",
        wp: true,
        cr4: CR4_SMAP,
        ac: false,
        nxe: true,
    },
    Setting {
        name: "smap-ac",
        wp: true,
        cr4: CR4_SMAP,
        ac: true,
        nxe: true,
    },
    Setting {
        name: "no-nxe",
        wp: true,
        cr4: 0,
        ac: false,
        nxe: false,
    },
];

fn put(at: u64, entry: u64) {
    // SAFETY: a page table of ours.
    unsafe { (at as *mut u64).write_volatile(entry) };
}

fn put32(at: u64, entry: u64) {
    // SAFETY: as above.
    unsafe { (at as *mut u32).write_volatile(entry as u32) };
}

fn get(at: u64) -> u64 {
    // SAFETY: as above.
    unsafe { (at as *const u64).read_volatile() }
}

impl Kind {
    fn set(&self, rights: u64) {
        let rights = match self.mode {
            Mode::Bits32 if rights & RESERVED != 0 => rights ^ RESERVED | 1 << 21,
            _ => rights,
        };
        match (self.mode, self.entry) {
            (_, 0) => set_gigabyte(2, self.base | rights),
            (Mode::Bits32, at) => put32(at, self.base | rights),
            (_, at) => put(at, self.base | rights),
        }
        flush();
    }

    /// Accessed and dirty, after what was just run.
    fn used(&self) -> u64 {
        let entry = if self.entry == 0 {
            crate::probe::gigabyte(2)
        } else {
            get(self.entry)
        };
        entry & (A | D)
    }

    fn probe(&self, code: &'static [u8], user: bool, setting: &Setting) -> Seen {
        let (cr0, _, cr4) = control();
        let cr0 = if setting.wp { cr0 | CR0_WP } else { cr0 & !CR0_WP };
        let probe = match self.mode {
            Mode::Long if user => Probe::user(code),
            Mode::Long => Probe::kernel(code),
            Mode::Pae => Probe::legacy(code, user, [cr0 | CR0_PG, PAE_POINTERS, CR4_PAE | setting.cr4]),
            Mode::Bits32 => Probe::legacy(
                code,
                user,
                [cr0 | CR0_PG, LEGACY_DIRECTORY, CR4_PSE | setting.cr4],
            ),
        };
        let flags = if setting.ac && !user { AC } else { 0 };
        let probe = probe.with(RBX, self.linear).with(RAX, 0x0f).flags(flags);
        if self.mode != Mode::Long {
            return probe.run_legacy();
        }
        let before = control();
        set_cr4(cr4 | setting.cr4);
        set_cr0(cr0);
        let seen = probe.run();
        set_cr0(before.0);
        set_cr4(before.2);
        seen
    }
}

/// `ok`, or what came instead.
fn outcome(kind: &Kind, seen: &Seen, fetched: bool) {
    let context = &seen.context;
    let arrived = fetched && context.vector == 6 && context.rip == kind.linear;
    if arrived || (!fetched && seen.done) {
        say!("ok");
    } else if context.vector == 14 {
        say!(Hex(context.error));
        let at = if fetched {
            context.rip == kind.linear
        } else {
            seen.offset == 0
        };
        if context.cr2 != kind.linear || !at {
            say!("(cr2 ", Hex(context.cr2), " rip ", Hex(context.rip), ")");
        }
    } else {
        say!("vector ", context.vector, " at ", Hex(context.rip));
    }
}

fn six(kind: &Kind, setting: &Setting) {
    let accesses: [(&str, &'static [u8]); 3] = if kind.mode == Mode::Long {
        [
            ("r", code!("64", "mov cl, [rbx]")),
            ("w", code!("64", "mov [rbx], al")),
            ("x", code!("64", "jmp rbx")),
        ]
    } else {
        [
            ("r", code!("32", "mov cl, [ebx]")),
            ("w", code!("32", "mov [ebx], al")),
            ("x", code!("32", "jmp ebx")),
        ]
    };
    for (user, prefix) in [(false, " k"), (true, " u")] {
        for (name, code) in accesses {
            say!(prefix, name, "=");
            let seen = kind.probe(code, user, setting);
            outcome(kind, &seen, name == "x");
        }
    }
    say!("\n");
}

fn rights_name(rights: u64) {
    for (bit, set, clear) in [(P, "p", "-"), (W, "w", "-"), (U, "u", "-"), (NX, "-", "x")] {
        say!(if rights & bit != 0 { set } else { clear });
    }
    say!(if rights & RESERVED != 0 { "r" } else { "" });
}

fn prepare() {
    put(TABLES + 8, TEST_TABLE | P | W | U);
    // UD2, for fetches that arrive.
    put(FRAME, 0x0b0f);
    for at in 0..1024 {
        put32(LEGACY_DIRECTORY + 4 * at, 0);
        put32(LEGACY_TABLE + 4 * at, 0);
    }
    for at in 0..4 {
        put32(LEGACY_DIRECTORY + 4 * at, at << 22 | PS | W | P);
    }
    put32(LEGACY_DIRECTORY + 0x400, LEGACY_TABLE | P | W | U);
    put32(LEGACY_TABLE, CODE | P | W | U);
    put32(LEGACY_TABLE + 4, CODE + 0x2000 | P | W | U);
    for at in 0..8 {
        put(PAE_DIRECTORY + 8 * at, at << 21 | PS | W | P);
    }
    for (at, entry) in [(0, PAE_DIRECTORY), (1, TABLES)] {
        put(PAE_POINTERS + 8 * at, entry | P);
    }
    for at in [2, 3] {
        put(PAE_POINTERS + 8 * at, 0);
    }
}

pub fn long() {
    run(|mode| mode == Mode::Long);
}

pub fn legacy() {
    run(|mode| mode != Mode::Long);
}

fn run(wanted: fn(Mode) -> bool) {
    prepare();
    for kind in KINDS.iter().filter(|kind| wanted(kind.mode)) {
        if kind.entry == 0 && !has_gigabyte_pages() {
            say!("paging ", kind.name, ": not offered\n");
            continue;
        }
        for setting in &SETTINGS {
            let efer = rdmsr(EFER);
            wrmsr(
                EFER,
                if setting.nxe {
                    efer | EFER_NXE
                } else {
                    efer & !EFER_NXE
                },
            );
            for rights in RIGHTS {
                let impossible = (kind.mode == Mode::Bits32 && rights & NX != 0)
                    || (kind.base & PS == 0 && rights & RESERVED != 0);
                if impossible {
                    continue;
                }
                say!("paging ", kind.name, " ", setting.name, " ");
                rights_name(rights);
                say!(":");
                kind.set(rights);
                six(kind, setting);
            }
            kind.set(0);
            wrmsr(EFER, efer);
        }
        tracks(kind);
    }
    if wanted(Mode::Long) {
        upper_levels();
    }
}

/// CPUID 8000_0001 EDX bit 26.
fn has_gigabyte_pages() -> bool {
    core::arch::x86_64::__cpuid(0x8000_0001).edx >> 26 & 1 == 1
}

/// Accessed and dirty bits after each access.
fn tracks(kind: &Kind) {
    let (read, write): (&'static [u8], &'static [u8]) = if kind.mode == Mode::Long {
        (code!("64", "mov cl, [rbx]"), code!("64", "mov [rbx], al"))
    } else {
        (code!("32", "mov cl, [ebx]"), code!("32", "mov [ebx], al"))
    };
    for (name, code, rights) in [
        ("read", read, P | W),
        ("write", write, P | W),
        ("refused-write", write, P),
    ] {
        kind.set(rights);
        kind.probe(code, false, &SETTINGS[0]);
        let used = kind.used();
        say!("paging ", kind.name, " ", name, ":");
        say!(
            if used & A != 0 { " accessed" } else { "" },
            if used & D != 0 { " dirty" } else { "" },
            "\n"
        );
    }
    kind.set(0);
}

/// Rights are those of all levels together (section 4.6.1): the directory's entry over the table's.
fn upper_levels() {
    let kind = &KINDS[0];
    let efer = rdmsr(EFER);
    wrmsr(EFER, efer | EFER_NXE);
    for rights in [0, P | W, P | U, P | W | U, P | W | U | NX] {
        kind.set(P | W | U);
        put(TABLES + 8, TEST_TABLE | rights);
        flush();
        say!("paging long 4k under ");
        rights_name(rights);
        say!(":");
        six(kind, &SETTINGS[0]);
    }
    put(TABLES + 8, TEST_TABLE | P | W | U);
    kind.set(0);
    wrmsr(EFER, efer);
    noncanonical();
}

/// A non-canonical address is #GP, or #SS through RSP or RBP, never a page fault (SDM volume 1, section 3.3.7.1).
fn noncanonical() {
    let cases: [(&str, &'static [u8]); 4] = [
        ("read", code!("64", "mov cl, [rbx]")),
        ("stack", code!("64", "lea rsp, [rbx + 16]", "push rax")),
        ("rbp", code!("64", "mov rbp, rbx", "mov cl, [rbp]")),
        ("jump", code!("64", "jmp rbx")),
    ];
    for (name, code) in cases {
        let seen = Probe::user(code).with(RBX, 0x8000_0000_0000).run();
        let context = &seen.context;
        say!(
            "paging noncanonical ",
            name,
            ": vector ",
            context.vector,
            " error ",
            Hex(context.error)
        );
        say!(" at ", Hex(context.rip.wrapping_sub(USER_CODE)), "\n");
    }
}
