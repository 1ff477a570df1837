//! Every ring full in both directions, with liveness watched: no direction of any channel may stand still.
//!
//! A short run with each test run; `WORLDSWITCH_MINUTES` names a longer one.

use crate::answers::Disk;
use crate::vmm::Vmm;
use crate::worker::{Worker, who_has_router};
use shared::msg::disk::Down;
use shared::msg::{console, control, net};
use shared::spec::Notify;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long, where nobody says.
const SHORT: Duration = Duration::from_secs(4);
/// The longest any direction may stand still. On a host where everybody waits for a core it is a few milliseconds.
const STILL: Duration = Duration::from_secs(2);

fn how_long() -> Duration {
    let minutes = std::env::var("WORLDSWITCH_MINUTES").ok();
    let minutes: Option<f64> = minutes.and_then(|minutes| minutes.parse().ok());
    minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0))
}

/// What moved, and when it last did.
struct Flow {
    name: &'static str,
    count: u64,
    at: Instant,
    longest: Duration,
}

impl Flow {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            count: 0,
            at: Instant::now(),
            longest: Duration::ZERO,
        }
    }

    fn moved(&mut self, count: u64) {
        let still = self.at.elapsed();
        self.longest = self.longest.max(still);
        assert!(still < STILL, "{} stood still after {}", self.name, self.count);
        if count > 0 {
            self.count += count;
            self.at = Instant::now();
        }
    }
}

#[test]
fn full_rings_both_ways_and_nothing_stands_still() {
    let mut worker = Worker::start();
    let printed = worker.printed();
    let mut typed = worker.typed();
    let typist = std::thread::spawn(move || while typed.write_all(&[b'i'; 512]).is_ok() {});
    let (mut disk, mut frames, mut control) = (worker.disk(), worker.net(), worker.channel(0));
    let mut terminal = worker.console();
    let question = who_has_router();
    let mut flows = [
        "requests",
        "completions",
        "frames out",
        "frames in",
        "output",
        "printed",
        "input",
        "calls",
        "replies",
    ]
    .map(Flow::new);
    let mut payload = Vec::new();
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < how_long() {
        let mut moved = [0u64; 9];
        while disk.ask(
            [Down::Write as u16, Down::Flush as u16][usize::from(disk.id % 8 == 7)],
            request(disk.id),
            data(disk.id),
        ) {
            moved[0] += 1;
        }
        while disk.done().is_some() {
            moved[1] += 1;
        }
        while frames.push(1, 0, &question).is_ok() {
            moved[2] += 1;
        }
        while let Some(_slot) = frames.next(&mut payload).expect("an honest worker") {
            moved[3] += 1;
            frames.release(1).expect("a doorbell");
        }
        while terminal
            .push(console::Down::Output as u16, 0, &[b'o'; 400])
            .is_ok()
        {
            moved[4] += 1;
        }
        moved[5] = printed.try_iter().map(|text| text.len() as u64).sum();
        while let Some(_slot) = terminal.next(&mut payload).expect("an honest worker") {
            moved[6] += 1;
            terminal.release(1).expect("a doorbell");
        }
        while control.push(control::Down::Echo as u16, asked, b"!").is_ok() {
            asked += 1;
            moved[7] += 1;
        }
        while let Some(_slot) = control.next(&mut payload).expect("an honest worker") {
            moved[8] += 1;
            control.release(1).expect("a doorbell");
        }
        for (flow, moved) in flows.iter_mut().zip(moved) {
            flow.moved(moved);
        }
        for channel in [&mut disk.channel, &mut frames, &mut terminal, &mut control] {
            // Full: told when there is room.
            channel.flush().expect("a doorbell");
            channel.want_credit().expect("an honest worker");
        }
        worker.vmm.look();
        let limit = Some(Duration::from_millis(50));
        worker.vmm.sleep(limit, &[]).expect("sleep");
    }
    for flow in &flows {
        println!(
            "{:12} {:9}, longest still {:?}",
            flow.name, flow.count, flow.longest
        );
    }
    worker.lives("full rings");
    drop(printed);
    worker.process.finish("full rings");
    drop(worker);
    typist.join().expect("the pipe is gone");
}

/// The other way round: one guest that has its disk busy and prints of it, one that says back what is typed, and to both
/// frames for a card that nobody has started, which go nowhere and must not stand.
#[test]
fn a_vmm_whose_rings_are_full_lets_nothing_stand_still() {
    for (guest, words) in [("disk.elf", "load"), ("hello.elf", "echo")] {
        let mut vmm = Vmm::start(guest, words, Notify::Bitmap);
        let (mut console, mut disk) = (vmm.console(), Disk::new(&vmm));
        let mut frames = vmm.channel(vmm.spec.net_channel(0));
        let frame = who_has_router();
        console.until(|text| text.contains('\n'), || disk.serve());
        let busy = words == "load";
        let names = if busy {
            ["requests", "output", "frames in"]
        } else {
            ["input", "output", "frames in"]
        };
        let mut flows = names.map(Flow::new);
        let mut payload = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < how_long() / 2 {
            let mut moved = [0u64; 3];
            while let Some((header, request, data)) = disk.take() {
                let answer = disk.do_it(header, request, &data);
                disk.say(header.id, &answer);
                disk.channel.release(1).expect("a doorbell");
                moved[0] += 1;
            }
            while !busy
                && console
                    .channel
                    .push(console::Up::Input as u16, 0, &[b'i'; 64])
                    .is_ok()
            {
                moved[0] += 1;
            }
            while let Some(_slot) = console.channel.next(&mut payload).expect("an honest vmm") {
                console.channel.release(1).expect("a doorbell");
                moved[1] += 1;
            }
            while frames.push(net::Up::Frame as u16, 0, &frame).is_ok() {
                moved[2] += 1;
            }
            for (flow, moved) in flows.iter_mut().zip(moved) {
                flow.moved(moved);
            }
            for channel in [&mut disk.channel, &mut console.channel, &mut frames] {
                channel.flush().expect("a doorbell");
                channel.want_credit().expect("an honest vmm");
            }
            vmm.app.look();
            vmm.app
                .sleep(Some(Duration::from_millis(50)), &[])
                .expect("sleep");
        }
        for flow in &flows {
            println!(
                "{guest}: {:12} {:9}, longest still {:?}",
                flow.name, flow.count, flow.longest
            );
        }
        vmm.lives("full rings");
        vmm.process.stop("full rings");
    }
}

fn request(id: u64) -> shared::msg::disk::Request {
    if id % 8 == 7 {
        return shared::msg::disk::Request::default();
    }
    crate::worker::one(id % crate::vmm::SECTORS)
}

fn data(id: u64) -> &'static [u8] {
    if id % 8 == 7 {
        &[]
    } else {
        &[0x77; crate::worker::SECTOR]
    }
}
