//! Where things lie in a checkout.

use std::path::PathBuf;

/// The root of the checkout that this command runs in.
pub(crate) fn root() -> PathBuf {
    // Cargo says so at run time; what was true when this was compiled may be another checkout's.
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    match manifest_dir.parent() {
        Some(root) => root.to_path_buf(),
        None => manifest_dir,
    }
}

/// The workspace of the guests.
pub(crate) fn guest_workspace() -> PathBuf {
    root().join("guest-workflows")
}

/// The guests' own target folder: they have another target and other flags than the host.
pub(crate) fn guest_target_dir() -> PathBuf {
    root().join("target/guests")
}

/// Where a compiler for the guests is unpacked, when none is installed.
pub(crate) fn guest_compilers() -> PathBuf {
    root().join("target/guest-compiler")
}

/// Where the finished components go, wherever `CARGO_TARGET_DIR` points.
pub(crate) fn components() -> PathBuf {
    root().join("target/components")
}

/// A path as people read it: relative to the checkout if it is inside.
pub(crate) fn shown(path: &std::path::Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
