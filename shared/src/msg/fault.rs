//! Scripted faults: what the supervisor tells the I/O worker to do wrong on purpose, and the numbered points of the
//! protocol where it may be killed or stopped.
//!
//! Plain data, made by vmapp's parser of `vmapp fault` and `[faults]`, kept by the supervisor, struck by the worker. The
//! vmm has no part in it. What must never happen here: a point whose number or name changes, for scripts hold them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Most orders armed at a time.
pub const MAX_ORDERS: usize = 32;
/// Longest time of a delay, a stall, a slow disk or a stop, in milliseconds.
pub const MAX_MS: u32 = 600_000;

/// A channel, by the device it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Synchronous calls.
    Control,
    /// The serial port.
    Console,
    /// Network card n.
    Net(u8),
    /// Disk n.
    Disk(u8),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Console => f.write_str("console"),
            Self::Net(number) => write!(f, "net{number}"),
            Self::Disk(number) => write!(f, "disk{number}"),
        }
    }
}

/// Direction of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dir {
    /// vmm to vmapp.
    Down,
    /// vmapp to vmm.
    Up,
}

impl Dir {
    /// The public name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// Which part of a message is corrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Its bytes.
    Payload,
    /// Kind, flags and id. (Its length is [`Action::Truncate`]'s.)
    Header,
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFault {
    /// The host answers EIO.
    Eio,
    /// The host answers ENOSPC.
    Enospc,
    /// The host stores half of a write and answers ENOSPC for the rest, as a file system does that fills up meanwhile.
    ShortWrite,
    /// The host takes so much longer.
    Slow {
        /// How long, in milliseconds.
        ms: u32,
    },
}

/// What a disk is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskOp {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
}

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A message is lost.
    Drop,
    /// A message arrives later. Order is kept, messages under way overlap.
    Delay {
        /// By so many milliseconds.
        ms: u32,
    },
    /// A message arrives twice.
    Duplicate,
    /// A message changes places with the next.
    Reorder,
    /// Bits of a message are flipped.
    Corrupt {
        /// Where.
        part: Part,
        /// How many, 1 to [`MAX_BITS`].
        bits: u32,
    },
    /// A message loses its end.
    Truncate {
        /// Bytes that remain; `None`: half.
        to: Option<u32>,
    },
    /// From this message on a direction is not served for a time.
    Stall {
        /// How long, in milliseconds.
        ms: u32,
    },
    /// The host's disk fails.
    DiskError {
        /// How.
        error: DiskFault,
        /// At what; `None`: all that can fail so.
        op: Option<DiskOp>,
        /// First and last sector; `None`: all.
        lba: Option<(u64, u64)>,
    },
    /// Down: a pending bit is taken and ignored. Up: the bit is set and no doorbell rung.
    DoorbellLost,
    /// The bit of the IRQ bitmap is not set, and no doorbell rung.
    IrqLost,
    /// The bit is set and nothing published.
    IrqSpurious,
    /// The worker kills itself.
    Kill {
        /// Where.
        at: Point,
    },
    /// The worker stops (SIGSTOP) and is continued.
    Stop {
        /// Where.
        at: Point,
        /// After so many milliseconds.
        ms: u32,
    },
    /// The supervisor kills the vmm.
    VmmKill {
        /// After so many milliseconds.
        after_ms: u32,
    },
}

/// Most bits flipped in one message.
pub const MAX_BITS: u32 = 64;

