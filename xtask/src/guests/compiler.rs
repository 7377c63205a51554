//! Finds a compiler for `wasm32-unknown-unknown`.
//!
//! ```text
//! the target is installed ─▶ a compiler was unpacked before ─▶ `rustup target add` works
//!   ─▶ Debian's packages can be fetched ─▶ an error that names the remedies
//! ```

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::debian;
use super::environment::clean_command;
use crate::place;
use crate::step::{output, run_within, say};

pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// `rustup` is given this long: where it cannot reach its server it may try for ever.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// A way to a compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Route {
    /// The host's compiler, which has the target already.
    Installed,
    /// The host's compiler, and `rustup target add`.
    Rustup,
    /// Debian's packages, unpacked under target/ and not installed.
    Debian,
}

/// A compiler that can build the guests.
pub(super) enum Compiler {
    /// The host's own.
    Host,
    /// One that was unpacked, without a standard library for the target: that is built too.
    Unpacked(Unpacked),
}

/// A compiler under `target/`, and what it needs from outside.
pub(super) struct Unpacked {
    pub(super) rustc: PathBuf,
    pub(super) libraries: Vec<PathBuf>,
    /// The host toolchain's `rust-lld`; the unpacked compiler has none.
    pub(super) linker: PathBuf,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => write!(f, "the installed one has {TARGET}"),
            Self::Unpacked(unpacked) => write!(f, "{}", place::shown(&unpacked.rustc)),
        }
    }
}

/// Finds a compiler by that route, or by the first one that works.
///
/// # Errors
///
/// When there is none. The error says what was tried and what a person can do.
pub(super) fn find(route: Option<Route>) -> Result<Compiler> {
    match route {
        Some(Route::Installed) => match installed()? {
            Some(compiler) => Ok(compiler),
            None => bail!("the installed compiler does not have {TARGET}"),
        },
        Some(Route::Rustup) => rustup(),
        Some(Route::Debian) => debian(),
        None => search(),
    }
}

fn search() -> Result<Compiler> {
    if let Some(compiler) = installed()? {
        return Ok(compiler);
    }
    if let Some(sysroot) = debian::unpacked_before() {
        return unpacked(&sysroot);
    }
    say(format!("guests: the installed compiler does not have {TARGET}; asking rustup for it"));
    let by_rustup = match rustup() {
        Ok(compiler) => return Ok(compiler),
        Err(error) => error,
    };
    say(format!("guests: that failed ({by_rustup:#}); trying Debian's packages"));
    let by_debian = match debian() {
        Ok(compiler) => return Ok(compiler),
        Err(error) => error,
    };
    Err(anyhow!(
        "no compiler for {TARGET}\n\
         \x20 rustup: {by_rustup:#}\n\
         \x20 Debian's packages: {by_debian:#}\n\
         One of these helps:\n\
         \x20 - `rustup target add {TARGET}`, with a connection to rustup's server\n\
         \x20 - your distribution's package of that target, such as `rust-std-static-{TARGET}`\n\
         \x20 - on Debian or Ubuntu: `apt-get update`, with a release that has {}",
        debian::PACKAGES[0],
    ))
}

/// The host's compiler, if its sysroot holds a standard library for the target.
fn installed() -> Result<Option<Compiler>> {
    let libraries = rustc(&["--print", "target-libdir", "--target", TARGET])?;
    let Ok(entries) = Path::new(&libraries).read_dir() else {
        return Ok(None);
    };
    let has_std = entries.flatten().any(|entry| is_std(&entry.file_name()));
    Ok(has_std.then_some(Compiler::Host))
}

fn is_std(file_name: &OsString) -> bool {
    let name = file_name.to_string_lossy();
    name.starts_with("libstd-") && name.ends_with(".rlib")
}

fn rustup() -> Result<Compiler> {
    let mut rustup = clean_command("rustup");
    rustup.args(["target", "add", TARGET]).current_dir(place::guest_workspace());
    run_within(&mut rustup, RUSTUP_LIMIT)?;
    match installed()? {
        Some(compiler) => Ok(compiler),
        None => bail!("rustup added {TARGET}, but not to the compiler that cargo uses here"),
    }
}

fn debian() -> Result<Compiler> {
    match debian::unpacked_before() {
        Some(sysroot) => unpacked(&sysroot),
        None => unpacked(&debian::unpack()?),
    }
}

fn unpacked(sysroot: &Path) -> Result<Compiler> {
    Ok(Compiler::Unpacked(Unpacked {
        rustc: sysroot.join("bin/rustc"),
        libraries: debian::libraries(sysroot)?,
        linker: rust_lld()?,
    }))
}

/// The linker that comes with the host's toolchain.
fn rust_lld() -> Result<PathBuf> {
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
    let triple = rustc(&["--print", "host-tuple"])?;
    let linker = sysroot.join("lib/rustlib").join(triple).join("bin/rust-lld");
    if linker.is_file() {
        return Ok(linker);
    }
    bail!("the installed toolchain has no linker at {}", linker.display())
}

/// What the compiler that cargo uses in the guests' workspace answers.
fn rustc(args: &[&str]) -> Result<String> {
    let mut rustc = clean_command("rustc");
    rustc.args(args).current_dir(place::guest_workspace());
    output(&mut rustc).context("the installed compiler cannot be asked")
}
