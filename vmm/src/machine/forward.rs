//! `ports = "forward"`: each access to a device's data port makes a synchronous call to vmapp before it completes, as
//! Workstation 2.0 did. The register is answered here all the same; what is paid for is the crossing.
//!
//! Called by the run loop after the access. The vCPU waits for the answer as long as it takes: a vmapp that is gone is a
//! stall until there is another, or until the supervisor ends the machine.

use crate::engine::Op;
use shared::msg::control::{Down, PortAccess};
use shared::ring::PushError;
use std::time::{Duration, Instant};
use vmdriver_shim::channel::{CallError, Channel};
use zerocopy::IntoBytes;

/// How long one look for the answer takes before the supervisor's orders are looked at.
const PATIENCE: Duration = Duration::from_millis(20);

/// The caller.
pub struct Forwarder {
    /// The control channel.
    channel: Channel,
    calls: u64,
}

impl Forwarder {
    /// Calls over the control channel.
    pub fn new(channel: Channel) -> Self {
        Self { channel, calls: 0 }
    }

    /// Tells vmapp of an access and waits for its answer, or until `give_up`. `value` is what was read or written.
    pub fn forward(&mut self, port: u16, bytes: u8, op: Op, value: u64, give_up: impl Fn() -> bool) {
        self.calls += 1;
        let access = PortAccess {
            port,
            width: bytes,
            write: matches!(op, Op::Write(_)).into(),
            value: value as u32,
        };
        if !self.send(&access, &give_up) {
            return;
        }
        loop {
            match self.channel.end_call(self.calls, Instant::now() + PATIENCE) {
                Err(CallError::TimedOut) if !give_up() => {}
                // Answered, given up, or a ring that its peer has broken, which is counted: the guest goes on.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Sends the request; a ring full of calls nobody answered drains with the next worker. False: not sent.
    fn send(&mut self, access: &PortAccess, give_up: &impl Fn() -> bool) -> bool {
        loop {
            match self
                .channel
                .begin_call(Down::Port as u16, self.calls, access.as_bytes())
            {
                Ok(()) => return true,
                Err(CallError::Push(PushError::Full)) if !give_up() => {
                    if self.channel.crossing().sleep(Some(PATIENCE), &[]).is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}
