//! calltap's command line.

/// musl's own allocator has one lock for all threads; static binaries are built with musl.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    calltap::cli::main()
}
