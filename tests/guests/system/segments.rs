//! Loads of every selector register with every kind of selector: null, beyond the table, not present, of the wrong type,
//! with every mix of DPL and RPL, at CPL 0 and 3, in 64-bit and 32-bit code; and accesses beyond limits and types. A line
//! gives the outcome by register: `ok`, or vector and error code. Sources: Intel SDM volume 2, MOV, LLDT, LTR, RET;
//! volume 3, sections 5.2 to 5.8.

use crate::code;
use crate::probe::{CODE, Probe, RAX, RBX, SLOT, TSS32, TSS64, descriptor, set_descriptor};
use crate::show::brief;
use rt::say;

/// Attribute bytes of descriptors, without DPL: present, type.
const DATA_RW: u64 = 0x93;
const DATA_RO: u64 = 0x91;
const EXECUTE_ONLY: u64 = 0x99;
const READABLE: u64 = 0x9b;
const CONFORMING: u64 = 0x9f;
const LDT: u64 = 0x82;
const TSS_AVAILABLE: u64 = 0x89;
const TSS_BUSY: u64 = 0x8b;
const CALL_GATE: u64 = 0x8c;
const PRESENT: u64 = 0x80;

/// Name, attributes, DPL, RPL.
const KINDS: [(&str, u64, u64, u16); 23] = [
    ("data-rw dpl0 rpl0", DATA_RW, 0, 0),
    ("data-rw dpl0 rpl3", DATA_RW, 0, 3),
    ("data-rw dpl3 rpl0", DATA_RW, 3, 0),
    ("data-rw dpl3 rpl3", DATA_RW, 3, 3),
    ("data-rw dpl1 rpl1", DATA_RW, 1, 1),
    ("data-ro dpl0 rpl0", DATA_RO, 0, 0),
    ("data-ro dpl3 rpl3", DATA_RO, 3, 3),
    ("data-rw absent dpl0 rpl0", DATA_RW & !PRESENT, 0, 0),
    ("data-rw absent dpl3 rpl3", DATA_RW & !PRESENT, 3, 3),
    ("execute-only dpl0 rpl0", EXECUTE_ONLY, 0, 0),
    ("execute-only dpl3 rpl3", EXECUTE_ONLY, 3, 3),
    ("readable dpl0 rpl0", READABLE, 0, 0),
    ("readable dpl0 rpl3", READABLE, 0, 3),
    ("readable dpl3 rpl3", READABLE, 3, 3),
    ("readable absent dpl0 rpl0", READABLE & !PRESENT, 0, 0),
    ("conforming dpl0 rpl0", CONFORMING, 0, 0),
    ("conforming dpl0 rpl3", CONFORMING, 0, 3),
    ("conforming dpl3 rpl3", CONFORMING, 3, 3),
    ("ldt dpl0 rpl0", LDT, 0, 0),
    ("ldt absent dpl0 rpl0", LDT & !PRESENT, 0, 0),
    ("tss dpl0 rpl0", TSS_AVAILABLE, 0, 0),
    ("tss-busy dpl0 rpl0", TSS_BUSY, 0, 0),
    ("call-gate dpl0 rpl0", CALL_GATE, 0, 0),
];

/// Selectors that lead to no descriptor of the GDT.
const SELECTORS: [(&str, u16); 6] = [
    ("null 0", 0),
    ("null 3", 3),
    ("beyond the table", 0x1000),
    ("half beyond the table", 0x68),
    ("in no LDT", 0x54),
    ("in no LDT rpl3", 0x57),
];

/// How a register is loaded, with the selector in AX. SS and CS end at once in 64-bit and 32-bit code alike; TR and LDTR
/// are put back by the probe.
type Load = (&'static str, &'static [u8]);

fn loads(long: bool) -> [Load; 8] {
    if long {
        [
            ("es", code!("64", "mov es, eax")),
            (
                "cs",
                code!("64", "lea rbx, [rip + 1f]", "push rax", "push rbx", "retfq", "1:"),
            ),
            ("ss", code!("64", "mov ss, eax")),
            ("ds", code!("64", "mov ds, eax")),
            ("fs", code!("64", "mov fs, eax")),
            ("gs", code!("64", "mov gs, eax")),
            ("ldtr", code!("64", "lldt ax")),
            ("tr", code!("64", "ltr ax")),
        ]
    } else {
        [
            ("es", code!("32", "mov es, eax")),
            ("cs", code!("32", "push eax", "push ebx", ".byte 0xcb")),
            ("ss", code!("32", "mov ss, eax")),
            ("ds", code!("32", "mov ds, eax")),
            ("fs", code!("32", "mov fs, eax")),
            ("gs", code!("32", "mov gs, eax")),
            ("ldtr", code!("32", "lldt ax")),
            ("tr", code!("32", "ltr ax")),
        ]
    }
}

