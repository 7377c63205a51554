//! Every test that `docs/conformance.md` names is there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions in the Rust files below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.lines().filter_map(|line| line.trim_start().split_once("fn "));
            found.extend(names.filter_map(|(_, rest)| rest.split(['(', '<']).next()).map(str::to_owned));
        }
    }
}

/// The names in the last column of the tables.
fn named(table: &str) -> Vec<String> {
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.ends_with("shown by |"));
    let last = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit_once(" | "));
    last.flat_map(|(_, tests)| tests.split(", ").map(|test| test.trim_matches('`').to_owned())).collect()
}

#[test]
fn every_test_of_the_conformance_table_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let named = named(&fs::read_to_string(root.join("docs/conformance.md")).unwrap());
    assert!(named.len() > 50, "the table was read: {named:?}");
    let mut found = BTreeSet::new();
    for folder in ["host", "tests", "guest-workflows"] {
        functions(&root.join(folder), &mut found);
    }
    let missing: Vec<_> = named.iter().filter(|name| !found.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
