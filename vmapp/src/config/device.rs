//! Network cards and disks of the file: what stays on the host side, and the forms their values are written in.
//!
//! A form is a function from text to a value, or to what is wrong and what to write. What must never happen here: opening
//! anything.

use crate::back::net::tap::{MAX_NAME, is_name};
use shared::spec::{DiskSpec, MAX_NETS, NetSpec};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

/// Most forwards of one card: each is a descriptor in the workers' start record.
pub const MAX_FORWARDS: usize = 16;
/// First half of addresses made here: the locally administered block QEMU uses for guests.
const MAC_PREFIX: [u8; 3] = [0x52, 0x54, 0x00];

/// What is wrong, and what to do.
type Refusal = (String, String);

/// What a network card's cable is plugged into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetBackend {
    /// A tap interface.
    Tap,
    /// A private network.
    #[default]
    Nat,
    /// Nothing.
    None,
}

impl NetBackend {
    /// The word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Nat => "nat",
            Self::None => "none",
        }
    }
}

/// A way in from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// UDP; else TCP.
    pub udp: bool,
    /// Where the host listens.
    pub listen: SocketAddrV4,
    /// Port of the guest.
    pub guest_port: u16,
}

/// One `[[net]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDraft {
    /// `backend`.
    pub backend: NetBackend,
    /// `tap`.
    pub tap: Option<String>,
    /// `gso`.
    pub gso: bool,
    /// `mac`.
    pub mac: Option<[u8; 6]>,
    /// `pcap`.
    pub pcap: Option<PathBuf>,
    /// `network`.
    pub network: (Ipv4Addr, u8),
    /// `forward`.
    pub forwards: Vec<Forward>,
}

impl Default for NetDraft {
    fn default() -> Self {
        Self {
            backend: NetBackend::default(),
            tap: None,
            gso: true,
            mac: None,
            pcap: None,
            network: (Ipv4Addr::UNSPECIFIED, 8),
            forwards: Vec::new(),
        }
    }
}

impl NetDraft {
    /// What the workers get of card `number` of the machine `name`.
    pub fn spec(&self, name: &str, number: usize) -> NetSpec {
        NetSpec {
            mac: self.mac.unwrap_or_else(|| made_mac(name, number)),
        }
    }
}

/// What holds a disk's sectors, as found when the file was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskImage {
    /// Where.
    pub path: PathBuf,
    /// How large.
    pub sectors: u64,
}

/// What becomes of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskMode {
    /// They go into the image.
    #[default]
    ReadWrite,
    /// They are refused.
    ReadOnly,
    /// They are kept apart.
    Overlay,
}

/// One `[[disk]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskDraft {
    /// `path`.
    pub image: DiskImage,
    /// `mode`.
    pub mode: DiskMode,
    /// `overlay`.
    pub overlay: Option<PathBuf>,
    /// `serial`.
    pub serial: Option<String>,
}

impl Default for DiskDraft {
    fn default() -> Self {
        Self {
            image: DiskImage {
                path: PathBuf::new(),
                sectors: 1,
            },
            mode: DiskMode::default(),
            overlay: None,
            serial: None,
        }
    }
}

impl DiskDraft {
    /// What the workers get of disk `number`.
    pub fn spec(&self, number: usize) -> DiskSpec {
        DiskSpec {
            sectors: self.image.sectors,
            read_only: self.mode == DiskMode::ReadOnly,
            serial: self.serial.clone().unwrap_or_else(|| format!("WS{number:04}")),
        }
    }
}

/// An address that is the same at every start and differs from VM to VM, as far as 22 bits can (FNV-1a of the name).
fn made_mac(name: &str, number: usize) -> [u8; 6] {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let folded = (hash ^ hash >> 22)
        .wrapping_mul(MAX_NETS as u32)
        .wrapping_add(number as u32);
    let [low, middle, high, _] = folded.to_le_bytes();
    let [a, b, c] = MAC_PREFIX;
    [a, b, c, high, middle, low]
}

/// "52:54:00:12:34:56".
pub fn mac(text: &str) -> Result<[u8; 6], Refusal> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|part| {
            let digits = matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        })
        .collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        (
            "not an Ethernet address".into(),
            "write six bytes in hexadecimal: mac = \"52:54:00:12:34:56\"".into(),
        )
    })
}

/// The name of an interface, as the kernel takes it.
pub fn interface(text: &str) -> Result<String, Refusal> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err((
        "not the name of an interface".into(),
        format!("write 1 to {MAX_NAME} characters without spaces and slashes: tap = \"tap0\""),
    ))
}

