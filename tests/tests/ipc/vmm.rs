//! A real vmm whose supervisor and I/O worker are this test.

use crate::usage;
use serde::de::DeserializeOwned;
use shared::abi::counters::VmmCounter;
use shared::abi::words::IRQ_BITMAP;
use shared::mem::{Mapped, Memory};
use shared::msg::handover::{FdRole, FromVmm, Outcome, ToVmm};
use shared::ring::Side;
use shared::spec::{
    BootSpec, CONSOLE_CHANNEL, DiskSpec, EngineChoice, IoSpec, KernelEntry, MachineSpec, NetSpec, Notify,
    OnReset,
};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};
use tests::product::{GUESTS, LIMIT, program};
use vmdriver_shim::counters::Counters;
use vmdriver_shim::crossing::{Bells, Channel, Crossing};
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::memory::SharedMemory;
use vmdriver_shim::spawn::{Child, Death};

/// How long a vmm may take to obey.
const OBEYS: Duration = Duration::from_secs(2);
/// Sectors of the disk.
pub const SECTORS: u64 = 64;

/// One card and one disk; a guest of this tree and its words.
pub fn spec(words: &str, notify: Notify) -> MachineSpec {
    MachineSpec {
        name: "hostile".into(),
        memory_bytes: 16 << 20,
        cpus: 1,
        engine: EngineChoice::Interp,
        boot: BootSpec::Kernel {
            cmdline: format!("guest {words}"),
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
        nets: vec![NetSpec {
            mac: [2, 0, 0, 0, 0, 1],
        }],
        disks: vec![DiskSpec {
            sectors: SECTORS,
            read_only: false,
            serial: "1".into(),
        }],
    }
}

/// The next word of either worker that is no warning; `None`: it hung up.
pub fn heard<T: DeserializeOwned>(socket: &Socket, is_warning: impl Fn(&T) -> bool) -> Option<T> {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < LIMIT, "the worker says nothing");
        socket.wait(Duration::from_secs(1)).expect("a socket");
        match socket.recv().expect("a word") {
            Received::Message(word, _) if !is_warning(&word) => return Some(word),
            Received::Message(..) | Received::Nothing => {}
            Received::HungUp => return None,
        }
    }
}

/// What a supervisor holds of a vmm that it has not yet told anything.
pub struct Spawned {
    pub child: Child,
    pub socket: Socket,
}

impl Spawned {
    pub fn new() -> Self {
        let (socket, theirs) = Socket::pair().expect("a socket");
        let no_args: [&str; 0] = [];
        let child = Child::spawn(program("vmm"), no_args, theirs, Stdio::inherit()).expect("the vmm starts");
        Self { child, socket }
    }

    /// The next word that is no warning; `None`: it hung up.
    pub fn word(&self) -> Option<FromVmm> {
        heard(&self.socket, |word| matches!(word, FromVmm::Warning(_)))
    }

    /// Asks it to stop, which it does at once.
    pub fn stop(&mut self, what: &str) {
        let asked = Instant::now();
        self.socket.send(&ToVmm::Stop, &[]).expect("the vmm listens");
        assert_eq!(self.word(), Some(FromVmm::Ended(Outcome::Stopped)), "{what}");
        assert_eq!(self.child.wait(), Death::Exited(0), "{what}");
        assert!(asked.elapsed() < OBEYS, "{what}: {:?}", asked.elapsed());
    }
}

/// A vmm that runs a guest.
pub struct Vmm {
    pub process: Spawned,
    pub memory: SharedMemory,
    pub bells: Bells,
    pub spec: MachineSpec,
    /// The I/O worker's end, for tests that have one.
    pub app: Arc<Crossing>,
}

