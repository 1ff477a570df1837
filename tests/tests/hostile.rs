//! A compromised I/O worker against the real vmm: the test is the supervisor, and in place of the worker it writes
//! garbage into every shared word while a real guest runs. The vmm may be slowed and its guest's console may be
//! nonsense; it must live, stay small, and obey its supervisor.

use shared::abi::{Layout, RingOffsets};
use shared::mem::Memory;
use shared::msg::handover::{FdRole, FromVmm, Outcome, ToVmm};
use shared::spec::{BootSpec, EngineChoice, IoSpec, KernelEntry, MachineSpec, Notify, OnReset};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tests::product::{GUESTS, LIMIT, kvm, program, skip};
use vmdriver_shim::crossing::Bells;
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn::{Child, Death};

/// How long one guest is tormented in each way.
const TORMENT: Duration = Duration::from_millis(400);
/// Most a vmm may grow by meanwhile, in KiB: the guest's own first touches of its memory, and change.
const GROWTH: u64 = 16 << 10;
/// Values that are wrong in their own way, beside the random ones.
const EDGES: [u64; 8] = [
    0,
    1,
    u64::MAX,
    1 << 63,
    0x8000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
    64,
];

/// A vmm whose supervisor and I/O worker are this test.
struct Vmm {
    child: Child,
    socket: Socket,
    memory: SharedMemory,
    bells: Bells,
}

impl Vmm {
    fn start(words: &str, notify: Notify) -> Self {
        let spec = MachineSpec {
            name: "hostile".into(),
            memory_bytes: 64 << 20,
            cpus: 1,
            engine: EngineChoice::Auto,
            boot: BootSpec::Kernel {
                cmdline: format!("hello.elf {words}"),
                initrd: false,
                modules: Vec::new(),
                entry: KernelEntry::Auto,
            },
            on_reset: OnReset::Exit,
            debug_exit: None,
            test_device: false,
            require_jail: false,
            io: IoSpec {
                notify,
                ..IoSpec::default()
            },
            nets: Vec::new(),
            disks: Vec::new(),
        };
        let memory = SharedMemory::create(&spec.channels()).expect("shared memory");
        let bells = Bells::new().expect("doorbells");
        let kernel = File::open(format!("{GUESTS}/hello.elf")).expect("the guest is built");
        let (socket, theirs) = Socket::pair().expect("a socket");
        let no_args: [&str; 0] = [];
        let child = Child::spawn(program("vmm"), no_args, theirs, true).expect("the vmm starts");
        let (roles, fds): (Vec<_>, Vec<_>) = [
            (FdRole::Memory, memory.fd()),
            (FdRole::AppDoorbell, bells.app.as_fd()),
            (FdRole::VmmDoorbell, bells.vmm.as_fd()),
            (FdRole::VmmKick, bells.vmm_kick.as_fd()),
            (FdRole::Kernel, kernel.as_fd()),
        ]
        .into_iter()
        .unzip();
        let start = ToVmm::Start {
            spec: Box::new(spec),
            fds: roles,
        };
        socket.send(&start, &fds).expect("the vmm listens");
        let vmm = Self {
            child,
            socket,
            memory,
            bells,
        };
        let first = vmm.word();
        assert!(matches!(first, FromVmm::Started { .. }), "{first:?}");
        vmm
    }

    /// The next word that is no warning.
    fn word(&self) -> FromVmm {
        loop {
            assert!(self.socket.wait(LIMIT).expect("a socket"), "the vmm says nothing");
            match self.socket.recv().expect("a word") {
                Received::Message(FromVmm::Warning(_), _) | Received::Nothing => {}
                Received::Message(word, _) => return word,
                Received::HungUp => panic!("the vmm hung up"),
            }
        }
    }

    /// Most memory it ever had, in KiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.pid())).expect("alive");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Stores garbage everywhere, and rings all doorbells, for a while.
    fn torment(&self, random: &mut Random) {
        let mem = self.memory.mem();
        let words = self.memory.layout().total() / 8;
        let end = Instant::now() + TORMENT;
        while Instant::now() < end {
            for word in 0..words {
                mem.store_u64(8 * word, random.garbage(), Relaxed);
            }
            // The words before the rings do most: they say who waits and who has work.
            for _ in 0..1000 {
                let word = random.next() as usize % words.min(64);
                mem.store_u64(8 * word, random.garbage(), Relaxed);
            }
            self.bells.vmm.ring().expect("a doorbell");
            self.bells.vmm_kick.ring().expect("a doorbell");
        }
    }

    /// Makes the rings plausible again but for their content: indices near each other, lengths that lie.
    fn deceive(&self, random: &mut Random) {
        let mem = self.memory.mem();
        let layout: &Layout = self.memory.layout();
        let end = Instant::now() + TORMENT;
        while Instant::now() < end {
            for channel in layout.channels() {
                for ring in [channel.down, channel.up] {
                    for slot in 0..ring.slots {
                        mem.store_u64(ring.slot_at(slot), random.garbage(), Relaxed);
                    }
                    for at in [RingOffsets::HEAD, RingOffsets::TAIL] {
                        let at = ring.at + at;
                        let near = mem.load_u32(at, Relaxed).wrapping_add(random.next() as u32 % 3);
                        mem.store_u32(at, near, Relaxed);
                    }
                }
            }
            mem.store_u64(shared::abi::words::IRQ_BITMAP, u64::MAX, Relaxed);
            self.bells.vmm.ring().expect("a doorbell");
            self.bells.vmm_kick.ring().expect("a doorbell");
        }
    }
}

/// xorshift64: the same garbage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn garbage(&mut self) -> u64 {
        match self.next() % 4 {
            0 => EDGES[self.next() as usize % EDGES.len()],
            1 => self.next() % 128,
            _ => self.next(),
        }
    }
}

#[test]
fn garbage_in_every_shared_word_neither_fells_nor_fattens_the_vmm() {
    if let Err(why) = kvm() {
        return skip("a hostile I/O worker against the real vmm", &why);
    }
    for notify in [Notify::Bitmap, Notify::Select] {
        for words in ["forever", "flood", "echo", "spin"] {
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            let mut vmm = Vmm::start(words, notify);
            let before = vmm.peak();
            vmm.torment(&mut random);
            vmm.deceive(&mut random);
            assert_eq!(vmm.child.try_wait(), None, "{words}, {notify:?}: the vmm is gone");
            let grown = vmm.peak() - before;
            assert!(grown < GROWTH, "{words}, {notify:?}: grew by {grown} KiB");
            let asked = Instant::now();
            vmm.socket.send(&ToVmm::Stop, &[]).expect("the vmm listens");
            assert_eq!(
                vmm.word(),
                FromVmm::Ended(Outcome::Stopped),
                "{words}, {notify:?}"
            );
            assert_eq!(vmm.child.wait(), Death::Exited(0), "{words}, {notify:?}");
            assert!(
                asked.elapsed() < Duration::from_secs(2),
                "{words}, {notify:?}: {:?}",
                asked.elapsed()
            );
        }
    }
}
