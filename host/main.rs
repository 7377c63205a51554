//! The binary: command line, settings and the place where the parts are put together.

mod cli;
mod config;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
