//! What is SQLite's own, and the suite of every store.

use tempfile::TempDir;

use super::SqliteStore;
use crate::store::StoreError;
use crate::store::conformance::{Backend, conformance_suite};

/// A data folder that is gone with the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a folder"))
    }
}

impl Backend for Folder {
    type Store = SqliteStore;

    async fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.0.path()).await
    }
}

conformance_suite!(Folder::new());
