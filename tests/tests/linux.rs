//! A stock Debian kernel under the product, with the initramfs of `make demo`: the guest checks itself, the host checks
//! the guest's clock.
//!
//! Needs what `tests/linux/fetch` obtains, in `target/linux` or the folder that WORLDSWITCH_LINUX names, and an engine
//! that boots a kernel in two minutes; says that it skips where one is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tests::product::{GUESTS, Vm, skip};

/// One kernel at a time: a software engine takes a core for itself, and the waits are for one that has it.
static TURN: Mutex<()> = Mutex::new(());

/// How far the guest's date may be from the host's when its line arrives: the RTC has whole seconds, the line comes when
/// it comes.
const DATE_TOLERANCE: u64 = 3;

/// Folder with `vmlinuz` and `busybox`.
fn linux() -> Result<PathBuf, String> {
    let folder = std::env::var_os("WORLDSWITCH_LINUX")
        .map_or_else(|| Path::new(GUESTS).with_file_name("linux"), PathBuf::from);
    for file in ["vmlinuz", "busybox"] {
        let file = folder.join(file);
        if !file.is_file() {
            return Err(format!(
                "no {}; `make demo` or tests/linux/fetch obtains it",
                file.display()
            ));
        }
    }
    Ok(folder)
}

/// An initramfs of this tree's scripts as they are now.
fn initrd(folder: &Path, output: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("linux/initrd");
    let made = Command::new(script)
        .arg(output)
        .env("WORLDSWITCH_LINUX", folder)
        .output()
        .expect("bash runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn host_epoch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a date after 1970").as_secs()
}

/// The machine of `examples/debian.toml` with files from elsewhere; a kernel that panics ends it. `more` goes to its boot
/// section, `words` to its command line.
fn config(kernel: &Path, initrd: &Path, more: &str, words: &str) -> String {
    let example = include_str!("../../examples/debian.toml");
    let line = |line: &str| match line.split(' ').next() {
        Some("kernel") => format!("kernel = {kernel:?}\n{more}\n"),
        Some("initrd") => format!("initrd = {initrd:?}\n"),
        Some("cmdline") => format!("cmdline = \"console=ttyS0 quiet panic=-1 {words}\"\n"),
        Some("[machine]") => "[machine]\non_reset = \"exit\"\n".to_owned(),
        _ => format!("{line}\n"),
    };
    example.lines().map(line).collect()
}

/// The guest's date in the whole line `selfcheck: rtc: RTC, date DATE` of its output.
fn guest_date(output: &str) -> Option<u64> {
    let (_, rest) = output.split_once("selfcheck: rtc: ")?;
    let (line, _) = rest.split_once('\r')?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_debian_kernel_boots_to_a_shell_finds_its_machine_in_order_and_keeps_the_hosts_time() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = match linux() {
        Ok(folder) => folder,
        Err(why) => return skip("linux", &why),
    };
    let temp = tempfile::tempdir().expect("a temporary folder");
    let image = temp.path().join("initrd.img");
    initrd(&folder, &image);
    let mut vm = Vm::configured("debian", &config(&folder.join("vmlinuz"), &image, "", ""));
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
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = match linux() {
        Ok(folder) => folder,
        Err(why) => return skip("linux-real16", &why),
    };
    let temp = tempfile::tempdir().expect("a temporary folder");
    let image = temp.path().join("initrd.img");
    initrd(&folder, &image);
    let entry = "entry = \"real16\"";
    let text = config(&folder.join("vmlinuz"), &image, entry, "selfcheck");
    let mut vm = Vm::configured("debian-real16", &text);
    if let Err(why) = vm.fast_engine() {
        return skip("linux-real16", &why);
    }
    let status = vm.end();
    let output = vm.output();
    assert!(
        output.starts_with("\u{1b}[0m\u{1b}[2J"),
        "the setup code sets a video mode\n{output}"
    );
    assert!(
        output.lines().any(|line| line.trim_end() == "selfcheck: ok"),
        "{output}"
    );
    assert_eq!(status.code(), Some(0), "{output}\n{}", vm.errors());
}
