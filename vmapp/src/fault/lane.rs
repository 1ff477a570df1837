//! A channel as the worker's services hold it: the same calls, and the place where messages and signals are spoilt.
//!
//! What crosses is changed here, in the worker: on its way down after the slot is copied out, on its way up before it is
//! published. So nothing here can make the ring itself wrong, and the vmm has no part in it. With nothing armed and nothing
//! under way a call is the channel's own after one load and one branch.
//!
//! What must never happen here: a slot given back before its answer is published (unless the answer is dropped on purpose),
//! a message kept with nobody to wake for it ([`Lane::within`]), or a queue longer than the ring.

use super::arm::{Chance, Dice, Hit};
use super::held::{Held, Message, Passage};
use super::strike::Faults;
use shared::abi::{ChannelKind, SlotHeader};
use shared::msg::fault::{Action, Dir, Part, Point, Target};
use shared::msg::net;
use shared::ring::{PushError, RingError};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmdriver_shim::channel::Channel;
use vmdriver_shim::crossing::{Crossing, CrossingError};

/// Most slots looked at for one that arrives now; the rest are looked at in the next turn.
const PER_LOOK: usize = 256;
/// Bits of a message's header that are corrupted: kind, flags and id.
const HEADER_BITS: u64 = 96;

/// A channel.
pub struct Lane {
    channel: Channel,
    target: Target,
    faults: Arc<Faults>,
    /// Something is under way, or slots are not given back one by one: the long way round, armed or not.
    engaged: bool,
    down: Held,
    up: Held,
    /// For each message in the service's hands, the slots given back with it.
    in_hand: VecDeque<u32>,
    /// Slots to be given back after the next publication.
    settled: u32,
    /// How often a worker that nobody rings looks at its rings.
    unasked: Option<Duration>,
    /// Its doorbell was lost then: the down ring is not looked at.
    deaf: Option<Instant>,
    /// Not served before: down, up.
    stalled: [Option<Instant>; 2],
    /// The service was refused what it will get then.
    look_again: Option<Instant>,
}

/// A channel nothing goes wrong on, for a service by itself.
impl From<Channel> for Lane {
    fn from(channel: Channel) -> Self {
        let target = match channel.kind() {
            ChannelKind::Control => Target::Control,
            ChannelKind::Console => Target::Console,
            ChannelKind::Net => Target::Net(0),
            ChannelKind::Disk => Target::Disk(0),
        };
        Self::new(channel, target, Faults::none(), None)
    }
}

impl Lane {
    /// `channel`, known to users as `target`; `unasked`: how often the worker's loop turns by itself, if it does.
    pub fn new(channel: Channel, target: Target, faults: Arc<Faults>, unasked: Option<Duration>) -> Self {
        let once_at_most = channel.kind() == ChannelKind::Net;
        Self {
            channel,
            target,
            faults,
            engaged: false,
            down: Held::new(once_at_most),
            up: Held::new(false),
            in_hand: VecDeque::new(),
            settled: 0,
            unasked,
            deaf: None,
            stalled: [None; 2],
            look_again: None,
        }
    }

    /// Its device, as users name it.
    pub fn target(&self) -> Target {
        self.target
    }

    /// What is armed.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// The channel's number: its bit.
    pub fn number(&self) -> u8 {
        self.channel.number()
    }

    /// The crossing it belongs to.
    pub fn crossing(&self) -> &Arc<Crossing> {
        self.channel.crossing()
    }

    /// As [`Channel::held`].
    pub fn held(&self) -> u32 {
        self.channel.held()
    }

    /// As [`Channel::payload_max`].
    pub fn payload_max(&self) -> usize {
        self.channel.payload_max()
    }

    /// Passes a point of this channel.
    #[inline]
    pub fn point(&self, point: Point) {
        self.faults.point(point, Some(self.target));
    }

    /// Whether no fault is armed, and none still has an effect.
    #[inline]
    pub fn is_plain(&self) -> bool {
        !self.engaged && !self.faults.is_live()
    }

