//! The host's end of the network cards: taps, capture files and ways in, opened once by the supervisor with the user's
//! rights, lent to each I/O worker in turn.
//!
//! They outlive the workers: a reset of the machine, or a worker's death, starts a new one on the same descriptors, and a
//! client that connects in between waits in the listening socket's queue.

use super::new_file::create;
use crate::back::net::tap::{self, TapError};
use crate::config::{Forward, NetBackend, NetDraft};
use nix::fcntl::OFlag;
use shared::msg::handover::{FdRole, ForwardSpec, NetBackSpec};
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use thiserror::Error;

/// Where the host's name servers are listed (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Most name servers asked, as the resolver library does (MAXNS).
const MAX_SERVERS: usize = 3;

/// Why a card has no other end.
#[derive(Debug, Error)]
pub enum HostNetError {
    /// The tap.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The capture file.
    #[error("capture file {}: {source}", path.display())]
    Pcap {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A way in.
    #[error("forward: cannot listen on {}{}: {source}{}", if *.udp { "udp " } else { "" }, .listen, advice(.source))]
    Forward {
        /// UDP; else TCP.
        udp: bool,
        /// Where.
        listen: std::net::SocketAddrV4,
        /// Why.
        source: io::Error,
    },
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: write another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 take root: write a higher one",
        io::ErrorKind::AddrNotAvailable => {
            "; the host has no such address: write 127.0.0.1 or one of its own"
        }
        _ => "",
    }
}

/// The other ends of all cables.
#[derive(Default)]
pub struct HostNets {
    specs: Vec<NetBackSpec>,
    fds: Vec<(FdRole, OwnedFd)>,
}

impl HostNets {
    /// Opens what the config asks for.
    pub fn open(nets: &[NetDraft]) -> Result<Self, HostNetError> {
        let mut opened = Self::default();
        for (number, net) in (0u8..).zip(nets) {
            opened.open_one(number, net)?;
        }
        Ok(opened)
    }

    fn open_one(&mut self, number: u8, net: &NetDraft) -> Result<(), HostNetError> {
        if let Some(path) = &net.pcap {
            let file = create(path, OFlag::empty()).map_err(|source| HostNetError::Pcap {
                path: path.clone(),
                source,
            })?;
            self.fds.push((FdRole::Pcap(number), file));
        }
        let spec = match net.backend {
            NetBackend::None => NetBackSpec::None,
            NetBackend::Tap => {
                let name = net.tap.as_deref().unwrap_or_default();
                let (tap, joins) = tap::open(name, net.gso)?;
                self.fds.push((FdRole::Tap(number), tap));
                NetBackSpec::Tap { joins }
            }
            NetBackend::Nat => {
                for (rule, forward) in (0u8..).zip(&net.forwards) {
                    let fd = listen(forward).map_err(|source| HostNetError::Forward {
                        udp: forward.udp,
                        listen: forward.listen,
                        source,
                    })?;
                    self.fds.push((FdRole::Forward { net: number, rule }, fd));
                }
                NetBackSpec::Nat {
                    network: net.network,
                    dns: name_servers(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default()),
                    forwards: net.forwards.iter().map(spec).collect(),
                }
            }
        };
        self.specs.push(spec);
        Ok(())
    }

    /// What the I/O worker is told, by card.
    pub fn specs(&self) -> &[NetBackSpec] {
        &self.specs
    }

    /// What the I/O worker gets.
    pub fn fds(&self) -> impl Iterator<Item = (FdRole, BorrowedFd<'_>)> {
        self.fds.iter().map(|(role, fd)| (*role, fd.as_fd()))
    }
}

fn spec(forward: &Forward) -> ForwardSpec {
    ForwardSpec {
        udp: forward.udp,
        guest_port: forward.guest_port,
    }
}

fn listen(forward: &Forward) -> io::Result<OwnedFd> {
    if forward.udp {
        let socket = UdpSocket::bind(forward.listen)?;
        socket.set_nonblocking(true)?;
        return Ok(socket.into());
    }
    let listener = TcpListener::bind(forward.listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// The name servers of a resolv.conf(5), in order. An IPv6 zone (`fe80::1%eth0`) is left out: the server with it.
fn name_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            line.trim_start()
                .strip_prefix("nameserver")?
                .split_whitespace()
                .next()
        })
        .filter_map(|address| address.parse().ok())
        .take(MAX_SERVERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn name_servers_are_those_the_resolver_would_ask() {
        let text = "# made by hand\nsearch example.org\nnameserver 10.0.0.1 # first\n  nameserver\t::1\n\
                    nameserver fe80::1%eth0\nnameserver bogus\nnameserver 9.9.9.9\nnameserver 1.1.1.1\n";
        let servers: Vec<String> = name_servers(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(servers, ["10.0.0.1", "::1", "9.9.9.9"]);
    }

    #[test]
    fn a_capture_is_its_owners_alone_and_no_symlink_to_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let open = |path: PathBuf| {
            let net = NetDraft {
                pcap: Some(path),
                ..NetDraft::default()
            };
            HostNets::open(&[net]).map(drop)
        };
        open(at("new")).unwrap();
        assert_eq!(at("new").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(at("victim"), "precious").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        let refused = open(at("link")).unwrap_err().to_string();
        assert!(refused.contains("link: it is a symbolic link"), "{refused}");
        assert_eq!(std::fs::read(at("victim")).unwrap(), b"precious");
    }

    #[test]
    fn a_port_in_use_is_named_with_the_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let Ok(std::net::SocketAddr::V4(listen)) = taken.local_addr() else {
            panic!("an IPv4 socket");
        };
        let net = NetDraft {
            network: (Ipv4Addr::new(10, 0, 2, 0), 24),
            forwards: vec![Forward {
                udp: false,
                listen,
                guest_port: 22,
            }],
            ..NetDraft::default()
        };
        let refused = HostNets::open(&[net]).err().unwrap().to_string();
        assert!(refused.contains(&listen.to_string()), "{refused}");
        assert!(refused.ends_with("write another port"), "{refused}");
    }
}
