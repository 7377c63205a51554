//! A disk that fails on demand under the real binary; the other side of `faulty_disk.c`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::{PATIENCE, root};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Fault {
    None = 0,
    /// Writes that make a file longer: no space.
    Full = 1,
    /// Writes: an I/O error.
    Write = 2,
    /// Flushes: an I/O error.
    Flush = 3,
    /// A write is done half, and its thread stands still.
    Torn = 4,
    /// Reads: an I/O error.
    Read = 5,
}

/// Sets of files.
pub const STORE_LOG: u64 = 1;
pub const STORE: u64 = 2;
pub const ORDERS_LOG: u64 = 4;
pub const ORDERS: u64 = 8;
pub const FOR_EVER: i64 = i64::MAX;

/// The words of `struct control`, in order.
#[derive(Clone, Copy)]
enum Word {
    Fault,
    Files,
    After,
    Times,
    FlushMs,
    Writes,
    Flushes,
    Faults,
}

/// The disk below one data folder.
pub struct Disk {
    control: File,
    path: PathBuf,
}

impl Disk {
    /// A disk that is well, with its control file beside `folder`.
    pub fn below(folder: &Path) -> Self {
        let path = folder.with_extension("disk");
        let control = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        control.set_len(4_096).unwrap();
        Self { control, path }
    }

    /// What a process needs in its environment to stand on this disk.
    pub fn environment(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", library().to_str().unwrap()), ("FAULTY_DISK", self.path.to_str().unwrap())]
    }

    /// From now on, behind `after` more calls on `files`, `times` calls fail.
    pub fn fails(&self, fault: Fault, files: u64, after: i64, times: i64) {
        self.put(Word::Fault, Fault::None as u64);
        self.put(Word::Files, files);
        self.put(Word::After, u64::try_from(after).unwrap());
        self.put(Word::Times, u64::try_from(times).unwrap());
        self.put(Word::Fault, fault as u64);
    }

    /// From now on all is well.
    pub fn heals(&self) {
        self.put(Word::Fault, Fault::None as u64);
    }

    /// From now on each flush takes so long.
    pub fn flushes_take(&self, time: Duration) {
        self.put(Word::FlushMs, u64::try_from(time.as_millis()).unwrap());
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.get(Word::Writes)
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.get(Word::Flushes)
    }

    /// Calls that failed so far.
    pub fn faults(&self) -> u64 {
        self.get(Word::Faults)
    }

    /// Waits until so many more calls have failed.
    pub async fn strikes(&self, times: u64) {
        let (from, deadline) = (self.faults(), tokio::time::Instant::now() + PATIENCE);
        while self.faults() < from + times {
            assert!(tokio::time::Instant::now() < deadline, "the disk is not used");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn put(&self, word: Word, value: u64) {
        self.control.write_all_at(&value.to_ne_bytes(), word as u64 * 8).unwrap();
    }

    fn get(&self, word: Word) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word as u64 * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }
}

/// The library that stands before libc, compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = root().join("tests/support/faulty_disk.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (library, new) =
            (folder.join("faulty_disk.so"), folder.join(format!("{}.so", std::process::id())));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&new, &source])
            .arg("-ldl")
            .output()
            .unwrap_or_else(|error| panic!("`cc` cannot be run: {error}; these tests need a C compiler"));
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        // Another process may be using the old one.
        std::fs::rename(&new, &library).unwrap();
        library
    })
}