    /// As [`Channel::credit`]; none while the direction is stalled.
    pub fn credit(&mut self) -> Result<u32, RingError> {
        let credit = self.channel.credit()?;
        if self.is_plain() {
            return Ok(credit);
        }
        if self.is_stalled(Dir::Up) {
            return Ok(0);
        }
        Ok(credit.saturating_sub(u32::try_from(self.up.len()).unwrap_or(u32::MAX)))
    }

    /// As [`Channel::want_credit`]: true also where room comes with time and not with a signal.
    pub fn want_credit(&mut self) -> Result<bool, CrossingError> {
        if self.is_plain() {
            return self.channel.want_credit();
        }
        self.flush()?;
        let wanted = self.channel.want_credit()?;
        Ok(wanted || self.is_stalled(Dir::Up) || !self.up.is_empty())
    }

    /// As [`Channel::push`], the payload in parts.
    #[inline]
    pub fn push(&mut self, kind: u16, id: u64, parts: &[&[u8]]) -> Result<(), PushError> {
        if !self.is_plain() {
            return self.push_spoilt(kind, id, parts.concat());
        }
        let mut slot = self.channel.reserve()?;
        for part in parts {
            slot.append(part)?;
        }
        slot.commit(kind, 0, id);
        Ok(())
    }

    /// As [`Channel::flush`].
    #[inline]
    pub fn flush(&mut self) -> Result<(), CrossingError> {
        if !self.is_plain() {
            return self.flush_spoilt();
        }
        self.channel.flush()?;
        Ok(())
    }

    #[cold]
    fn flush_spoilt(&mut self) -> Result<(), CrossingError> {
        self.pump();
        if self.channel.publish() {
            self.point(Point::Published);
            self.signal()?;
            self.point(Point::Signalled);
        }
        let settled = std::mem::take(&mut self.settled);
        self.give_back(settled)?;
        self.disengage();
        Ok(())
    }

    /// As [`Channel::next`].
    #[inline]
    pub fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<SlotHeader>, RingError> {
        if self.is_plain() {
            return self.channel.next(payload);
        }
        self.next_spoilt(payload)
    }

    #[cold]
    fn next_spoilt(&mut self, payload: &mut Vec<u8>) -> Result<Option<SlotHeader>, RingError> {
        self.engage();
        for _ in 0..PER_LOOK {
            if let Some((message, owed)) = self.down.pop_due(Instant::now()) {
                self.in_hand.push_back(owed);
                let Message {
                    header,
                    payload: bytes,
                } = message?;
                *payload = bytes;
                return Ok(Some(header));
            }
            if self.deaf.is_some() || self.is_stalled(Dir::Down) || !self.pull()? {
                self.wait_for(self.down.due());
                return Ok(None);
            }
        }
        self.wait_for(Some(Instant::now()));
        Ok(None)
    }

    /// As [`Channel::release`], of messages got by [`next`](Self::next). Where a message is an answer, its request is given
    /// back with it.
    #[inline]
    pub fn release(&mut self, count: u32) -> Result<(), CrossingError> {
        if self.is_plain() {
            return self.channel.release(count);
        }
        self.release_spoilt(count)
    }

    #[cold]
    fn release_spoilt(&mut self, count: u32) -> Result<(), CrossingError> {
        self.engage();
        let mut slots = 0_u32;
        for _ in 0..count {
            slots += self.in_hand.pop_front().unwrap_or(0);
        }
        let answers = matches!(self.channel.kind(), ChannelKind::Disk | ChannelKind::Control);
        if !answers || !self.up.owe(slots) {
            self.give_back(slots)?;
        }
        self.disengage();
        Ok(())
    }

    /// At the top of every turn; `rung`: the vmm has set this channel's bit. Moves on what has become due.
    #[inline]
    pub fn begin_turn(&mut self, rung: bool) -> Result<(), CrossingError> {
        self.look_again = None;
        if self.is_plain() {
            return Ok(());
        }
        self.begin_spoilt_turn(rung)
    }