impl Vmm {
    pub fn start(guest: &str, words: &str, notify: Notify) -> Self {
        let spec = spec(words, notify);
        let memory = SharedMemory::create(&spec.channels()).expect("shared memory");
        let bells = Bells::new().expect("doorbells");
        let kernel = File::open(format!("{GUESTS}/{guest}")).expect("the guest is built");
        let process = Spawned::new();
        let (roles, fds): (Vec<FdRole>, Vec<BorrowedFd>) = [
            (FdRole::Memory, memory.fd()),
            (FdRole::AppDoorbell, bells.app.as_fd()),
            (FdRole::VmmDoorbell, bells.vmm.as_fd()),
            (FdRole::VmmKick, bells.vmm_kick.as_fd()),
            (FdRole::Kernel, kernel.as_fd()),
        ]
        .into_iter()
        .unzip();
        let start = ToVmm::Start {
            spec: Box::new(spec.clone()),
            fds: roles,
        };
        process.socket.send(&start, &fds).expect("the vmm listens");
        let first = process.word();
        assert!(matches!(first, Some(FromVmm::Started { .. })), "{first:?}");
        let app = Crossing::new(
            Side::App,
            &memory,
            bells.try_clone().expect("descriptors"),
            spec.io,
        );
        Self {
            process,
            memory,
            bells,
            spec,
            app,
        }
    }

    pub fn mem(&self) -> Mapped {
        self.memory.mem()
    }

    pub fn pid(&self) -> u32 {
        self.process.child.pid()
    }

    /// Fails if it is gone.
    pub fn lives(&mut self, what: &str) {
        assert_eq!(self.process.child.try_wait(), None, "{what}: the vmm is gone");
    }

    pub fn channel(&self, number: u8) -> Channel {
        self.app.channel(number).expect("a channel of the layout")
    }

    pub fn counter(&self, counter: VmmCounter) -> u64 {
        Counters::new(self.mem()).get(counter)
    }

    /// Rings everything.
    pub fn ring(&self) {
        self.bells.vmm.ring().expect("a doorbell");
        self.bells.vmm_kick.ring().expect("a doorbell");
    }

    /// Guest instructions per second of the vmm's own processor time, while `meanwhile` runs.
    pub fn speed(&self, meanwhile: impl FnOnce()) -> f64 {
        let (before, cpu) = (self.instructions(), usage::cpu(self.pid()));
        meanwhile();
        let ran = self.instructions() - before;
        let took = usage::cpu(self.pid()) - cpu;
        ran as f64 / took.as_secs_f64()
    }

    /// Guest instructions so far: one look makes the vmm bring the number up to date.
    fn instructions(&self) -> u64 {
        let stale = self.counter(VmmCounter::Instructions);
        let begun = Instant::now();
        loop {
            self.mem().fetch_or_u64(IRQ_BITMAP, 1, Release);
            let fresh = self.counter(VmmCounter::Instructions);
            if fresh != stale {
                return fresh;
            }
            assert!(begun.elapsed() < LIMIT, "the guest stands still");
            std::thread::yield_now();
        }
    }

    /// An honest console: what the guest prints, until `enough` of it.
    pub fn console(&self) -> Console {
        Console {
            channel: self.channel(CONSOLE_CHANNEL),
            text: String::new(),
        }
    }
}

/// The guest's output.
pub struct Console {
    pub channel: Channel,
    pub text: String,
}

impl Console {
    /// Takes what is there.
    pub fn take(&mut self) {
        let mut payload = Vec::new();
        while let Ok(Some(_)) = self.channel.next(&mut payload) {
            self.text.push_str(&String::from_utf8_lossy(&payload));
            self.channel.release(1).expect("a doorbell");
        }
    }

    /// Waits for `enough`, with `meanwhile` done between two looks.
    pub fn until(&mut self, enough: impl Fn(&str) -> bool, mut meanwhile: impl FnMut()) {
        let begun = Instant::now();
        loop {
            self.take();
            if enough(&self.text) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "only this:\n{}", self.text);
            meanwhile();
            self.channel.crossing().look();
            self.channel
                .crossing()
                .sleep(Some(Duration::from_millis(1)), &[])
                .expect("sleep");
        }
    }
}

/// Lets the flag of the open file that both hold go.
pub fn clear_nonblock(bell: &impl AsFd) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(bell, FcntlArg::F_SETFL(OFlag::empty())).expect("a flag");
}

/// All of a channel's IRQ bits.
pub fn all_bits(mem: &Mapped) {
    mem.store_u64(IRQ_BITMAP, u64::MAX, Relaxed);
}
