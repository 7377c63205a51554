//! The data folder: private to its owner, and used by one process at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// The database in the data folder.
const DATABASE: &str = "everfold.db";
/// Locked while a process uses the folder. It stays behind, unlocked.
const LOCK: &str = "everfold.lock";

/// A data folder that this process has to itself until this is released or dropped.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    /// Holds the operating system's lock, which ends with the process however that ends.
    lock: File,
}

impl DataFolder {
    /// Makes the folder (mode 0700) if there is none, and takes it.
    ///
    /// # Errors
    /// `InUse` when another process has it; `Database` when it cannot be made or locked.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: std::io::Error| {
            StoreError::Database(format!("{what} {}: {error}", path.display()))
        };
        let mut folder = DirBuilder::new();
        folder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(path).map_err(|error| failed("cannot make the data folder", error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(|error| failed("cannot write in the data folder", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(failed("cannot lock the data folder", error)),
        }
    }

    /// Lets another process take the folder.
    ///
    /// # Errors
    /// When the operating system keeps the lock.
    pub(super) fn release(&self) -> Result<(), StoreError> {
        self.lock
            .unlock()
            .map_err(|error| StoreError::Database(format!("cannot unlock {}: {error}", self.path.display())))
    }

    /// Where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}
