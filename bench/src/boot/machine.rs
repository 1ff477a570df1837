//! The machines: how each is started, and which of its lines says that the kernel begins.

use super::Boot;
use super::media::{CMDLINE, HELLO, Media};
use super::watch::Watched;
use crate::Outcome;
use crate::machines::media::program;
use nix::sys::stat::Mode;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// QEMU's name in the table.
pub const TCG: &str = "QEMU TCG";
/// Bochs' name in the table.
pub const BOCHS: &str = "Bochs";
/// A boot that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(600);
/// Guest instructions that Bochs takes for a second: about what it does.
const BOCHS_IPS: u32 = 50_000_000;

/// One that is installed.
pub struct Machine {
    /// Its name in the table.
    pub name: &'static str,
    /// What runs the guest's code.
    pub engine: &'static str,
    /// Its version.
    pub version: String,
    /// A boot takes minutes.
    pub slow: bool,
    program: PathBuf,
    arguments: Vec<String>,
    /// In the line after which the kernel runs.
    mark: &'static str,
    /// A FIFO the guest's serial port goes to, if not to standard output.
    serial: Option<PathBuf>,
    /// The name under which `vmapp status` knows it.
    vm: Option<String>,
}

/// One that is not.
pub struct Missing {
    /// Its name in the table.
    pub name: &'static str,
    /// How to get it.
    pub install: &'static str,
}

/// All three, in the order of the table.
pub fn all(root: &Path, work: &Path, media: &Media) -> Outcome<Vec<Result<Machine, Missing>>> {
    Ok(vec![
        worldswitch(root, work, media)?,
        tcg(media),
        bochs(work, media),
    ])
}

impl Machine {
    /// Boots once.
    pub fn boot(&self, work: &Path) -> Outcome<Boot> {
        if let Some(fifo) = &self.serial {
            fs::remove_file(fifo).ok();
            nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
        }
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(work);
        let watched = Watched::start(&mut command, self.serial.clone())?;
        let (init, kernel) = watched
            .wait(HELLO, self.mark, LIMIT)
            .map_err(|error| format!("{}: {error}", self.name))?;
        let kernel = kernel.ok_or_else(|| format!("{} never said `{}`", self.name, self.mark))?;
        Ok(Boot {
            whole: (init - watched.began).as_secs_f64(),
            kernel: (init - kernel).as_secs_f64(),
            instructions: self.vm.as_ref().and_then(|vm| self.instructions(vm)),
        })
    }

    fn instructions(&self, vm: &str) -> Option<u64> {
        let status = Command::new(&self.program)
            .args(["status", vm, "--json"])
            .output()
            .ok()?;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        status.pointer("/guest/instructions")?.as_u64()
    }
}

fn worldswitch(root: &Path, work: &Path, media: &Media) -> Outcome<Result<Machine, Missing>> {
    let program = root.join("target/release/vmapp");
    if !program.is_file() {
        return Ok(Err(Missing {
            name: "Worldswitch interp",
            install: "cargo build --release",
        }));
    }
    let vm = format!("bench-boot-{}", std::process::id());
    let config = work.join("vm.toml");
    fs::write(
        &config,
        format!(
            "name = {vm:?}\n[machine]\nmemory = \"512M\"\nengine = \"interp\"\n[boot]\nkernel = {:?}\ninitrd = {:?}\n\
             cmdline = {CMDLINE:?}\n[console]\nserial = \"stdio\"\n",
            media.vmlinuz, media.initrd
        ),
    )?;
    let arguments = vec!["run".to_owned(), config.display().to_string()];
    Ok(Ok(Machine {
        name: "Worldswitch interp",
        engine: "interp",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slow: false,
        program,
        arguments,
        mark: "engine interp",
        serial: None,
        vm: Some(vm),
    }))
}

fn tcg(media: &Media) -> Result<Machine, Missing> {
    let program = program("qemu-system-x86_64").ok_or(Missing {
        name: TCG,
        install: "apt-get install qemu-system-x86",
    })?;
    let mut arguments =
        words("-accel tcg -m 512 -display none -monitor none -net none -no-reboot -serial stdio");
    // SeaBIOS tells port 0x402 what it does.
    arguments.extend(words("-chardev file,id=firmware,path=/dev/stderr"));
    arguments.extend(words("-device isa-debugcon,iobase=0x402,chardev=firmware"));
    for (option, value) in [("-kernel", &media.vmlinuz), ("-initrd", &media.initrd)] {
        arguments.extend([option.to_owned(), value.display().to_string()]);
    }
    arguments.extend(["-append".to_owned(), CMDLINE.to_owned()]);
    Ok(Machine {
        name: TCG,
        engine: "tcg",
        version: first_line(&program, "--version", "QEMU emulator version "),
        slow: false,
        program,
        arguments,
        mark: "Booting from",
        serial: None,
        vm: None,
    })
}

fn bochs(work: &Path, media: &Media) -> Result<Machine, Missing> {
    let missing = Missing {
        name: BOCHS,
        install: "apt-get install bochs bochsbios vgabios isolinux syslinux-common xorriso",
    };
    // Debian's `bochs` is a script that may ask on the terminal.
    let (Some(program), Some(cd)) = (program("bochs-bin"), &media.cd) else {
        return Err(missing);
    };
    let (configuration, serial) = (work.join("bochsrc"), work.join("serial"));
    let text = format!(
        "display_library: rfb, options=\"timeout=0\"\n\
         memory: guest=512, host=512\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/vgabios/vgabios.bin\n\
         ata0-master: type=cdrom, path={}, status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, mode=file, dev={}\n\
         clock: sync=none\n\
         cpu: count=1, ips={BOCHS_IPS}\n\
         log: bochs.log\n\
         panic: action=fatal\n",
        cd.display(),
        serial.display(),
    );
    // Debian's is built with its debugger, which waits for a command first.
    let go = work.join("bochs.go");
    if fs::write(&configuration, text)
        .and(fs::write(&go, "continue\n"))
        .is_err()
    {
        return Err(missing);
    }
    let mut arguments = words("-q -f");
    arguments.push(configuration.display().to_string());
    arguments.push("-rc".into());
    arguments.push(go.display().to_string());
    Ok(Machine {
        name: BOCHS,
        engine: "bochs",
        version: first_line(&program, "--help", "Bochs x86 Emulator "),
        slow: true,
        program,
        arguments,
        mark: "ISOLINUX",
        serial: Some(serial),
        vm: None,
    })
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What follows `before` in the line of the program's words that holds it.
fn first_line(program: &Path, argument: &str, before: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let Ok(output) = output else {
        return "unknown".into();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let version = text.lines().find_map(|line| line.trim().split_once(before));
    version.map_or("unknown", |(_, rest)| rest.trim()).to_owned()
}
