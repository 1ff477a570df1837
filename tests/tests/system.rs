//! System behaviour of the processor, engine by engine: what the guest `system` saw, line by line, against what the
//! manuals say it must (`guests/system/expected.txt`). Engines that agree with it agree with each other.
//!
//! A KVM that interprets guest kernel code in software is no processor: where such a one is known to be wrong, the case
//! stands in [`DIVERGENCES`], by name and with the reason, and what it does there is not looked at. Any other KVM gets no
//! such leave.

use std::collections::BTreeMap;
use tests::product::{Vm, kvm, skip};

const EXPECTED: &str = include_str!("../guests/system/expected.txt");

/// Cases an interpreting KVM gets wrong: how their lines begin, and what it does.
const DIVERGENCES: &[(&str, &str)] = &[
    ("paging long 4k smap p-ux", "applies SMAP to fetches"),
    ("paging long 4k smap pwux", "applies SMAP to fetches"),
    ("paging long 2m smap p-ux", "applies SMAP to fetches"),
    ("paging long 2m smap pwux", "applies SMAP to fetches"),
    (
        "paging pae ",
        "does not leave long mode for a paged mode of 32 bits",
    ),
    (
        "paging 32 ",
        "does not leave long mode for a paged mode of 32 bits",
    ),
    (
        "segment 64 kernel in no LDT",
        "LTR of an LDT's selector faults without the selector",
    ),
    ("iret kernel to user with ", "loses NT, and IOPL of user code"),
    ("iret user to user with nt and ac", "loses NT"),
    ("iret kernel cs data", "IRET does not check the type of CS"),
    ("iret user cs data", "IRET does not check the type of CS"),
    ("iret kernel ss code", "IRET does not check the type of SS"),
    ("iret user ss code", "IRET does not check the type of SS"),
    ("iret kernel rip not canonical", "IRET does not check RIP"),
    ("iret user rip not canonical", "IRET does not check RIP"),
    (
        "syscall user",
        "SYSCALL does not check EFER.SCE, and pushes flags of its own",
    ),
    ("sysret kernel", "SYSRET does not check EFER.SCE, and loses IOPL"),
    (
        "sensitive 64 pushf under",
        "user code runs as a host process: IF set, IOPL 0",
    ),
    (
        "sensitive 64 popf",
        "user code runs as a host process: IF set, IOPL 0",
    ),
    (
        "sensitive 64 cli under iopl3",
        "user code runs as a host process: IOPL 0",
    ),
    (
        "sensitive 64 sti under iopl3",
        "user code runs as a host process: IOPL 0",
    ),
    (
        "sensitive 64 lar user",
        "user code sees the host's descriptor table",
    ),
    (
        "sensitive 64 lsl user",
        "user code sees the host's descriptor table",
    ),
    (
        "sensitive 64 verr user",
        "user code sees the host's descriptor table",
    ),
    (
        "sensitive 64 verw user",
        "user code sees the host's descriptor table",
    ),
    ("sensitive 64 pop fs:", "user code has the host's selectors"),
    ("sensitive 64 mov from ss", "user code has the host's selectors"),
    (
        "sensitive 64 jmp to user code",
        "user code has the host's selectors",
    ),
    ("sensitive 64 ret to", "user code has the host's selectors"),
    ("sensitive 64 int of the kernel", "INT n of user code is #UD"),
    (
        "interrupt sti",
        "interrupts are late by more than a few instructions",
    ),
    (
        "interrupt popf",
        "interrupts are late by more than a few instructions",
    ),
    (
        "interrupt cr8",
        "interrupts are late by more than a few instructions",
    ),
    (
        "interrupt masked",
        "interrupts are late by more than a few instructions",
    ),
    (
        "interrupt then",
        "interrupts are late by more than a few instructions",
    ),
    ("single step mov ss", "a single step is not held back by MOV SS"),
];

/// The lines of each group, in order, and the groups in theirs.
fn groups(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if let Some(name) = line.strip_prefix("group ") {
            groups.push((name, Vec::new()));
        } else if let Some((_, lines)) = groups.last_mut()
            && !line.is_empty()
            && !line.starts_with('#')
            && line != "end"
        {
            lines.push(line);
        }
    }
    groups
}

