//! Leaves of a core module's debug information what a backtrace shows: files and lines of code that was
//! written here. It never touches the code, so that the addresses in what is left stay true.
//!
//! The linker takes the debug information of the precompiled standard library along, which is five times
//! as large as the code. [`own`] says which code was written here, and [`mod@unit`] converts what tells of it.

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

#[cfg(test)]
mod tests {
    use gimli::constants::{
        DW_AT_abstract_origin, DW_AT_call_file, DW_AT_call_line, DW_AT_comp_dir, DW_AT_high_pc, DW_AT_inline,
        DW_AT_low_pc, DW_AT_name, DW_INL_inlined, DW_TAG_inlined_subroutine, DW_TAG_subprogram,
    };
    use gimli::write::{
        Address, AttributeValue, Dwarf, EndianVec, LineProgram, LineString, Sections, Unit, UnitEntryId,
    };
    use gimli::{DwTag, Encoding, Format, LineEncoding};

    use super::*;

    const OURS: &str = "/everfold/guest-workflows";
    const STANDARD: &str = "/rustc/59807616e1";
    /// What the linker puts where it left a function out.
    const DEAD: u64 = 0xffff_ffff;

    /// Adds a unit of a folder, with a function at each address: of 16 bytes, the upper 8 of which are
    /// inlined from the file `core.rs` of the standard library, and those of them from itself.
    fn add_unit(dwarf: &mut Dwarf, folder: &str, addresses: &[u64]) {
        let encoding = Encoding { format: Format::Dwarf32, version: 4, address_size: 4 };
        let text = |text: &str| LineString::String(text.as_bytes().to_vec());
        let mut lines =
            LineProgram::new(encoding, LineEncoding::default(), text(folder), None, text("lib.rs"), None);
        let here = lines.default_directory();
        let theirs = lines.add_directory(text(&format!("{STANDARD}/library/core/src")));
        let (here, theirs) =
            (lines.add_file(text("saga.rs"), here, None), lines.add_file(text("core.rs"), theirs, None));
        for address in addresses {
            lines.begin_sequence(Some(Address::Constant(*address)));
            for (offset, file, line) in [(0, here, 70), (8, theirs, 9)] {
                (lines.row().address_offset, lines.row().file, lines.row().line) = (offset, file, line);
                lines.generate_row();
            }
            lines.end_sequence(16);
        }
        let mut unit = Unit::new(encoding, lines);
        let root = unit.root();
        for (name, value) in [(DW_AT_name, "lib.rs"), (DW_AT_comp_dir, folder)] {
            let value = AttributeValue::StringRef(dwarf.strings.add(value));
            unit.get_mut(root).set(name, value);
        }
        let origin = add(&mut unit, root, DW_TAG_subprogram, None);
        let name = AttributeValue::StringRef(dwarf.strings.add("map<u8, alloc::alloc::Global>"));
        unit.get_mut(origin).set(DW_AT_name, name);
        unit.get_mut(origin).set(DW_AT_inline, AttributeValue::Inline(DW_INL_inlined));
        for address in addresses {
            let function = add(&mut unit, root, DW_TAG_subprogram, Some((*address, 16)));
            let mut caller = function;
            for file in [here, theirs] {
                caller = add(&mut unit, caller, DW_TAG_inlined_subroutine, Some((DEAD.min(address + 8), 8)));
                let call = unit.get_mut(caller);
                call.set(DW_AT_abstract_origin, AttributeValue::UnitRef(origin));
                call.set(DW_AT_call_file, AttributeValue::FileIndex(Some(file)));
                call.set(DW_AT_call_line, AttributeValue::Udata(71));
            }
        }
        let alive = addresses.iter().copied().filter(|address| *address != DEAD);
        let (first, last) = (addresses[0], alive.max().unwrap_or_default());
        unit.get_mut(root).set(DW_AT_low_pc, AttributeValue::Address(Address::Constant(first)));
        unit.get_mut(root).set(DW_AT_high_pc, AttributeValue::Udata(last + 16 - first));
        dwarf.units.add(unit);
    }

    fn add(unit: &mut Unit, parent: UnitEntryId, tag: DwTag, range: Option<(u64, u64)>) -> UnitEntryId {
        let id = unit.add(parent, tag);
        if let Some((start, length)) = range {
            unit.get_mut(id).set(DW_AT_low_pc, AttributeValue::Address(Address::Constant(start)));
            unit.get_mut(id).set(DW_AT_high_pc, AttributeValue::Udata(length));
        }
        id
    }

