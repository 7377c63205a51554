//! The binary: command line, settings and the place where the parts are put together.

mod cli;
mod config;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Steps allocate on one thread and free on another all the time, which glibc's allocator pays for with a
/// quarter of the host's processor time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
