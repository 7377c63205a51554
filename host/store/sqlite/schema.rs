//! The schema: brought up to this binary's version before anything else opens the database.

use std::path::Path;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::store::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Makes the database if there is none, and applies the migrations that it lacks.
///
/// # Errors
/// `SchemaTooNew` when a newer binary made the schema; nothing is changed then.
pub(super) async fn migrate(database: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = options.connect().await.map_err(|error| failed(&error))?;
    match MIGRATIONS.run(&mut connection).await {
        Ok(()) => {}
        Err(MigrateError::VersionMissing(missing)) if missing > known() => {
            return Err(StoreError::SchemaTooNew { found: found(&mut connection).await?, known: known() });
        }
        Err(error) => return Err(StoreError::Database(error.to_string())),
    }
    connection.close().await.map_err(|error| failed(&error))
}

/// The newest version that this binary knows.
fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn found(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(|error| failed(&error))
}

fn failed(error: &sqlx::Error) -> StoreError {
    StoreError::Database(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_in_the_folder_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
        let mut files: Vec<i64> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be listed").file_name().into_string().expect("names are text"))
            .map(|name| name.split('_').next().and_then(|n| n.parse().ok()).expect("NNNN_name.sql"))
            .collect();
        files.sort_unstable();
        let embedded: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!(embedded, files);
    }
}
