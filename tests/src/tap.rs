//! A stock Debian guest on a real tap, in a network namespace of the test's own thread: what the tests of the network
//! path share. Takes root; says that it skips without.

use crate::linux::Linux;
use crate::network::enter_namespace;
use crate::product::{GUESTS, LIMIT, Vm, skip};
use serde_json::Value;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::time::Duration;

/// The tap's name.
pub const TAP: &str = "wstest0";
/// The host's address on it.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The guest's.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Where [`Tapped::start_echo`] listens.
pub const ECHO_PORT: u16 = 7000;

/// Runs `test` on a thread that has a network, with a tap, of its own; all it starts is in there too.
pub fn in_namespace(name: &'static str, test: impl FnOnce(&'static Linux) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let linux = match Linux::get() {
            Ok(linux) => linux,
            Err(why) => return skip(name, why),
        };
        match enter_namespace(TAP, HOST) {
            Ok(()) => test(linux),
            Err(why) => skip(name, &why),
        }
    });
    if let Err(failure) = thread.join() {
        std::panic::resume_unwind(failure);
    }
}

/// Frames the kernel has handed over at the tap, those joined as one, and those it had to drop before: its queue was full.
pub fn handed_over() -> (u64, u64) {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("/proc");
    let line = table.lines().find_map(|line| line.trim().strip_prefix(TAP));
    let numbers: Vec<u64> = line
        .and_then(|line| line.strip_prefix(':'))
        .expect("the tap's line")
        .split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect();
    // Eight columns of what it received, then packets and drops of what it transmitted (proc_pid_net(5)).
    (numbers[9], numbers[11])
}

/// A VM on the tap, at its shell's prompt.
pub struct Tapped {
    /// The VM.
    pub vm: Vm,
}

impl Tapped {
    /// Boots one. `io`: lines of its `[io]` section. `None`, and said so, where no engine boots a kernel in time.
    pub fn boot(name: &str, linux: &Linux, io: &str) -> Option<Self> {
        let net = format!("[[net]]\nbackend = \"tap\"\ntap = {TAP:?}\n[io]\n{io}");
        Self::of(name, &linux.config(name, &format!("address={GUEST}/24"), &net))
    }

    /// Boots the machine of a whole configuration file, whose guest gives itself the address [`GUEST`].
    pub fn of(name: &str, config: &str) -> Option<Self> {
        let mut vm = Vm::configured(name, config);
        if let Err(why) = vm.fast_engine() {
            skip(name, &why);
            return None;
        }
        vm.wait_for("the prompt", |vm| vm.output().contains("guest:/root# "));
        Some(Self { vm })
    }

    /// Runs a line in the guest's shell and waits until it is done; what the console showed meanwhile.
    pub fn run(&mut self, line: &str) -> String {
        let before = self.vm.output().len();
        let mark = format!("done {before}");
        // In two parts, so that the echo of the line is not taken for its end.
        self.vm
            .type_in(&format!("{line}; echo {}\"\"{}\n", &mark[..5], &mark[5..]));
        self.vm.wait_for(line, |vm| vm.output()[before..].contains(&mark));
        self.vm.output()[before..].to_owned()
    }

    /// Carries `linux/udp.rs` into the guest.
    pub fn bring_udp(&mut self) {
        let program = std::fs::read(format!("{GUESTS}/udp")).expect("built with the tests");
        let listener = TcpListener::bind(SocketAddrV4::new(HOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let sender = std::thread::spawn(move || {
            let (mut guest, _) = listener.accept().expect("the guest connects");
            guest.write_all(&program).expect("the guest reads");
        });
        self.run(&format!(
            "nc {HOST} {port} </dev/null >/bin/udp; chmod +x /bin/udp"
        ));
        sender.join().expect("the guest has it");
    }

    /// Starts the guest's echo server; a socket of the host's that speaks to it.
    pub fn start_echo(&mut self) -> UdpSocket {
        self.vm.type_in(&format!("udp echo {ECHO_PORT} &\n"));
        self.vm
            .wait_for("the echo server", |vm| vm.output().contains("udp: listening"));
        let host = UdpSocket::bind(SocketAddrV4::new(HOST, 0)).expect("a socket");
        host.connect(SocketAddrV4::new(GUEST, ECHO_PORT)).expect("a peer");
        host.set_read_timeout(Some(LIMIT)).expect("a time-out");
        host
    }

    /// The VM's status, as `vmapp status --json` prints it.
    pub fn status(&self) -> Value {
        let output = self.vm.vmapp(&["status", &self.vm.name, "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Waits until `settled` holds of a status, and returns that.
    pub fn status_when(&self, what: &str, settled: impl Fn(&Value) -> bool) -> Value {
        let began = std::time::Instant::now();
        loop {
            let status = self.status();
            if settled(&status) {
                return status;
            }
            assert!(began.elapsed() < LIMIT, "never {what}: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A counter of a status: `/group/member`, or `/io_worker/group/member`.
pub fn counter(status: &Value, path: &str) -> u64 {
    let value = status.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no {path} in {status}"))
}

/// The sum of a group's counters.
pub fn sum(status: &Value, group: &str) -> u64 {
    let members = status.get(group).and_then(Value::as_object);
    let members = members.unwrap_or_else(|| panic!("no {group} in {status}"));
    members.values().filter_map(Value::as_u64).sum()
}
