//! Rows and the core's types, in both directions. Shared by the backends; knows no connection.

use std::borrow::Cow;

use everfold_core::attributes::Details;
use everfold_core::command::ParentClosePolicy;
use everfold_core::compression::{COMPRESSED, compressed, expanded};
use everfold_core::decision::{
    BlockKind, Blocked, Closed, InboxInput, InboxSeq, Lease, LeaseId, Outcome, Paused, PendingActivity, Reset,
};
use everfold_core::event::{Event, Input, ParentRun};
use everfold_core::failure::Failure;
use everfold_core::history;
use everfold_core::ids::{Digest, EventId, Namespace, RunId, RunKey, Timestamp, WorkflowId};
use everfold_core::machine::RunStatus;
use everfold_core::route::{Candidate, Percent, Route};
use sqlx::FromRow;

use super::{
    ComponentRow, Inbox, OpenCount, RouteRow, RunRow, ScheduleKey, ScheduleRow, StoreError, TERMINATION,
    TimerRow, VersionRow,
};

/// A number as SQL keeps it. One above 2⁶³ − 1 does not occur; as that limit it equals no other.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A value as CBOR, compressed if it is large ([`everfold_core::compression`]).
pub(super) fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    match minicbor::to_vec(value) {
        Ok(cbor) => compressed(&cbor).unwrap_or(cbor),
        Err(error) => unreachable!("writing to memory does not fail: {error}"),
    }
}

fn decode<T: for<'b> minicbor::Decode<'b, ()>>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let cbor: Cow<'_, [u8]> = match bytes.first() {
        Some(&COMPRESSED) => expanded(bytes).map_err(|error| damaged(what, error))?.into(),
        Some(_) | None => bytes.into(),
    };
    minicbor::decode(&cbor).map_err(|error| damaged(what, error))
}

/// The longest outcome in a run's row, in bytes. SQLite keeps a row of up to about 1,000 bytes in one page; a
/// longer one costs a page of its own, and every walk over the rows with it.
const LONGEST_OUTCOME: usize = 400;

/// The outcome for a closed run's row; absent where it is large and the closing event tells it.
pub(super) fn outcome(closed: &Closed, events: &[Event]) -> Option<Vec<u8>> {
    let bytes = encode(&closed.outcome);
    if bytes.len() > LONGEST_OUTCOME && events.last().and_then(Closed::by).as_ref() == Some(closed) {
        return None;
    }
    Some(bytes)
}

/// The outcome that the last step of a closed run's history tells.
pub(super) fn told_outcome(key: &RunKey, body: &[u8]) -> Result<Option<Outcome>, StoreError> {
    let mut events = Vec::new();
    unpack_history(key, body, &mut events)?;
    Ok(events.last().and_then(Closed::by).map(|closed| closed.outcome))
}

/// The outcome that a run's row has.
pub(super) fn stored_outcome(bytes: &[u8]) -> Result<Outcome, StoreError> {
    decode("an outcome", bytes)
}

/// The longest failure that is shown to people as JSON, in bytes of JSON.
const LONGEST_JSON: usize = 4 * 1024;
/// What they see of the message of a longer one, in characters.
const SHOWN: usize = 500;

/// A failure as JSON for people; only the beginning of its message if it is long.
pub(super) fn shown(failure: &Failure) -> Option<String> {
    let json = serde_json::to_string(failure).ok()?;
    if json.len() <= LONGEST_JSON {
        return Some(json);
    }
    let message: String = failure.message.chars().take(SHOWN).collect();
    Some(serde_json::json!({ "message": message }).to_string())
}

fn damaged(what: &str, reason: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{what}: {reason}"))
}

fn unsigned<T: TryFrom<i64>>(what: &str, number: i64) -> Result<T, StoreError> {
    T::try_from(number).map_err(|_| damaged(what, format!("{number} is out of range")))
}

fn bytes<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], StoreError> {
    bytes.try_into().map_err(|_| damaged(what, format!("{} bytes instead of {N}", bytes.len())))
}

