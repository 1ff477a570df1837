//! Builds the agent, the program at the measured end, as a static Linux program with the Rust toolchain alone, and tells
//! `bench` by `env!("AGENT")` where it is.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let var = |name: &str| PathBuf::from(env::var_os(name).expect("set by cargo"));
    let agent = var("OUT_DIR").join("agent");
    let done = Command::new(var("RUSTC"))
        .args([
            "--edition=2024",
            "--crate-name=agent",
            "-Dwarnings",
            "-Cpanic=abort",
            "-Copt-level=2",
            "-Cstrip=symbols",
            "-Ctarget-feature=+crt-static",
        ])
        .arg(var("CARGO_MANIFEST_DIR").join("agent/main.rs"))
        .arg("-o")
        .arg(&agent)
        .status()
        .expect("rustc runs");
    assert!(done.success(), "the agent does not build");
    println!("cargo:rustc-env=AGENT={}", agent.display());
    println!("cargo:rustc-env=RUSTC_VERSION={}", version(&var("RUSTC")));
    println!("cargo:rerun-if-changed=agent");
    println!("cargo:rerun-if-changed=build.rs");
}

fn version(rustc: &PathBuf) -> String {
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
