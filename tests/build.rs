//! Builds the bare-metal guests of `guests/` with the Rust toolchain alone: rustc, and the linker and objcopy it ships.
//!
//! They go to `guests/` in the target directory, whatever the profile; tests find that folder by `env!("GUESTS_DIR")`.
//! What is made of each guest is a table, below. See `guests/README.md` for why the options are what they are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Guests in long mode, linked with `rt`: name and root source.
const LONG: &[(&str, &str)] = &[
    ("disk", "disk.rs"),
    ("hello", "hello.rs"),
    ("platform", "platform/main.rs"),
    ("reset", "reset.rs"),
    ("system", "system/main.rs"),
];

/// Flat real-mode images.
const FLAT: &[(&str, &str)] = &[
    ("realmode", "flat/realmode.rs"),
    ("protected", "flat/protected.rs"),
];

/// Programs for a Linux guest.
const LINUX: &[(&str, &str)] = &[("udp", "udp.rs"), ("witness", "witness/main.rs")];

const OPTIONS: &[&str] = &[
    "--edition=2024",
    "--cap-lints=warn",
    "-Cpanic=abort",
    "-Copt-level=2",
    "-Ccodegen-units=1",
    "-Crelocation-model=static",
    "-Cno-redzone=y",
    "-Ctarget-feature=-sse",
];

fn main() {
    let build = Build::new();
    build.rustc(&[
        "--crate-type=rlib",
        "--crate-name=rt",
        "rt/lib.rs",
        "-o",
        &build.temp("librt.rlib"),
    ]);
    let rt = format!("rt={}", build.temp("librt.rlib"));
    for (name, source) in LONG {
        let elf = build.temp(name);
        build.link(source, "link/long.ld", &elf, &["--extern", &rt]);
        build.publish(
            &format!("{name}.elf"),
            &build.convert(&["-O", "elf32-i386"], &elf),
        );
    }
    // The first guest by the other ways in, too: without its Multiboot header it is PVH's, and with a setup header in
    // front of its memory image it is a Linux kernel.
    let hello = build.temp("hello");
    build.publish(
        "hello-pvh.elf",
        &build.convert(&["--remove-section=.head"], &hello),
    );
    let payload = build.convert(&["-O", "binary"], &hello);
    build.publish("hello.bzimage", &bzimage(&payload));
    for (name, source) in FLAT {
        let elf = build.temp(name);
        build.link(source, "link/flat.ld", &elf, &[]);
        build.publish(&format!("{name}.bin"), &build.convert(&["-O", "binary"], &elf));
    }
    for (name, source) in LINUX {
        build.publish(name, &build.linux_program(&format!("../linux/{source}")));
    }
    println!("cargo:rustc-env=GUESTS_DIR={}", build.guests.display());
    println!("cargo:rerun-if-changed=guests");
    println!("cargo:rerun-if-changed=linux/udp.rs");
    println!("cargo:rerun-if-changed=linux/witness");
    println!("cargo:rerun-if-changed=build.rs");
}

/// A Linux kernel image around `payload`, which runs at 2 MiB and is entered 200h behind (Linux
/// Documentation/arch/x86/boot.rst): the setup header's mandatory fields, and no real-mode code.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0u8; 1024];
    let fields: &[(usize, &[u8])] = &[
        (0x1f1, &[1]),                                       // setup_sects
        (0x1f4, &(payload.len() as u32 / 16).to_le_bytes()), // syssize
        (0x1fe, &[0x55, 0xaa]),
        (0x200, &[0xeb, 0x66]), // jump: the header ends at 268h
        (0x202, b"HdrS"),
        (0x206, &0x020cu16.to_le_bytes()),
        (0x211, &[1]),                          // loadflags: LOADED_HIGH
        (0x22c, &0x7fff_ffffu32.to_le_bytes()), // initrd_addr_max
        (0x230, &0x20_0000u32.to_le_bytes()),   // kernel_alignment
        (0x236, &1u16.to_le_bytes()),           // xloadflags: XLF_KERNEL_64
        (0x238, &2047u32.to_le_bytes()),        // cmdline_size
        (0x258, &0x20_0000u64.to_le_bytes()),   // pref_address
        (0x260, &0x10_0000u32.to_le_bytes()),   // init_size
    ];
    for (at, bytes) in fields {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    image.extend_from_slice(payload);
    image
}

