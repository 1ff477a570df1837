//! Network card and disk of a stock Debian guest, under every combination of the three `[io]` switches: DHCP and a file
//! over HTTP through `nat`, a file system on a disk; and one that is there again after another boot.
//!
//! Says that it skips where the kernel, or an engine that boots it in two minutes, is missing.

use std::path::Path;
use tests::linux::{Linux, passes};
use tests::network::{noise, serve};
use tests::product::{Vm, skip};

/// The guest's own name for the host's 127.0.0.1.
const HOST: &str = "10.0.2.2";
/// Bytes the guest fetches.
const FILE: usize = 2_000_000;
/// Bytes of the disk.
const DISK: u64 = 16 << 20;

fn sections(disk: &Path, io: &str) -> String {
    format!("[[net]]\nbackend = \"nat\"\n[[disk]]\npath = {disk:?}\n[io]\n{io}")
}

/// The counter `group.what` of a running VM.
fn counter(vm: &Vm, group: &str, what: &str) -> u64 {
    let status = vm.vmapp(&["status", &vm.name, "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    tests::tap::counter(&status, &format!("/{group}/{what}"))
}

/// Network and disk of one machine.
fn network_and_disk(name: &str, io: &str) {
    let linux = match Linux::get() {
        Ok(linux) => linux,
        Err(why) => return skip(name, why),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = folder.path().join("disk.img");
    let image = std::fs::File::create(&disk).expect("a disk image");
    image.set_len(DISK).expect("a sparse file");
    let file = noise(FILE, 1 + io.len() as u64);
    let sum = linux.sha256(&file);
    let port = serve(file);

    let words = format!("netcheck=http://{HOST}:{port}/file,{sum} diskcheck=make shell");
    let mut vm = Vm::configured(name, &linux.config(name, &words, &sections(&disk, io)));
    if let Err(why) = vm.fast_engine() {
        return skip(name, &why);
    }
    passes(&mut vm, "netcheck");
    passes(&mut vm, "diskcheck");
    if io.contains("forward") {
        let calls = counter(&vm, "world_switches", "sync");
        assert!(calls > 1000, "{calls} synchronous calls for all those accesses");
    }
    if io.contains("send_combining = false") {
        assert_eq!(counter(&vm, "combine", "held"), 0);
    }
    // Again from the medium: nothing of it is left in the guest's memory.
    vm.type_in("echo 3 >/proc/sys/vm/drop_caches; sh /diskcheck again\n");
    vm.wait_for("the second verdict of diskcheck", |vm| {
        vm.output().contains("diskcheck: FAILED") || vm.output().matches("diskcheck: ok").count() == 2
    });
    assert!(!vm.output().contains("diskcheck: FAILED"), "{}", vm.output());
    vm.type_in("exit\n");
    assert_eq!(vm.end().code(), Some(0), "{}\n{}", vm.output(), vm.errors());
    assert_eq!(
        disk.metadata().expect("the image").len(),
        DISK,
        "the image's size never changes"
    );
}

#[test]
fn a_disk_is_there_again_after_another_boot_and_an_overlay_leaves_it_alone() {
    let name = "two-boots";
    let linux = match Linux::get() {
        Ok(linux) => linux,
        Err(why) => return skip(name, why),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = folder.path().join("disk.img");
    let image = std::fs::File::create(&disk).expect("a disk image");
    image.set_len(DISK).expect("a sparse file");
    let sections = |mode: &str| format!("[[disk]]\npath = {disk:?}\nmode = {mode:?}");

    let mut vm = Vm::configured(name, &linux.config(name, "diskcheck=make", &sections("overlay")));
    if let Err(why) = vm.fast_engine() {
        return skip(name, &why);
    }
    passes(&mut vm, "diskcheck");
    assert_eq!(vm.end().code(), Some(0), "{}\n{}", vm.output(), vm.errors());
    let base = std::fs::read(&disk).expect("the image");
    assert!(
        base.iter().all(|&byte| byte == 0),
        "an overlay's base is untouched"
    );

    let commit = vm.vmapp(&["disk", "commit", disk.to_str().expect("UTF-8")]);
    assert!(
        commit.status.success(),
        "{}",
        String::from_utf8_lossy(&commit.stderr)
    );
    let mut vm = Vm::configured(name, &linux.config(name, "diskcheck=again", &sections("ro")));
    passes(&mut vm, "diskcheck");
    assert_eq!(vm.end().code(), Some(0), "{}\n{}", vm.output(), vm.errors());
}

macro_rules! matrix {
    ($($name:ident: $ports:literal, $combining:literal, $notify:literal;)*) => { $(
        #[test]
        fn $name() {
            let io = format!(
                "ports = {:?}\nsend_combining = {}\nnotify = {:?}",
                $ports, $combining, $notify
            );
            network_and_disk(&stringify!($name).replace('_', "-"), &io);
        }
    )* };
}

matrix! {
    local_combined_bitmap: "local", true, "bitmap";
    local_combined_select: "local", true, "select";
    local_single_bitmap: "local", false, "bitmap";
    local_single_select: "local", false, "select";
    forward_combined_bitmap: "forward", true, "bitmap";
    forward_combined_select: "forward", true, "select";
    forward_single_bitmap: "forward", false, "bitmap";
    forward_single_select: "forward", false, "select";
}
