//! Runs cargo over the guests' workspace, so that the same sources give the same bytes in every
//! checkout.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::compiler::{Compiler, TARGET, Unpacked};
use super::environment::clean_command;
use crate::place;
use crate::step::run_and_read;

/// Builds the workspace, and gives the core module of each component.
pub(super) fn modules(compiler: &Compiler) -> Result<Vec<PathBuf>> {
    let mut cargo = clean_command("cargo");
    cargo
        .args(["build", "--release", "--locked", "--workspace", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(place::guest_workspace())
        .env("CARGO_TARGET_DIR", place::guest_target_dir())
        .env("CARGO_ENCODED_RUSTFLAGS", encoded_rustflags()?);
    if let Compiler::Unpacked(unpacked) = compiler {
        use_unpacked(&mut cargo, unpacked)?;
    }
    let mut modules = modules_in(&run_and_read(&mut cargo)?);
    modules.sort();
    if modules.is_empty() {
        bail!("the guests' workspace built no component");
    }
    Ok(modules)
}

fn use_unpacked(cargo: &mut Command, unpacked: &Unpacked) -> Result<()> {
    let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let libraries = unpacked.libraries.iter().cloned().chain(std::env::split_paths(&inherited));
    cargo
        .arg("-Zbuild-std=std,panic_abort")
        .env("RUSTC", &unpacked.rustc)
        // Debian's compiler is a stable one; it builds its own standard library.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &unpacked.linker)
        .env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    Ok(())
}

/// Compiler flags that keep the machine's folders out of the modules.
fn encoded_rustflags() -> Result<OsString> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir().context("there is no home folder")?.join(".cargo"),
    };
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(cargo_home);
    flags.push("=/cargo\u{1f}--remap-path-prefix=");
    flags.push(place::root());
    flags.push("=/everfold");
    Ok(flags)
}

/// The core modules that cargo's messages name, whether it built them now or earlier.
fn modules_in(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|artifact| artifact["filenames"].as_array().cloned())
        .flatten()
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .filter(|path| is_module(path))
        .collect()
}

fn is_module(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","filenames":["/t/libserde.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/order.wasm","/t/liborder.rlib"],"fresh":true}
not json
{"reason":"build-finished","success":true}"#;
        assert_eq!(modules_in(messages), [PathBuf::from("/t/order.wasm")]);
    }
}
