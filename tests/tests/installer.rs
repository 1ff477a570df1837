//! Debian's installer, kernel and initrd as Debian ships them: it finds the network card by its own means, gets a lease
//! from `backend = "nat"`, asks its first question and fetches the answer from the host.
//!
//! Needs what `tests/linux/fetch-installer` obtains, in `target/linux/installer`; says that it skips without.

use std::path::Path;
use std::time::Instant;
use tests::network::serve;
use tests::product::{GUESTS, Vm, skip};

/// What ends the installer: it runs the first command of the file that it is told to fetch.
const PRESEED: &str =
    "d-i preseed/early_command string echo preseeded from the host >/dev/ttyS0; poweroff -f\n";
/// Keys of `screen`, in which the installer runs on a serial port.
const TO_THE_SHELL: &str = "\x012";
const TO_THE_INSTALLER: &str = "\x011";

#[test]
fn debians_installer_gets_a_lease_on_the_card_it_detects_and_asks_its_first_question() {
    let folder = Path::new(GUESTS).with_file_name("linux").join("installer");
    let (kernel, initrd) = (folder.join("linux"), folder.join("initrd.gz"));
    if !kernel.is_file() || !initrd.is_file() {
        let why = "tests/linux/fetch-installer, called by `make installer`, obtains it (130 MB)";
        return skip("installer", why);
    }
    // With less than 780 MB it asks whether to go on in its low memory mode. Automatic, and with nothing asked that has
    // a default, it configures the network first and then has one question.
    let config = format!(
        "name = \"installer\"\n[machine]\nmemory = \"1G\"\n[boot]\nkernel = {kernel:?}\ninitrd = {initrd:?}\n\
         cmdline = \"console=ttyS0 DEBIAN_FRONTEND=text auto=true priority=critical\"\n[[net]]\nbackend = \"nat\"\n"
    );
    let mut vm = Vm::configured("installer", &config);
    if let Err(why) = vm.fast_engine() {
        return skip("installer", &why);
    }
    let began = Instant::now();
    let wait = |vm: &mut Vm, text: &str| {
        vm.wait_for(text, |vm| vm.output().contains(text));
        println!("after {:3} s: {text}", began.elapsed().as_secs());
    };
    wait(&mut vm, "registered as PCnet/PCI II 79C970A");
    wait(&mut vm, "Detecting network hardware");
    wait(&mut vm, "Configuring the network with DHCP");
    wait(&mut vm, "Location of initial preconfiguration file:");

    vm.type_in(TO_THE_SHELL);
    wait(&mut vm, "built-in shell (ash)");
    vm.type_in("ip -4 addr; readlink /sys/class/net/*/device/driver\n");
    wait(&mut vm, "inet 10.0.2.15/24");
    wait(&mut vm, "drivers/pcnet32");

    let port = serve(PRESEED.into());
    vm.type_in(TO_THE_INSTALLER);
    vm.type_in(&format!("http://10.0.2.2:{port}/preseed.cfg\n"));
    wait(&mut vm, "preseeded from the host");
    assert_eq!(vm.end().code(), Some(0), "{}\n{}", vm.output(), vm.errors());
}