/// "10.0.2.0/24".
pub fn network(text: &str) -> Result<(Ipv4Addr, u8), Refusal> {
    let wrong = |why: &str, help: String| Err((why.to_owned(), help));
    let parsed = text
        .split_once('/')
        .and_then(|(address, prefix)| Some((address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?)));
    let Some((address, prefix)) = parsed else {
        return wrong("not an IPv4 network", "write network = \"10.0.2.0/24\"".into());
    };
    if !(8..=27).contains(&prefix) {
        return wrong(
            "the prefix length must be 8 to 27: the guest has the fifteenth address",
            format!("write network = \"{address}/24\""),
        );
    }
    let base = Ipv4Addr::from(u32::from(address) & u32::MAX << (32 - prefix));
    if base != address {
        return wrong(
            "bits beyond the prefix are set",
            format!("write network = \"{base}/{prefix}\""),
        );
    }
    if base.is_loopback() || base.is_multicast() || base.octets()[0] == 0 || base.octets()[0] >= 240 {
        return wrong(
            "no guest can have an address there",
            "write a private network: network = \"10.0.2.0/24\"".into(),
        );
    }
    Ok((base, prefix))
}

/// "127.0.0.1:2222 -> 22", "udp 5353 -> 53".
pub fn forward(text: &str) -> Result<Forward, Refusal> {
    let trimmed = text.trim();
    let (udp, rule) = match trimmed.split_once(char::is_whitespace) {
        Some(("udp", rule)) => (true, rule),
        Some(("tcp", rule)) => (false, rule),
        _ => (false, trimmed),
    };
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port != 0);
    let listen = |text: &str| match text.trim().rsplit_once(':') {
        Some((address, number)) => Some(SocketAddrV4::new(address.parse().ok()?, port(number)?)),
        None => Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port(text)?)),
    };
    rule.split_once("->")
        .and_then(|(host, guest)| {
            Some(Forward {
                udp,
                listen: listen(host)?,
                guest_port: port(guest)?,
            })
        })
        .ok_or_else(|| {
            (
                "not a way into the guest".into(),
                "write \"127.0.0.1:2222 -> 22\", host on the left and guest on the right, after \"udp \" if it is UDP"
                    .into(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_made_here_are_those_of_single_cards_and_differ() {
        let made: Vec<_> = ["a", "b", "demo"]
            .iter()
            .flat_map(|name| (0..MAX_NETS).map(|number| made_mac(name, number)))
            .collect();
        for (index, mac) in made.iter().enumerate() {
            assert_eq!(mac[..3], MAC_PREFIX);
            assert!(!made[..index].contains(mac), "{mac:x?} twice");
        }
        assert_eq!(made_mac("demo", 1), made_mac("demo", 1));
    }

    #[test]
    fn forms_are_read_as_written_and_nothing_else_is() {
        assert_eq!(mac("52:54:00:12:34:56"), Ok([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(mac("2-0-0-0-0-ff"), Ok([2, 0, 0, 0, 0, 255]));
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00:12:34:5g",
            "+2:0:0:0:0:1",
            ":::::",
        ] {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
        let rule = |udp, address: [u8; 4], port, guest_port| {
            Ok(Forward {
                udp,
                listen: SocketAddrV4::new(address.into(), port),
                guest_port,
            })
        };
        assert_eq!(
            forward("127.0.0.1:2222 -> 22"),
            rule(false, [127, 0, 0, 1], 2222, 22)
        );
        assert_eq!(forward("tcp 0.0.0.0:80->8080"), rule(false, [0; 4], 80, 8080));
        assert_eq!(forward("udp 5353 -> 53"), rule(true, [127, 0, 0, 1], 5353, 53));
        for wrong in [
            "",
            "22",
            "-> 22",
            "22 ->",
            "0 -> 22",
            "70000 -> 22",
            "localhost:1 -> 2",
            "sctp 1 -> 2",
            "1 -> 2 -> 3",
        ] {
            assert!(forward(wrong).is_err(), "{wrong}");
        }
        assert_eq!(network("10.0.2.0/24"), Ok((Ipv4Addr::new(10, 0, 2, 0), 24)));
        for wrong in [
            "10.0.2.0",
            "10.0.2.1/24",
            "10.0.2.0/29",
            "10.0.0.0/7",
            "127.0.0.0/8",
            "224.0.0.0/8",
            "x/8",
        ] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
        assert!(interface("tap0").is_ok() && interface("a2345678901234").is_ok());
        for wrong in ["", "a b", "a/b", "..", "a234567890123456", "t\u{e9}"] {
            assert!(interface(wrong).is_err(), "{wrong}");
        }
    }
}
