//! A network card's service: frames from its ring to the back end, and the other way.
//!
//! Down: slots are given back before the host is asked to send, so that no worker sends a frame twice. Up: by credit.
//! With none left, frames that wait in a queue of the host are dropped and counted, after a short grace, in bounded
//! batches with pauses between them, so that neither a flood nor a stopped guest costs more than a bounded share of a
//! core; frames a back end makes itself stay with it. The cable's state goes up when it changes, before any frame, and
//! first of all when a worker starts.
//!
//! What must never happen here: a read of a tap that nothing says has a frame, a wake-up missed for that, a frame whose
//! length nobody checked.

use super::ServeError;
use super::service::Service;
use crate::back::Interests;
use crate::back::net::burst::Burst;
use crate::back::net::{FRAME_BYTES, Net, Received, Sent, Waits, Wanted};
use crate::fault::lane::Lane;
use shared::abi::counters::AppCounter;
use shared::msg::fault::{Dir, Point};
use shared::msg::net::{Down, MAX_FRAME, Up};
use shared::ring::RingError;
use std::time::{Duration, Instant};

/// Most frames moved down in one turn.
const DOWN_PER_TURN: usize = 64;
/// Most frames moved up, or dropped, in one turn.
const UP_PER_TURN: usize = 64;
/// How long credit may be missing before frames that wait on the host are stale: a guest that is only slow finds them
/// there.
const GRACE: Duration = Duration::from_millis(20);
/// Time between two batches of stale frames. Credit ends it.
const PAUSE: Duration = Duration::from_millis(5);

/// The service.
pub struct NetService {
    lane: Lane,
    back_end: Box<dyn Net>,
    /// Which card, for the user.
    name: String,
    /// Frames taken from the ring and not yet sent: the first `taken`.
    batch: Vec<Vec<u8>>,
    frame: Vec<u8>,
    /// The cable as the vmm was told.
    link: Option<bool>,
    /// The back end had nothing when last asked, and nothing was heard of it since.
    dry: bool,
    /// There is no credit: stale frames are next dropped then.
    starved: Option<Instant>,
}

impl NetService {
    /// Joins a channel and `back_end`; `name` is the card's.
    pub fn new(lane: impl Into<Lane>, back_end: Box<dyn Net>, name: String) -> Self {
        let lane = lane.into();
        Self {
            batch: (0..DOWN_PER_TURN)
                .map(|_| Vec::with_capacity(lane.payload_max()))
                .collect(),
            frame: vec![0; MAX_FRAME],
            lane,
            back_end,
            name,
            link: None,
            dry: false,
            starved: None,
        }
    }

    fn count(&self, counter: AppCounter, amount: u64) {
        if amount != 0 {
            self.lane.crossing().app_counters().add(counter, amount);
        }
    }

    /// Sends what the guest transmitted; true: there may be more.
    fn down(&mut self) -> Result<bool, ServeError> {
        let (mut frames, mut slots) = (0, 0);
        while let Some(buffer) = self.batch.get_mut(frames).filter(|_| slots < DOWN_PER_TURN) {
            match self.lane.next(buffer) {
                Ok(None) => break,
                Ok(Some(header)) => {
                    if Down::try_from(header.kind) == Ok(Down::Frame) && FRAME_BYTES.contains(&buffer.len()) {
                        frames += 1;
                    } else {
                        self.lane.crossing().count_peer_error();
                    }
                }
                // One slot, given back like a good one.
                Err(RingError::Length { .. }) => {}
                // The ring is broken until its peer mends it.
                Err(_) => break,
            }
            slots += 1;
        }
        // Before they are given back: who dies from here on has lost them, and the next worker counts what is missing.
        self.count(AppCounter::NetTxTaken, frames as u64);
        self.lane.release(slots as u32)?;
        let mut sent = 0;
        let joins = self.back_end.joins();
        let batch = self.batch.get(..frames).unwrap_or_default();
        while let Some(burst) = batch.get(sent..).and_then(|rest| Burst::first(rest, joins)) {
            let frames = burst.frames().len();
            (0..frames).for_each(|_| self.lane.point(Point::TxFrame));
            let fate = match self.back_end.send_burst(&burst) {
                Sent::Out => AppCounter::NetTx,
                Sent::Dropped => AppCounter::NetTxDropped,
            };
            (0..frames).for_each(|_| self.lane.point(Point::TxSent));
            self.count(fate, frames as u64);
            self.count(AppCounter::NetTxBursts, 1);
            sent += frames;
        }
        Ok(slots == DOWN_PER_TURN)
    }

