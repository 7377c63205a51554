//! Which code was written here: by the files that the line table names. It never looks at names of
//! functions, for a generic one of a library is compiled with the crate that uses it.

use std::ops::Range;

use anyhow::{Context as _, Result};
use gimli::{IncompleteLineProgram, UnitRef};

use super::Slice;

/// Where sources lie that were written elsewhere: the standard library's, its dependencies', and, as the
/// build calls them, those of other crates.
const ELSEWHERE: [&str; 4] = ["/rustc/", "/rust/deps/", "/crates/", "/cargo/"];
/// Folders of the standard library's sources, wherever a distribution keeps them.
const STANDARD: [&str; 3] = ["/library/core/src/", "/library/alloc/src/", "/library/std/src/"];

/// The code of a unit that was written here.
pub(super) struct Own {
    /// Addresses of lines in files of ours, in order.
    lines: Vec<Range<u64>>,
    /// Sequences (functions, that is) with such a line, in order.
    sequences: Vec<Range<u64>>,
    /// Whether each file that the unit numbers is ours.
    files: Vec<bool>,
}

/// Whether a unit holds code that was compiled here. That of the standard library was compiled elsewhere.
pub(super) fn is_compiled_here(unit: UnitRef<'_, Slice<'_>>) -> bool {
    let places = unit.name.into_iter().chain(unit.comp_dir);
    !places.into_iter().any(|place| is_elsewhere(&place.to_string_lossy()))
}

impl Own {
    /// Reads the unit's line table.
    pub(super) fn read(unit: UnitRef<'_, Slice<'_>>) -> Result<Self> {
        let mut own = Self { lines: Vec::new(), sequences: Vec::new(), files: Vec::new() };
        let Some(program) = unit.line_program.clone() else { return Ok(own) };
        own.files = files(unit, &program)?;
        let mut rows = program.rows();
        // The sequence that is being read, and the last row's address and whether its file is ours.
        let (mut start, mut ours, mut last) = (None, false, None);
        while let Some((_, row)) = rows.next_row()? {
            if let Some((from, true)) = last
                && from < row.address()
            {
                own.lines.push(from..row.address());
                ours = true;
            }
            let from = *start.get_or_insert(row.address());
            last = Some((row.address(), own.is_file(row.file_index())));
            if row.end_sequence() {
                if ours {
                    own.sequences.push(from..row.address());
                }
                (start, ours, last) = (None, false, None);
            }
        }
        own.lines.sort_unstable_by_key(|range| range.start);
        own.sequences.sort_unstable_by_key(|range| range.start);
        Ok(own)
    }

    /// Whether there is no such code.
    pub(super) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Whether a function with a line of ours lies in a range.
    pub(super) fn has_sequence_in(&self, range: &Range<u64>) -> bool {
        overlap(&self.sequences, range)
    }

    /// Whether a line of ours lies in a range.
    pub(super) fn has_line_in(&self, range: &Range<u64>) -> bool {
        overlap(&self.lines, range)
    }

    /// Whether a file is ours, by its number.
    pub(super) fn is_file(&self, number: u64) -> bool {
        let number = usize::try_from(number).ok();
        number.and_then(|number| self.files.get(number)).copied().unwrap_or_default()
    }
}

/// Whether one of the ranges, which are in order and apart, has something of another one.
fn overlap(ranges: &[Range<u64>], other: &Range<u64>) -> bool {
    let first = ranges.partition_point(|range| range.end <= other.start);
    ranges.get(first).is_some_and(|range| range.start < other.end)
}

fn files<'a>(unit: UnitRef<'_, Slice<'a>>, program: &IncompleteLineProgram<Slice<'a>>) -> Result<Vec<bool>> {
    let header = program.header();
    let count = u64::try_from(header.file_names().len())?;
    let text = |value| Ok::<_, gimli::Error>(unit.attr_string(value)?.to_string_lossy().into_owned());
    // Numbers begin with 0 or 1, which depends on the version.
    let files = (0..=count).map(|number| {
        let Some(file) = header.file(number) else { return Ok(false) };
        let name = text(file.path_name())?;
        let folder = file.directory(header).map(text).transpose()?.unwrap_or_default();
        let path = if name.starts_with('/') { name } else { format!("{folder}/{name}") };
        Ok(!is_elsewhere(&path))
    });
    files.collect::<Result<_, gimli::Error>>().context("a file of the line table has no name")
}

fn is_elsewhere(path: &str) -> bool {
    ELSEWHERE.iter().any(|folder| path.starts_with(folder))
        || STANDARD.iter().any(|folder| path.contains(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_files_are_ours() {
        let elsewhere = [
            "/rustc/59807616e1/library/core/src/option.rs",
            "/rust/deps/dlmalloc-0.2.11/src/lib.rs",
            "/crates/serde_json-1.0.154/src/de.rs",
            "/usr/src/rustc-1.85.0/library/alloc/src/vec/mod.rs",
        ];
        assert!(elsewhere.iter().all(|path| is_elsewhere(path)));
        let ours =
            ["/everfold/guest-workflows/order/src/saga.rs", "order/src/library.rs", "src/core/src/lib.rs"];
        assert!(!ours.iter().any(|path| is_elsewhere(path)));
    }

    #[test]
    fn ranges_overlap_where_they_share_an_address() {
        let ranges = [4..8, 10..12];
        let with = |other| overlap(&ranges, &other);
        assert_eq!(
            [with(0..4), with(0..5), with(7..9), with(8..10), with(11..20), with(12..20)],
            [false, true, true, false, true, false]
        );
    }
}
