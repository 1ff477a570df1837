//! What the wait loop asks of each channel's service.

use super::ServeError;
use crate::back::Interests;
use crate::fault::lane::Lane;

/// One channel and what it is joined to.
pub trait Service {
    /// Moves what can be moved, a bounded amount; true: there is more. `ready`: a descriptor of
    /// [`interests`](Self::interests) may be.
    fn turn(&mut self, ready: bool) -> Result<bool, ServeError>;
    /// What to wait for besides the vmm.
    fn interests(&self) -> Interests<'_>;
    /// Whether, after a turn that left no more, nothing the vmm published is left to do.
    fn is_drained(&self) -> bool;
    /// Its channel.
    fn lane(&mut self) -> &mut Lane;
    /// The VM has ended: once the rest is done, it is made to last.
    fn finish(&mut self) {}
    /// Something the user should know, with the device's name; each is told once, and their rate is bounded.
    fn trouble(&mut self) -> Option<String> {
        None
    }
}