    /// Gives the guest what the host has; true: there may be more.
    fn up(&mut self) -> Result<bool, ServeError> {
        if self.lane.is_stalled(Dir::Up) {
            return Ok(false);
        }
        let mut credit = self.credit()?;
        if credit != 0 && self.tell_link() {
            credit -= 1;
        }
        let more = if self.starved.is_none() {
            self.receive(credit)
        } else {
            if self.back_end.waits() == Waits::OnHost {
                self.drop_stale();
            }
            false
        };
        self.lane.flush()?;
        Ok(more)
    }

    /// Slots that may be filled; with none, a signal is asked for.
    fn credit(&mut self) -> Result<u32, ServeError> {
        let mut credit = self.lane.credit().unwrap_or(0);
        if credit == 0 && matches!(self.lane.want_credit(), Ok(false)) {
            credit = self.lane.credit().unwrap_or(0);
        }
        self.starved = (credit == 0).then(|| self.starved.unwrap_or_else(|| Instant::now() + GRACE));
        Ok(credit)
    }

    /// Tells the vmm of the cable if it has changed. Returns whether that took a slot.
    fn tell_link(&mut self) -> bool {
        let link = self.back_end.link();
        let news = self.link != Some(link);
        if news && self.lane.push(Up::Link as u16, 0, &[&[link.into()]]).is_ok() {
            self.link = Some(link);
        }
        news
    }

    fn receive(&mut self, credit: u32) -> bool {
        let most = UP_PER_TURN.min(credit as usize);
        let (mut frames, mut refused, mut lost) = (0, 0, 0);
        for _ in 0..most {
            if self.dry || self.lane.is_stalled(Dir::Up) {
                break;
            }
            match self.back_end.receive(&mut self.frame) {
                Received::Frame(bytes) => {
                    self.lane.point(Point::RxFrame);
                    let frame = self.frame.get(..bytes).unwrap_or_default();
                    match self.lane.push(Up::Frame as u16, 0, &[frame]) {
                        Ok(()) => frames += 1,
                        // Only where a frame came twice.
                        Err(_) => lost += 1,
                    }
                }
                Received::Dropped => refused += 1,
                Received::Nothing => self.dry = true,
            }
        }
        self.count(AppCounter::NetRx, frames);
        self.count(AppCounter::NetRxRefused, refused);
        self.count(AppCounter::NetRxNoCredit, lost);
        !self.dry
    }

    /// Takes what waits on the host and throws it away, when it is time to.
    fn drop_stale(&mut self) {
        if self.pausing() {
            return;
        }
        let mut frames = 0;
        while !self.dry && frames < UP_PER_TURN as u64 {
            match self.back_end.receive(&mut self.frame) {
                Received::Frame(_) | Received::Dropped => frames += 1,
                Received::Nothing => self.dry = true,
            }
        }
        if frames != 0 {
            self.starved = Some(Instant::now() + PAUSE);
        }
        self.count(AppCounter::NetRxNoCredit, frames);
    }

    fn pausing(&self) -> bool {
        self.starved.is_some_and(|until| Instant::now() < until)
    }
}

impl Service for NetService {
    fn turn(&mut self, ready: bool) -> Result<bool, ServeError> {
        // A descriptor that is ready stays so until it is read: what is not seen now is seen at the next wait.
        if ready || self.back_end.waits() == Waits::Here {
            self.dry = false;
        }
        let mut more = self.down()?;
        more |= self.up()?;
        let counters = self.lane.crossing().app_counters();
        self.back_end.end_turn(counters);
        Ok(more)
    }

    fn interests(&self) -> Interests<'_> {
        let stalled = self.lane.is_stalled(Dir::Up);
        let frames = match self.back_end.waits() {
            _ if stalled => false,
            Waits::Here => self.starved.is_none(),
            Waits::OnHost => self.dry && !self.pausing(),
        };
        let mut interests = self.back_end.interests(Wanted { frames });
        if self.starved.is_some() && !stalled {
            let within = interests.within.map(|within| within.max(PAUSE));
            interests.within = if self.back_end.waits() == Waits::OnHost && !frames {
                Some(PAUSE)
            } else {
                within
            };
        }
        interests
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn lane(&mut self) -> &mut Lane {
        &mut self.lane
    }

    fn trouble(&mut self) -> Option<String> {
        let trouble = self.back_end.trouble()?;
        Some(format!("{}: {trouble}", self.name))
    }
}
