//! Converts a unit of debug information: the sequences of its line table, its functions and what was
//! inlined into them, as far as they tell of code that was written here. It never follows types or variables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use gimli::write::{
    Address, AttributeValue, ConvertLineSequenceEnd, ConvertUnit, ConvertUnitEntry, Range, RangeList,
    UnitEntryId,
};
use gimli::{
    AttributeValue as Read, DW_AT_abstract_origin, DW_AT_call_column, DW_AT_call_file, DW_AT_call_line,
    DW_AT_comp_dir, DW_AT_high_pc, DW_AT_inline, DW_AT_language, DW_AT_low_pc, DW_AT_name, DW_AT_producer,
    DW_AT_ranges, DW_AT_stmt_list, DW_TAG_inlined_subroutine, DW_TAG_subprogram, DebuggingInformationEntry,
    DwAt, DwTag, UnitOffset, UnitRef,
};

use super::Slice;
use super::own::{self, Own};

/// What is said of a unit.
const OF_A_UNIT: [DwAt; 7] = [
    DW_AT_producer,
    DW_AT_language,
    DW_AT_name,
    DW_AT_stmt_list,
    DW_AT_comp_dir,
    DW_AT_low_pc,
    DW_AT_high_pc,
];
/// What is said of a function and of a call that was inlined.
const OF_A_FUNCTION: [DwAt; 8] = [
    DW_AT_low_pc,
    DW_AT_high_pc,
    DW_AT_ranges,
    DW_AT_inline,
    DW_AT_abstract_origin,
    DW_AT_call_file,
    DW_AT_call_line,
    DW_AT_call_column,
];

/// Converts a unit, and tells whether something is left of it.
pub(super) fn convert<'u, 'a>(
    unit: &mut ConvertUnit<'u, Slice<'a>>,
    root: ConvertUnitEntry<'u, Slice<'a>>,
) -> Result<bool> {
    if !own::is_compiled_here(unit.read_unit) {
        return Ok(false);
    }
    let own = Own::read(unit.read_unit)?;
    if own.is_empty() {
        return Ok(false);
    }
    convert_lines(unit, &own)?;
    let kept = kept(unit.read_unit, &own)?;
    let unit_id = unit.unit.root();
    convert_attributes(unit, unit_id, &root, &OF_A_UNIT)?;
    if root.attr_value(DW_AT_ranges).is_some() {
        let ranges = ranges(unit.read_unit, &own)?;
        let ranges = unit.unit.ranges.add(RangeList(ranges));
        unit.unit.get_mut(unit_id).set(DW_AT_ranges, AttributeValue::RangeListRef(ranges));
    }
    let mut entry = root;
    while let Some(id) = unit.read_entry(&mut entry)? {
        if let (Some(id), true) = (id, kept.contains(&entry.offset)) {
            let id = unit.add_entry(Some(id), &entry);
            convert_attributes(unit, id, &entry, &OF_A_FUNCTION)?;
            convert_name(unit, id, &entry)?;
        }
    }
    Ok(true)
}

/// The unit's functions that are left. A function begins before its first line.
fn ranges(unit: UnitRef<'_, Slice<'_>>, own: &Own) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    let mut all = unit.unit_ranges()?;
    while let Some(gimli::Range { begin, end }) = all.next()? {
        if own.has_sequence_in(&(begin..end)) {
            ranges.push(Range::StartEnd { begin: Address::Constant(begin), end: Address::Constant(end) });
        }
    }
    Ok(ranges)
}

fn convert_lines<'a>(unit: &mut ConvertUnit<'_, Slice<'a>>, own: &Own) -> Result<()> {
    let Some(mut program) = unit.read_line_program(None, None)? else { return Ok(()) };
    while let Some(sequence) = program.read_sequence()? {
        let Some(start) =
            sequence.start.filter(|start| own.has_sequence_in(&(*start..start.saturating_add(1))))
        else {
            continue;
        };
        program.set_address(Address::Constant(start));
        for row in sequence.rows {
            program.generate_row(row);
        }
        match sequence.end {
            ConvertLineSequenceEnd::Length(length) => program.end_sequence(length),
            // The same sequence goes on there.
            ConvertLineSequenceEnd::Address(_) => {}
        }
    }
    ensure!(!program.in_sequence(), "a sequence of the line table has no end");
    let (program, files) = program.program();
    unit.set_line_program(program, files);
    Ok(())
}

fn convert_attributes<'u, 'a>(
    unit: &mut ConvertUnit<'u, Slice<'a>>,
    id: UnitEntryId,
    entry: &ConvertUnitEntry<'u, Slice<'a>>,
    kept: &[DwAt],
) -> Result<()> {
    for attribute in entry.attrs().iter().filter(|attribute| kept.contains(&attribute.name())) {
        if matches!(attribute.value(), Read::DebugInfoRef(_)) {
            // A function of another unit, which may be left out; only its name is of use.
            continue;
        }
        let value =
            unit.convert_attribute_value(entry.read_unit, attribute, &|to| Some(Address::Constant(to)))?;
        unit.unit.get_mut(id).set(attribute.name(), value);
    }
    Ok(())
}