/// The case and what was seen.
fn halves(line: &str) -> (&str, &str) {
    line.split_once(':').unwrap_or((line, ""))
}

/// Cases of a group that are not as expected and not excused. A run that broke off is compared as far as it came.
fn wrong(seen: &[&str], expected: &[&str], whole: bool, excused: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut seen_by_case: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (case, what) in seen.iter().map(|line| halves(line)) {
        seen_by_case.entry(case).or_default().push(what);
    }
    let missing: Vec<&str> = seen
        .iter()
        .filter_map(|line| line.strip_suffix(": not offered"))
        .collect();
    let absent = |case: &str| missing.iter().any(|kind| case.starts_with(kind));
    let mut wrong = Vec::new();
    for (case, what) in expected.iter().map(|line| halves(line)) {
        if excused(case) || absent(case) {
            continue;
        }
        match seen_by_case.get_mut(case) {
            Some(found) if found.first() == Some(&what) => drop(found.remove(0)),
            Some(found) if !found.is_empty() => {
                wrong.push(format!("{case}: expected{what}, saw{}", found.remove(0)))
            }
            _ if whole => wrong.push(format!("{case}: not seen")),
            _ => {}
        }
    }
    wrong
}

#[test]
fn the_interpreter_does_as_the_manuals_say_in_every_case() {
    let mut vm = Vm::guest(
        "system",
        "system.elf",
        "",
        "engine = \"interp\"\ndebug_exit = 0xf4",
    );
    let code = vm.end().code();
    assert_eq!(code, Some(10), "{}\n{}", vm.output(), vm.errors());
    let output = vm.output();
    let (seen, expected) = (groups(&output), groups(EXPECTED));
    let names = |groups: &[(&str, Vec<&str>)]| {
        groups
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&seen), names(&expected), "groups");
    let each = || seen.iter().zip(&expected);
    let all: Vec<String> = each()
        .flat_map(|((_, seen), (_, expected))| wrong(seen, expected, true, &|_| false))
        .collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
    for ((group, seen), (_, expected)) in each() {
        assert_eq!(seen.len(), expected.len(), "{group}: cases nobody expects");
    }
}

#[test]
fn kvm_does_as_the_manuals_say_in_every_case_it_can_run() {
    if let Err(why) = kvm() {
        skip("system behaviour on kvm", &why);
        return;
    }
    for (group, expected) in groups(EXPECTED) {
        let machine = "engine = \"kvm\"\ndebug_exit = 0xf4";
        let mut vm = Vm::guest("system-kvm", "system.elf", group, machine);
        let code = vm.end().code();
        let (output, errors) = (vm.output(), vm.errors());
        let interprets = errors.contains("present, but interprets guest kernel code");
        let stopped = errors
            .lines()
            .find(|line| line.contains("KVM could not emulate an instruction"));
        match stopped {
            Some(line) if interprets => skip(&format!("system behaviour, rest of {group} on kvm"), line),
            _ => assert_eq!(code, Some(10), "{group}\n{output}\n{errors}"),
        }
        let mut seen = groups(&output).pop().map_or(Vec::new(), |(_, lines)| lines);
        if stopped.is_some() {
            // The case that stopped it.
            seen.pop();
        }
        let excused = |case: &str| {
            interprets
                && DIVERGENCES
                    .iter()
                    .any(|(name, _)| case.starts_with(name.trim_end_matches(':')))
        };
        let wrong = wrong(&seen, &expected, stopped.is_none(), &excused);
        assert!(wrong.is_empty(), "{group}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn a_case_that_differs_or_is_missing_is_found() {
    let expected = ["a: 1", "b: 2", "c: ok"];
    assert!(wrong(&expected, &expected, true, &|_| false).is_empty());
    assert_eq!(
        wrong(&["a: 1", "b: 3", "c: ok"], &expected, true, &|_| false),
        ["b: expected 2, saw 3"]
    );
    assert_eq!(
        wrong(&["a: 1", "b: 2"], &expected, true, &|_| false),
        ["c: not seen"]
    );
    assert!(wrong(&["a: 1", "b: 2"], &expected, false, &|_| false).is_empty());
    assert!(wrong(&["a: 1", "b: 3", "c: ok"], &expected, true, &|case| case == "b").is_empty());
}
