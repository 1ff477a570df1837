//! The private network's addresses, and what an address a guest sends to means.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Place of the router in the network, as in QEMU's and VMware's.
const ROUTER: u32 = 2;
/// Place of the name server.
const DNS: u32 = 3;
/// Place of the guest.
const GUEST: u32 = 15;

/// What a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// The router: the host's own loopback, as seen from the guest.
    Router,
    /// The name server.
    Dns,
    /// An address of the network where nobody is.
    Nobody,
    /// Somewhere a router may send to.
    Beyond(Ipv4Addr),
    /// Broadcast, multicast, loopback, link-local: never passed on (RFC 1812, 5.3.7; RFC 3927, 7).
    Nowhere,
}

/// The network.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    network: u32,
    mask: u32,
}

impl Plan {
    /// The network that `address` is in, with a prefix of 8 to 27 bits: it must hold the guest's place.
    pub fn new(address: Ipv4Addr, prefix: u8) -> io::Result<Self> {
        if !(8..=27).contains(&prefix) {
            let error = format!("a NAT network has a prefix of 8 to 27 bits, not {prefix}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let mask = u32::MAX << (32 - u32::from(prefix));
        let network = u32::from(address) & mask;
        Ok(Self { network, mask })
    }

    /// The router: gateway, DHCP server and way to the host.
    pub fn router(&self) -> Ipv4Addr {
        (self.network | ROUTER).into()
    }

    /// The name server.
    pub fn dns(&self) -> Ipv4Addr {
        (self.network | DNS).into()
    }

    /// The guest's lease.
    pub fn guest(&self) -> Ipv4Addr {
        (self.network | GUEST).into()
    }

    /// The subnet mask.
    pub fn mask(&self) -> Ipv4Addr {
        self.mask.into()
    }

    /// The broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        (self.network | !self.mask).into()
    }

    /// Whether an address is in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask == self.network
    }

    /// What `address` is.
    pub fn towards(&self, address: Ipv4Addr) -> Towards {
        if address == self.router() {
            Towards::Router
        } else if address == self.dns() {
            Towards::Dns
        } else if address == self.broadcast() || u32::from(address) == self.network {
            Towards::Nowhere
        } else if self.contains(address) {
            Towards::Nobody
        } else if no_router_passes(address) {
            Towards::Nowhere
        } else {
            Towards::Beyond(address)
        }
    }

    /// The address a client of a forwarded port has in the guest's eyes: its own, or the router's where its own would mean
    /// something else there.
    pub fn seen_by_guest(&self, client: &SocketAddr) -> Ipv4Addr {
        match client.ip() {
            IpAddr::V4(address) if matches!(self.towards(address), Towards::Beyond(_)) => address,
            _ => self.router(),
        }
    }
}

fn no_router_passes(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0 || first >= 224 || address.is_loopback() || address.is_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new(Ipv4Addr::new(10, 0, 2, 77), 24).unwrap()
    }

    #[test]
    fn the_addresses_are_those_users_know() {
        let plan = plan();
        assert_eq!(plan.router(), Ipv4Addr::new(10, 0, 2, 2));
        assert_eq!(plan.dns(), Ipv4Addr::new(10, 0, 2, 3));
        assert_eq!(plan.guest(), Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(plan.broadcast(), Ipv4Addr::new(10, 0, 2, 255));
    }

    #[test]
    fn every_kind_of_destination() {
        let beyond = |a, b, c, d| Towards::Beyond(Ipv4Addr::new(a, b, c, d));
        let table = [
            ([10, 0, 2, 2], Towards::Router),
            ([10, 0, 2, 3], Towards::Dns),
            ([10, 0, 2, 0], Towards::Nowhere),
            ([10, 0, 2, 255], Towards::Nowhere),
            ([10, 0, 2, 9], Towards::Nobody),
            ([10, 0, 3, 9], beyond(10, 0, 3, 9)),
            ([192, 0, 2, 1], beyond(192, 0, 2, 1)),
            ([0, 1, 2, 3], Towards::Nowhere),
            ([127, 0, 0, 1], Towards::Nowhere),
            ([169, 254, 169, 254], Towards::Nowhere),
            ([224, 0, 0, 251], Towards::Nowhere),
            ([240, 0, 0, 1], Towards::Nowhere),
            ([255, 255, 255, 255], Towards::Nowhere),
        ];
        for (address, towards) in table {
            assert_eq!(plan().towards(address.into()), towards, "{address:?}");
        }
    }

    #[test]
    fn a_network_must_hold_the_guest() {
        for (prefix, good) in [
            (0, false),
            (7, false),
            (8, true),
            (27, true),
            (28, false),
            (33, false),
        ] {
            assert_eq!(
                Plan::new(Ipv4Addr::new(10, 0, 2, 0), prefix).is_ok(),
                good,
                "/{prefix}"
            );
        }
    }

    #[test]
    fn a_client_of_the_host_itself_is_the_router_to_the_guest() {
        let seen = |client: &str| plan().seen_by_guest(&client.parse().unwrap());
        assert_eq!(seen("127.0.0.1:9"), plan().router());
        assert_eq!(seen("[::1]:9"), plan().router());
        assert_eq!(seen("10.0.2.15:9"), plan().router());
        assert_eq!(seen("192.0.2.7:9"), Ipv4Addr::new(192, 0, 2, 7));
    }
}