impl Action {
    /// The public name: a word of `vmapp fault`, a member of the status's `faults`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Delay { .. } => "delay",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Corrupt { .. } => "corrupt",
            Self::Truncate { .. } => "truncate",
            Self::Stall { .. } => "stall",
            Self::DiskError { .. } => "disk-error",
            Self::DoorbellLost => "doorbell-lost",
            Self::IrqLost => "irq-lost",
            Self::IrqSpurious => "irq-spurious",
            Self::Kill { .. } => "kill",
            Self::Stop { .. } => "stop",
            Self::VmmKill { .. } => "vmm-kill",
        }
    }

    /// Whether it is once and over unless told otherwise.
    pub const fn is_once(&self) -> bool {
        matches!(self, Self::Kill { .. } | Self::Stop { .. } | Self::VmmKill { .. })
    }

    /// The point it strikes at.
    pub const fn point(&self) -> Option<Point> {
        match self {
            Self::Kill { at } | Self::Stop { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// Which of the chances is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// Every nth.
    Every(u64),
    /// So many of a million, by the order's own generator.
    Millionths(u32),
}

/// A fault as the user wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What.
    pub action: Action,
    /// Where; `None`: wherever it applies.
    pub channel: Option<Target>,
    /// Which way; `None`: both.
    pub dir: Option<Dir>,
    /// How often.
    pub pace: Pace,
    /// So many chances pass first.
    pub after: u64,
    /// It ends after so many strikes; `None`: see [`limit`](Self::limit).
    pub count: Option<u64>,
    /// Seed of its generator; `None`: the VM's.
    pub seed: Option<u64>,
}

impl Fault {
    /// Strikes after which it ends.
    pub fn limit(&self) -> u64 {
        let unsaid = if self.action.is_once() { 1 } else { u64::MAX };
        self.count.unwrap_or(unsaid)
    }
}

/// A fault that is armed, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Number, counted up over the life of a `vmapp run`.
    pub id: u32,
    /// What, with its seed.
    pub fault: Fault,
    /// Chances there were.
    pub passes: u64,
    /// Of them struck.
    pub struck: u64,
}

impl Order {
    /// Nothing more will come of it.
    pub fn is_spent(&self) -> bool {
        self.struck >= self.fault.limit()
    }
}

/// One or more strikes of one order, as the worker tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injection {
    /// Which order.
    pub order: u32,
    /// The chance that was struck, counted from 1; of several, the last.
    pub pass: u64,
    /// How many.
    pub times: u64,
    /// Where, if at a channel.
    pub channel: Option<Target>,
    /// Which way, if one.
    pub dir: Option<Dir>,
}

/// An order's progress, as the worker tells it beside its [`Injection`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which order.
    pub order: u32,
    /// See [`Order::passes`].
    pub passes: u64,
    /// See [`Order::struck`].
    pub struck: u64,
}

/// What a [`Point`] belongs to: which channels may be named for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The worker as a whole: none.
    Worker,
    /// Every channel.
    Channel,
    /// Network cards.
    Net,
    /// Disks.
    Disk,
    /// The console.
    Console,
}

impl Scope {
    /// Whether `target` may be named.
    pub fn has(self, target: Target) -> bool {
        match self {
            Self::Worker => false,
            Self::Channel => true,
            Self::Net => matches!(target, Target::Net(_)),
            Self::Disk => matches!(target, Target::Disk(_)),
            Self::Console => target == Target::Console,
        }
    }
}

/// What is known of a point, for people.
#[derive(Clone, Copy, Debug)]
pub struct PointFacts {
    /// Number, in the order of the protocol with gaps.
    pub number: u8,
    /// Name.
    pub name: &'static str,
    /// What it belongs to.
    pub scope: Scope,
    /// Where it is.
    pub place: &'static str,
    /// What a kill there leaves.
    pub leaves: &'static str,
    /// What the guest should see of a kill there.
    pub guest: &'static str,
}