/// A run id.
pub(super) fn run_id(blob: &[u8]) -> Result<RunId, StoreError> {
    bytes("a run id", blob).map(RunId)
}

/// A digest.
pub(super) fn digest(blob: &[u8]) -> Result<Digest, StoreError> {
    bytes("a digest", blob).map(Digest)
}

/// Appends the events of one row of a history.
pub(super) fn unpack_history(key: &RunKey, body: &[u8], events: &mut Vec<Event>) -> Result<(), StoreError> {
    history::unpack(body, events).map_err(|error| damaged(&format!("the history of run {key}"), error))
}

/// A row of `runs`.
#[derive(Debug, FromRow)]
pub(super) struct RunRecord {
    pub(super) run_id: Vec<u8>,
    pub(super) namespace: String,
    pub(super) workflow_id: String,
    pub(super) workflow_type: String,
    pub(super) digest: Vec<u8>,
    pub(super) status: String,
    pub(super) next_event_id: i64,
    pub(super) open_activities: i64,
    pub(super) started_at: i64,
    pub(super) closed_at: Option<i64>,
    pub(super) outcome: Option<Vec<u8>>,
    pub(super) blocked_kind: Option<String>,
    #[sqlx(flatten)]
    pub(super) blocked: BlockedRecord,
    pub(super) parent_run_id: Option<Vec<u8>>,
    #[sqlx(flatten)]
    pub(super) parent: ParentRecord,
    pub(super) start_at: Option<i64>,
}

/// The columns of `runs` that are null unless the run is a child.
#[derive(Debug, FromRow)]
pub(super) struct ParentRecord {
    pub(super) parent_workflow_id: Option<String>,
    pub(super) parent_event_id: Option<i64>,
    pub(super) parent_close_policy: Option<String>,
}

impl ParentRecord {
    fn decode(self, run_id: &[u8]) -> Result<ParentRun, StoreError> {
        let what = "a child's parent";
        let absent = || damaged(what, "a column is null");
        let policy = self.parent_close_policy.ok_or_else(absent)?;
        Ok(ParentRun {
            workflow_id: WorkflowId(self.parent_workflow_id.ok_or_else(absent)?),
            run_id: self::run_id(run_id)?,
            command_event_id: EventId(unsigned(what, self.parent_event_id.ok_or_else(absent)?)?),
            close_policy: ParentClosePolicy::from_name(&policy)
                .ok_or_else(|| damaged(what, format!("unknown policy {policy}")))?,
        })
    }
}

/// The columns of `runs` that are null unless the run is blocked.
#[derive(Debug, FromRow)]
pub(super) struct BlockedRecord {
    pub(super) blocked_event_id: Option<i64>,
    pub(super) blocked_reason: Option<String>,
    pub(super) blocked_backtrace: Option<String>,
    pub(super) blocked_divergence: Option<String>,
    pub(super) blocked_since: Option<i64>,
    pub(super) blocked_retries: Option<i64>,
    pub(super) blocked_retry_at: Option<i64>,
}

impl BlockedRecord {
    fn decode(self, kind: &str) -> Result<Blocked, StoreError> {
        let what = "a blocked run";
        let absent = || damaged(what, "a column is null");
        Ok(Blocked {
            event_id: EventId(unsigned(what, self.blocked_event_id.ok_or_else(absent)?)?),
            kind: BlockKind::from_name(kind).ok_or_else(|| damaged(what, format!("unknown kind {kind}")))?,
            reason: self.blocked_reason.ok_or_else(absent)?,
            backtrace: self.blocked_backtrace.ok_or_else(absent)?,
            divergence: match self.blocked_divergence {
                Some(text) => Some(serde_json::from_str(&text).map_err(|error| damaged(what, error))?),
                None => None,
            },
            since: Timestamp(self.blocked_since.ok_or_else(absent)?),
            retries: unsigned(what, self.blocked_retries.ok_or_else(absent)?)?,
            retry_at: Timestamp(self.blocked_retry_at.ok_or_else(absent)?),
        })
    }
}

