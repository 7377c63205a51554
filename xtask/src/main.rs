//! The project's own build commands: `cargo xtask <command>`.
//!
//! One file for each command; [`place`] knows where things lie, [`step`] runs other programs. Must
//! never need anything beyond a Rust toolchain to start.

mod demo;
mod guests;
mod lint;
mod place;
mod step;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Builds and tests Everfold.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the workflow components into target/components/.
    Guests(guests::Args),
    /// Build everything, start the host, send real orders through and show what happens.
    Demo(demo::Args),
    /// Build the components, then run every test of both workspaces.
    Test(test::Args),
    /// Check format, lints and documentation of both workspaces; warnings are errors.
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Guests(args) => guests::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Lint => lint::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            step::exit_code_of(&error)
        }
    }
}
