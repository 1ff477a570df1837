//! What became of frames nobody gets: counted by reason, never logged one by one, for the guest makes as many as it likes.

/// Why a frame, or what was in it, went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Loss {
    /// Not for the router's Ethernet address.
    Elsewhere,
    /// Neither ARP nor IPv4.
    Protocol,
    /// A header that lies about a length, a version or a checksum.
    Malformed,
    /// A source address that is not the guest's.
    Source,
    /// A fragment: none are put together.
    Fragment,
    /// Broadcast, multicast, or an address no router passes on.
    Unroutable,
    /// The host's socket had no room, or refused.
    Host,
    /// A table was full and nothing in it could go.
    Full,
    /// Too many answers waited for the guest already.
    Answers,
    /// A datagram of the host longer than a frame carries.
    TooLong,
    /// An entry of a full table made room for a new one.
    Evicted,
}

const REASONS: usize = Loss::Evicted as usize + 1;

/// The numbers.
#[derive(Debug, Default)]
pub struct Tally([u64; REASONS]);

impl Tally {
    /// One more.
    pub fn add(&mut self, loss: Loss) {
        if let Some(count) = self.0.get_mut(loss as usize) {
            *count = count.wrapping_add(1);
        }
    }

    /// How many.
    pub fn of(&self, loss: Loss) -> u64 {
        self.0.get(loss as usize).copied().unwrap_or_default()
    }
}