impl TryFrom<RunRecord> for RunRow {
    type Error = StoreError;

    fn try_from(record: RunRecord) -> Result<Self, StoreError> {
        let key = RunKey { namespace: Namespace(record.namespace), run_id: run_id(&record.run_id)? };
        let what = format!("run {key}");
        Ok(Self {
            workflow_id: WorkflowId(record.workflow_id),
            workflow_type: record.workflow_type,
            digest: digest(&record.digest)?,
            status: RunStatus::from_name(&record.status)
                .ok_or_else(|| damaged(&what, format!("unknown status {}", record.status)))?,
            next_event_id: EventId(unsigned(&what, record.next_event_id)?),
            open_activities: unsigned(&what, record.open_activities)?,
            started_at: Timestamp(record.started_at),
            closed_at: record.closed_at.map(Timestamp),
            outcome: record.outcome.map(|outcome| decode(&what, &outcome)).transpose()?,
            blocked: record.blocked_kind.map(|kind| record.blocked.decode(&kind)).transpose()?,
            parent: record.parent_run_id.map(|run_id| record.parent.decode(&run_id)).transpose()?,
            start_at: record.start_at.map(Timestamp),
            key,
        })
    }
}

/// A row of `run_details`.
#[derive(Debug, FromRow)]
pub(super) struct DetailsRecord {
    run_id: Vec<u8>,
    search_attributes: Vec<u8>,
    memo: Vec<u8>,
}

impl TryFrom<DetailsRecord> for (RunId, Details) {
    type Error = StoreError;

    fn try_from(record: DetailsRecord) -> Result<Self, StoreError> {
        let what = "what a run is described by";
        let search_attributes = decode(what, &record.search_attributes)?;
        let memo = decode(what, &record.memo)?;
        Ok((run_id(&record.run_id)?, Details { search_attributes, memo }))
    }
}

/// A row of `inbox`.
#[derive(Debug, FromRow)]
pub(super) struct InboxRecord {
    pub(super) seq: i64,
    pub(super) received_at: i64,
    pub(super) input_type: String,
    pub(super) input: Vec<u8>,
}

/// The rows of one run's inbox, in order.
pub(super) fn inbox(records: Vec<InboxRecord>) -> Result<Inbox, StoreError> {
    let mut inbox = Inbox::default();
    for InboxRecord { seq, received_at, input_type, input } in records {
        let what = format!("inbox row {seq}");
        if input_type == TERMINATION {
            inbox.termination = Some(decode(&what, &input)?);
        } else {
            let input: Input = decode(&what, &input)?;
            let received_at = Timestamp(received_at);
            inbox.inputs.push((InboxSeq(seq), InboxInput { received_at, input }));
        }
    }
    Ok(inbox)
}

/// A row of `pending_activities`.
#[derive(Debug, FromRow)]
pub(super) struct AttemptRecord {
    pub(super) scheduled_event_id: i64,
    pub(super) activity_type: String,
    pub(super) attempt: i64,
    pub(super) next_attempt_at: i64,
    pub(super) last_failure: Option<Vec<u8>>,
    pub(super) last_failure_at: Option<i64>,
    pub(super) heartbeat_details: Option<Vec<u8>>,
    pub(super) last_heartbeat_at: Option<i64>,
    pub(super) lease_id: Option<Vec<u8>>,
    pub(super) lease_worker: Option<String>,
    pub(super) leased_at: Option<i64>,
    pub(super) paused_at: Option<i64>,
    pub(super) paused_under_way: Option<bool>,
    pub(super) reset_at: Option<i64>,
    pub(super) reset_due: Option<bool>,
}

impl TryFrom<AttemptRecord> for PendingActivity {
    type Error = StoreError;

