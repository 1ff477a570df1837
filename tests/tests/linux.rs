//! A stock Debian kernel under the product, with the initramfs of `make demo`: the guest checks itself, the host checks
//! the guest's clock.
//!
//! Says that it skips where the kernel, or an engine that boots it in two minutes, is missing.

use tests::linux::{Linux, host_epoch, passes};
use tests::product::{Vm, skip};

/// How far the guest's date may be from the host's when its line arrives: the RTC has whole seconds, the line comes when
/// it comes.
const DATE_TOLERANCE: u64 = 3;

/// The guest's date in the whole line `selfcheck: rtc: RTC, date DATE` of its output.
fn guest_date(output: &str) -> Option<u64> {
    let (_, rest) = output.split_once("selfcheck: rtc: ")?;
    let (line, _) = rest.split_once('\r')?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_debian_kernel_boots_to_a_shell_finds_its_machine_in_order_and_keeps_the_hosts_time() {
    let linux = match Linux::get() {
        Ok(linux) => linux,
        Err(why) => return skip("linux", why),
    };
    let mut vm = Vm::configured("debian", &linux.config_of_image("debian", "", ""));
    if let Err(why) = vm.fast_engine() {
        return skip("linux", &why);
    }

    vm.wait_for("the prompt", |vm| vm.output().contains("guest:/root# "));
    vm.type_in("echo $((6 * 7)) from $(uname -s)\n");
    vm.wait_for("the answer", |vm| vm.output().contains("42 from Linux"));

    vm.type_in(&format!("sh /selfcheck {}\n", host_epoch()));
    vm.wait_for("the guest's date", |vm| guest_date(&vm.output()).is_some());
    let apart = guest_date(&vm.output()).map_or(u64::MAX, |date| date.abs_diff(host_epoch()));
    vm.type_in("exit\n");
    let status = vm.end();
    let output = vm.output();
    assert!(output.lines().any(|line| line == "selfcheck: ok"), "{output}");
    assert!(apart <= DATE_TOLERANCE, "{apart} s apart\n{output}");
    assert_eq!(status.code(), Some(0), "{output}\n{}", vm.errors());
}

#[test]
fn a_debian_kernel_boots_through_its_real_mode_setup_and_the_bios() {
    let linux = match Linux::get() {
        Ok(linux) => linux,
        Err(why) => return skip("linux-real16", why),
    };
    let config = linux.config_of_image("debian-real16", "selfcheck", "");
    let mut vm = Vm::configured(
        "debian-real16",
        &config.replace("[boot]", "[boot]\nentry = \"real16\""),
    );
    if let Err(why) = vm.fast_engine() {
        return skip("linux-real16", &why);
    }
    passes(&mut vm, "selfcheck");
    let status = vm.end();
    let output = vm.output();
    assert!(
        output.starts_with("\u{1b}[0m\u{1b}[2J"),
        "the setup code sets a video mode\n{output}"
    );
    assert_eq!(status.code(), Some(0), "{output}\n{}", vm.errors());
}
