//! `cargo xtask guests`: builds the guest workspace into components, one `target/components/NAME.wasm`
//! for each.
//!
//! Four parts: [`compiler`] finds a compiler for the wasm target, [`build`] runs cargo with it, [`lines`]
//! leaves the line tables of our own sources alone, and [`component`] makes components of the core modules.

mod build;
mod compiler;
mod component;
mod debian;
pub(crate) mod environment;
mod lines;

use anyhow::Result;

use compiler::Route;

use crate::place;
use crate::step::say;

/// What the command takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Take this way to a compiler, instead of the first one that works.
    #[arg(long, value_enum, env = "EVERFOLD_GUEST_COMPILER")]
    compiler: Option<Route>,
}

/// Builds every component.
pub(crate) fn run(args: &Args) -> Result<()> {
    let compiler = compiler::find(args.compiler)?;
    say(format!("guests: compiler: {compiler}"));
    for module in build::modules(&compiler)? {
        let component = component::make(&module)?;
        let path = place::shown(&component.path);
        say(format!("guests: {path}: {} KB, {}", component.bytes / 1024, component.change));
    }
    Ok(())
}
