//! Debian's iPXE under the product: a program that is entered in real mode, sees the machine through the BIOS and drives
//! the network card by a driver of its own, which polls.
//!
//! Needs `ipxe.lkrn`, which `tests/linux/fetch-ipxe` obtains, in `target/linux`, in the folder that WORLDSWITCH_LINUX names, or
//! where Debian's package puts it; says that it skips where there is none. On a tap it takes root and dnsmasq too.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::linux::Linux;
use tests::network::{enter_namespace, noise, serve};
use tests::product::{GUESTS, Vm, skip};

const TAP: &str = "wsipxe0";
/// The host's end of the tap: DHCP and TFTP server.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The one address its DHCP server has to give.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
/// Bytes of the file fetched by TFTP.
const FILE: usize = 4 << 20;
const PROMPT: &str = "iPXE> ";
/// How much longer than asked for `sleep` may take until its prompt is here: the host is shared.
const SLACK: Duration = Duration::from_secs(3);

fn ipxe() -> Option<PathBuf> {
    let fetched = Path::new(GUESTS).with_file_name("linux");
    let named = std::env::var_os("WORLDSWITCH_LINUX").map(PathBuf::from);
    let folders = named
        .into_iter()
        .chain([fetched, "/boot".into(), "/usr/lib/ipxe".into()]);
    folders
        .map(|folder| folder.join("ipxe.lkrn"))
        .find(|file| file.is_file())
}

/// Starts iPXE; `more` is more lines of the configuration's `[boot]`, and sections.
fn start(name: &str, more: &str) -> Option<Vm> {
    let Some(file) = ipxe() else {
        skip(name, "no ipxe.lkrn; tests/linux/fetch-ipxe obtains it");
        return None;
    };
    let mut vm = Vm::configured(
        name,
        &format!("name = {name:?}\n[machine]\nmemory = \"256M\"\n[boot]\nkernel = {file:?}\n{more}\n"),
    );
    match vm.fast_engine() {
        Ok(()) => Some(vm),
        Err(why) => {
            skip(name, &why);
            None
        }
    }
}

/// Types a command and waits for the prompt behind its answer.
fn command(vm: &mut Vm, line: &str) {
    let prompts = vm.output().matches(PROMPT).count();
    vm.type_in(line);
    vm.wait_for("the next prompt", |vm| {
        vm.output().matches(PROMPT).count() > prompts
    });
}

#[test]
fn ipxe_boots_to_a_shell_on_the_serial_port_and_keeps_time() {
    let Some(mut vm) = start("ipxe", "") else { return };
    vm.wait_for("the invitation", |vm| vm.output().contains("Press Ctrl-B"));
    assert!(vm.output().contains("Open Source Network Boot Firmware"));
    vm.type_in("\x02");
    vm.wait_for("the prompt", |vm| vm.output().contains(PROMPT));

    command(&mut vm, "help\n");
    assert!(vm.output().contains("Available commands:"), "{}", vm.output());
    command(&mut vm, "echo twisting\x7f\x7f\x7f\x7f\x7fce\r");
    assert!(vm.output().contains("\ntwice"), "{}", vm.output());

    let began = Instant::now();
    command(&mut vm, "sleep 2\n");
    let took = began.elapsed();
    let asked = Duration::from_secs(2);
    assert!(took >= asked && took < asked + SLACK, "sleep 2 took {took:?}");

    vm.type_in("exit\n");
    vm.wait_for("the second invitation", |vm| {
        vm.output().matches("Press Ctrl-B").count() > 1 || vm.output().contains("BIOS:")
    });
    let status = vm.end();
    assert!(vm.output().contains("nothing else to boot"), "{}", vm.output());
    assert_eq!(status.code(), Some(0), "{}\n{}", vm.output(), vm.errors());
}

#[test]
fn ipxe_runs_a_script_given_as_initrd() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let script = temp.path().join("boot.ipxe");
    std::fs::write(&script, "#!ipxe\necho the script runs on ${platform}\nexit\n").expect("a script");
    let Some(mut vm) = start("ipxe-script", &format!("initrd = {script:?}")) else {
        return;
    };
    let status = vm.end();
    assert!(
        vm.output().contains("\nthe script runs on pcbios"),
        "{}",
        vm.output()
    );
    assert_eq!(status.code(), Some(0), "{}", vm.errors());
}

/// Writes a script and starts iPXE with it, on this network.
fn start_script(name: &str, folder: &Path, script: &str, net: &str) -> Option<Vm> {
    let path = folder.join("boot.ipxe");
    std::fs::write(&path, script).expect("a script");
    start(name, &format!("initrd = {path:?}\n[[net]]\n{net}"))
}

