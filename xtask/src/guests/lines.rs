//! Leaves of a core module's debug information what a backtrace shows: files and lines of code that was
//! written here. It never touches the code, so that the addresses in what is left stay true.
//!
//! The linker takes the debug information of the precompiled standard library along, which is five times
//! as large as the code. [`own`] says which code was written here, and [`unit`] converts what tells of it.

mod own;
mod unit;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use gimli::{EndianSlice, LittleEndian, SectionId, write};
use wasm_encoder::{CustomSection, Module, RawSection};
use wasmparser::{Parser, Payload};

/// What the sections of debug information are called.
const DEBUG: &str = ".debug_";

/// Reads debug information in place.
type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A module with little debug information.
pub(super) struct Reduced {
    pub(super) module: Vec<u8>,
    /// Why it has none at all.
    pub(super) without_lines: Option<anyhow::Error>,
}

/// Reduces the debug information of a module. One whose debug information cannot be read is left without.
pub(super) fn reduce(module: &[u8]) -> Result<Reduced> {
    let mut debug = BTreeMap::new();
    let mut reduced = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.context("it is not a module")?;
        if let Payload::CustomSection(section) = &payload
            && section.name().starts_with(DEBUG)
        {
            debug.insert(section.name(), section.data());
        } else if let Some((id, range)) = payload.as_section() {
            let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
            let data = module.get(range).context("a section lies inside its module")?;
            reduced.section(&RawSection { id, data });
        }
    }
    let without_lines = match own_lines(&debug) {
        Ok(sections) => {
            for (name, data) in &sections {
                reduced.section(&CustomSection { name: (*name).into(), data: data.into() });
            }
            None
        }
        Err(error) => Some(error),
    };
    Ok(Reduced { module: reduced.finish(), without_lines })
}

/// The sections that tell of code that was written here.
fn own_lines(debug: &BTreeMap<&str, &[u8]>) -> Result<Vec<(&'static str, Vec<u8>)>> {
    if debug.is_empty() {
        bail!("there is no debug information");
    }
    let section = |id: SectionId| debug.get(id.name()).copied().unwrap_or_default();
    let all = gimli::Dwarf::load(|id| Ok::<_, gimli::Error>(Slice::new(section(id), LittleEndian)))?;
    let mut own = write::Dwarf::new();
    let mut units = own.convert(&all)?;
    while let Some((mut unit, root)) = units.read_unit()? {
        if !unit::convert(&mut unit, root)? {
            unit.skip();
        }
    }
    let mut sections = write::Sections::new(write::EndianVec::new(LittleEndian));
    own.write(&mut sections)?;
    let mut written = Vec::new();
    sections.for_each(|id, data| {
        if !data.slice().is_empty() {
            written.push((id.name(), data.slice().to_vec()));
        }
        Ok::<_, gimli::write::Error>(())
    })?;
    if written.is_empty() {
        bail!("the debug information tells of no code that was written here");
    }
    Ok(written)
}
