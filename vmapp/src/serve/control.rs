//! The control channel's service: answers echoes and forwarded port accesses.

use super::ServeError;
use super::service::Service;
use crate::back::Interests;
use crate::fault::lane::Lane;
use shared::msg::control::{Down, Up};
use shared::ring::RingError;
use vmdriver_shim::crossing::CrossingError;

/// Most requests served in one turn.
const PER_TURN: usize = 16;

/// The service.
pub struct ControlService {
    lane: Lane,
    payload: Vec<u8>,
}

impl ControlService {
    /// Serves its channel.
    pub fn new(lane: impl Into<Lane>) -> Self {
        Self {
            lane: lane.into(),
            payload: Vec::new(),
        }
    }

    /// Sends the request's payload back.
    fn answer(&mut self, kind: Up, id: u64) -> Result<(), CrossingError> {
        if self.lane.push(kind as u16, id, &[&self.payload]).is_ok() {
            self.lane.flush()?;
        }
        Ok(())
    }
}

impl Service for ControlService {
    /// Serves what is there, a bounded amount; true: there is more. A request is taken only when its answer has room,
    /// so that a vmm that reads no answers gets no further, and costs nothing.
    fn turn(&mut self, _ready: bool) -> Result<bool, ServeError> {
        for _ in 0..PER_TURN {
            match self.lane.credit() {
                Ok(0) if matches!(self.lane.want_credit(), Ok(false)) => {}
                Ok(0) | Err(_) => return Ok(false),
                Ok(_) => {}
            }
            match self.lane.next(&mut self.payload) {
                Ok(None) => {
                    self.lane.flush()?;
                    return Ok(false);
                }
                Ok(Some(header)) => match Down::try_from(header.kind) {
                    Ok(Down::Echo) => self.answer(Up::EchoReply, header.id)?,
                    Ok(Down::Port) => self.answer(Up::PortDone, header.id)?,
                    Err(_) => self.lane.crossing().count_peer_error(),
                },
                // One bad slot, given back like a good one.
                Err(RingError::Length { .. }) => {}
                Err(_) => return Ok(false),
            }
            self.lane.release(1)?;
        }
        Ok(true)
    }

    fn interests(&self) -> Interests<'_> {
        Interests::default()
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn lane(&mut self) -> &mut Lane {
        &mut self.lane
    }
}
