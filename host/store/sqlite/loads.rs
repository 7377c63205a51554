//! Reading a run as a whole, on the thread that asks: a folding thread, which has nothing else to do. A run that
//! was parked is read with each input that it gets, and four queries through the pool of [`reads`](super::reads) cost
//! it more than all the rest, since each is handed to another thread and back.

use everfold_core::ids::RunKey;
use everfold_core::machine::RunStatus;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, Params, Row, params};

use super::database::Database;
use super::reads::{CACHE, MAPPED};
use crate::store::rows::{self, AttemptRecord, BlockedRecord, InboxRecord, ParentRecord, RunRecord};
use crate::store::{OpenRun, RunRow, StoreError, sql};

/// Read-only connections: as many as threads have read at once. There are few that fold.
#[derive(Debug)]
pub(super) struct Loads {
    database: Database,
    idle: Mutex<Vec<Connection>>,
}

impl Loads {
    pub(super) fn new(database: &Database) -> Self {
        Self { database: database.clone(), idle: Mutex::default() }
    }

    /// All that is kept of a run, as of one moment; none if it is not open.
    ///
    /// # Errors
    /// When it cannot be read. The connection is not used again.
    pub(super) fn open_run(&self, key: &RunKey) -> Result<Option<OpenRun>, StoreError> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.database).map_err(failed)?,
        };
        let records = read(&mut connection, key)?;
        self.idle.lock().push(connection);
        // Decoded when the snapshot is given back: while it is read, the log cannot begin anew.
        records.map(|records| records.decoded(key)).transpose()
    }
}

fn connect(database: &Database) -> rusqlite::Result<Connection> {
    // One thread at a time uses it, so that SQLite's own mutex is not needed.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = database.connect(flags)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    // Memory is not mapped, and gives no answer.
    connection.pragma_update(None, "mmap_size", MAPPED)?;
    Ok(connection)
}

/// What is kept of an open run, as it is kept.
struct Records {
    row: RunRow,
    history: Vec<Vec<u8>>,
    inbox: Vec<InboxRecord>,
    attempts: Vec<AttemptRecord>,
}

impl Records {
    fn decoded(self, key: &RunKey) -> Result<OpenRun, StoreError> {
        let Self { row, history: bodies, inbox, attempts } = self;
        let mut history = Vec::new();
        for body in bodies {
            rows::unpack_history(key, &body, &mut history)?;
        }
        let inbox = rows::inbox(inbox)?;
        let attempts = attempts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(OpenRun { row, history, inbox, attempts })
    }
}

fn read(connection: &mut Connection, key: &RunKey) -> Result<Option<Records>, StoreError> {
    // It only reads: ending it changes nothing.
    let snapshot = connection.transaction().map_err(failed)?;
    let of = params![key.run_id.0, key.namespace.0];
    let Some(record) = all(&snapshot, sql::RUN, of, run)?.pop() else { return Ok(None) };
    let row = RunRow::try_from(record)?;
    if row.status != RunStatus::Running {
        return Ok(None);
    }
    let from_the_first = params![key.run_id.0, key.namespace.0, 0];
    let history = all(&snapshot, sql::HISTORY, from_the_first, |row| row.get(0))?;
    let inbox = all(&snapshot, sql::INBOX, of, inbox)?;
    let attempts = match row.open_activities {
        0 => Vec::new(),
        _ => all(&snapshot, sql::ATTEMPTS, of, attempt)?,
    };
    Ok(Some(Records { row, history, inbox, attempts }))
}

/// The rows that a query finds.
fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    record: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let records = statement.query_map(params, record).map_err(failed)?;
    records.collect::<Result<_, _>>().map_err(failed)
}

fn run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    Ok(RunRecord {
        run_id: row.get("run_id")?,
        namespace: row.get("namespace")?,
        workflow_id: row.get("workflow_id")?,
        workflow_type: row.get("workflow_type")?,
        digest: row.get("digest")?,
        status: row.get("status")?,
        next_event_id: row.get("next_event_id")?,
        open_activities: row.get("open_activities")?,
        started_at: row.get("started_at")?,
        closed_at: row.get("closed_at")?,
        outcome: row.get("outcome")?,
        blocked_kind: row.get("blocked_kind")?,
        blocked: BlockedRecord {
            blocked_event_id: row.get("blocked_event_id")?,
            blocked_reason: row.get("blocked_reason")?,
            blocked_backtrace: row.get("blocked_backtrace")?,
            blocked_divergence: row.get("blocked_divergence")?,
            blocked_since: row.get("blocked_since")?,
            blocked_retries: row.get("blocked_retries")?,
            blocked_retry_at: row.get("blocked_retry_at")?,
        },
        parent_run_id: row.get("parent_run_id")?,
        parent: ParentRecord {
            parent_workflow_id: row.get("parent_workflow_id")?,
            parent_event_id: row.get("parent_event_id")?,
            parent_close_policy: row.get("parent_close_policy")?,
        },
        start_at: row.get("start_at")?,
    })
}

fn inbox(row: &Row<'_>) -> rusqlite::Result<InboxRecord> {
    Ok(InboxRecord {
        seq: row.get("seq")?,
        received_at: row.get("received_at")?,
        input_type: row.get("input_type")?,
        input: row.get("input")?,
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    Ok(AttemptRecord {
        scheduled_event_id: row.get("scheduled_event_id")?,
        activity_type: row.get("activity_type")?,
        attempt: row.get("attempt")?,
        next_attempt_at: row.get("next_attempt_at")?,
        last_failure: row.get("last_failure")?,
        last_failure_at: row.get("last_failure_at")?,
        heartbeat_details: row.get("heartbeat_details")?,
        last_heartbeat_at: row.get("last_heartbeat_at")?,
        lease_id: row.get("lease_id")?,
        lease_worker: row.get("lease_worker")?,
        leased_at: row.get("leased_at")?,
        paused_at: row.get("paused_at")?,
        paused_under_way: row.get("paused_under_way")?,
        reset_at: row.get("reset_at")?,
        reset_due: row.get("reset_due")?,
    })
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Database(error.to_string())
}
