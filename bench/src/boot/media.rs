//! What is booted: Debian's kernel, an initramfs whose first word is [`HELLO`], and a CD image of both for machines that can
//! start no kernel by themselves.

use crate::Outcome;
use crate::machines::media::{kernel, program, run as done};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Init's first line.
pub const HELLO: &str = "bench: here is init";
/// The kernel's command line. 115200 baud: Bochs' port takes a character's time for a character.
pub const CMDLINE: &str = "console=ttyS0,115200 quiet panic=-1 run=/hello";
/// ISOLINUX and its library, as Debian's packages isolinux and syslinux-common put them.
const LOADER: [&str; 2] = [
    "/usr/lib/ISOLINUX/isolinux.bin",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
];

/// See the module.
pub struct Media {
    /// Package and version of the kernel.
    pub kernel: String,
    /// The bzImage.
    pub vmlinuz: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The CD image; `None`: no boot loader or no program to make it.
    pub cd: Option<PathBuf>,
}

impl Media {
    /// From what `tests/linux/fetch` obtained, in the folder `work`.
    pub fn make(root: &Path, work: &Path) -> Outcome<Self> {
        let vmlinuz = root.join("target/linux/vmlinuz");
        if !vmlinuz.is_file() {
            return Err(format!("no {}; tests/linux/fetch obtains it", vmlinuz.display()).into());
        }
        let (extra, initrd) = (work.join("extra"), work.join("cd/initrd.img"));
        fs::create_dir_all(&extra)?;
        fs::create_dir_all(work.join("cd/isolinux"))?;
        // It stays up to be asked for its counters: the measurement ends it.
        fs::write(extra.join("hello"), format!("echo '{HELLO}'\nsleep 600\n"))?;
        done(Command::new(root.join("tests/linux/initrd")).args([&initrd, &extra]))?;
        Ok(Self {
            kernel: kernel(&root.join("target/linux")),
            cd: cd(work, &vmlinuz)?,
            vmlinuz,
            initrd,
        })
    }
}

fn cd(work: &Path, vmlinuz: &Path) -> Outcome<Option<PathBuf>> {
    let content = work.join("cd");
    let Some(xorriso) = program("xorriso").filter(|_| LOADER.iter().all(|file| Path::new(file).is_file()))
    else {
        return Ok(None);
    };
    for file in LOADER.map(Path::new) {
        fs::copy(
            file,
            content.join("isolinux").join(file.file_name().ok_or("no name")?),
        )?;
    }
    fs::copy(vmlinuz, content.join("vmlinuz"))?;
    fs::write(
        content.join("isolinux/isolinux.cfg"),
        format!(
            "SERIAL 0 115200\nDEFAULT linux\nPROMPT 0\nLABEL linux\n KERNEL /vmlinuz\n INITRD /initrd.img\n APPEND {CMDLINE}\n"
        ),
    )?;
    let image = work.join("boot.iso");
    done(
        Command::new(xorriso)
            .args(["-as", "mkisofs", "-quiet", "-o"])
            .arg(&image)
            .args([
                "-b",
                "isolinux/isolinux.bin",
                "-c",
                "isolinux/boot.cat",
                "-no-emul-boot",
            ])
            .args(["-boot-load-size", "4", "-boot-info-table"])
            .arg(&content),
    )?;
    Ok(Some(image))
}
