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
use crate::step::{output, run_and_read};

/// Builds the workspace, and gives the core module of each component.
pub(super) fn modules(compiler: &Compiler) -> Result<Vec<PathBuf>> {
    fetch()?;
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

/// Downloads the dependencies, so that the folders of their sources are known before the build.
fn fetch() -> Result<()> {
    let mut cargo = clean_command("cargo");
    output(cargo.args(["fetch", "--locked", "--quiet"]).current_dir(place::guest_workspace()))?;
    Ok(())
}

/// Compiler flags that keep the machine's folders, and where crates came from, out of the modules.
fn encoded_rustflags() -> Result<OsString> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::home_dir().context("there is no home folder")?.join(".cargo"),
    };
    let mut prefixes = vec![(cargo_home.clone(), "/cargo"), (place::root().to_owned(), "/everfold")];
    // The compiler takes the last prefix that fits.
    if let Ok(sources) = std::fs::read_dir(cargo_home.join("registry/src")) {
        let mut sources = sources.map(|source| Ok(source?.path())).collect::<Result<Vec<_>>>()?;
        sources.sort();
        prefixes.extend(sources.into_iter().map(|source| (source, "/crates")));
    }
    let mut flags = OsString::new();
    for (from, to) in prefixes {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
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
