//! Makes a component of a core module, and puts it in its place in one piece.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wit_component::ComponentEncoder;

use super::lines;
use crate::place;
use crate::step::say;

/// A component in its place.
pub(super) struct Component {
    pub(super) path: PathBuf,
    pub(super) bytes: usize,
    pub(super) change: Change,
}

/// What making it again did.
pub(super) enum Change {
    Written,
    /// The file held the same bytes and was left alone, so that nobody who watches it is woken.
    None,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Written => "written",
            Self::None => "unchanged",
        })
    }
}

/// Makes the component of a module, under the name of the package that it was built from.
pub(super) fn make(module: &Path) -> Result<Component> {
    let bytes = encode(module).with_context(|| format!("{} does not make a component", module.display()))?;
    let name = component_name(module).context("a module has a file name")?;
    let path = place::components().join(name);
    let change = put(&path, &bytes)?;
    Ok(Component { path, bytes: bytes.len(), change })
}

/// The file's name with the hyphens that its package is written with; cargo wants none in a library's name.
fn component_name(module: &Path) -> Option<String> {
    Some(module.file_name()?.to_str()?.replace('_', "-"))
}

fn encode(module: &Path) -> Result<Vec<u8>> {
    let shown = place::shown(module);
    let module = fs::read(module)?;
    let reduced = lines::reduce(&module)?;
    if let Some(reason) = reduced.without_lines {
        say(format!("guests: {shown}: a backtrace will show no lines: {reason:#}"));
    }
    ComponentEncoder::default().validate(true).module(&reduced.module)?.encode()
}

fn put(path: &Path, bytes: &[u8]) -> Result<Change> {
    if fs::read(path).is_ok_and(|current| current == bytes) {
        return Ok(Change::None);
    }
    let folder = path.parent().context("a component lies in a folder")?;
    fs::create_dir_all(folder)?;
    // Readers see the old component or the new one, never a part of it.
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(Change::Written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_called_as_its_package() {
        let name = |module: &str| component_name(Path::new(module));
        assert_eq!(name("/t/order_next.wasm").as_deref(), Some("order-next.wasm"));
        assert_eq!(name("/t/order.wasm").as_deref(), Some("order.wasm"));
    }
}
