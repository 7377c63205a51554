//! The suite of every store, and what is SQLite's own.

use std::sync::Arc;

use everfold_core::ids::{Digest, EventId, Namespace, RunId, Timestamp};
use everfold_core::query::{Condition, Field, Query, Value};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{SqliteStore, listing};
use crate::store::conformance::fixtures::{advance, attempt, block, commit, commit_each, key, stand, start};
use crate::store::conformance::{Backend, conformance_suite};
use crate::store::{CommitError, NewComponent, Store, StoreError, Verdict, sql};

/// A data folder that is gone with the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a folder"))
    }

    /// A connection beside the store's own, as a person's shell has one.
    fn shell(&self) -> Connection {
        Connection::open(self.0.path().join("everfold.db")).expect("the database is there")
    }
}

impl Backend for Folder {
    type Store = SqliteStore;

    async fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.0.path()).await
    }
}

conformance_suite!(Folder::new());

#[tokio::test]
async fn a_missing_folder_is_made_for_its_owner_alone() {
    let outer = Folder::new();
    let path = outer.0.path().join("a/b");
    let _store = SqliteStore::open(&path).await.unwrap();
    assert!(path.join("everfold.db").is_file());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[tokio::test]
async fn a_folder_in_use_is_named() {
    let folder = Folder::new();
    let _store = folder.open().await.unwrap();
    let message = folder.open().await.unwrap_err().to_string();
    assert_eq!(message, format!("{} is in use by another everfold process", folder.0.path().display()));
}

#[tokio::test]
async fn a_folder_that_is_none_is_refused() {
    let folder = Folder::new();
    let file = folder.0.path().join("file");
    std::fs::write(&file, "").unwrap();
    let message = SqliteStore::open(&file).await.unwrap_err().to_string();
    assert!(message.contains("cannot make the data folder"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("everfold.db"), "not a database, but long enough".repeat(99))
        .unwrap();
    let message = folder.open().await.unwrap_err().to_string();
    assert!(message.contains("file is not a database"), "{message}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let folder = Folder::new();
    commit_each(&folder.open().await.unwrap(), vec![start(1)]).await;
    let shell = folder.shell();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (?1, 'later', TRUE, x'00', 0)";
    for version in [9_998, 9_999] {
        shell.execute(newer, [version]).unwrap();
    }
    let error = folder.open().await.unwrap_err();
    let StoreError::SchemaTooNew { found: 9_999, known } = error else { panic!("{error:?}") };
    let newest =
        std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite"))
            .unwrap();
    let newest = newest.map(|entry| entry.unwrap().file_name().into_string().unwrap()).max().unwrap();
    assert_eq!(format!("{known:04}"), newest[..4]);
    assert_eq!(
        error.to_string(),
        format!("the store has schema version 9999, newer than this binary's {known}: use a newer everfold")
    );
    shell.execute("DELETE FROM _sqlx_migrations WHERE version > 9000", []).unwrap();
    let store = folder.open().await.unwrap();
    assert!(!store.was_closed_in_order(), "the refused opening did not count as one");
    assert!(store.run(&key(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let folder = Folder::new();
    drop(folder.open().await.unwrap());
    folder.shell().execute("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2", []).unwrap();
    let message = folder.open().await.unwrap_err().to_string();
    assert!(message.contains("migration 2 was previously applied but has been modified"), "{message}");
}

#[tokio::test]
async fn another_owner_ends_the_epoch() {
    let folder = Folder::new();
    let store = folder.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    folder.shell().execute("UPDATE shards SET epoch = epoch + 1", []).unwrap();
    let error = store.commit(Arc::new(vec![advance(1, EventId(2), 1)])).await.unwrap_err();
    assert!(matches!(error, CommitError::EpochOver), "{error:?}");
    let component = NewComponent {
        namespace: Namespace::default(),
        digest: Digest([1; 32]),
        workflow_types: Vec::new(),
        sdk: String::new(),
        deployed_at: Timestamp(0),
        bytes: Vec::new(),
    };
    assert!(store.put_component(component).await.is_err());
    assert!(store.close().await.is_err());
    assert_eq!(store.run(&key(1)).await.unwrap().unwrap().next_event_id, EventId(2));
    assert_eq!(store.components(&Namespace::default()).await.unwrap(), []);
    drop(store);
    assert!(!folder.open().await.unwrap().was_closed_in_order());
}

#[tokio::test]
async fn damage_is_named() {
    let folder = Folder::new();
    let store = folder.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    let shell = folder.shell();
    shell.execute("UPDATE runs SET status = 'lost'", []).unwrap();
    let message = store.run(&key(1)).await.unwrap_err().to_string();
    assert_eq!(message, format!("the store is damaged: run {}: unknown status lost", key(1)));
    shell.execute("UPDATE history SET body = x'01FF'", []).unwrap();
    let message = store.history(&key(1), EventId(0), 1).await.unwrap_err().to_string();
    assert!(message.starts_with("the store is damaged: the history of run default/"), "{message}");
}

#[tokio::test]
async fn the_log_is_empty_after_a_stop_in_order() {
    let folder = Folder::new();
    let store = folder.open().await.unwrap();
    commit_each(&store, vec![start(1)]).await;
    let log = folder.0.path().join("everfold.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    store.close().await.unwrap();
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
}

#[tokio::test]
async fn an_abandoned_commit_is_still_made() {
    let folder = Folder::new();
    let store = folder.open().await.unwrap();
    {
        let mut commit = store.commit(Arc::new(vec![start(1)]));
        // Polled once, it is with the writer; whether it is done already does not matter.
        let _ = futures::poll!(&mut commit);
    }
    drop(store);
    let store = folder.open().await.unwrap();
    assert!(store.run(&key(1)).await.unwrap().is_some());
}

/// The lines of a statement's query plan.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // Unbound parameters are null, which no plan depends on.
    statement.raw_query().mapped(|row| row.get("detail")).collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn no_query_that_grows_with_the_store_scans_or_sorts() {
    let folder = Folder::new();
    let _store = folder.open().await.unwrap();
    let shell = folder.shell();
    let latest = listing::statement(&Namespace::default(), &Query::default(), None, 1).into_sql();
    let latest = latest.as_str();
    let ended = Query::parse("close_time > '2026-01-01T00:00:00Z' order by close_time desc").unwrap();
    let ended = listing::statement(&Namespace::default(), &ended, None, 1).into_sql();
    let ended = ended.as_str();
    let since = Query::all([Condition::at_least(Field::RunId, Value::RunId(RunId::at_least(Timestamp(1))))]);
    let since = listing::statement(&Namespace::default(), &since, None, 1).into_sql();
    let since = since.as_str();
    let found = Query::parse(
        "status = 'running' and customer_id = 100 and total > 5 and workflow_type = 'order' and tags != 'x'",
    );
    let found = listing::statement(&Namespace::default(), &found.unwrap(), None, 1).into_sql();
    let found = found.as_str();
    let queries = [
        (
            found,
            "SEARCH driver USING PRIMARY KEY (namespace=? AND name=? AND kind=? AND value=? AND run_id<?)",
        ),
        (found, "SEARCH runs USING PRIMARY KEY (run_id=?)"),
        (found, "SEARCH entry USING COVERING INDEX run_attributes_by_run (run_id=? AND name=?)"),
        (sql::DETAILS_DELETE, "PRIMARY KEY"),
        (sql::ATTRIBUTES_DELETE, "run_attributes_by_run"),
        (sql::SCHEDULE, "PRIMARY KEY"),
        (sql::SCHEDULES, "PRIMARY KEY"),
        (sql::SCHEDULES_DUE, "schedules_by_wake"),
        (sql::SCHEDULES_WAKE, "schedules_by_wake"),
        (sql::SCHEDULES_RUNNING, "schedules_running"),
        (sql::SCHEDULE_CHANGE, "PRIMARY KEY"),
        // Those of a step.
        (sql::EPOCH, "PRIMARY KEY"),
        (sql::WORKFLOW_ID, "PRIMARY KEY"),
        (sql::RUN_BLOCK, "PRIMARY KEY"),
        (sql::RUN_UNBLOCK, "PRIMARY KEY"),
        (sql::RUN_INBOX_LENGTH, "PRIMARY KEY"),
        (sql::TIMER_DELETE, "PRIMARY KEY"),
        (sql::ATTEMPT_DELETE, "PRIMARY KEY"),
        (sql::INBOX_DELETE, "PRIMARY KEY"),
        (sql::INBOX_HAND_OVER, "inbox_by_run"),
        (sql::IS_TO_BE_TERMINATED, "inbox_by_run"),
        (sql::IS_ROUTED, "PRIMARY KEY"),
        (sql::OPEN_CHILD, "runs_open_children"),
        (sql::OPEN_CHILDREN, "runs_open_children"),
        (sql::LAST_OF_CHILD, "runs_children"),
        (sql::PARENT, "PRIMARY KEY"),
        (sql::CHILDREN_HAND_OVER, "runs_children"),
        // The others.
        (sql::NEEDING_ATTENTION, "runs_needing_attention"),
        (sql::TIMERS_DUE, "timers_by_time"),
        (sql::LATEST_RUN, "runs_by_workflow"),
        (sql::OPEN_RUN, "runs_open"),
        (sql::INBOX, "inbox_by_run"),
        (sql::RUN, "PRIMARY KEY"),
        (sql::HISTORY, "PRIMARY KEY"),
        (sql::LAST_STEP, "PRIMARY KEY"),
        (sql::ATTEMPTS, "PRIMARY KEY"),
        (sql::REQUEST, "PRIMARY KEY"),
        (sql::RUN_ADVANCE, "PRIMARY KEY"),
        (sql::RUN_CLOSE, "PRIMARY KEY"),
        (sql::TIMERS_DELETE, "PRIMARY KEY"),
        (sql::ATTEMPTS_DELETE, "PRIMARY KEY"),
        (sql::INBOX_CLEAR, "inbox_by_run"),
        (latest, "PRIMARY KEY"),
        (ended, "runs_by_end"),
        (since, "PRIMARY KEY (run_id>? AND run_id<?)"),
        (sql::LAST_RUN, "runs_by_workflow"),
        (sql::OPEN_RUNS, "runs_open"),
        (sql::OPEN_ON, "COVERING INDEX runs_by_version"),
        (sql::STANDING, "PRIMARY KEY"),
        (sql::ROUTE, "PRIMARY KEY"),
        (sql::RUN_MOVE, "PRIMARY KEY"),
        (sql::CLOSED_BEFORE, "COVERING INDEX runs_by_end"),
        (sql::EARLIEST_CLOSED, "COVERING INDEX runs_by_end"),
        (sql::REQUESTS_OF, "COVERING INDEX requests_by_run"),
        (sql::REQUEST_DELETE, "PRIMARY KEY"),
        (sql::RUN_DELETE, "PRIMARY KEY"),
        (sql::HISTORY_SIZES, "PRIMARY KEY"),
        (sql::HISTORY_DELETE, "PRIMARY KEY"),
        (sql::REMOVED_DELETE, "PRIMARY KEY"),
    ];
    for (query, index) in queries {
        let plan = plan(&shell, query);
        assert!(plan.iter().any(|line| line.contains(index)), "{query}: {plan:#?}");
        let is_bad = |line: &String| line.contains("SCAN") || line.contains("TEMP B-TREE");
        assert!(!plan.iter().any(is_bad), "{query}: {plan:#?}");
    }
}

#[tokio::test]
async fn runs_are_counted_from_an_index_alone_and_those_of_a_workflow_found_by_theirs() {
    let folder = Folder::new();
    let _store = folder.open().await.unwrap();
    let shell = folder.shell();
    // What they sort is as long as the list of versions, or of one workflow's runs.
    let of_one = Query::parse("status = 'running' and workflow_id = 'order-1'").unwrap();
    let of_one = listing::statement(&Namespace::default(), &of_one, None, 1).into_sql();
    let of_one = of_one.as_str();
    let of_parent = Query::parse("parent_run_id = '01a21a7d-2475-749c-86f0-49797890fe67'").unwrap();
    let of_parent = listing::statement(&Namespace::default(), &of_parent, None, 1).into_sql();
    let of_parent = of_parent.as_str();
    let queries = [
        (of_parent, "SEARCH runs USING INDEX runs_children (parent_run_id=?)"),
        (sql::VERSIONS, "SEARCH runs USING COVERING INDEX runs_by_version (namespace=? AND workflow_type=?)"),
        (of_one, "SEARCH runs USING INDEX runs_by_workflow (namespace=? AND workflow_id=?)"),
    ];
    for (query, way) in queries {
        let plan = plan(&shell, query);
        let of_runs: Vec<_> = plan.iter().filter(|line| line.contains(" runs ")).collect();
        assert_eq!(of_runs, [way], "{query}: {plan:#?}");
    }
}

#[tokio::test]
async fn people_can_read_the_tables() {
    let folder = Folder::new();
    let store = folder.open().await.unwrap();
    let mut step = stand(1, EventId(2));
    step.effects.timers_started = vec![(EventId(2), Timestamp(1_700_000_000_999))];
    step.attempts = vec![attempt(EventId(3), 2)];
    commit_each(&store, vec![start(1), step, block(1, EventId(2), 4)]).await;
    let shell = folder.shell();
    let line = |sql: &str| -> String { shell.query_row(sql, [], |row| row.get(0)).unwrap() };
    let id = key(1).run_id;
    assert_eq!(
        line(
            "SELECT concat_ws(' ', namespace, workflow_id, run_id, status, events, started_at) FROM run_overview"
        ),
        format!("default order-1 {id} running 1 2023-11-14T22:13:20.001Z")
    );
    assert_eq!(
        line("SELECT concat_ws(' ', blocked_kind, blocked_retries, blocked_retry_at) FROM run_overview"),
        "trap 4 2023-11-14T22:13:21.000Z"
    );
    assert_eq!(
        line("SELECT concat_ws(' ', workflow_id, run_id, started_event_id, fire_at) FROM timer_overview"),
        format!("order-1 {id} 2 2023-11-14T22:13:20.999Z")
    );
    assert_eq!(
        line("SELECT last_failure ->> '$.cause.kind.kind' FROM pending_activity_overview"),
        "application"
    );
    assert_eq!(line("SELECT concat_ws(' ', first_event_id, last_event_id) FROM history_overview"), "1 1");
    for view in ["inbox_overview", "component_overview"] {
        let rows: i64 =
            shell.query_row(&format!("SELECT count(*) FROM {view}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{view}");
    }
    // A shell that reads does not hold the host up.
    shell.execute_batch("BEGIN; SELECT count(*) FROM runs").unwrap();
    assert_eq!(commit(&store, advance(1, EventId(2), 1)).await, Verdict::COMMITTED);
}
