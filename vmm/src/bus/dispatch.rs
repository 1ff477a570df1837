//! Who answers which port and address: tables of ranges to device numbers. The board owns the devices and turns a
//! number into one; so no device is behind a lock or a reference cycle.

use super::Width;
use thiserror::Error;

/// How accesses wider than one byte reach a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splitting {
    /// An 8-bit device: the bus makes byte accesses of a wider one, low port first, as an ISA bus does.
    Bytes,
    /// The device takes every width that lies wholly inside its range.
    Native,
}

/// A range of ports a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<D> {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Wide accesses.
    pub splitting: Splitting,
    /// Who.
    pub device: D,
}

/// Two devices want the same place.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{what} {first:#x}..={last:#x} is already claimed")]
pub struct Overlap {
    /// "port" or "address".
    pub what: &'static str,
    /// First of the range asked for.
    pub first: u64,
    /// Last of the range asked for.
    pub last: u64,
}

/// Ports to devices.
#[derive(Clone, Debug)]
pub struct PortMap<D> {
    claims: Vec<Claim<D>>,
}

impl<D: Copy> Default for PortMap<D> {
    fn default() -> Self {
        Self { claims: Vec::new() }
    }
}

impl<D: Copy> PortMap<D> {
    /// Adds a claim.
    pub fn claim(&mut self, claim: Claim<D>) -> Result<(), Overlap> {
        let at = self.claims.partition_point(|c| c.first < claim.first);
        let clash = self.claims.get(at).is_some_and(|next| next.first <= claim.last)
            || at
                .checked_sub(1)
                .and_then(|i| self.claims.get(i))
                .is_some_and(|prev| prev.last >= claim.first);
        if clash || claim.first > claim.last {
            return Err(Overlap {
                what: "port",
                first: claim.first.into(),
                last: claim.last.into(),
            });
        }
        self.claims.insert(at, claim);
        Ok(())
    }

    /// Gives up every claim of which `which` says so (a PCI base address register that moves).
    pub fn drop_claims(&mut self, which: impl Fn(&D) -> bool) {
        self.claims.retain(|claim| !which(&claim.device));
    }

    /// Who answers `port`, if anybody.
    pub fn find(&self, port: u16) -> Option<Claim<D>> {
        let at = self.claims.partition_point(|c| c.first <= port);
        let claim = self.claims.get(at.checked_sub(1)?)?;
        (claim.last >= port).then_some(*claim)
    }
}

/// Guest-physical addresses to devices.
#[derive(Clone, Debug)]
pub struct MmioMap<D> {
    regions: Vec<(u64, u64, D)>,
}

impl<D: Copy> Default for MmioMap<D> {
    fn default() -> Self {
        Self { regions: Vec::new() }
    }
}

impl<D: Copy> MmioMap<D> {
    /// Adds a region of `len` bytes (not 0) at `base`.
    pub fn claim(&mut self, base: u64, len: u64, device: D) -> Result<(), Overlap> {
        let overlap = Overlap {
            what: "address",
            first: base,
            last: base.saturating_add(len.saturating_sub(1)),
        };
        let last = base
            .checked_add(len.checked_sub(1).ok_or(overlap)?)
            .ok_or(overlap)?;
        if self
            .regions
            .iter()
            .any(|&(first, end, _)| first <= last && base <= end)
        {
            return Err(overlap);
        }
        self.regions.push((base, last, device));
        Ok(())
    }

    /// Gives up every region of which `which` says so.
    pub fn drop_claims(&mut self, which: impl Fn(&D) -> bool) {
        self.regions.retain(|(_, _, device)| !which(device));
    }

    /// Who answers an access of `width` at `at`, and the offset in its region. An access across the end is nobody's.
    pub fn find(&self, at: u64, width: Width) -> Option<(D, u64)> {
        let end = at.checked_add(u64::from(width.bytes()) - 1)?;
        self.regions
            .iter()
            .find(|&&(first, last, _)| first <= at && end <= last)
            .map(|&(first, _, device)| (device, at - first))
    }
}