/// Protection without paging.
const PROTECTED: [u64; 3] = [0x11, 0, 0];

/// The widest descriptor with these attributes; code has the size the mode runs.
fn descriptor_of(attributes: u64, dpl: u64, long: bool) -> u64 {
    let system = attributes & 0x10 == 0;
    let code = attributes & 0x18 == 0x18;
    let size = match (code, long) {
        (true, true) => 0xa,
        _ => 0xc,
    };
    let place = match (system, long) {
        // A TSS that serves: the one in use.
        (true, true) => descriptor(TSS64),
        (true, false) => descriptor(TSS32),
        (false, _) => 0xffff | 0xf << 48 | size << 52,
    };
    place & !(0xff << 40) | (attributes | dpl << 5) << 40
}

fn line(long: bool, user: bool, far: bool, name: &str, selector: u16) {
    say!(
        if far { "return " } else { "segment " },
        if long { "64" } else { "32" },
        if user { " user " } else { " kernel " },
        name,
        ":"
    );
    let before = (descriptor(SLOT), descriptor(SLOT + 8));
    for (register, code) in loads(long) {
        if far != (register == "cs") {
            continue;
        }
        set_descriptor(SLOT, before.0);
        set_descriptor(SLOT + 8, before.1);
        let probe = match (long, user) {
            (true, true) => Probe::user(code),
            (true, false) => Probe::kernel(code),
            (false, user) => Probe::legacy(code, user, PROTECTED),
        };
        let probe = probe
            .with(RAX, selector.into())
            .with(RBX, CODE + code.len() as u64);
        let seen = if long { probe.run() } else { probe.run_legacy() };
        say!(" ", register, "=");
        brief(&seen);
        // The processor marks a loaded TSS busy; and every loaded segment accessed, which these are already.
        if register == "tr" && seen.done {
            say!(if descriptor(SLOT) >> 41 & 1 == 1 {
                "+busy"
            } else {
                ""
            });
            crate::probe::reload_task_register();
        }
        if register == "ldtr" && seen.done {
            crate::probe::clear_ldt();
        }
    }
    set_descriptor(SLOT, 0);
    set_descriptor(SLOT + 8, 0);
    say!("\n");
}

fn all(long: bool, far: bool) {
    for user in [false, true] {
        for (name, selector) in SELECTORS {
            line(long, user, far, name, selector);
        }
        for (name, attributes, dpl, rpl) in KINDS {
            set_descriptor(SLOT, descriptor_of(attributes, dpl, long));
            line(long, user, far, name, SLOT | rpl);
        }
    }
}

pub fn long() {
    all(true, false);
}

pub fn legacy() {
    all(false, false);
    limits();
}

/// Far returns are loads of CS.
pub fn long_returns() {
    all(true, true);
}

pub fn legacy_returns() {
    all(false, true);
}

/// Accesses against limits and types: 32-bit user code, the segment in ES or SS.
fn limits() {
    /// A free page.
    const BASE: u64 = 0x50_0000;
    /// Attributes, flags, limit.
    const SEGMENTS: [(&str, u64, u64, u64); 5] = [
        ("rw limit-fff", DATA_RW, 0x4, 0xfff),
        ("ro limit-fff", DATA_RO, 0x4, 0xfff),
        ("down limit-fff", 0x97, 0x4, 0xfff),
        ("down16 limit-fff", 0x97, 0x0, 0xfff),
        ("pages limit-0", DATA_RW, 0xc, 0),
    ];
    let accesses: [(&str, &'static [u8]); 3] = [
        ("read", code!("32", "mov es, eax", "mov ecx, es:[ebx]")),
        ("write", code!("32", "mov es, eax", "mov es:[ebx], ecx")),
        ("stack", code!("32", "mov ss, eax", "mov ecx, ss:[ebx]")),
    ];
    for (name, attributes, flags, limit) in SEGMENTS {
        for offset in [0u64, 0xffc, 0xffd, 0x1000, 0x1_0000, 0xffff_fffe] {
            set_descriptor(
                SLOT,
                limit | BASE << 16 | (attributes | 3 << 5) << 40 | flags << 52,
            );
            say!("limit ", name, " at ", rt::serial::Hex(offset), ":");
            for (access, code) in accesses {
                if access == "stack" && attributes == DATA_RO {
                    continue;
                }
                let probe = Probe::legacy(code, true, PROTECTED);
                let probe = probe.with(RAX, u64::from(SLOT | 3)).with(RBX, offset);
                say!(" ", access, "=");
                brief(&probe.run_legacy());
            }
            say!("\n");
        }
    }
    set_descriptor(SLOT, 0);
}
