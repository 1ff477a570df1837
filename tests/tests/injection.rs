//! Scripted faults of a configuration file under the real product with a real guest, on the software engine: the guest ends
//! as it does without them.

use tests::product::{GUESTS, Vm};

/// The guest `hello` with these faults; its exit status, what it printed, and the log.
fn hello(faults: &[&str]) -> (i32, String, String) {
    let faults: Vec<String> = faults.iter().map(|fault| format!("\"{fault}\"")).collect();
    let mut vm = Vm::configured(
        "hello",
        &format!(
            "name = \"hello\"\n[machine]\nmemory = \"64M\"\nengine = \"interp\"\n[boot]\nkernel = \"{GUESTS}/hello.elf\"\n\
             [faults]\nseed = 3\ninject = [{}]\n",
            faults.join(", ")
        ),
    );
    let status = vm.end().code().expect("vmapp ends by itself");
    (status, vm.output(), vm.errors())
}

/// Whether `lines` of `output` come in this order, whatever is between them.
fn in_order(output: &str, lines: &str) -> bool {
    let mut rest = output;
    lines.lines().all(|line| match rest.split_once(line) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn a_guest_prints_all_it_has_over_deaths_stalls_and_lost_signals_of_its_io_worker() {
    let (status, plain, _) = hello(&[]);
    assert_eq!(status, 0);
    assert!(plain.contains("tick 10"), "{plain}");
    for (fault, strikes, exact) in [
        (
            "kill at=out-taken count=3",
            "fault 3: kill at out-taken (console)",
            true,
        ),
        ("kill at=turn every=3 count=2", "fault 2: kill at turn", false),
        (
            "kill at=out-written count=2",
            "fault 2: kill at out-written (console)",
            false,
        ),
        ("kill at=attached count=2", "fault 2: kill at attached", true),
        (
            "stop at=out-taken ms=100",
            "fault 1: stop at out-taken (console)",
            true,
        ),
        (
            "stall ms=100 channel=console count=1",
            "fault 1: stall (console down)",
            true,
        ),
        (
            "delay ms=20 channel=console",
            "fault 1: delay (console down)",
            true,
        ),
        ("irq-spurious every=2", "fault 1: irq-spurious (console)", true),
        (
            "duplicate channel=console count=1",
            "fault 1: duplicate (console down)",
            false,
        ),
    ] {
        let (status, output, log) = hello(&[fault]);
        assert_eq!(status, 0, "{fault}: {output}\n{log}");
        assert!(log.contains(strikes), "{fault}: {log}");
        assert!(in_order(&output, &plain), "{fault}: {output}\n{log}");
        assert!(!exact || output == plain, "{fault}: {output}\n{log}");
    }
}

#[test]
fn a_vmm_killed_on_purpose_ends_the_vm_with_status_3() {
    let (status, _, log) = hello(&["vmm-kill"]);
    assert_eq!(status, 3, "{log}");
    assert!(log.contains("fault 1: vmm-kill"), "{log}");
}
