//! The console channel's service: output from the ring to the back end, input from the back end to the ring.
//!
//! One slot of output is in hand at a time and is given back only when its last byte is out: what the host does not
//! take stays in the ring, the ring fills, and the guest's UART waits. Input is read from the host only when the last
//! of it is in the ring. So memory is bounded by one slot in each direction, and nothing is lost or reordered.

use super::ServeError;
use super::service::Service;
use crate::back::Interests;
use crate::back::console::{Console, Wanted, Wrote};
use crate::fault::lane::Lane;
use shared::abi::counters::AppCounter;
use shared::msg::console::{Down, Up};
use shared::msg::fault::Point;
use shared::ring::{PushError, RingError};
use vmdriver_shim::crossing::CrossingError;

/// Most slots of output written in one turn.
const OUT_PER_TURN: usize = 64;
/// Most slots of input read in one turn.
const IN_PER_TURN: usize = 16;

/// The service.
pub struct ConsoleService {
    lane: Lane,
    back_end: Box<dyn Console>,
    /// The slot in hand, and how much of it is out.
    out: Vec<u8>,
    written: usize,
    /// The host takes no output now.
    blocked: bool,
    /// Read from the host, not yet in the ring.
    input: Vec<u8>,
    pending: usize,
}

impl ConsoleService {
    /// Joins a channel and `back_end`.
    pub fn new(lane: impl Into<Lane>, back_end: Box<dyn Console>) -> Self {
        let lane = lane.into();
        Self {
            input: vec![0; lane.payload_max()],
            lane,
            back_end,
            out: Vec::new(),
            written: 0,
            blocked: false,
            pending: 0,
        }
    }

    /// The back end.
    pub fn back_end(&mut self) -> &mut dyn Console {
        &mut *self.back_end
    }

    fn output(&mut self) -> Result<bool, CrossingError> {
        self.blocked = false;
        for _ in 0..OUT_PER_TURN {
            if self.written == self.out.len() && !self.next_slot()? {
                return Ok(false);
            }
            let rest = self.out.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                continue;
            }
            let counters = self.lane.crossing().app_counters();
            match self.back_end.write(rest) {
                Wrote::Out(count) => {
                    counters.add(AppCounter::ConsoleOut, count as u64);
                    self.written += count;
                }
                Wrote::Dropped(count) => {
                    counters.add(AppCounter::ConsoleDropped, count as u64);
                    self.written += count;
                }
                Wrote::Blocked => {
                    self.blocked = true;
                    return Ok(false);
                }
            }
            if self.written >= self.out.len() {
                self.lane.point(Point::OutWritten);
                self.lane.release(1)?;
            }
        }
        Ok(true)
    }

    /// Takes the next slot in hand. False: there is none. A bad one is given back at once and leaves nothing in hand.
    fn next_slot(&mut self) -> Result<bool, CrossingError> {
        self.written = 0;
        let next = self.lane.next(&mut self.out);
        let good = match next {
            Ok(Some(header)) => Down::try_from(header.kind) == Ok(Down::Output) && !self.out.is_empty(),
            Err(RingError::Length { .. }) => false,
            Ok(None) | Err(_) => {
                self.out.clear();
                return Ok(false);
            }
        };
        if !good {
            if next.is_ok() {
                self.lane.crossing().count_peer_error();
            }
            self.out.clear();
            self.lane.release(1)?;
        } else {
            self.lane.point(Point::OutTaken);
        }
        Ok(true)
    }

    /// `ready`: the host may have input. What was read before goes into the ring all the same.
    fn take_input(&mut self, ready: bool) -> Result<(), CrossingError> {
        for _ in 0..IN_PER_TURN {
            if self.pending == 0 && ready {
                self.pending = self.back_end.read(&mut self.input);
                if self.pending != 0 {
                    self.lane.point(Point::InRead);
                }
            }
            let bytes = self.input.get(..self.pending).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            match self.lane.push(Up::Input as u16, 0, &[bytes]) {
                Ok(()) => {
                    let counters = self.lane.crossing().app_counters();
                    counters.add(AppCounter::ConsoleIn, self.pending as u64);
                    self.pending = 0;
                }
                // Waits for credit, unless some has come meanwhile. A broken ring waits for its peer to mend it.
                Err(PushError::Full) if matches!(self.lane.want_credit(), Ok(false)) => {}
                Err(_) => break,
            }
        }
        self.lane.flush()?;
        Ok(())
    }
}

impl Service for ConsoleService {
    fn turn(&mut self, ready: bool) -> Result<bool, ServeError> {
        // Input that no descriptor tells of is looked for at every turn; else a turn for a frame would cost a read(2).
        let ready = ready || self.interests().within.is_some();
        let more = self.output()?;
        self.take_input(ready)?;
        Ok(more)
    }

    fn interests(&self) -> Interests<'_> {
        self.back_end.interests(Wanted {
            input: self.pending == 0,
            output: self.blocked,
        })
    }

    fn is_drained(&self) -> bool {
        !self.blocked && self.written == self.out.len()
    }

    fn lane(&mut self) -> &mut Lane {
        &mut self.lane
    }

    fn trouble(&mut self) -> Option<String> {
        self.back_end.trouble()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::abi::{ChannelKind, ChannelShape};
    use shared::ring::Side;
    use shared::spec::IoSpec;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;
    use vmdriver_shim::crossing::{Bells, Crossing};
    use vmdriver_shim::memory::SharedMemory;

    /// Has nothing to say, and counts how often it is asked.
    struct Quiet {
        asked: Rc<Cell<u32>>,
        within: Option<Duration>,
    }

    impl Console for Quiet {
        fn write(&mut self, bytes: &[u8]) -> Wrote {
            Wrote::Out(bytes.len())
        }
        fn read(&mut self, _into: &mut [u8]) -> usize {
            self.asked.set(self.asked.get() + 1);
            0
        }
        fn interests(&self, _wanted: Wanted) -> Interests<'_> {
            Interests {
                within: self.within,
                ..Interests::default()
            }
        }
    }

    #[test]
    fn the_host_is_asked_for_input_only_when_it_may_have_some() {
        let shape = |kind| ChannelShape {
            kind,
            down_slots: 4,
            up_slots: 4,
            slot_bytes: 64,
        };
        for (what, within, ready, expected) in [
            ("a turn for something else", None, false, 0),
            ("a descriptor is ready", None, true, 1),
            ("only time tells", Some(Duration::from_millis(1)), false, 1),
        ] {
            let memory =
                SharedMemory::create(&[ChannelKind::Control, ChannelKind::Console].map(shape)).unwrap();
            let app = Crossing::new(Side::App, &memory, Bells::new().unwrap(), IoSpec::default());
            let asked = Rc::new(Cell::new(0));
            let quiet = Quiet {
                asked: Rc::clone(&asked),
                within,
            };
            let mut service = ConsoleService::new(app.channel(1).unwrap(), Box::new(quiet));
            service.turn(ready).unwrap();
            assert_eq!(asked.get(), expected, "{what}");
        }
    }
}
