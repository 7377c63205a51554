//! The cache of compiled code: what is taken from it, and what is not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::handwritten::Module;
use crate::guest::{CacheError, CodeCache, Engine, EngineSettings};

/// Where the code came from.
#[derive(Debug, PartialEq)]
enum From {
    Compiler,
    Cache,
}

/// Loads a component with a new engine whose cache is at `path`.
fn load(path: &Path, types: &[&str]) -> From {
    let cache = CodeCache::open(path).expect("the cache opens");
    let engine = Engine::new(EngineSettings::default(), Some(cache)).expect("the settings are sound");
    let wasm = Module { types, ..Module::default() }.component();
    let loaded = engine.load(&wasm).expect("the component is sound");
    assert_eq!(loaded.description().workflow_types[0].name, types[0]);
    match loaded.compile_time() {
        Some(_) => From::Compiler,
        None => From::Cache,
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path)
        .expect("it is a folder")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_component_is_compiled_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("code");
    assert_eq!(load(&path, &["a"]), From::Compiler);
    assert_eq!(load(&path, &["a"]), From::Cache);
    assert_eq!(load(&path, &["b"]), From::Compiler);
    assert_eq!(files(&path).len(), 2);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&files(&path)[0]), 0o600);
}

#[test]
fn a_damaged_file_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("code");
    assert_eq!(load(&path, &["a"]), From::Compiler);
    let file = files(&path).remove(0);
    let sound = fs::read(&file).expect("it is there");
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    for damaged in [flipped, sound[..sound.len() - 1].to_vec(), b"something else".to_vec(), Vec::new()] {
        fs::write(&file, damaged).expect("it can be written");
        assert_eq!(load(&path, &["a"]), From::Compiler);
        assert_eq!(load(&path, &["a"]), From::Cache);
    }
}

#[test]
fn the_code_of_another_component_is_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    load(&one, &["a"]);
    load(&other, &["b"]);
    fs::copy(&files(&other)[0], &files(&one)[0]).expect("it can be copied");
    assert_eq!(load(&one, &["a"]), From::Compiler);
}

#[test]
fn a_folder_that_others_can_write_to_is_refused_and_one_they_can_read_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("code");
    load(&path, &["a"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert_eq!(load(&path, &["a"]), From::Cache);
    assert_eq!(mode(&path), 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).expect("it is ours");
    let refused = CodeCache::open(&path).expect_err("the group can write to it");
    assert!(matches!(refused, CacheError::Exposed { mode: 0o770, .. }), "{refused}");
}

#[test]
fn what_a_crash_left_behind_goes_and_a_file_is_no_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("code");
    load(&path, &["a"]);
    fs::write(path.join("x.code.1.0.tmp"), "half").expect("it can be written");
    load(&path, &["a"]);
    assert_eq!(files(&path).len(), 1);
    let refused = CodeCache::open(&files(&path)[0]).expect_err("it is a file");
    assert!(matches!(refused, CacheError::Io { .. }), "{refused}");
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_compilations() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("code");
    let cache = CodeCache::open(&path).expect("the cache opens");
    fs::remove_dir(&path).expect("it is empty");
    let engine = Engine::new(EngineSettings::default(), Some(cache)).expect("the settings are sound");
    let wasm = Module::default().component();
    for _ in 0..2 {
        assert!(engine.load(&wasm).expect("the component is sound").compile_time().is_some());
    }
}
