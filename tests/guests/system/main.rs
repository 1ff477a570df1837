//! What software sees of the processor beyond single instructions' results: faults and their codes, segment loads,
//! privilege changes, interrupts, sensitive instructions, code that changes itself. One line for each case, `group case:
//! what was seen`; nothing is judged here: the host compares with `expected.txt` and engine with engine.
//!
//! With words on the command line only those groups run.
#![no_std]
#![no_main]

mod changing_code;
mod interrupts;
mod paging;
mod probe;
mod segments;
mod sensitive;
mod show;
mod trampoline;
mod transfers;

use rt::cmdline;

const GROUPS: &[(&str, fn())] = &[
    ("paging-long", paging::long),
    ("paging-legacy", paging::legacy),
    ("segments-long", segments::long),
    ("segments-legacy", segments::legacy),
    ("returns-long", segments::long_returns),
    ("returns-legacy", segments::legacy_returns),
    ("gates-long", transfers::gates_long),
    ("gates-legacy", transfers::gates_legacy),
    ("iret", transfers::interrupt_returns),
    ("syscall", transfers::system_calls),
    ("fast-calls", transfers::fast_calls),
    ("sensitive-long", sensitive::long),
    ("sensitive-legacy", sensitive::legacy),
    ("interrupts", interrupts::run),
    ("single-step", interrupts::single_steps),
    ("changing-code", changing_code::run),
];

#[unsafe(no_mangle)]
extern "C" fn guest_main() {
    probe::init();
    let all = !GROUPS.iter().any(|(name, _)| cmdline::has(name));
    for (name, run) in GROUPS {
        if all || cmdline::has(name) {
            rt::say!("group ", *name, "\n");
            run();
        }
    }
    rt::say!("end\n");
    rt::check::exit(0);
}

/// Named by the unwind tables of the precompiled `core`; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
