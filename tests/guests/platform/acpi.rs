//! ACPI tables: found, summed, and describing what is there (ACPI specification 6.5, chapter 5).

use rt::io::{bytes, number};
use rt::{acpi, apic, check, check::equal};

/// MADT: entries from offset 44; types of this guest's interest.
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const OVERRIDE: u8 = 2;

pub fn run() {
    let Some(rsdp) = acpi::rsdp() else {
        check!("acpi: there is a root pointer", false);
        return;
    };
    check!(
        "acpi: the root pointer's first 20 bytes sum to 0",
        acpi::sums_to_zero(rsdp, 20)
    );
    let extended = number(rsdp + 15, 1) < 2 || acpi::sums_to_zero(rsdp, number(rsdp + 20, 4));
    check!("acpi: the whole root pointer sums to 0", extended);
    check!(
        "acpi: every table sums to 0",
        acpi::tables().count() > 0 && acpi::tables().all(acpi::table_ok)
    );
    fixed();
    madt();
}

fn fixed() {
    let Some(fixed) = acpi::fixed() else {
        check!("acpi: there is a FADT", false);
        return;
    };
    check!(
        "acpi: the DSDT sums to 0",
        bytes(fixed.dsdt, 4) == b"DSDT" && acpi::table_ok(fixed.dsdt)
    );
    check!("acpi: the DSDT has _S5_", fixed.s5().is_some());
    equal("acpi: SCI is IRQ 9", fixed.sci.into(), 9);
    check!(
        "acpi: PM1 event, control and timer have ports",
        fixed.pm1_event != 0 && fixed.pm1_control != 0 && fixed.pm_timer != 0
    );
    fixed.enable();
    equal(
        "acpi: SCI_EN is set",
        (rt::io::inw(fixed.pm1_control) & 1).into(),
        1,
    );
    let enable = fixed.pm1_event + 2;
    rt::io::outw(enable, acpi::PWRBTN);
    equal(
        "acpi: PM1 enable reads back",
        rt::io::inw(enable).into(),
        acpi::PWRBTN.into(),
    );
    rt::io::outw(enable, 0);
}

/// Calls `each` with every entry of the MADT of a type: address and length.
fn entries(madt: u64, kind: u8, mut each: impl FnMut(u64, u64)) {
    let end = madt + number(madt + 4, 4);
    let mut at = madt + 44;
    while at + 2 <= end {
        let len = number(at + 1, 1);
        if len < 2 {
            break;
        }
        if number(at, 1) == u64::from(kind) {
            each(at, len);
        }
        at += len;
    }
}

fn madt() {
    let Some(madt) = acpi::table(b"APIC") else {
        check!("acpi: there is a MADT", false);
        return;
    };
    equal(
        "acpi: the MADT names the local APICs' address",
        number(madt + 36, 4),
        0xfee0_0000,
    );
    let (mut cpus, mut ours) = (0, false);
    entries(madt, LOCAL_APIC, |at, _| {
        cpus += number(at + 4, 4) & 1;
        ours |= number(at + 3, 1) == u64::from(apic::get(apic::ID) >> 24);
    });
    equal("acpi: one CPU is enabled in the MADT", cpus, 1);
    check!("acpi: this CPU is in the MADT", ours);
    let (mut address, mut base) = (0, u64::MAX);
    entries(madt, IO_APIC, |at, _| {
        (address, base) = (number(at + 4, 4), number(at + 8, 4))
    });
    equal("acpi: the I/O APIC's address", address, 0xfec0_0000);
    equal("acpi: its first interrupt", base, 0);
    let mut timer = 0;
    entries(madt, OVERRIDE, |at, _| {
        if number(at + 3, 1) == 0 {
            timer = number(at + 4, 4);
        }
    });
    equal("acpi: IRQ 0 goes to interrupt 2", timer, 2);
}
