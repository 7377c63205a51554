//! The readers: a few read-only connections. In WAL mode they neither wait for the writer nor hold
//! it up, and each query sees every commit that was answered before it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use everfold_core::attributes::Details;
use everfold_core::decision::{PendingActivity, Request};
use everfold_core::event::Event;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::query::Query;
use futures::TryStreamExt as _;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::database::Database;
use super::listing;
use crate::store::rows::{
    self, AttemptRecord, ComponentRecord, DetailsRecord, InboxRecord, KeyRecord, RouteRecord, RunRecord,
    ScheduleKeyRecord, ScheduleRecord, SurveyRecord, TimerRecord, VersionRecord, integer,
};
use crate::store::{
    ComponentRow, Inbox, OpenCount, OpenRunFilter, RouteRow, RunPlace, RunRow, ScheduleKey, ScheduleRow,
    Standing, StoreError, TimerRow, VersionRow, sql,
};

/// How many queries run at once.
const CONNECTIONS: u32 = 4;
/// The page cache of each connection, in SQLite's notation: KiB, negative.
pub(super) const CACHE: &str = "-8192";
/// How much of the database each connection maps instead of reading it, in bytes.
pub(super) const MAPPED: &str = "268435456";

/// How many lists are read at once: they may read every run, and what runs need does not wait for them.
const LISTS: u32 = 2;
/// How long a list waits for its turn, and how long it may be read.
const LONGEST_TURN: Duration = Duration::from_secs(5);
const LONGEST_LIST: Duration = Duration::from_secs(10);
/// Instructions of SQLite's machine between two looks at the time.
const LOOK: i32 = 10_000;
/// SQLite's code of a statement that was given up (SQLITE_INTERRUPT).
const GIVEN_UP: &str = "9";

/// Runs of which the details are read at once.
const RUNS_AT_ONCE: usize = 500;

/// The readers: those of runs, and those of lists.
#[derive(Debug)]
pub(super) struct Reads {
    pool: SqlitePool,
    lists: SqlitePool,
    longest_list: Duration,
}