    #[cold]
    fn begin_spoilt_turn(&mut self, rung: bool) -> Result<(), CrossingError> {
        // A bit that came late, its slots long read, is nobody's chance.
        if rung && self.channel.looks_ready() {
            let hits = self.faults.chance(Chance::Rung(self.target));
            if hits.iter().any(|hit| hit.action == Action::DoorbellLost) {
                self.deaf.get_or_insert_with(Instant::now);
                // This may have been the last fault armed, and a plain lane would look.
                self.engage();
            } else {
                self.deaf = None;
            }
        }
        if let (Some(since), Some(unasked)) = (self.deaf, self.unasked) {
            if since.elapsed() < unasked {
                self.wait_for(Some(since + unasked));
            } else {
                self.deaf = None;
            }
        }
        for place in 0..self.stalled.len() {
            if let Some(until) = self.stalled[place] {
                if until <= Instant::now() {
                    self.stalled[place] = None;
                } else {
                    self.wait_for(Some(until));
                }
            }
        }
        self.flush()
    }

    /// When to begin another turn at the latest.
    pub fn within(&self) -> Option<Duration> {
        let at = self.look_again?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Whether a direction is not served now.
    pub fn is_stalled(&self, dir: Dir) -> bool {
        self.engaged && self.stalled[dir as usize].is_some_and(|until| Instant::now() < until)
    }

    /// Whether nothing is kept from the service.
    pub fn is_drained(&self) -> bool {
        self.down.is_empty()
    }

    /// The VM has ended: nothing is kept any longer.
    pub fn let_go(&mut self) {
        let now = Instant::now();
        self.down.let_go(now);
        self.up.let_go(now);
        self.stalled = [None; 2];
        self.deaf = None;
    }

    /// Begins to keep book of slots that are not given back one by one.
    fn engage(&mut self) {
        if !self.engaged {
            self.engaged = true;
            self.in_hand = (0..self.channel.held()).map(|_| 1).collect();
        }
    }

    /// Ends it, if all is as if nothing had been.
    fn disengage(&mut self) {
        let plain = !self.faults.is_live()
            && self.down.is_empty()
            && self.up.is_empty()
            && self.settled == 0
            && self.deaf.is_none()
            && self.stalled == [None; 2]
            && self.in_hand.iter().all(|&slots| slots == 1);
        if plain {
            self.engaged = false;
            self.in_hand.clear();
        }
    }

    fn wait_for(&mut self, at: Option<Instant>) {
        self.look_again = [self.look_again, at].into_iter().flatten().min();
    }

    /// Takes one slot out of the ring. False: there is none.
    fn pull(&mut self) -> Result<bool, RingError> {
        let mut payload = Vec::new();
        let message = match self.channel.next(&mut payload) {
            Ok(None) => return Ok(false),
            Ok(Some(header)) => Message { header, payload },
            Err(error @ RingError::Length { .. }) => {
                self.down.push(Err(error), at_once(), 1);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.point(Point::Taken);
        match self.spoil(message, Dir::Down) {
            Some((message, passage)) => self.down.push(Ok(message), passage, 1),
            None => self.swallow(),
        }
        Ok(true)
    }

    /// A slot whose message is gone goes back with what was before it.
    fn swallow(&mut self) {
        if self.down.owe(1) {
            return;
        }
        match self.in_hand.back_mut() {
            Some(last) => *last += 1,
            None => {
                self.settled += 1;
                self.wait_for(Some(Instant::now()));
            }
        }
    }

    #[cold]
    fn push_spoilt(&mut self, kind: u16, id: u64, payload: Vec<u8>) -> Result<(), PushError> {
        self.engage();
        let (len, max) = (payload.len(), self.channel.payload_max());
        if len > max {
            return Err(PushError::TooLong { len, max });
        }
        if self.credit()? == 0 {
            return Err(PushError::Full);
        }
        let header = SlotHeader {
            len: len as u32,
            kind,
            flags: 0,
            id,
        };
        let message = Message { header, payload };
        // The cable's news are told once: a card that never hears of its cable is no fault of a frame's.
        let told_once = self.channel.kind() == ChannelKind::Net && kind == net::Up::Link as u16;
        if told_once {
            self.up.push(Ok(message), at_once(), 0);
        } else if let Some((message, passage)) = self.spoil(message, Dir::Up) {
            self.up.push(Ok(message), passage, 0);
        }
        self.pump();
        Ok(())
    }

    /// Writes what is due into the up ring.
    fn pump(&mut self) {
        let now = Instant::now();
        while let Some((message, owed)) = self.up.pop_due(now) {
            if let Ok(message) = &message {
                match self.write(message) {
                    Ok(()) => self.point(Point::Pushed),
                    Err(PushError::TooLong { .. }) => {}
                    // More than one came of what had room for one: credit comes with a signal. A broken ring waits for
                    // its peer to mend it.
                    Err(error @ (PushError::Full | PushError::Ring(_))) => {
                        self.up.put_back(Ok(message.clone()), owed, now);
                        if error == PushError::Full && !matches!(self.channel.want_credit(), Ok(true)) {
                            self.wait_for(Some(now));
                        }
                        return;
                    }
                }
            }
            self.settled += owed;
        }
        self.wait_for(self.up.due());
    }

    fn write(&mut self, message: &Message) -> Result<(), PushError> {
        let mut slot = self.channel.reserve()?;
        slot.append(&message.payload)?;
        slot.commit(message.header.kind, message.header.flags, message.header.id);
        Ok(())
    }

    fn give_back(&mut self, slots: u32) -> Result<(), CrossingError> {
        if slots == 0 {
            return Ok(());
        }
        self.point(Point::Releasing);
        let owed = self.channel.give_back(slots);
        self.point(Point::Released);
        if owed {
            self.signal()?;
        }
        Ok(())
    }

    /// Signals the vmm, unless that goes wrong.
    fn signal(&self) -> Result<(), CrossingError> {
        let hits = self.faults.chance(Chance::Signal(self.target));
        if hits.iter().any(|hit| hit.action == Action::IrqLost) {
            return Ok(());
        }
        if hits.iter().any(|hit| hit.action == Action::DoorbellLost) {
            let _never_woken = self.crossing().attention().post(self.number());
            return Ok(());
        }
        self.channel.signal()?;
        Ok(())
    }

    /// What becomes of a message; `None`: it is lost.
    fn spoil(&mut self, mut message: Message, dir: Dir) -> Option<(Message, Passage)> {
        let mut passage = at_once();
        let now = passage.due;
        let mut lost = false;
        for Hit { action, dice } in self.faults.chance(Chance::Message(self.target, dir)) {
            match action {
                Action::Drop => lost = true,
                Action::Delay { ms } => passage.due = passage.due.max(now + millis(ms)),
                Action::Duplicate => passage.twice = true,
                Action::Reorder => passage.swaps = true,
                Action::Corrupt { part, bits } => corrupt(&mut message, part, bits, dice),
                Action::Truncate { to } => {
                    let len = message.payload.len();
                    message.payload.truncate(to.map_or(len / 2, |to| to as usize));
                }
                Action::Stall { ms } => {
                    let until = now + millis(ms);
                    self.stalled[dir as usize] = Some(until);
                    passage.due = passage.due.max(until);
                }
                _ => {}
            }
        }
        message.header.len = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
        let spurious = self.faults.chance(Chance::Crossed(self.target));
        if !spurious.is_empty() {
            // A doorbell that fails shows at the next signal that matters.
            self.channel.signal().ok();
        }
        (!lost).then_some((message, passage))
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

fn at_once() -> Passage {
    Passage {
        due: Instant::now(),
        swaps: false,
        twice: false,
    }
}

/// Flips as many different bits as there are, at most `bits`.
fn corrupt(message: &mut Message, part: Part, bits: u32, mut dice: Dice) {
    let size = match part {
        Part::Payload => message.payload.len() as u64 * 8,
        Part::Header => HEADER_BITS,
    };
    let mut flipped = BTreeSet::new();
    while (flipped.len() as u64) < u64::from(bits).min(size) {
        let mut bit = dice.below(size);
        while !flipped.insert(bit) {
            bit = (bit + 1) % size;
        }
        let SlotHeader { kind, flags, id, .. } = &mut message.header;
        match (part, bit) {
            (Part::Payload, _) => {
                if let Some(byte) = message.payload.get_mut((bit / 8) as usize) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            (Part::Header, 0..16) => *kind ^= 1 << bit,
            (Part::Header, 16..32) => *flags ^= 1 << (bit - 16),
            (Part::Header, _) => *id ^= 1 << (bit - 32),
        }
    }
}
