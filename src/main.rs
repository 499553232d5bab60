//! calltap's command line.

/// glibc's keeps what each thread needed at its worst, musl's has one lock for all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    calltap::cli::main()
}
