//! The privileged worker of Worldswitch: runs the guest. Started by `vmapp run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vmm::machine::main()
}
