//! The I/O APIC against its data sheet, through its registers.

use super::*;

const VECTOR: u32 = 0x51;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const REMOTE_IRR: u32 = 1 << 14;
const SEND_PENDING: u32 = 1 << 12;

impl IoApic {
    fn get(&mut self, index: u8) -> u32 {
        assert_eq!(
            self.mmio_write(Ns(0), IOREGSEL, Width::Dword, index.into()),
            Access::Done(())
        );
        match self.mmio_read(Ns(0), IOWIN, Width::Dword) {
            Access::Done(value) => value as u32,
            other => panic!("read of register {index:#x} gave {other:?}"),
        }
    }

    fn put(&mut self, index: u8, value: u32) {
        assert_eq!(
            self.mmio_write(Ns(0), IOREGSEL, Width::Dword, index.into()),
            Access::Done(())
        );
        assert_eq!(
            self.mmio_write(Ns(0), IOWIN, Width::Dword, value.into()),
            Access::Done(())
        );
    }

    /// Low half of the entry of pin 5.
    fn entry(&mut self) -> u32 {
        self.get(0x1a)
    }

    /// Sends, everything taken.
    fn sent(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        self.send(|message| {
            sent.push(message);
            true
        });
        sent
    }

    /// Sends, everything taken; the vectors.
    fn vectors(&mut self) -> Vec<u8> {
        self.sent().iter().map(|message| message.vector).collect()
    }
}

/// With this low half in the entry of pin 5.
fn pin5(low: u32) -> IoApic {
    let mut ioapic = IoApic::default();
    ioapic.put(0x1a, low);
    ioapic
}

#[test]
fn registers_show_their_reset_value_and_keep_their_writable_bits() {
    // Index, after reset, after writing ones (the data sheet, section 3.2).
    let mut expected = vec![
        (0x00, 0x0000_0000, 0x0f00_0000),
        (0x01, 0x0017_0020, 0x0017_0020),
        (0x02, 0x0000_0000, 0x0000_0000),
        (0x03, 0, 0),
        (0x0f, 0, 0),
        (0x40, 0, 0),
        (0xff, 0, 0),
    ];
    for pin in 0..24 {
        expected.push((0x10 + 2 * pin, 0x0001_0000, 0x0001_afff));
        expected.push((0x11 + 2 * pin, 0x0000_0000, 0xff00_0000));
    }
    for (index, reset, written) in expected {
        let mut ioapic = IoApic::default();
        assert_eq!(ioapic.get(index), reset, "{index:#x} after reset");
        ioapic.put(index, u32::MAX);
        assert_eq!(ioapic.get(index), written, "{index:#x} after writing ones");
        ioapic.reset();
        assert_eq!(ioapic.get(index), reset, "{index:#x} after another reset");
    }
}

#[test]
fn other_addresses_and_widths_are_no_access() {
    let mut ioapic = IoApic::default();
    for (offset, width) in [
        (0x04, Width::Dword),
        (0x10, Width::Byte),
        (0x10, Width::Word),
        (0x10, Width::Qword),
        (0x11, Width::Dword),
        (0x40, Width::Byte),
        (0x00, Width::Word),
        (0xff0, Width::Dword),
    ] {
        assert_eq!(
            ioapic.mmio_write(Ns(0), offset, width, 1),
            Access::Bad,
            "{offset:#x} {width:?}"
        );
        assert_eq!(
            ioapic.mmio_read(Ns(0), offset, width),
            Access::Bad,
            "{offset:#x} {width:?}"
        );
    }
    assert_eq!(
        ioapic.mmio_read(Ns(0), EOI, Width::Dword),
        Access::Bad,
        "write-only"
    );
}

#[test]
fn an_edge_is_one_message() {
    let mut ioapic = pin5(VECTOR);
    ioapic.wire(5, true, true);
    ioapic.wire(5, false, true);
    assert_eq!(ioapic.vectors(), [0x51]);
    assert_eq!(ioapic.vectors(), [0u8; 0]);
    ioapic.wire(5, false, false);
    ioapic.wire(5, true, false);
    assert_eq!(ioapic.vectors(), [0x51], "a pulse between two looks is an edge");
    assert_eq!(ioapic.entry(), VECTOR, "no remote IRR for edges");
}

#[test]
fn an_edge_on_a_masked_pin_is_lost() {
    let mut ioapic = pin5(VECTOR | MASKED);
    ioapic.wire(5, true, true);
    ioapic.put(0x1a, VECTOR);
    assert_eq!(ioapic.vectors(), [0u8; 0]);
    ioapic.wire(5, true, true);
    ioapic.put(0x1a, VECTOR | MASKED);
    ioapic.put(0x1a, VECTOR);
    assert_eq!(ioapic.vectors(), [0u8; 0], "also one that had not been taken");
}

