//! The front end: what reaches the wire, the timers and the rings.

use super::*;
use crate::bus::{Mmio, Resettable};

#[test]
fn memory_and_ports_are_one_window() {
    let mut bench = Bench::started(0, 4);
    let now = bench.now;
    assert_eq!(
        bench.lance.mmio_write(now, 0x12, Width::Word, 88),
        Access::Done(())
    );
    assert_eq!(
        bench.lance.mmio_read(now, 0x10, Width::Word),
        Access::Done(0x1003)
    );
    assert_eq!(bench.word(0x12), 88);
    bench.give_tx(0, &frame(60), WHOLE);
    assert_eq!(
        bench.lance.mmio_write(now, 0x12, Width::Word, 0),
        Access::Done(())
    );
    assert_eq!(
        bench.lance.mmio_write(now, 0x10, Width::Word, 0x48),
        Access::Done(())
    );
    assert_eq!(bench.all_sent(), [frame(60)]);
}

#[test]
fn only_a_demand_reaches_the_host() {
    let mut bench = Bench::started(0, 4);
    bench.give_tx(0, &frame(60), WHOLE);
    for csr in 0..128 {
        bench.csr(csr);
        bench.bcr(csr);
        assert_eq!(bench.out(0x12, Width::Word, 0), Access::Done(()));
    }
    bench.write_csr(0, 0x0040);
    bench.write_csr(3, 0x5f00);
    assert!(bench.all_sent().is_empty());
    bench.demand();
    assert_eq!(bench.all_sent().len(), 1);
}

#[test]
fn the_wire_follows_the_registers_and_a_reset_lets_it_go() {
    let mut bench = Bench::started(0, 4);
    assert!(!bench.irq());
    assert!(bench.arrive(&frame(60)));
    assert!(bench.irq());
    bench.write_csr(3, 0x0400);
    assert!(!bench.irq(), "masked");
    bench.write_csr(3, 0x0000);
    assert!(bench.irq());
    bench.write_csr(0, 0x0400);
    assert!(!bench.irq(), "acknowledged");
    bench.write_csr(0, 0x0040);
    assert!(bench.arrive(&frame(60)));
    assert!(bench.irq());
    bench.lance.reset();
    assert!(!bench.irq());
    assert_eq!(bench.lance.deadline(), None);
    assert_eq!(bench.bcr(4), 0x80c0, "the cable is where it was");
}

#[test]
fn a_stopped_card_wants_no_timer() {
    let mut bench = Bench::new();
    assert_eq!(bench.lance.deadline(), None);
    bench.pass(Ns::SECOND);
    let mut bench = Bench::started(0, 4);
    assert!(bench.lance.deadline().is_some());
    bench.write_csr(0, 0x0004);
    assert_eq!(bench.lance.deadline(), None);
}

#[test]
fn ids_of_frames_are_never_used_twice() {
    let mut bench = Bench::started(0, 4);
    for id in 1..10 {
        bench.give_tx(0, &frame(60), WHOLE);
        bench.demand();
        assert_eq!(bench.sent().map(|(id, _)| id), Some(id));
        bench.lance.reset();
        bench.lance.set_bus_master(true);
        bench.write_bcr(20, 2);
        bench.start();
    }
}