    fn try_from(record: AttemptRecord) -> Result<Self, StoreError> {
        let what = format!("the attempts of activity {}", record.scheduled_event_id);
        Ok(Self {
            scheduled_event_id: EventId(unsigned(&what, record.scheduled_event_id)?),
            activity_type: record.activity_type,
            attempt: unsigned(&what, record.attempt)?,
            next_attempt_at: Timestamp(record.next_attempt_at),
            last_failure: record.last_failure.map(|failure| decode(&what, &failure)).transpose()?,
            last_failure_at: record.last_failure_at.map(Timestamp),
            last_heartbeat_at: record.last_heartbeat_at.map(Timestamp),
            heartbeat_details: record.heartbeat_details.map(|details| decode(&what, &details)).transpose()?,
            lease: record
                .lease_id
                .zip(record.leased_at)
                .map(|(id, since)| lease(&what, &id, record.lease_worker, since))
                .transpose()?,
            paused: record
                .paused_at
                .zip(record.paused_under_way)
                .map(|(since, attempt_under_way)| Paused { since: Timestamp(since), attempt_under_way }),
            reset: record
                .reset_at
                .zip(record.reset_due)
                .map(|(at, is_due)| Reset { at: Timestamp(at), is_due }),
        })
    }
}

fn lease(what: &str, id: &[u8], worker: Option<String>, since: i64) -> Result<Lease, StoreError> {
    let id = id.try_into().map_err(|_| damaged(what, "a lease's id has another length"))?;
    Ok(Lease { id: LeaseId(id), worker, since: Timestamp(since) })
}

/// A row of `schedules`.
#[derive(Debug, FromRow)]
pub(super) struct ScheduleRecord {
    namespace: String,
    schedule_id: String,
    revision: i64,
    definition: String,
    state: String,
    wake_at: Option<i64>,
    created_at: i64,
    changed_at: i64,
}

impl TryFrom<ScheduleRecord> for ScheduleRow {
    type Error = StoreError;

    fn try_from(record: ScheduleRecord) -> Result<Self, StoreError> {
        let what = format!("schedule {}", record.schedule_id);
        let read = |error| damaged(&what, error);
        Ok(Self {
            definition: serde_json::from_str(&record.definition).map_err(read)?,
            state: serde_json::from_str(&record.state).map_err(read)?,
            revision: record.revision,
            wake_at: record.wake_at.map(Timestamp),
            created_at: Timestamp(record.created_at),
            changed_at: Timestamp(record.changed_at),
            key: ScheduleKey { namespace: Namespace(record.namespace), schedule_id: record.schedule_id },
        })
    }
}

/// The key of a schedule.
#[derive(Debug, FromRow)]
pub(super) struct ScheduleKeyRecord {
    namespace: String,
    schedule_id: String,
}

impl From<ScheduleKeyRecord> for ScheduleKey {
    fn from(record: ScheduleKeyRecord) -> Self {
        Self { namespace: Namespace(record.namespace), schedule_id: record.schedule_id }
    }
}

/// The key of a run.
#[derive(Debug, FromRow)]
pub(super) struct KeyRecord {
    namespace: String,
    run_id: Vec<u8>,
}

impl TryFrom<KeyRecord> for RunKey {
    type Error = StoreError;

    fn try_from(record: KeyRecord) -> Result<Self, StoreError> {
        Ok(Self { namespace: Namespace(record.namespace), run_id: run_id(&record.run_id)? })
    }
}

/// A row of `timers`.
#[derive(Debug, FromRow)]
pub(super) struct TimerRecord {
    fire_at: i64,
    started_event_id: i64,
    #[sqlx(flatten)]
    key: KeyRecord,
}

impl TryFrom<TimerRecord> for TimerRow {
    type Error = StoreError;

    fn try_from(record: TimerRecord) -> Result<Self, StoreError> {
        Ok(Self {
            fire_at: Timestamp(record.fire_at),
            key: record.key.try_into()?,
            started_event_id: EventId(unsigned("a timer", record.started_event_id)?),
        })
    }
}

/// Open runs of one type on one component.
#[derive(Debug, FromRow)]
pub(super) struct SurveyRecord {
    workflow_type: String,
    digest: Vec<u8>,
    open: i64,
    blocked: i64,
}

