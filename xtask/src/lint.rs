//! `cargo xtask lint`: format, lints and documentation of both workspaces; warnings are errors.

use std::process::Command;

use anyhow::Result;

use crate::guests::environment::clean_command;
use crate::place;
use crate::step::run as step;

/// Checks the host's workspace, then the guests'.
pub(crate) fn run() -> Result<()> {
    check(|| {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(place::root());
        cargo
    })?;
    check(|| {
        let mut cargo = clean_command("cargo");
        cargo.current_dir(place::guest_workspace());
        cargo.env("CARGO_TARGET_DIR", place::guest_target_dir());
        cargo
    })
}

fn check(cargo: impl Fn() -> Command) -> Result<()> {
    step(cargo().args(["fmt", "--all", "--check"]))?;
    step(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step(
        cargo()
            .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}
