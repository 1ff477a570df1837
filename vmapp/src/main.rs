//! The `vmapp` command; see [`vmapp`].

fn main() -> std::process::ExitCode {
    vmapp::cli::main()
}
