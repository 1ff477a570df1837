//! The networks of a measurement: a namespace for `bench` with a tap for the guests, and one at the other end of a veth pair
//! for the native agent. They vanish with the process, whatever happens to it.
//!
//! Needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN); the error says so.

use crate::Outcome;
use crate::machines::{Cable, Running, start_native};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;

/// The tap of the guests.
pub const TAP: &str = "wsbench0";
/// The host's address on it.
pub const TAP_HOST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const TAP_GUEST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// An address on the tap that nobody has: frames to it go to whoever reads the tap.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 9);
const VETH: [&str; 2] = ["wsbench1", "wsbench2"];
const VETH_HOST: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 1);
const VETH_FAR: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 2);

/// The networks; this thread, and all it starts, is in the first.
pub struct Lab {
    far: File,
}

impl Lab {
    /// Makes them.
    pub fn enter() -> Outcome<Self> {
        let far = std::thread::spawn(|| -> Result<File, String> {
            new_network()?;
            File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string())
        });
        let far = far.join().map_err(|_| "a thread failed")??;
        new_network()?;
        let lab = Self { far };
        let [near, other] = VETH;
        for words in [
            "link set lo up".to_owned(),
            format!("tuntap add dev {TAP} mode tap"),
            format!("addr add {TAP_HOST}/24 dev {TAP}"),
            format!("link set {TAP} up"),
            format!("neigh add {NOBODY} lladdr 02:00:00:00:00:09 nud permanent dev {TAP}"),
            format!("link add {near} type veth peer name {other}"),
            format!("link set {other} netns {}", lab.far_path()),
            format!("addr add {VETH_HOST}/24 dev {near}"),
            format!("link set {near} up"),
        ] {
            run(Command::new("ip").args(words.split(' ')))?;
        }
        for words in [
            "link set lo up".to_owned(),
            format!("addr add {VETH_FAR}/24 dev {other}"),
            format!("link set {other} up"),
        ] {
            run(lab.there("ip").args(words.split(' ')))?;
        }
        // Router solicitations would be frames nobody asked for.
        fs::write(format!("/proc/sys/net/ipv6/conf/{TAP}/disable_ipv6"), "1").ok();
        Ok(lab)
    }

    /// What guests are plugged into.
    pub fn cable(&self) -> Cable {
        Cable::Tap {
            name: TAP.into(),
            host: TAP_HOST,
            guest: TAP_GUEST,
        }
    }

    /// The native agent, at the other end of the veth pair, and where it finds us.
    pub fn native(&self) -> Outcome<(Running, Ipv4Addr)> {
        let running = start_native(VETH_HOST, |agent| {
            let mut command = self.there(&agent.get_program().display().to_string());
            command.args(agent.get_args());
            command
        })?;
        Ok((running, VETH_HOST))
    }

    fn far_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.far.as_raw_fd())
    }

    /// A command in the far namespace: nsenter becomes it.
    fn there(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.far_path())).arg(program);
        command
    }
}

/// The native end's address.
pub const NATIVE: Ipv4Addr = VETH_FAR;
/// The guest's address on the tap.
pub const GUEST: Ipv4Addr = TAP_GUEST;

fn new_network() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| format!("a network namespace takes root: {}", errno.desc()))
}

fn run(command: &mut Command) -> Outcome<()> {
    crate::machines::media::run(command)
}

/// Frames the kernel had to drop at the tap because its queue was full, so far (proc_pid_net(5)); 0 without a tap.
pub fn tap_drops() -> f64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(TAP)?.strip_prefix(':'));
    // Eight columns of what it received; of what it transmitted, the fourth.
    let word = line.and_then(|line| line.split_whitespace().nth(11));
    word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}
