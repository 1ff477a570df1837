//! ACPI tables as the firmware left them, and the registers they name (ACPI specification 6.5, chapters 4 and 5).

use crate::io::{bytes, inw, number, outb, outw};
use crate::{check, say, time};

/// PM1 control: SCI enable, sleep enable; sleep type starts at bit 10.
const SCI_EN: u16 = 1;
const SLP_EN: u16 = 1 << 13;
/// PM1 status and enable: the power button.
pub const PWRBTN: u16 = 1 << 8;

/// The root pointer, found by its signature in E0000-FFFFF (section 5.2.5.1).
pub fn rsdp() -> Option<u64> {
    (0xe_0000..0x10_0000)
        .step_by(16)
        .find(|&at| bytes(at, 8) == b"RSD PTR ")
}

/// Whether a table's bytes sum up to 0.
pub fn sums_to_zero(at: u64, len: u64) -> bool {
    bytes(at, len as usize)
        .iter()
        .fold(0u8, |sum, &b| sum.wrapping_add(b))
        == 0
}

/// Whether a table with a standard header is right.
pub fn table_ok(at: u64) -> bool {
    let len = number(at + 4, 4);
    (36..0x1_0000).contains(&len) && sums_to_zero(at, len)
}

/// Tables that the XSDT lists, or the RSDT if there is none.
pub fn tables() -> impl Iterator<Item = u64> {
    let rsdp = rsdp().unwrap_or(0);
    let xsdt = if rsdp != 0 && number(rsdp + 15, 1) >= 2 {
        number(rsdp + 24, 8)
    } else {
        0
    };
    let (root, width) = match (rsdp, xsdt) {
        (0, _) => (0, 8),
        (_, 0) => (number(rsdp + 16, 4), 4),
        _ => (xsdt, 8),
    };
    let count = if root == 0 {
        0
    } else {
        number(root + 4, 4).saturating_sub(36) / width
    };
    (0..count.min(64)).map(move |n| number(root + 36 + n * width, width as usize))
}

/// The table with this signature.
pub fn table(signature: &[u8; 4]) -> Option<u64> {
    tables().find(|&at| bytes(at, 4) == signature)
}

/// What the FADT says.
pub struct Fixed {
    pub dsdt: u64,
    pub sci: u8,
    pub smi_command: u16,
    pub acpi_enable: u8,
    pub pm1_event: u16,
    pub pm1_control: u16,
    pub pm_timer: u16,
}

/// The fixed registers, by the FADT's 32-bit fields (section 5.2.9).
pub fn fixed() -> Option<Fixed> {
    let at = table(b"FACP")?;
    Some(Fixed {
        dsdt: number(at + 40, 4),
        sci: number(at + 46, 2) as u8,
        smi_command: number(at + 48, 4) as u16,
        acpi_enable: number(at + 52, 1) as u8,
        pm1_event: number(at + 56, 4) as u16,
        pm1_control: number(at + 64, 4) as u16,
        pm_timer: number(at + 76, 4) as u16,
    })
}

impl Fixed {
    /// Takes the power hardware over from firmware, where there is any (section 4.8.2.5).
    pub fn enable(&self) {
        if inw(self.pm1_control) & SCI_EN == 0 && self.smi_command != 0 {
            outb(self.smi_command, self.acpi_enable);
            time::wait_until(|| inw(self.pm1_control) & SCI_EN != 0);
        }
    }

    /// SLP_TYPa of `\_S5`, from the package's AML in the DSDT: NameOp, name, PackageOp, length, count, first element.
    pub fn s5(&self) -> Option<u16> {
        let aml = bytes(self.dsdt, number(self.dsdt + 4, 4) as usize);
        let at = aml.windows(5).position(|w| w == b"_S5_\x12")?;
        match *aml.get(at + 7..at + 9)? {
            [0x0a, value] => Some(u16::from(value)),
            [value @ 0..=1, _] => Some(u16::from(value)),
            _ => None,
        }
    }
}

/// Powers the machine off through S5. Says why if it cannot, and halts.
pub fn power_off() -> ! {
    match fixed().and_then(|f| f.s5().map(|s5| (f, s5))) {
        Some((f, s5)) => {
            f.enable();
            outw(f.pm1_control, s5 << 10 | SLP_EN | SCI_EN);
            time::pass(2000);
            say!("guest: still on after S5\n");
        }
        None => say!("guest: no FADT or no _S5_ in the DSDT\n"),
    }
    check::stop()
}