/// Names what was inlined. A function with code of its own goes without: the module's table of names has
/// it, and with its path.
fn convert_name<'u, 'a>(
    unit: &mut ConvertUnit<'u, Slice<'a>>,
    id: UnitEntryId,
    entry: &ConvertUnitEntry<'u, Slice<'a>>,
) -> Result<()> {
    let name = match (entry.tag, entry.attr_value(DW_AT_abstract_origin)) {
        (gimli::DW_TAG_inlined_subroutine, Some(Read::DebugInfoRef(origin))) => {
            name_elsewhere(unit.read_unit, origin)?
        }
        (gimli::DW_TAG_subprogram, None) if entry.attr_value(DW_AT_inline).is_some() => {
            name(unit.read_unit, entry)?
        }
        _ => None,
    };
    if let Some(name) = name {
        let name = unit.strings.add(without_generics(&name));
        unit.unit.get_mut(id).set(DW_AT_name, AttributeValue::StringRef(name));
    }
    Ok(())
}

fn name<'a>(
    unit: UnitRef<'_, Slice<'a>>,
    entry: &DebuggingInformationEntry<Slice<'a>>,
) -> Result<Option<String>> {
    let Some(name) = entry.attr_value(DW_AT_name) else { return Ok(None) };
    Ok(Some(unit.attr_string(name)?.to_string_lossy().into_owned()))
}

fn name_elsewhere(unit: UnitRef<'_, Slice<'_>>, origin: gimli::DebugInfoOffset) -> Result<Option<String>> {
    let mut headers = unit.dwarf.units();
    while let Some(header) = headers.next()? {
        if let Some(offset) = origin.to_unit_offset(&header) {
            let other = unit.dwarf.unit(header)?;
            return name(other.unit_ref(unit.dwarf), &other.entry(offset)?);
        }
    }
    Ok(None)
}

/// A name without its generic arguments, which fill most of the table of strings: `map<u8, …>` is `map`.
fn without_generics(name: &str) -> &str {
    match name.find('<') {
        None | Some(0) => name,
        Some(end) => &name[..end],
    }
}

/// An entry, as far as the choice needs it.
struct Entry {
    offset: UnitOffset,
    parent: Option<UnitOffset>,
    origin: Option<UnitOffset>,
    /// Whether it tells of code that was written here.
    tells: bool,
}

/// The entries that are left: functions and inlined calls that tell of code that was written here, what
/// they stand in, and what they are inlined from.
fn kept(unit: UnitRef<'_, Slice<'_>>, own: &Own) -> Result<BTreeSet<UnitOffset>> {
    let entries = entries(unit, own)?;
    let mut queue: Vec<UnitOffset> =
        entries.values().filter(|entry| entry.tells).map(|entry| entry.offset).collect();
    let mut kept = BTreeSet::new();
    while let Some(offset) = queue.pop() {
        // The unit itself is not among them.
        if let Some(entry) = entries.get(&offset)
            && kept.insert(offset)
        {
            queue.extend(entry.parent.into_iter().chain(entry.origin));
        }
    }
    Ok(kept)
}

fn entries(unit: UnitRef<'_, Slice<'_>>, own: &Own) -> Result<BTreeMap<UnitOffset, Entry>> {
    let mut entries = BTreeMap::new();
    let mut parents: Vec<(isize, UnitOffset)> = Vec::new();
    let mut all = unit.entries();
    // The first one is the unit's own.
    all.next_dfs()?;
    while let Some(entry) = all.next_dfs()? {
        while parents.last().is_some_and(|(depth, _)| *depth >= entry.depth) {
            parents.pop();
        }
        let parent = parents.last().map(|(_, offset)| *offset);
        parents.push((entry.depth, entry.offset));
        let origin = match entry.attr_value(DW_AT_abstract_origin) {
            Some(Read::UnitRef(origin)) => Some(origin),
            _ => None,
        };
        let tells = tells(unit, own, entry.tag, entry)?;
        entries.insert(entry.offset, Entry { offset: entry.offset, parent, origin, tells });
    }
    Ok(entries)
}

/// Whether an entry tells of code that was written here. What the standard library inlines into itself
/// does not.
fn tells<'a>(
    unit: UnitRef<'_, Slice<'a>>,
    own: &Own,
    tag: DwTag,
    entry: &DebuggingInformationEntry<Slice<'a>>,
) -> Result<bool> {
    if ![DW_TAG_subprogram, DW_TAG_inlined_subroutine].contains(&tag) {
        return Ok(false);
    }
    let called_by_us = match entry.attr_value(DW_AT_call_file) {
        Some(Read::FileIndex(file)) => own.is_file(file),
        _ => false,
    };
    let mut ranges = unit.die_ranges(entry)?;
    while let Some(range) = ranges.next()? {
        let range = range.begin..range.end;
        if own.has_sequence_in(&range)
            && (tag == DW_TAG_subprogram || called_by_us || own.has_line_in(&range))
        {
            return Ok(true);
        }
    }
    Ok(false)
}
