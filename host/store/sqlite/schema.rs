//! The schema: brought up to this binary's version before anything else opens the database.

use sqlx::SqlitePool;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::database::Database;
use crate::store::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Makes the database if there is none, and applies the migrations that it lacks.
///
/// # Errors
/// `SchemaTooNew` when a newer binary made the schema; nothing is changed then.
pub(super) async fn migrate(database: &Database) -> Result<(), StoreError> {
    let options = database
        .options()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let one = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let pool = one.map_err(|error| failed(&error))?;
    let migrated = match MIGRATIONS.run(&pool).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(missing)) if missing > known() => {
            found(&pool).await.and_then(|found| Err(StoreError::SchemaTooNew { found, known: known() }))
        }
        Err(error) => Err(StoreError::Database(error.to_string())),
    };
    pool.close().await;
    migrated
}

/// The newest version that this binary knows.
fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn found(pool: &SqlitePool) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(pool)
        .await
        .map_err(|error| failed(&error))
}

fn failed(error: &sqlx::Error) -> StoreError {
    StoreError::Database(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