macro_rules! points {
    ($($variant:ident = $number:literal $name:literal $scope:ident
        $place:literal, $leaves:literal, $guest:literal;)*) => {
        /// A numbered point of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[repr(u8)]
        pub enum Point { $(#[doc = $place] $variant = $number,)* }

        impl Point {
            /// Every point, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What is known of it.
            pub const fn facts(self) -> PointFacts {
                match self { $(Self::$variant => PointFacts {
                    number: $number,
                    name: $name,
                    scope: Scope::$scope,
                    place: $place,
                    leaves: $leaves,
                    guest: $guest,
                },)* }
            }
        }
    };
}

points! {
    Attached = 1 "attached" Worker
        "everything handed over is taken, before Ready is said",
        "the rings as the worker before left them",
        "a longer pause; the next worker starts from the same rings";
    Ready = 2 "ready" Worker
        "Ready said, before the first look at a ring",
        "the rings as the worker before left them",
        "a longer pause; the next worker starts from the same rings";
    Turn = 3 "turn" Worker
        "top of the wait loop",
        "requests in the rings, perhaps some with a disk's thread",
        "a pause; disk requests in hand are done again";
    Sleep = 4 "sleep" Worker
        "about to sleep",
        "nothing to do, perhaps requests with a disk's thread",
        "a pause at its next request";
    Woken = 5 "woken" Worker
        "back from sleep",
        "work that was rung for and not looked at",
        "a pause; the next worker looks at every ring";
    Taken = 10 "taken" Channel
        "a slot was copied out of a down ring",
        "the slot, still in the ring: the next worker takes it again",
        "a pause; nothing lost: nothing was done with it yet";
    Releasing = 11 "releasing" Channel
        "before slots are given back",
        "slots whose work is done (disk, console) or not begun (net), still in the ring",
        "disk: done and answered twice, the second answer passed over; net: sent by the next worker; console: the slot's output twice";
    Released = 12 "released" Channel
        "slots given back, the credit for them not signalled",
        "a vmm that may wait for credit: the next worker's start tells it",
        "net: the frames of the batch are lost, and counted as possibly lost; else a pause";
    Pushed = 20 "pushed" Channel
        "a slot of an up ring is written, not published",
        "a slot nobody sees, overwritten by the next worker",
        "disk: done again; net: the received frame is lost; console: the input is lost";
    Published = 21 "published" Channel
        "slots published, the vmm not signalled",
        "completions and frames the vmm has not been told of: the next worker's start tells it",
        "a pause; disk: answered twice, the second answer passed over";
    Signalled = 22 "signalled" Channel
        "bit set, doorbell rung",
        "a completion in the up ring and its request still in the down ring",
        "disk: answered twice, the second answer passed over; else nothing";
    TxFrame = 30 "tx-frame" Net
        "before a frame is given to the host",
        "a frame out of the ring and not sent",
        "this frame and the rest of its batch are lost, and counted as possibly lost";
    TxSent = 31 "tx-sent" Net
        "after a frame was given to the host",
        "a frame sent and not counted so",
        "the rest of its batch is lost; this one is counted as possibly lost though it is out";
    RxFrame = 32 "rx-frame" Net
        "a frame was read from the host, and is not in the ring",
        "a frame in nobody's hands",
        "a lost frame, which TCP sends again";
    DiskAsked = 40 "disk-asked" Disk
        "a request was checked and passed to the disk's thread",
        "a request that may be begun, its slot in the ring",
        "a pause; done by the next worker";
    DiskBegun = 41 "disk-begun" Disk
        "the thread is about to do a read or write on the host",
        "a request not done, its slot in the ring",
        "a pause; done by the next worker";
    DiskHalf = 42 "disk-half" Disk
        "half of a write is written (of one sector: nothing yet)",
        "a write torn on the host, its slot in the ring",
        "a pause; written again in full before it is answered";
    DiskDone = 43 "disk-done" Disk
        "a read or write is done on the host, not answered",
        "a request done, its slot in the ring",
        "a pause; done again, to the same effect";
    FlushBegun = 44 "flush-begun" Disk
        "before fdatasync",
        "writes answered and perhaps not on the medium, the flush in the ring",
        "a pause; the flush is done by the next worker before it is answered";
    FlushDone = 45 "flush-done" Disk
        "after fdatasync, not answered",
        "everything on the medium, the flush in the ring",
        "a pause; flushed again";
    OutTaken = 50 "out-taken" Console
        "console bytes taken from the ring, not written to the host",
        "the slot, still in the ring",
        "a pause; no byte lost";
    OutWritten = 51 "out-written" Console
        "console bytes written to the host, their slot not given back",
        "the slot, still in the ring",
        "a pause; the host sees the slot's bytes twice";
    InRead = 52 "in-read" Console
        "input read from the host, not in the ring",
        "input in nobody's hands",
        "lost input: at most what one read took";
}

impl Point {
    /// The point of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|&point| point as u8 == number)
    }

    /// Its public name.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_told_apart_by_number_and_by_name() {
        for (index, &point) in Point::ALL.iter().enumerate() {
            let facts = point.facts();
            assert_eq!(Point::from_number(facts.number), Some(point));
            assert_eq!(facts.number, point as u8);
            for earlier in &Point::ALL[..index] {
                assert!(earlier.facts().number < facts.number, "{point:?}");
                assert_ne!(earlier.name(), facts.name);
            }
            assert!(
                !facts.name.bytes().all(|byte| byte.is_ascii_digit()),
                "a name is no number"
            );
        }
        assert_eq!(Point::from_number(0), None);
    }
}
