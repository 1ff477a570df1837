//! A stock Debian kernel as guest, with the initramfs of `make demo`: what the boot and device tests share.
//!
//! Needs what `tests/linux/fetch` obtains, in `target/linux` or the folder that WORLDSWITCH_LINUX names.

use crate::product::{GUESTS, Vm};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The kernel, the busybox and an initramfs of this tree's scripts as they are now, with the drivers of the devices.
pub struct Linux {
    folder: PathBuf,
    made: TempDir,
}

impl Linux {
    /// Made once for all tests of a program; the error says what is missing.
    pub fn get() -> Result<&'static Self, &'static str> {
        static MADE: OnceLock<Result<Linux, String>> = OnceLock::new();
        MADE.get_or_init(Self::make).as_ref().map_err(String::as_str)
    }

    fn make() -> Result<Self, String> {
        let folder = std::env::var_os("WORLDSWITCH_LINUX")
            .map_or_else(|| Path::new(GUESTS).with_file_name("linux"), PathBuf::from);
        for file in ["vmlinuz", "busybox", "packages"] {
            let file = folder.join(file);
            if !file.exists() {
                let file = file.display();
                return Err(format!("no {file}; `make demo` or tests/linux/fetch obtains it"));
            }
        }
        let made = tempfile::tempdir().map_err(|error| error.to_string())?;
        let modules = made.path().join("modules");
        run_script(&folder, "linux/modules", &[&modules]);
        run_script(
            &folder,
            "linux/initrd",
            &[&made.path().join("initrd.img"), &modules],
        );
        Ok(Self { folder, made })
    }

    /// The kernel as its package has it: a bzImage.
    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The kernel, unpacked where that was possible: a boot takes a third of the time.
    pub fn kernel(&self) -> PathBuf {
        let unpacked = self.folder.join("vmlinux");
        if unpacked.exists() { unpacked } else { self.image() }
    }

    /// The initramfs.
    pub fn initrd(&self) -> PathBuf {
        self.made.path().join("initrd.img")
    }

    /// busybox, which runs on the host too.
    pub fn busybox(&self) -> Command {
        Command::new(self.folder.join("busybox"))
    }

    /// A machine's file: the kernel with these words on its command line, and the sections given.
    pub fn config(&self, name: &str, words: &str, sections: &str) -> String {
        self.config_of(&self.kernel(), name, words, sections)
    }

    /// The same for [`image`](Self::image).
    pub fn config_of_image(&self, name: &str, words: &str, sections: &str) -> String {
        self.config_of(&self.image(), name, words, sections)
    }

    fn config_of(&self, kernel: &Path, name: &str, words: &str, sections: &str) -> String {
        format!(
            "name = {name:?}\n[machine]\nmemory = \"256M\"\non_reset = \"exit\"\n\
             [boot]\nkernel = {:?}\ninitrd = {:?}\ncmdline = \"console=ttyS0 quiet panic=-1 {words}\"\n{sections}\n",
            kernel,
            self.initrd(),
        )
    }

    /// SHA-256 of a file's bytes, in hexadecimal.
    pub fn sha256(&self, bytes: &[u8]) -> String {
        use std::io::Write;
        let mut child = self
            .busybox()
            .arg("sha256sum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("busybox runs");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(bytes)
            .expect("busybox reads");
        let output = child.wait_with_output().expect("busybox ends");
        String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

fn run_script(linux: &Path, script: &str, args: &[&Path]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let made = Command::new(&script)
        .args(args)
        .env("WORLDSWITCH_LINUX", linux)
        .output()
        .expect("bash runs");
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{}: {errors}", script.display());
}

/// Seconds since 1970 by the host's clock.
pub fn host_epoch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a date after 1970").as_secs()
}

/// Waits for a guest's verdict on one of its checks and asserts that it is `CHECK: ok`.
pub fn passes(vm: &mut Vm, check: &str) {
    let verdict = |vm: &Vm| {
        let output = vm.output();
        let mut lines = output.lines().map(|line| line.trim_end_matches('\r'));
        lines
            .find(|line| *line == format!("{check}: ok") || line.starts_with(&format!("{check}: FAILED")))
            .map(str::to_owned)
    };
    vm.wait_for(&format!("the verdict of {check}"), |vm| verdict(vm).is_some());
    assert_eq!(verdict(vm), Some(format!("{check}: ok")), "{}", vm.output());
}
