//! `cargo xtask test`: everything that a change must pass.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::guests::environment::clean_command;
use crate::step::run as step;
use crate::{guests, place};

/// What the command takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    guests: guests::Args,

    /// Handed on to the host's `cargo test --workspace`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo_test: Vec<OsString>,
}

/// Builds the components, then tests the host's workspace, then the guests' natively.
pub(crate) fn run(args: &Args) -> Result<()> {
    guests::run(&args.guests)?;
    step(
        Command::new("cargo").args(["test", "--workspace"]).args(&args.cargo_test).current_dir(place::root()),
    )?;
    step(
        clean_command("cargo")
            .args(["test", "--workspace", "--locked"])
            .current_dir(place::guest_workspace())
            .env("CARGO_TARGET_DIR", place::guest_target_dir()),
    )
}
