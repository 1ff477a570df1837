//! `backend = "none"`: a card whose cable is out. What the guest transmits all the same is dropped, and counted by the
//! net service.

use super::{Net, Received, Sent, Wanted};
use crate::back::Interests;

/// The loose end.
#[derive(Debug)]
pub struct Unplugged;

impl Net for Unplugged {
    fn send(&mut self, _frame: &[u8]) -> Sent {
        Sent::Dropped
    }
    fn receive(&mut self, _into: &mut [u8]) -> Received {
        Received::Nothing
    }
    fn link(&mut self) -> bool {
        false
    }
    fn interests(&self, _wanted: Wanted) -> Interests<'_> {
        Interests::default()
    }
}
