//! Sequence numbers: positions in a stream, modulo 2³² (RFC 9293, 3.4). Every comparison is of a distance below 2³¹; what a
//! guest makes up may be farther away, so no operation here panics or saturates into something that looks near.

use smoltcp::wire::TcpSeqNumber;

/// A position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    /// So many octets further.
    pub fn plus(self, octets: usize) -> Self {
        Self(self.0.wrapping_add(octets as u32))
    }

    /// Whether this comes before `other`.
    pub fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Octets from `earlier` to here; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> usize {
        if self.before(earlier) {
            return 0;
        }
        self.0.wrapping_sub(earlier.0) as usize
    }

    /// The later of both.
    pub fn later(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}

impl From<TcpSeqNumber> for Seq {
    fn from(number: TcpSeqNumber) -> Self {
        Self(number.0 as u32)
    }
}

impl From<Seq> for TcpSeqNumber {
    fn from(seq: Seq) -> Self {
        Self(seq.0 as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_distance_survive_the_wrap() {
        let (low, high) = (Seq(5), Seq(u32::MAX - 4));
        assert!(high.before(low) && !low.before(high) && !low.before(low));
        assert_eq!(low.since(high), 10);
        assert_eq!(high.since(low), 0, "not earlier");
        assert_eq!(high.plus(10), low);
        assert_eq!(high.later(low), low);
    }
}
