//! One disk's requests to vmapp and their answers.
//!
//! A command makes requests ahead of their answers, as many as the ring takes and [`MOST_LIVE`] allow. Answers come in
//! the order of requests, so the queue of *live* requests says which is next. When a command ends before its answers
//! are in (an error, a reset) the queue is cleared and nothing else: the slots stay vmapp's until it gives them
//! back, and an answer to an id that is no longer live is dropped. No id is ever used again.
//!
//! A peer's mistake is counted, costs the command it hits a medium error, and never more: what is copied out of a ring
//! has exactly the length that was asked for.

use shared::abi::SlotHeader;
use shared::abi::counters::VmmCounter;
use shared::msg::disk::{Completion, Down, HEADER_BYTES, MAX_SECTORS, Request, SECTOR, Status, Up};
use shared::ring::PushError;
use std::collections::VecDeque;
use vmdriver_shim::crossing::{Channel, CrossingError};
use zerocopy::{FromBytes, IntoBytes};

/// Most requests without an answer: what the rings hold in both directions.
const MOST_LIVE: usize = 8;
/// Most slots without a usable answer passed over in one go; an honest peer leaves a few after a reset. One that
/// sends nothing else gets its next turn with its next signal.
const MOST_DROPPED: u32 = 64;
/// Where the data of a good read begin in a payload.
pub(super) const DATA_AT: usize = size_of::<Completion>();

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is in the ring.
    Yes,
    /// There is no room; a signal comes when there is.
    Later,
    /// A slot cannot carry it: the channel is not one for disks.
    Never,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What vmapp said; never [`Status::Good`].
    pub(super) status: Status,
    /// The first sector that is not surely right.
    pub(super) lba: u64,
}

/// The end of the oldest live request: how many sectors, or what went wrong.
pub(super) type Answer = Result<u32, Fault>;

struct Live {
    id: u64,
    what: Down,
    lba: u64,
    sectors: u32,
}

/// A disk's channel.
pub(super) struct Requests {
    channel: Channel,
    next_id: u64,
    live: VecDeque<Live>,
    most_sectors: u32,
    /// [`Self::complain_of`] has spoken.
    complained: bool,
}

impl Requests {
    pub(super) fn new(channel: Channel) -> Self {
        let fit = channel.payload_max().saturating_sub(HEADER_BYTES) / SECTOR;
        let fit = u32::try_from(fit).map_or(MAX_SECTORS, |fit| fit.clamp(1, MAX_SECTORS));
        Self {
            channel,
            next_id: 1,
            live: VecDeque::with_capacity(MOST_LIVE),
            most_sectors: 1 << fit.ilog2(),
            complained: false,
        }
    }

    /// Number of the channel.
    pub(super) fn number(&self) -> u8 {
        self.channel.number()
    }

    /// Most sectors of one request: a power of two.
    pub(super) fn most_sectors(&self) -> u32 {
        self.most_sectors
    }

    /// Asks for sectors; their data come with the answer.
    pub(super) fn read(&mut self, lba: u64, sectors: u32) -> Sent {
        self.send(Down::Read, lba, sectors, &[])
    }

    /// Sends whole sectors.
    pub(super) fn write(&mut self, lba: u64, data: &[u8]) -> Sent {
        self.send(Down::Write, lba, (data.len() / SECTOR) as u32, data)
    }

    /// Asks that all that was answered be on the medium.
    pub(super) fn flush(&mut self) -> Sent {
        self.send(Down::Flush, 0, 0, &[])
    }

    /// Whether a request has no answer yet.
    pub(super) fn waits(&self) -> bool {
        !self.live.is_empty()
    }

    /// No answer is wanted any more. What vmapp has it may still do; what it has answered is cleared away, lest it wait
    /// for room to answer the rest.
    pub(super) fn abandon(&mut self) {
        self.live.clear();
        let _late = self.answer(&mut Vec::new());
    }

    /// Whether vmapp has slots it has not given back, abandoned ones among them.
    pub(super) fn pending(&mut self) -> bool {
        // An error is counted by the channel, and leaves the slots in flight as they were.
        let _counted = self.channel.credit();
        self.channel.in_flight() > 0
    }