#[test]
fn ipxe_gets_a_lease_and_a_script_over_http_through_nat() {
    // A script whose last line runs only if all the others came over unbroken.
    let mut fetched = String::from("#!ipxe\n");
    for line in noise(1 << 19, 1).chunks(64) {
        let hexadecimal: String = line.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string grows");
            text
        });
        writeln!(fetched, "# {hexadecimal}").expect("a string grows");
    }
    fetched.push_str("echo the script of 1 MiB ran to its end\n");
    let len = fetched.len();
    let port = serve(fetched.into_bytes());
    let temp = tempfile::tempdir().expect("a temporary folder");
    let script = format!(
        "#!ipxe\ndhcp net0\nshow net0/ip\nimgfetch --name long http://10.0.2.2:{port}/long\nimgstat\nimgexec long\n"
    );
    let Some(mut vm) = start_script("ipxe-nat", temp.path(), &script, "backend = \"nat\"") else {
        return;
    };
    let status = vm.end();
    for line in [
        "net0.dhcp/ip:ipv4 = 10.0.2.15",
        &format!("long : {len} bytes"),
        "\nthe script of 1 MiB ran to its end",
    ] {
        assert!(vm.output().contains(line), "no {line}: {}", vm.output());
    }
    assert_eq!(status.code(), Some(0), "{}\n{}", vm.output(), vm.errors());
}

/// dnsmasq with a DHCP server for one guest and a TFTP server of a folder; ended with the test.
struct Dnsmasq(Child);

impl Dnsmasq {
    fn start(folder: &Path) -> std::io::Result<Self> {
        Command::new("dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root"])
            .args([
                "--pid-file=",
                "--no-ping",
                "--dhcp-authoritative",
                "--enable-tftp",
            ])
            .args(["--bind-interfaces", &format!("--interface={TAP}")])
            .arg(format!("--dhcp-range={GUEST},{GUEST},10m"))
            .arg(format!("--dhcp-leasefile={}", folder.join("leases").display()))
            .arg(format!("--tftp-root={}", folder.display()))
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn ipxe_on_a_tap_gets_a_lease_and_by_tftp_a_file_and_a_linux_that_finds_it_unbroken() {
    // The namespace is this thread's alone.
    std::thread::spawn(|| match enter_namespace(TAP, HOST) {
        Ok(()) => on_a_tap(),
        Err(why) => skip("ipxe-tap", &why),
    })
    .join()
    .expect("the test's thread");
}

fn on_a_tap() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (folder, tftp) = (temp.path(), format!("tftp://{HOST}"));
    let file = noise(FILE, 2);
    std::fs::write(folder.join("file"), &file).expect("a file");
    let mut script = format!("#!ipxe\ndhcp net0\nshow net0/ip\ninitrd {tftp}/file /file\n");
    let linux = Linux::get();
    match linux {
        Ok(linux) => {
            std::fs::copy(linux.image(), folder.join("vmlinuz")).expect("a copy");
            std::fs::copy(linux.initrd(), folder.join("initrd.img")).expect("a copy");
            std::fs::write(folder.join("check"), "sha256sum /file\n").expect("a script for the guest");
            write!(
                script,
                "initrd {tftp}/check /check\ninitrd {tftp}/initrd.img\n\
                 kernel {tftp}/vmlinuz console=ttyS0 quiet panic=-1 run=/check\nimgstat\nboot\n"
            )
            .expect("a string grows");
        }
        Err(why) => {
            skip("ipxe-tap: Linux from the network", why);
            script.push_str("imgstat\n");
        }
    }
    // dnsmasq serves what everybody may read.
    for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
        std::fs::set_permissions(entry.path(), PermissionsExt::from_mode(0o644)).expect("our file");
    }
    let _dnsmasq = match Dnsmasq::start(folder) {
        Ok(dnsmasq) => dnsmasq,
        Err(error) => return skip("ipxe-tap", &format!("dnsmasq: {error}")),
    };
    let net = format!("backend = \"tap\"\ntap = {TAP:?}");
    let Some(mut vm) = start_script("ipxe-tap", folder, &script, &net) else {
        return;
    };
    for line in [
        format!("net0.dhcp/ip:ipv4 = {GUEST}"),
        format!("file : {FILE} bytes"),
    ] {
        vm.wait_for(&line, |vm| vm.output().contains(&line));
    }
    let status = vm.end();
    if let Ok(linux) = linux {
        let sum = format!("{}  /file", linux.sha256(&file));
        assert!(vm.output().contains(&sum), "no {sum}: {}", vm.output());
    }
    assert_eq!(status.code(), Some(0), "{}\n{}", vm.output(), vm.errors());
}
