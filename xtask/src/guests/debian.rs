//! A compiler out of Debian's packages, fetched and unpacked under `target/`.
//!
//! Debian builds `rustc-web` for its browsers: newer than the release's own `rustc`, and with the
//! wasm target compiled in. The packages conflict with `rustc`, so they are never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place;
use crate::step::{run, say};

/// The compiler, its libraries, and the source of the standard library.
pub(super) const PACKAGES: [&str; 5] =
    ["rustc-web", "libstd-rust-web-1.96", "libstd-rust-web-dev", "rust-web-src", "libllvm22"];

/// The folder that holds the unpacked packages. Its name changes with the packages.
const FOLDER: &str = "debian-rustc-web-1.96";

/// The sysroot of the compiler that was unpacked earlier.
pub(super) fn unpacked_before() -> Option<PathBuf> {
    let sysroot = place::guest_compilers().join(FOLDER).join("usr");
    sysroot.join("bin/rustc").is_file().then_some(sysroot)
}

/// Fetches the packages and unpacks them; gives the sysroot.
pub(super) fn unpack() -> Result<PathBuf> {
    say("guests: fetching a compiler from Debian (about 140 MB, 850 MB unpacked)");
    let folder = place::guest_compilers();
    fs::create_dir_all(&folder)?;
    // Unpacked beside its place and then renamed: what is in its place is whole.
    let staging = tempfile::tempdir_in(&folder)?;
    let packages = staging.path().join("packages");
    let files = staging.path().join("files");
    fs::create_dir(&packages)?;
    fs::create_dir(&files)?;

    // As root, apt would drop its rights first and then complain that it may not write here.
    run(Command::new("apt-get")
        .args(["-o", "APT::Sandbox::User=root", "download", "--quiet"])
        .args(PACKAGES)
        .current_dir(&packages))
    .context("apt-get cannot fetch them (`apt-get update` may help)")?;
    for entry in packages.read_dir()? {
        run(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(&files))?;
    }

    let place = folder.join(FOLDER);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::rename(&files, &place)?;
    match unpacked_before() {
        Some(sysroot) => Ok(sysroot),
        None => bail!("the packages hold no compiler"),
    }
}

/// The folders with the compiler's shared libraries.
pub(super) fn libraries(sysroot: &Path) -> Result<Vec<PathBuf>> {
    let lib = sysroot.join("lib");
    let mut folders = vec![lib.clone()];
    // Debian's multi-arch folder, such as `x86_64-linux-gnu`, whatever this machine is.
    for entry in lib.read_dir()? {
        let path = entry?.path();
        if path.is_dir() && path.to_string_lossy().ends_with("-linux-gnu") {
            folders.push(path);
        }
    }
    Ok(folders)
}