    /// A module with the debug information, and a section that is none.
    fn module(mut dwarf: Dwarf) -> Vec<u8> {
        let mut sections = Sections::new(EndianVec::new(LittleEndian));
        dwarf.write(&mut sections).expect("sections");
        let mut module = Module::new();
        module.section(&CustomSection { name: "name".into(), data: (&[]).into() });
        let added = sections.for_each(|id, data| {
            module.section(&CustomSection { name: id.name().into(), data: data.slice().into() });
            Ok::<_, ()>(())
        });
        added.expect("added");
        module.finish()
    }

    fn sections(module: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let payloads = Parser::new(0).parse_all(module).map(|payload| payload.expect("a module"));
        let custom = payloads.filter_map(|payload| match payload {
            Payload::CustomSection(section) => Some((section.name().to_owned(), section.data().to_vec())),
            _ => None,
        });
        custom.collect()
    }

    /// The units' folders with the tags and names of their entries, and the addresses of their lines.
    fn told(module: &[u8]) -> Vec<(String, Vec<String>, Vec<u64>)> {
        let sections = sections(module);
        let section = |id: SectionId| sections.get(id.name()).map(Vec::as_slice).unwrap_or_default();
        let dwarf = gimli::Dwarf::load(|id| Ok::<_, gimli::Error>(Slice::new(section(id), LittleEndian)))
            .expect("read");
        let (mut told, mut units) = (Vec::new(), dwarf.units());
        while let Some(header) = units.next().expect("a unit") {
            let unit = dwarf.unit(header).expect("a unit");
            let unit = unit.unit_ref(&dwarf);
            let (mut entries, mut all) = (Vec::new(), unit.entries());
            while let Some(entry) = all.next_dfs().expect("an entry") {
                let name = entry.attr_value(DW_AT_name).map(|name| unit.attr_string(name).expect("a name"));
                let name = name.map(|name| format!(" {}", name.to_string_lossy())).unwrap_or_default();
                entries.push(format!("{}{name}", entry.tag));
            }
            let (mut addresses, mut rows) = (Vec::new(), unit.line_program.clone().expect("lines").rows());
            while let Some((_, row)) = rows.next_row().expect("a row") {
                addresses.push(row.address());
            }
            let folder = unit.comp_dir.expect("a folder").to_string_lossy().into_owned();
            told.push((folder, entries, addresses));
        }
        told
    }

    #[test]
    fn lines_of_the_standard_library_are_left_out_and_ours_keep_their_addresses() {
        let mut dwarf = Dwarf::new();
        add_unit(&mut dwarf, STANDARD, &[16, 48]);
        add_unit(&mut dwarf, OURS, &[80, 112, DEAD]);
        let whole = module(dwarf);
        let reduced = reduce(&whole).expect("reduced");
        assert!(reduced.without_lines.is_none(), "{:?}", reduced.without_lines);
        let call = "DW_TAG_inlined_subroutine".to_owned();
        let function = "DW_TAG_subprogram".to_owned();
        // What the standard library inlined into itself is gone, and so are generic arguments.
        let entries = ["DW_TAG_compile_unit lib.rs".to_owned(), "DW_TAG_subprogram map".to_owned()];
        let functions = [function.clone(), call.clone(), function, call];
        let entries = entries.into_iter().chain(functions).collect();
        assert_eq!(told(&reduced.module), [(OURS.to_owned(), entries, vec![80, 88, 96, 112, 120, 128])]);
        assert!(sections(&reduced.module).contains_key("name"));
        assert_eq!(reduce(&whole).expect("again").module, reduced.module);
    }

    #[test]
    fn a_module_without_readable_lines_is_left_without_any() {
        let mut standard = Dwarf::new();
        add_unit(&mut standard, STANDARD, &[16]);
        let mut broken = Module::new();
        broken.section(&CustomSection { name: ".debug_info".into(), data: (&[0xff; 7]).into() });
        for module in [module(standard), broken.finish(), Module::new().finish()] {
            let reduced = reduce(&module).expect("reduced");
            assert!(reduced.without_lines.is_some());
            assert!(!sections(&reduced.module).keys().any(|name| name.starts_with(DEBUG)));
        }
        assert!(reduce(b"no module").is_err());
    }
}
