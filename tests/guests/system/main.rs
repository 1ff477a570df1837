//! What software sees of the processor beyond single instructions' results: faults and their codes, segment loads,
//! privilege changes, interrupts, sensitive instructions, code that changes itself. One line for each case, `group case:
//! what was seen`; nothing is judged here: the host compares with `expected.txt` and engine with engine.
//!
//! With words on the command line only those groups run.
#![no_std]
#![no_main]

mod paging;
mod probe;
mod trampoline;

use rt::cmdline;

const GROUPS: &[(&str, fn())] = &[
    ("paging-long", paging::long),
    ("paging-legacy", paging::legacy),
];

#[unsafe(no_mangle)]
extern "C" fn guest_main() {
    probe::init();
    let all = !GROUPS.iter().any(|(name, _)| cmdline::has(name));
    for (name, run) in GROUPS {
        if all || cmdline::has(name) {
            run();
        }
    }
    rt::say!("end\n");
    rt::check::exit(0);
}
