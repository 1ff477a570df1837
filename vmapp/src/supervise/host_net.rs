//! The host's end of the network cards: taps, capture files and ways in, opened once by the supervisor with the user's
//! rights, lent to each I/O worker in turn.
//!
//! They outlive the workers: a reset of the machine, or a worker's death, starts a new one on the same descriptors, and a
//! client that connects in between waits in the listening socket's queue.
//!
//! What must never happen here: a close that waits on a worker's account. The sockets of ways in are shared with it, and
//! one that was taken over can make of a listening one a connection that lingers.

use super::new_file::create;
use crate::back::net::tap::{self, TapError};
use crate::config::{Forward, NetBackend, NetDraft};
use nix::fcntl::OFlag;
use nix::sys::socket::{setsockopt, sockopt};
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
            // Each worker looks at the end of what the one before wrote. A pipe it only writes, as its reader expects.
            let is_special = path.metadata().is_ok_and(|meta| !meta.is_file());
            let access = if is_special {
                OFlag::O_WRONLY
            } else {
                OFlag::O_RDWR
            };
            let file = create(path, access).map_err(|source| HostNetError::Pcap {
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

impl Drop for HostNets {
    /// The workers are dead by now: nobody changes the sockets any more.
    fn drop(&mut self) {
        let at_once = nix::libc::linger {
            l_onoff: 0,
            l_linger: 0,
        };
        for (role, fd) in &self.fds {
            if matches!(role, FdRole::Forward { .. }) {
                // Refused by nothing that lingers.
                setsockopt(fd, sockopt::Linger, &at_once).ok();
            }
        }
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
    use nix::errno::Errno;
    use nix::sys::socket::{MsgFlags, Shutdown, SockaddrIn, connect, send, shutdown};
    use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

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

    /// A `nat` card with one way in.
    fn way_in(listen: SocketAddrV4) -> NetDraft {
        NetDraft {
            backend: NetBackend::Nat,
            network: (Ipv4Addr::new(10, 0, 2, 0), 24),
            forwards: vec![Forward {
                udp: false,
                listen,
                guest_port: 22,
            }],
            ..NetDraft::default()
        }
    }

    /// What a worker that was taken over can do with the filter's leave: the listening socket becomes a connection with
    /// octets that nobody reads, and lingers.
    #[test]
    fn a_listening_socket_made_one_that_lingers_does_not_block_the_end() {
        let nets = HostNets::open(&[way_in(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))]).unwrap();
        let (_, way_in) = nets.fds().next().unwrap();
        let taken = way_in.try_clone_to_owned().unwrap();
        let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = peer.local_addr().unwrap() else {
            panic!("an IPv4 socket");
        };
        shutdown(taken.as_raw_fd(), Shutdown::Read).unwrap();
        let connected = connect(taken.as_raw_fd(), &SockaddrIn::from(address));
        assert!(
            matches!(connected, Ok(()) | Err(Errno::EINPROGRESS)),
            "{connected:?}"
        );
        let _unread = peer.accept().unwrap();
        let long = nix::libc::linger {
            l_onoff: 1,
            l_linger: 600,
        };
        setsockopt(&taken, sockopt::Linger, &long).unwrap();
        let octets = vec![0; 1 << 20];
        while let Ok(count) = send(taken.as_raw_fd(), &octets, MsgFlags::MSG_DONTWAIT) {
            assert!(count > 0);
        }
        drop(taken);
        let (told, closed) = sync_channel(1);
        std::thread::spawn(move || {
            drop(nets);
            told.send(()).unwrap();
        });
        assert_eq!(closed.recv_timeout(Duration::from_secs(20)), Ok(()), "it waits");
    }

    #[test]
    fn a_port_in_use_is_named_with_the_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(listen) = taken.local_addr().unwrap() else {
            panic!("an IPv4 socket");
        };
        let refused = HostNets::open(&[way_in(listen)]).err().unwrap().to_string();
        assert!(refused.contains(&listen.to_string()), "{refused}");
        assert!(refused.ends_with("write another port"), "{refused}");
    }
}
