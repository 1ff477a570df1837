fn main() -> std::process::ExitCode {
    vmapp::cli::main()
}
