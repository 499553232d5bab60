//! calltap's command line.

fn main() -> std::process::ExitCode {
    calltap::cli::main()
}
