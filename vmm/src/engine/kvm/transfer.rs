//! Port and MMIO accesses in pieces: KVM hands over whole strings and odd lengths, the run loop takes one access of
//! 1, 2, 4 or 8 bytes at a time.

use super::run_page::{MmioAccess, PortAccess, RunPage};
use crate::bus::Width;
use crate::engine::{Exit, Op, Reply};

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Every element at the same port.
    Port(u16, Width),
    /// Bytes at rising addresses.
    Memory(u64),
}

/// An access under way: the piece that was handed out, and what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    place: Place,
    write: bool,
    /// Where in the run page the piece handed out lies.
    offset: usize,
    /// Bytes from there on, the piece included.
    left: usize,
}

impl Transfer {
    /// `None` if KVM speaks of a width x86 does not have, or of no bytes.
    pub(super) fn port(access: &PortAccess) -> Option<Self> {
        let width = Width::from_bytes(access.size.into()).filter(|w| *w != Width::Qword)?;
        Some(Self {
            place: Place::Port(access.port, width),
            write: access.write,
            offset: access.offset,
            left: usize::from(access.size).checked_mul(access.count as usize)?,
        })
        .filter(|t| t.left > 0)
    }

    /// `None` if there are no bytes, or more than 8.
    pub(super) fn mmio(access: &MmioAccess) -> Option<Self> {
        Some(Self {
            place: Place::Memory(access.at),
            write: access.write,
            offset: access.offset,
            left: access.len as usize,
        })
        .filter(|t| (1..=8).contains(&t.left))
    }

    /// Whether the guest reads.
    pub(super) fn is_read(&self) -> bool {
        !self.write
    }

    /// Whether more pieces follow the one handed out.
    pub(super) fn has_more(&self) -> bool {
        self.left > usize::from(self.width().bytes())
    }

    /// The exit for the present piece; `None` if its data is not inside the page.
    pub(super) fn exit(&self, page: &RunPage) -> Option<Exit> {
        let width = self.width();
        let op = if self.write {
            Op::Write(page.read_data(self.offset, width)?)
        } else {
            Op::Read
        };
        Some(match self.place {
            Place::Port(port, _) => Exit::Port { port, width, op },
            Place::Memory(at) => Exit::Mmio { at, width, op },
        })
    }

    /// Takes the answer to the present piece. `None` if a read was not answered with a value.
    pub(super) fn answer(&self, page: &mut RunPage, reply: Reply) -> Option<()> {
        match (self.write, reply) {
            (true, _) => Some(()),
            (false, Reply::Value(value)) => page.write_data(self.offset, self.width(), value),
            (false, _) => None,
        }
    }

    /// What is left after the present piece.
    pub(super) fn rest(&self) -> Option<Self> {
        let done = usize::from(self.width().bytes());
        let left = self.left.checked_sub(done).filter(|left| *left > 0)?;
        let place = match self.place {
            Place::Memory(at) => Place::Memory(at.wrapping_add(done as u64)),
            port @ Place::Port(..) => port,
        };
        Some(Self {
            place,
            offset: self.offset.checked_add(done)?,
            left,
            ..*self
        })
    }

    /// Ports: the operand's width. Memory: all of it where that is a width, else the widest piece that fits and is
    /// aligned (3 bytes at 0x1001 are a byte and a word).
    fn width(&self) -> Width {
        match self.place {
            Place::Port(_, width) => width,
            Place::Memory(at) => Width::from_bytes(self.left).unwrap_or_else(|| {
                let fits =
                    |w: &Width| usize::from(w.bytes()) <= self.left && at.is_multiple_of(w.bytes().into());
                [Width::Dword, Width::Word]
                    .into_iter()
                    .find(fits)
                    .unwrap_or(Width::Byte)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(at: u64, len: u32) -> Vec<(u64, u8)> {
        let access = MmioAccess {
            at,
            len,
            write: true,
            offset: 0,
        };
        let mut next = Transfer::mmio(&access);
        let mut seen = Vec::new();
        while let Some(t) = next {
            let Place::Memory(at) = t.place else { panic!() };
            seen.push((at, t.width().bytes()));
            assert_eq!(t.has_more(), t.rest().is_some());
            next = t.rest();
        }
        seen
    }

    #[test]
    fn odd_lengths_split_into_aligned_widths() {
        for (at, len, expected) in [
            (0x1000, 1, vec![(0x1000, 1)]),
            (0x1001, 4, vec![(0x1001, 4)]),
            (0x1000, 8, vec![(0x1000, 8)]),
            (0x1001, 3, vec![(0x1001, 1), (0x1002, 2)]),
            (0x1000, 3, vec![(0x1000, 2), (0x1002, 1)]),
            (0x1000, 7, vec![(0x1000, 4), (0x1004, 2), (0x1006, 1)]),
            (0x1001, 5, vec![(0x1001, 1), (0x1002, 4)]),
            (u64::MAX, 3, vec![(u64::MAX, 1), (0, 2)]),
        ] {
            assert_eq!(pieces(at, len), expected, "{at:#x}+{len}");
        }
        assert!(pieces(0, 0).is_empty() && pieces(0, 9).is_empty());
    }

    #[test]
    fn a_string_of_ports_is_handed_out_by_element() {
        let mut access = PortAccess {
            port: 0x1f0,
            size: 2,
            count: 3,
            write: false,
            offset: 4096,
        };
        let first = Transfer::port(&access).unwrap();
        let second = first.rest().unwrap();
        let third = second.rest().unwrap();
        assert_eq!([first.offset, second.offset, third.offset], [4096, 4098, 4100]);
        assert!(third.rest().is_none() && !third.has_more() && first.has_more());
        for (size, count) in [(8, 1), (3, 1), (0, 1), (1, 0)] {
            (access.size, access.count) = (size, count);
            assert!(Transfer::port(&access).is_none(), "{size} x {count}");
        }
    }
}
