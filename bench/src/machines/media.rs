//! What the guests boot: Debian's kernel, as it is, and an initramfs with its drivers and our agent; and the product itself,
//! built for release. Whatever is missing is made or fetched, and that is said.

use crate::Outcome;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The agent, as `build.rs` made it.
pub const AGENT: &str = env!("AGENT");

/// See the module.
#[derive(Debug)]
pub struct Media {
    /// Package and version of the kernel.
    pub kernel: String,
    /// It unpacked, where that was possible, else the bzImage: unpacking it is most of a boot on an interpreter, and no part
    /// of what is measured here.
    pub vmlinux: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// busybox, which runs on the host too.
    pub busybox: PathBuf,
    /// `vmapp` of this tree.
    pub vmapp: PathBuf,
}

impl Media {
    /// Everything, fetched and made where it is not there.
    pub fn make() -> Outcome<Self> {
        let root = root()?;
        let vmapp = product(&root)?;
        let linux = root.join("target/linux");
        if !["vmlinuz", "busybox", "packages"]
            .iter()
            .all(|file| linux.join(file).exists())
        {
            eprintln!("bench: tests/linux/fetch obtains Debian's kernel and busybox (75 MB, once)");
        }
        // Which does nothing when all is there.
        run(&mut Command::new(root.join("tests/linux/fetch")))?;
        let (packed, unpacked) = (linux.join("vmlinuz"), linux.join("vmlinux"));
        let work = root.join("target/bench/media");
        let (modules, extra, initrd) = (work.join("modules"), work.join("extra"), work.join("initrd.img"));
        fs::create_dir_all(extra.join("bin"))?;
        fs::copy(AGENT, extra.join("bin/agent"))?;
        fs::write(
            extra.join("bench"),
            "for word in $(cat /proc/cmdline); do\n    case $word in agent=*) agent \"${word#*=}\" ;; esac\ndone\n",
        )?;
        run(Command::new(root.join("tests/linux/modules")).arg(&modules))?;
        run(Command::new(root.join("tests/linux/initrd")).args([&initrd, &modules, &extra]))?;
        Ok(Self {
            kernel: kernel(&linux),
            vmlinux: if unpacked.exists() { unpacked } else { packed },
            busybox: linux.join("busybox"),
            initrd,
            vmapp,
        })
    }
}

/// Package and version of the kernel that is in `linux`.
pub fn kernel(linux: &Path) -> String {
    let versions = fs::read_to_string(linux.join("versions")).unwrap_or_default();
    let first = versions.lines().next();
    first.unwrap_or("a kernel of the user's own").to_owned()
}

/// The tree.
pub fn root() -> Outcome<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?)
}

/// Builds `vmapp` and `vmm` for release, as a user would have them; cargo sees by itself that they are up to date.
pub fn product(root: &Path) -> Outcome<PathBuf> {
    let vmapp = root.join("target/release/vmapp");
    if !vmapp.is_file() {
        eprintln!("bench: builds vmapp and vmm for release");
    }
    run(Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "-p",
            "vmapp",
            "-p",
            "vmm",
            "--bins",
        ])
        .arg("--target-dir")
        .arg(root.join("target"))
        .current_dir(root))?;
    Ok(vmapp)
}

/// The path of a program that is needed, if it is there.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Runs a command to its end; what it says on failure is the error.
pub fn run(command: &mut Command) -> Outcome<()> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