    fn send(&mut self, what: Down, lba: u64, sectors: u32, data: &[u8]) -> Sent {
        if self.live.len() >= MOST_LIVE {
            return Sent::Later;
        }
        let sent = match self.push(what, lba, sectors, data) {
            Err(PushError::Full) if !self.told_of_credit() => self.push(what, lba, sectors, data),
            sent => sent,
        };
        match sent {
            Ok(()) => {}
            Err(PushError::TooLong { .. }) => return Sent::Never,
            Err(PushError::Full | PushError::Ring(_)) => return Sent::Later,
        }
        self.live.push_back(Live {
            id: self.next_id,
            what,
            lba,
            sectors,
        });
        self.next_id += 1;
        self.count(
            match what {
                Down::Read => VmmCounter::DiskReads,
                Down::Write => VmmCounter::DiskWrites,
                Down::Flush => VmmCounter::DiskFlushes,
            },
            1,
        );
        let rung = self.channel.flush();
        self.complain_of(rung.err());
        Sent::Yes
    }

    /// Asks for a signal when there is credit; false if some has come meanwhile, and no signal will come.
    fn told_of_credit(&mut self) -> bool {
        self.channel.want_credit().unwrap_or(true)
    }

    fn push(&mut self, what: Down, lba: u64, sectors: u32, data: &[u8]) -> Result<(), PushError> {
        let request = Request {
            lba,
            sectors,
            reserved: 0,
        };
        let mut slot = self.channel.reserve()?;
        slot.append(request.as_bytes())?;
        slot.append(data)?;
        slot.commit(what as u16, 0, self.next_id);
        Ok(())
    }

    /// The answer to the oldest live request, if it is in; of a good read, `payload` holds the data from [`DATA_AT`] on,
    /// and in all other cases nothing of use. With no live request, clears the ring of what is left in it.
    pub(super) fn answer(&mut self, payload: &mut Vec<u8>) -> Option<Answer> {
        for _ in 0..MOST_DROPPED {
            let answer = match self.channel.next(payload) {
                Ok(None) => return None,
                Ok(Some(header)) => self.judge(header, payload),
                // A bad length, counted: nobody knows whose answer it was, and it will not come again.
                Err(_) if self.channel.held() > 0 => self.spoilt(),
                Err(_) => return None,
            };
            let told = self.channel.release(1);
            self.complain_of(told.err());
            if answer.is_some() {
                return answer;
            }
        }
        None
    }

    /// What a slot says to the oldest live request, if anything.
    fn judge(&mut self, header: SlotHeader, payload: &[u8]) -> Option<Answer> {
        let issued = (1..self.next_id).contains(&header.id);
        if !issued || Up::try_from(header.kind).is_err() {
            self.channel.crossing().count_peer_error();
            return None;
        }
        // Ids ascend: one below the oldest was abandoned, or answered before a new worker answered it again.
        let oldest = self.live.front()?;
        if header.id < oldest.id {
            return None;
        }
        let completion = Completion::read_from_prefix(payload);
        let (Ok((completion, data)), true) = (completion, header.id == oldest.id) else {
            self.channel.crossing().count_peer_error();
            return self.spoilt();
        };
        let status = Status::from_shared(completion.status);
        let expected = match (status, oldest.what) {
            (Status::Good, Down::Read) => oldest.sectors as usize * SECTOR,
            _ => 0,
        };
        let all = completion.sectors == oldest.sectors;
        let fits = match status {
            Status::Good => all,
            _ => completion.sectors < oldest.sectors || oldest.what == Down::Flush,
        };
        if !fits || data.len() != expected {
            self.channel.crossing().count_peer_error();
            return self.spoilt();
        }
        let oldest = self.live.pop_front()?;
        if status == Status::Good {
            self.count(VmmCounter::DiskSectors, oldest.sectors.into());
            return Some(Ok(oldest.sectors));
        }
        Some(Err(Fault {
            status,
            lba: oldest.lba.wrapping_add(completion.sectors.into()),
        }))
    }

    /// The oldest live request will have no answer that can be believed.
    fn spoilt(&mut self) -> Option<Answer> {
        self.live.pop_front().map(|oldest| {
            Err(Fault {
                status: Status::Medium,
                lba: oldest.lba,
            })
        })
    }

    /// A doorbell that cannot be rung: said once; the run loop meets the same trouble when it next sleeps.
    fn complain_of(&mut self, error: Option<CrossingError>) {
        if let Some(error) = error
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(%error, "disk: vmapp cannot be woken");
        }
    }

    /// Counts an error the guest is told of.
    pub(super) fn count_error(&self) {
        self.count(VmmCounter::DiskErrors, 1);
    }

    fn count(&self, counter: VmmCounter, count: u64) {
        self.channel.crossing().vmm_counters().add(counter, count);
    }
}