impl Reads {
    /// Opens the pool on a database that exists.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) async fn open(database: &Database) -> Result<Self, StoreError> {
        Self::with_lists(database, LONGEST_TURN, LONGEST_LIST).await
    }

    /// The same with other bounds for lists.
    async fn with_lists(
        database: &Database,
        longest_turn: Duration,
        longest_list: Duration,
    ) -> Result<Self, StoreError> {
        let options =
            database.options().read_only(true).pragma("cache_size", CACHE).pragma("mmap_size", MAPPED);
        let pool = || {
            // A local file has no connections that go stale: no test before each use, no renewal.
            SqlitePoolOptions::new().test_before_acquire(false).idle_timeout(None).max_lifetime(None)
        };
        let lists = pool().max_connections(LISTS).acquire_timeout(longest_turn);
        let lists = lists.connect_with(options.clone()).await.map_err(failed)?;
        let pool = pool().max_connections(CONNECTIONS).connect_with(options).await.map_err(failed)?;
        Ok(Self { pool, lists, longest_list })
    }

    pub(super) async fn components(&self, namespace: &Namespace) -> Result<Vec<ComponentRow>, StoreError> {
        let records: Vec<ComponentRecord> =
            sqlx::query_as(sql::COMPONENTS).bind(&namespace.0).fetch_all(&self.pool).await.map_err(failed)?;
        rows::components(records)
    }

    pub(super) async fn component_bytes(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar(sql::COMPONENT_BYTES)
            .bind(&digest.0[..])
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)
    }

    pub(super) async fn routes(&self, namespace: &Namespace) -> Result<Vec<RouteRow>, StoreError> {
        let records: Vec<RouteRecord> =
            sqlx::query_as(sql::ROUTES).bind(&namespace.0).fetch_all(&self.pool).await.map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn route(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Option<RouteRow>, StoreError> {
        let record: Option<RouteRecord> = sqlx::query_as(sql::ROUTE)
            .bind(&namespace.0)
            .bind(workflow_type)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        record.map(RouteRow::try_from).transpose()
    }

    pub(super) async fn routed(&self) -> Result<Vec<Digest>, StoreError> {
        let blobs: Vec<Vec<u8>> =
            sqlx::query_scalar(sql::ROUTED).fetch_all(&self.pool).await.map_err(failed)?;
        blobs.iter().map(|blob| rows::digest(blob)).collect()
    }

    pub(super) async fn versions(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
    ) -> Result<Vec<VersionRow>, StoreError> {
        let records: Vec<VersionRecord> = sqlx::query_as(sql::VERSIONS)
            .bind(&namespace.0)
            .bind(workflow_type)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn standing(
        &self,
        namespace: &Namespace,
        workflow_type: &str,
        digest: Digest,
    ) -> Result<Standing, StoreError> {
        let retired_at: Option<Option<i64>> = sqlx::query_scalar(sql::STANDING)
            .bind(&namespace.0)
            .bind(workflow_type)
            .bind(&digest.0[..])
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        Ok(match retired_at {
            None => Standing::Unknown,
            Some(None) => Standing::Version,
            Some(Some(at)) => Standing::Retired(Timestamp(at)),
        })
    }

    pub(super) async fn open_runs(
        &self,
        namespace: &Namespace,
        filter: &OpenRunFilter,
        after: Option<&WorkflowId>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        let OpenRunFilter { workflow_type, digest, blocked } = filter;
        let records: Vec<RunRecord> = sqlx::query_as(sql::OPEN_RUNS)
            .bind(&namespace.0)
            // No workflow id is empty.
            .bind(after.map_or("", |id| &id.0))
            .bind(workflow_type)
            .bind(digest.as_ref().map(|digest| &digest.0[..]))
            .bind(blocked)
            .bind(integer(limit as u64))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn run(&self, key: &RunKey) -> Result<Option<RunRow>, StoreError> {
        let record: Option<RunRecord> = sqlx::query_as(sql::RUN)
            .bind(&key.run_id.0[..])
            .bind(&key.namespace.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        self.whole(record).await
    }

    /// A run with its outcome, which stands in the history alone where it is large. None if the run has been
    /// removed meanwhile.
    async fn whole(&self, record: Option<RunRecord>) -> Result<Option<RunRow>, StoreError> {
        let Some(mut row) = record.map(RunRow::try_from).transpose()? else { return Ok(None) };
        if row.status == RunStatus::Running || row.outcome.is_some() {
            return Ok(Some(row));
        }
        let body: Option<Vec<u8>> = sqlx::query_scalar(sql::LAST_STEP)
            .bind(&row.key.run_id.0[..])
            .bind(&row.key.namespace.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        let Some(body) = body else { return Ok(None) };
        row.outcome = rows::told_outcome(&row.key, &body)?;
        Ok(Some(row))
    }

    pub(super) async fn latest_run(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
    ) -> Result<Option<RunRow>, StoreError> {
        let record: Option<RunRecord> = sqlx::query_as(sql::LATEST_RUN)
            .bind(&namespace.0)
            .bind(&workflow_id.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        self.whole(record).await
    }

    pub(super) async fn request(
        &self,
        namespace: &Namespace,
        workflow_id: &WorkflowId,
        request: &Request,
    ) -> Result<Option<RunId>, StoreError> {
        let run_id: Option<Vec<u8>> = sqlx::query_scalar(sql::REQUEST)
            .bind(&namespace.0)
            .bind(&workflow_id.0)
            .bind(request.operation.name())
            .bind(&request.request_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        run_id.map(|run_id| rows::run_id(&run_id)).transpose()
    }

    pub(super) async fn runs(
        &self,
        namespace: &Namespace,
        query: &Query,
        after: Option<&RunPlace>,
        limit: usize,
    ) -> Result<Vec<RunRow>, StoreError> {
        let mut statement = listing::statement(namespace, query, after, integer(limit as u64));
        let mut connection = self.lists.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => {
                StoreError::Busy("as many lists are read already as may be at once".to_owned())
            }
            error => failed(error),
        })?;
        // Also where nobody waits for it any more, a list does not keep its connection for long.
        let deadline = Instant::now() + self.longest_list;
        let mut handle = connection.lock_handle().await.map_err(failed)?;
        handle.set_progress_handler(LOOK, move || Instant::now() < deadline);
        drop(handle);
        let found = statement.build_query_as().fetch_all(&mut *connection).await;
        let records: Vec<RunRecord> = found.map_err(|error| match error.as_database_error() {
            Some(given_up) if given_up.code().as_deref() == Some(GIVEN_UP) => StoreError::Busy(format!(
                "the list took longer than {} s to read: ask for less, or in the order of run ids",
                self.longest_list.as_secs()
            )),
            Some(_) | None => failed(error),
        })?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn details(&self, run_ids: &[RunId]) -> Result<BTreeMap<RunId, Details>, StoreError> {
        let mut found = BTreeMap::new();
        for some in run_ids.chunks(RUNS_AT_ONCE) {
            let mut statement = QueryBuilder::<Sqlite>::new(sql::DETAILS);
            for (number, run_id) in some.iter().enumerate() {
                statement.push(if number == 0 { "" } else { ", " }).push_bind(run_id.0.to_vec());
            }
            statement.push(")");
            let records: Vec<DetailsRecord> =
                statement.build_query_as().fetch_all(&self.pool).await.map_err(failed)?;
            for record in records {
                let (run_id, details) = record.try_into()?;
                found.insert(run_id, details);
            }
        }
        Ok(found)
    }

    pub(super) async fn history(
        &self,
        key: &RunKey,
        after: EventId,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let mut bodies = sqlx::query_scalar::<_, Vec<u8>>(sql::HISTORY)
            .bind(&key.run_id.0[..])
            .bind(&key.namespace.0)
            .bind(integer(after.0.saturating_add(1)))
            .fetch(&self.pool);
        let mut events = Vec::new();
        while let Some(body) = bodies.try_next().await.map_err(failed)? {
            rows::unpack_history(key, &body, &mut events)?;
            // The first row may begin before the events that are asked for.
            if events.first().is_some_and(|first| first.id <= after) {
                events.retain(|event| event.id > after);
            }
            if events.len() >= limit {
                break;
            }
        }
        Ok(events)
    }

    pub(super) async fn inbox(&self, key: &RunKey) -> Result<Inbox, StoreError> {
        let records: Vec<InboxRecord> = sqlx::query_as(sql::INBOX)
            .bind(&key.run_id.0[..])
            .bind(&key.namespace.0)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows::inbox(records)
    }

    pub(super) async fn attempts(&self, key: &RunKey) -> Result<Vec<PendingActivity>, StoreError> {
        let records: Vec<AttemptRecord> = sqlx::query_as(sql::ATTEMPTS)
            .bind(&key.run_id.0[..])
            .bind(&key.namespace.0)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn needing_attention(
        &self,
        after: Option<RunKey>,
        limit: usize,
    ) -> Result<Vec<RunKey>, StoreError> {
        // Nothing is before the empty key.
        let (namespace, run_id) = match &after {
            Some(RunKey { namespace, run_id: RunId(run_id) }) => (namespace.0.as_str(), &run_id[..]),
            None => ("", &[][..]),
        };
        let records: Vec<KeyRecord> = sqlx::query_as(sql::NEEDING_ATTENTION)
            .bind(namespace)
            .bind(run_id)
            .bind(integer(limit as u64))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn survey(&self) -> Result<Vec<OpenCount>, StoreError> {
        let records: Vec<SurveyRecord> =
            sqlx::query_as(sql::SURVEY).fetch_all(&self.pool).await.map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn timers_due(
        &self,
        until: Timestamp,
        after: Option<TimerRow>,
        limit: usize,
    ) -> Result<Vec<TimerRow>, StoreError> {
        // Nothing is before the earliest time and the empty key.
        let (fire_at, namespace, run_id, started) = match &after {
            Some(TimerRow { fire_at, key, started_event_id }) => {
                (fire_at.0, key.namespace.0.as_str(), &key.run_id.0[..], integer(started_event_id.0))
            }
            None => (i64::MIN, "", &[][..], 0),
        };
        let records: Vec<TimerRecord> = sqlx::query_as(sql::TIMERS_DUE)
            .bind(until.0)
            .bind(fire_at)
            .bind(namespace)
            .bind(run_id)
            .bind(started)
            .bind(integer(limit as u64))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn schedule(&self, key: &ScheduleKey) -> Result<Option<ScheduleRow>, StoreError> {
        let record: Option<ScheduleRecord> = sqlx::query_as(sql::SCHEDULE)
            .bind(&key.namespace.0)
            .bind(&key.schedule_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        record.map(ScheduleRow::try_from).transpose()
    }

    pub(super) async fn schedules(
        &self,
        namespace: &Namespace,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let records: Vec<ScheduleRecord> = sqlx::query_as(sql::SCHEDULES)
            .bind(&namespace.0)
            // No id is empty.
            .bind(after.unwrap_or_default())
            .bind(integer(limit as u64))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }

    pub(super) async fn schedules_due(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<ScheduleKey>, StoreError> {
        let records: Vec<ScheduleKeyRecord> = sqlx::query_as(sql::SCHEDULES_DUE)
            .bind(until.0)
            .bind(integer(limit as u64))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        Ok(records.into_iter().map(ScheduleKey::from).collect())
    }

    pub(super) async fn schedules_wake(&self) -> Result<Option<Timestamp>, StoreError> {
        let wake: Option<i64> =
            sqlx::query_scalar(sql::SCHEDULES_WAKE).fetch_one(&self.pool).await.map_err(failed)?;
        Ok(wake.map(Timestamp))
    }

    pub(super) async fn schedules_running(
        &self,
        after: Option<&ScheduleKey>,
        limit: usize,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let (namespace, schedule_id) =
            after.map_or(("", ""), |key| (key.namespace.0.as_str(), key.schedule_id.as_str()));
        let records: Vec<ScheduleRecord> = sqlx::query_as(sql::SCHEDULES_RUNNING)
            .bind(namespace)
            .bind(schedule_id)
            .bind(integer(limit as u64))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        records.into_iter().map(TryInto::try_into).collect()
    }
}

fn failed(error: sqlx::Error) -> StoreError {
    StoreError::Database(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SqliteStore;
    use crate::store::conformance::fixtures::{commit_each, key, start};

    #[tokio::test]
    async fn lists_have_their_own_turn_and_time_and_runs_are_read_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        commit_each(&store, (1..=2_000).map(start).collect()).await;
        let database = Database::File(folder.path().join("everfold.db"));
        let all = Query::parse("history_length > 7 order by workflow_id").unwrap();
        let namespace = Namespace::default();
        let busy = |found: Result<Vec<RunRow>, StoreError>| match found {
            Err(StoreError::Busy(reason)) => reason,
            other => panic!("{other:?}"),
        };

        let reads = Reads::with_lists(&database, LONGEST_TURN, Duration::ZERO).await.unwrap();
        assert!(busy(reads.runs(&namespace, &all, None, 10).await).contains("took longer"));
        // Its connection is as good as before.
        let reads = Reads { longest_list: LONGEST_LIST, ..reads };
        assert_eq!(reads.runs(&namespace, &all, None, 10).await.unwrap(), []);

        let reads = Reads::with_lists(&database, Duration::from_millis(20), LONGEST_LIST).await.unwrap();
        let mut taken = Vec::new();
        for _ in 0..LISTS {
            taken.push(reads.lists.acquire().await.unwrap());
        }
        assert!(busy(reads.runs(&namespace, &all, None, 10).await).contains("as may be at once"));
        assert!(reads.run(&key(7)).await.unwrap().is_some());
        drop(taken);
        assert_eq!(reads.runs(&namespace, &all, None, 10).await.unwrap(), []);
    }
}
