//! A back end whose frames, cable and errors are the test's to plan.

use nix::poll::PollFlags;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use vmapp::back::net::{Net, Received, Sent, Waits, Wanted};
use vmapp::back::{Interest, Interests};

/// What the back end has and does.
pub struct Plan {
    pub waits: Waits,
    pub link: bool,
    pub accepts: bool,
    /// Frames for the guest; `None` is one that cannot be given.
    pub frames: VecDeque<Option<Vec<u8>>>,
    /// Frames of the guest.
    pub sent: Vec<Vec<u8>>,
    /// How often it was asked for a frame.
    pub asked: usize,
    /// Called at each frame sent.
    pub at_send: Option<Box<dyn FnMut() + Send>>,
    pub trouble: Option<String>,
}

/// The back end; its plan is the test's too.
#[derive(Clone)]
pub struct Planned {
    plan: Arc<Mutex<Plan>>,
    never: Arc<(OwnedFd, File)>,
}

impl Planned {
    pub fn new(waits: Waits) -> Self {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let plan = Plan {
            waits,
            link: true,
            accepts: true,
            frames: VecDeque::new(),
            sent: Vec::new(),
            asked: 0,
            at_send: None,
            trouble: None,
        };
        Self {
            plan: Arc::new(Mutex::new(plan)),
            never: Arc::new((reader, writer.into())),
        }
    }

    pub fn plan<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        change(&mut self.plan.lock().unwrap())
    }

    /// Frames that arrive for the guest.
    pub fn arrive(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.plan(|plan| plan.frames.extend(frames.into_iter().map(Some)));
    }
}

impl Net for Planned {
    fn send(&mut self, frame: &[u8]) -> Sent {
        self.plan(|plan| {
            if let Some(at_send) = &mut plan.at_send {
                at_send();
            }
            plan.sent.push(frame.to_vec());
            if plan.accepts { Sent::Out } else { Sent::Dropped }
        })
    }

    fn receive(&mut self, into: &mut [u8]) -> Received {
        self.plan(|plan| {
            plan.asked += 1;
            match plan.frames.pop_front() {
                Some(Some(frame)) => {
                    into[..frame.len()].copy_from_slice(&frame);
                    Received::Frame(frame.len())
                }
                Some(None) => Received::Dropped,
                None => Received::Nothing,
            }
        })
    }

    fn link(&mut self) -> bool {
        self.plan(|plan| plan.link)
    }

    fn interests(&self, wanted: Wanted) -> Interests<'_> {
        let fd = self.never.0.as_fd();
        let events = PollFlags::POLLIN;
        Interests {
            fds: [wanted.frames.then_some(Interest { fd, events }), None],
            within: None,
        }
    }

    fn waits(&self) -> Waits {
        self.plan(|plan| plan.waits)
    }

    fn trouble(&mut self) -> Option<String> {
        self.plan(|plan| plan.trouble.take())
    }
}
