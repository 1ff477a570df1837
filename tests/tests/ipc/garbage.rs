//! Garbage in every shared word, rings that are plausible and lie, slots rewritten while they are read.

use crate::noise::Noise;
use crate::usage::{for_a_while, peak};
use crate::vmm::Vmm;
use crate::worker::Worker;
use shared::abi::words::{IRQ_BITMAP, PENDING};
use shared::mem::Memory;
use shared::spec::Notify;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long one side is tormented in one way.
const TORMENT: Duration = Duration::from_millis(250);
/// Most a side may grow by meanwhile, in KiB: what it touches for the first time of its guest's memory, and change.
const GROWTH: u64 = 8 << 10;

#[test]
fn garbage_in_every_shared_word_neither_fells_nor_fattens_the_vmm() {
    let guests = [
        ("hello.elf", "flood", Notify::Bitmap),
        ("hello.elf", "echo", Notify::Bitmap),
        ("hello.elf", "spin", Notify::Select),
        ("disk.elf", "load", Notify::Bitmap),
        ("disk.elf", "load", Notify::Select),
    ];
    for (guest, words, notify) in guests {
        let what = format!("{guest} {words}, {notify:?}");
        let mut noise = Noise::new();
        let mut vmm = Vmm::start(guest, words, notify);
        let (mem, layout, before) = (vmm.mem(), vmm.memory.layout().clone(), peak(vmm.pid()));
        for_a_while(TORMENT, || {
            noise.everywhere(&mem);
            vmm.ring();
        });
        for_a_while(TORMENT, || {
            noise.deceive(&mem, &layout);
            mem.store_u64(IRQ_BITMAP, u64::MAX, Relaxed);
            vmm.ring();
        });
        vmm.lives(&what);
        let grown = peak(vmm.pid()) - before;
        assert!(grown < GROWTH, "{what}: grew by {grown} KiB");
        vmm.process.stop(&what);
    }
}

#[test]
fn garbage_in_every_shared_word_neither_fells_nor_fattens_the_worker() {
    let mut noise = Noise::new();
    let mut worker = Worker::start();
    let printed = worker.printed();
    let (mem, layout, before) = (
        worker.mem(),
        worker.means.memory.layout().clone(),
        peak(worker.pid()),
    );
    for_a_while(2 * TORMENT, || {
        noise.everywhere(&mem);
        worker.means.bells.app.ring().expect("a doorbell");
    });
    for_a_while(2 * TORMENT, || {
        noise.deceive(&mem, &layout);
        mem.store_u64(PENDING, u64::MAX, Relaxed);
        worker.means.bells.app.ring().expect("a doorbell");
    });
    worker.lives("garbage");
    let grown = peak(worker.pid()) - before;
    assert!(grown < GROWTH, "grew by {grown} KiB");
    drop(printed);
    worker.process.finish("garbage");
}

/// Does `what` while another thread tears slots.
fn torn(mem: &shared::mem::Mapped, layout: &shared::abi::Layout, what: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut noise = Noise::new();
            while !over.load(Relaxed) {
                noise.tear(mem, layout);
            }
        });
        what();
        over.store(true, Relaxed);
    });
}

#[test]
fn slots_rewritten_while_they_are_read_cost_the_vmm_nothing_but_their_content() {
    let mut vmm = Vmm::start("disk.elf", "load", Notify::Bitmap);
    let (mem, layout, before) = (vmm.mem(), vmm.memory.layout().clone(), peak(vmm.pid()));
    let disk = vmm.spec.disk_channel(0);
    let (mut requests, mut frames, mut console) = (vmm.channel(disk), vmm.channel(disk - 1), vmm.console());
    let mut payload = Vec::new();
    torn(&mem, &layout, || {
        for_a_while(2 * TORMENT, || {
            console.take();
            while let Ok(Some(header)) = requests.next(&mut payload) {
                requests.release(1).expect("a doorbell");
                requests.push(1, header.id, &[0; 8 + 512]).ok();
            }
            while frames.push(1, 0, &[0xff; 60]).is_ok() {}
            console.channel.push(1, 0, b"typed").ok();
            for channel in [&mut requests, &mut frames, &mut console.channel] {
                channel.flush().expect("a doorbell");
            }
            vmm.app.look();
        });
    });
    vmm.lives("torn slots");
    let grown = peak(vmm.pid()) - before;
    assert!(grown < GROWTH, "grew by {grown} KiB");
    vmm.process.stop("torn slots");
}

#[test]
fn slots_rewritten_while_they_are_read_cost_the_worker_nothing_but_their_content() {
    let mut worker = Worker::start();
    let printed = worker.printed();
    let (mem, layout, before) = (
        worker.mem(),
        worker.means.memory.layout().clone(),
        peak(worker.pid()),
    );
    let (mut disk, mut net, mut console) = (worker.disk(), worker.net(), worker.console());
    let mut payload = Vec::new();
    torn(&mem, &layout, || {
        for_a_while(2 * TORMENT, || {
            while disk.write(1, 7) {}
            while disk.channel.next(&mut payload).is_ok_and(|slot| slot.is_some()) {
                disk.channel.release(1).expect("a doorbell");
            }
            while net.push(1, 0, &crate::worker::who_has_router()).is_ok() {}
            while net.next(&mut payload).is_ok_and(|slot| slot.is_some()) {
                net.release(1).expect("a doorbell");
            }
            console.push(1, 0, b"printed").ok();
            for channel in [&mut net, &mut console] {
                channel.flush().expect("a doorbell");
            }
            worker.vmm.look();
        });
    });
    worker.lives("torn slots");
    let grown = peak(worker.pid()) - before;
    assert!(grown < GROWTH, "grew by {grown} KiB");
    // Nobody broke an index: an honest machine is served as before, once what was torn is out of the way.
    let crossing = worker.vmm.clone();
    while disk.channel.in_flight() > 0 {
        crate::worker::wait(&crossing, || {
            disk.channel.credit().expect("an honest worker");
            let next = disk.channel.next(&mut payload).ok().flatten();
            disk.channel.release(1).expect("a doorbell");
            next.map(|_| ()).or((disk.channel.in_flight() == 0).then_some(()))
        });
    }
    disk.works(9);
    drop(printed);
    worker.process.finish("torn slots");
}