impl TryFrom<SurveyRecord> for OpenCount {
    type Error = StoreError;

    fn try_from(record: SurveyRecord) -> Result<Self, StoreError> {
        Ok(Self {
            workflow_type: record.workflow_type,
            digest: digest(&record.digest)?,
            open: unsigned("a count of runs", record.open)?,
            blocked: unsigned("a count of runs", record.blocked)?,
        })
    }
}

/// A row of `workflow_types`.
#[derive(Debug, FromRow)]
pub(super) struct RouteRecord {
    workflow_type: String,
    current_digest: Vec<u8>,
    candidate_digest: Option<Vec<u8>>,
    ramp_percent: i64,
    previous_digest: Option<Vec<u8>>,
    revision: i64,
    changed_at: i64,
}

impl TryFrom<RouteRecord> for RouteRow {
    type Error = StoreError;

    fn try_from(record: RouteRecord) -> Result<Self, StoreError> {
        let what = "a route";
        let candidate = match record.candidate_digest {
            Some(blob) => {
                let percent: u8 = unsigned(what, record.ramp_percent)?;
                let ramp = Percent::try_from(percent).map_err(|error| damaged(what, error))?;
                Some(Candidate { digest: digest(&blob)?, ramp })
            }
            None => None,
        };
        let current = digest(&record.current_digest)?;
        let previous = record.previous_digest.map(|blob| digest(&blob)).transpose()?;
        Ok(Self {
            workflow_type: record.workflow_type,
            route: Route { current, candidate, previous },
            revision: record.revision,
            changed_at: Timestamp(record.changed_at),
        })
    }
}

/// A version of a type with the runs on it; those columns are null where there are none.
#[derive(Debug, FromRow)]
pub(super) struct VersionRecord {
    digest: Vec<u8>,
    size: i64,
    sdk: String,
    deployed_at: i64,
    retired_at: Option<i64>,
    routed_at: Option<i64>,
    open: Option<i64>,
    blocked: Option<i64>,
    runs: Option<i64>,
    failed: Option<i64>,
    first_started_at: Option<i64>,
    last_started_at: Option<i64>,
}

impl TryFrom<VersionRecord> for VersionRow {
    type Error = StoreError;

    fn try_from(record: VersionRecord) -> Result<Self, StoreError> {
        let count = |number: Option<i64>| unsigned("a count of runs", number.unwrap_or(0));
        Ok(Self {
            digest: digest(&record.digest)?,
            size: unsigned("a component", record.size)?,
            deployed_at: Timestamp(record.deployed_at),
            retired_at: record.retired_at.map(Timestamp),
            routed_at: record.routed_at.map(Timestamp),
            open: count(record.open)?,
            blocked: count(record.blocked)?,
            runs: count(record.runs)?,
            failed: count(record.failed)?,
            first_started_at: record.first_started_at.map(Timestamp),
            last_started_at: record.last_started_at.map(Timestamp),
            sdk: record.sdk,
        })
    }
}

/// A component with one of its types, or without any.
#[derive(Debug, FromRow)]
pub(super) struct ComponentRecord {
    digest: Vec<u8>,
    size: i64,
    sdk: String,
    deployed_at: i64,
    workflow_type: Option<String>,
    is_current: bool,
}

/// Gathers the rows of each component; those of one component are neighbours.
pub(super) fn components(records: Vec<ComponentRecord>) -> Result<Vec<ComponentRow>, StoreError> {
    let mut components: Vec<ComponentRow> = Vec::new();
    for record in records {
        let digest = digest(&record.digest)?;
        let workflow_type = record.workflow_type.map(|name| (name, record.is_current));
        match components.last_mut() {
            Some(component) if component.digest == digest => component.workflow_types.extend(workflow_type),
            Some(_) | None => components.push(ComponentRow {
                digest,
                size: unsigned("a component", record.size)?,
                workflow_types: workflow_type.into_iter().collect(),
                sdk: record.sdk,
                deployed_at: Timestamp(record.deployed_at),
            }),
        }
    }
    Ok(components)
}