#[test]
fn a_level_is_sent_again_after_each_eoi_while_it_lasts() {
    let mut ioapic = pin5(VECTOR | LEVEL);
    ioapic.wire(5, true, true);
    assert_eq!(ioapic.vectors(), [0x51]);
    assert_eq!(ioapic.entry(), VECTOR | LEVEL | REMOTE_IRR);
    assert_eq!(ioapic.vectors(), [0u8; 0], "remote IRR holds it back");
    ioapic.end_of_interrupt(0x50);
    assert_eq!(ioapic.vectors(), [0u8; 0], "another vector's EOI");
    ioapic.end_of_interrupt(0x51);
    assert_eq!(ioapic.vectors(), [0x51]);
    ioapic.wire(5, false, false);
    assert_eq!(
        ioapic.mmio_write(Ns(0), EOI, Width::Dword, 0x51),
        Access::Done(())
    );
    assert_eq!(ioapic.entry(), VECTOR | LEVEL, "the EOI register works, too");
    assert_eq!(ioapic.vectors(), [0u8; 0]);
}

#[test]
fn a_level_on_a_masked_pin_waits_for_the_unmasking() {
    let mut ioapic = pin5(VECTOR | LEVEL | MASKED);
    ioapic.wire(5, true, true);
    assert_eq!(ioapic.vectors(), [0u8; 0]);
    ioapic.put(0x1a, VECTOR | LEVEL);
    assert_eq!(ioapic.vectors(), [0x51]);
    ioapic.put(0x1a, VECTOR | LEVEL | MASKED);
    assert_eq!(
        ioapic.entry(),
        VECTOR | LEVEL | MASKED | REMOTE_IRR,
        "masking keeps remote IRR"
    );
    ioapic.end_of_interrupt(0x51);
    assert_eq!(ioapic.vectors(), [0u8; 0]);
}

#[test]
fn making_an_entry_edge_triggered_clears_its_remote_irr() {
    let mut ioapic = pin5(VECTOR | LEVEL);
    ioapic.wire(5, true, true);
    ioapic.sent();
    ioapic.put(0x1a, VECTOR | MASKED);
    ioapic.put(0x1a, VECTOR | LEVEL | MASKED);
    assert_eq!(
        ioapic.entry(),
        VECTOR | LEVEL | MASKED,
        "Linux's EOI for chips without EOI register"
    );
}

#[test]
fn a_message_nobody_takes_waits() {
    for entry in [VECTOR, VECTOR | LEVEL] {
        let mut ioapic = pin5(entry);
        ioapic.wire(5, true, true);
        ioapic.send(|_| false);
        assert_eq!(ioapic.entry(), entry | SEND_PENDING);
        assert_eq!(ioapic.vectors(), [0x51]);
        assert_eq!(ioapic.entry() & SEND_PENDING, 0);
    }
}

#[test]
fn an_entry_says_how_and_to_whom() {
    // Low half, high half, message.
    let to = |delivery, level, destination| Message {
        delivery,
        vector: 0x51,
        level,
        destination,
    };
    for (low, high, message) in [
        (
            0x0051,
            0x0000_0000,
            to(Delivery::Fixed, false, Destination::Physical(0)),
        ),
        (
            0x0151,
            0x0300_0000,
            to(Delivery::Lowest, false, Destination::Physical(3)),
        ),
        (
            0x8951,
            0x0300_0000,
            to(Delivery::Lowest, true, Destination::Logical(3)),
        ),
        (
            0x2051,
            0xff00_0000,
            to(Delivery::Fixed, false, Destination::Physical(u32::MAX)),
        ),
        (
            0x0451,
            0x0000_0000,
            to(Delivery::Nmi, false, Destination::Physical(0)),
        ),
        (
            0x8451,
            0x0000_0000,
            to(Delivery::Nmi, false, Destination::Physical(0)),
        ),
        (
            0x0551,
            0x0000_0000,
            to(Delivery::Init, false, Destination::Physical(0)),
        ),
        (
            0x0251,
            0x0000_0000,
            to(Delivery::Nothing, false, Destination::Physical(0)),
        ),
    ] {
        let mut ioapic = IoApic::default();
        ioapic.put(0x1b, high);
        ioapic.put(0x1a, low);
        ioapic.wire(5, true, true);
        assert_eq!(ioapic.sent(), [message], "{high:08x}:{low:08x}");
        assert_eq!(ioapic.sent(), [], "once");
    }
}

#[test]
fn extint_is_a_level_and_no_message() {
    let mut ioapic = pin5(0x0700);
    ioapic.wire(5, true, true);
    assert_eq!(ioapic.sent(), []);
    assert_eq!(ioapic.extint().collect::<Vec<_>>(), [Destination::Physical(0)]);
    ioapic.put(0x1a, 0x0700 | MASKED);
    assert_eq!(ioapic.extint().count(), 0);
    ioapic.put(0x1a, VECTOR);
    assert_eq!(ioapic.sent(), [], "its edge is not kept for a later mode");
}

#[test]
fn a_pin_that_does_not_exist_is_nobodys() {
    let mut ioapic = IoApic::default();
    for pin in [24, 31, 32, 255] {
        ioapic.wire(pin, true, true);
        ioapic.set_level(pin, true);
    }
    assert_eq!(ioapic.sent(), []);
}