struct Build {
    rustc: PathBuf,
    sysroot: PathBuf,
    /// rust-lld and rust-objcopy.
    tools: PathBuf,
    sources: PathBuf,
    out: PathBuf,
    guests: PathBuf,
}

impl Build {
    fn new() -> Self {
        let var = |name: &str| PathBuf::from(env::var_os(name).expect("set by cargo"));
        let rustc = var("RUSTC");
        let out = var("OUT_DIR");
        let sysroot = PathBuf::from(run(Command::new(&rustc).args(["--print", "sysroot"])).trim());
        let tools = sysroot.join("lib/rustlib").join(var("HOST")).join("bin");
        // OUT_DIR is <target>/<profile>/build/<package>/out.
        let profile = out.ancestors().nth(3).expect("cargo's layout of OUT_DIR");
        let guests = profile.with_file_name("guests");
        fs::create_dir_all(&guests).expect("the target directory can be written");
        Self {
            rustc,
            sysroot,
            tools,
            sources: var("CARGO_MANIFEST_DIR").join("guests"),
            out,
            guests,
        }
    }

    /// A file of this build.
    fn temp(&self, name: &str) -> String {
        self.out.join(name).display().to_string()
    }

    fn rustc(&self, arguments: &[&str]) {
        run(Command::new(&self.rustc)
            .current_dir(&self.sources)
            .args(OPTIONS)
            .args(arguments));
    }

    fn link(&self, source: &str, script: &str, to: &str, more: &[&str]) {
        let linker = format!("-Clinker={}", self.tools.join("rust-lld").display());
        let script = format!("-Clink-arg=-T{script}");
        let arguments = [source, "-o", to, &linker, "-Clinker-flavor=ld.lld", &script];
        self.rustc(&[&arguments, more].concat());
    }

    /// A program for a Linux guest, which has no C library: static.
    fn linux_program(&self, source: &str) -> Vec<u8> {
        let program = self.temp("program");
        run(Command::new(&self.rustc).current_dir(&self.sources).args([
            "--edition=2024",
            "-Cpanic=abort",
            "-Copt-level=2",
            "-Cstrip=symbols",
            "-Ctarget-feature=+crt-static",
            source,
            "-o",
            &program,
        ]));
        fs::read(&program).expect("rustc wrote it")
    }

    /// Another format of a linked guest.
    fn convert(&self, options: &[&str], from: &str) -> Vec<u8> {
        let temp = self.temp("converted");
        // The tool finds LLVM's library only where rustc would look for it.
        run(Command::new(self.tools.join("rust-objcopy"))
            .env("LD_LIBRARY_PATH", self.sysroot.join("lib"))
            .args(options)
            .args([from, &temp]));
        fs::read(&temp).expect("objcopy wrote it")
    }

    /// Puts a guest in place at once, and only if it changed: a test of another profile may be running it.
    fn publish(&self, name: &str, content: &[u8]) {
        let place = self.guests.join(name);
        if fs::read(&place).is_ok_and(|old| old == content) {
            return;
        }
        let temp = self.out.join(format!("{name}.new"));
        fs::write(&temp, content).expect("OUT_DIR can be written");
        fs::rename(&temp, place).expect("one file system holds the target directory");
    }
}

/// Runs a tool; its standard output. What it says on failure is the build's failure.
fn run(command: &mut Command) -> String {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {name}: {e}"));
    assert!(
        output.status.success(),
        "{name} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
