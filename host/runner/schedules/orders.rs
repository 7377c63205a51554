//! What callers ask of schedules.

use everfold_core::ids::Timestamp;
use everfold_core::schedule::ScheduleState;

use super::{PAGE, marked, times};
use crate::runner::api::{
    ApiError, ScheduleDescription, ScheduleKey, ScheduleList, ScheduleListRequest, ScheduleOrder,
    ScheduleRequest, ScheduleUpdate,
};
use crate::runner::{Host, LONGEST_ID, internal};
use crate::store::ScheduleRow;

/// The longest id of a schedule, and the longest beginning of its runs' workflow ids, in bytes: both stand in longer ones.
const LONGEST: usize = 250;
/// Times that a description tells.
const NEXT_TIMES: usize = 10;
/// Backfills of one schedule that may be under way.
const MOST_BACKFILLS: usize = 10;

impl Host {
    /// Makes a schedule; it is on disk when this returns.
    ///
    /// # Errors
    /// `InvalidInput`, `AlreadyExists`, `Busy`.
    pub async fn create_schedule(&self, request: ScheduleRequest) -> Result<ScheduleDescription, ApiError> {
        let ScheduleRequest { key, definition, paused, note, remaining_actions, request_id } = request;
        let _admitted = self.parts.admit_write()?;
        let turn = self.parts.schedules.turn(&key);
        let _turn = turn.lock().await;
        let now = self.parts.clock.now();
        let mut state = ScheduleState { paused, note, remaining_actions, ..ScheduleState::new(now) };
        state.is_new_request(request_id.as_deref());
        let row = ScheduleRow {
            key,
            revision: 1,
            definition,
            state,
            // It is looked at once, and knows then.
            wake_at: Some(now),
            created_at: now,
            changed_at: now,
        };
        check(&row, request_id.as_deref())?;
        let is_new = self.parts.store.put_schedule(row.clone()).await.map_err(|error| internal(&error))?;
        if is_new {
            self.drive(row.clone(), true).await?;
            return self.describe_schedule(&row.key).await;
        }
        let there = self.schedule_row(&row.key).await?;
        match request_id {
            Some(request_id) if there.state.requests.contains(&request_id) => Ok(describe(there)),
            Some(_) | None => {
                Err(ApiError::AlreadyExists(format!("there is a schedule {}", row.key.schedule_id)))
            }
        }
    }

    /// Changes what a schedule is, from now on.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput`, `Conflict` where it is at another revision, `Busy`.
    pub async fn update_schedule(&self, update: ScheduleUpdate) -> Result<ScheduleDescription, ApiError> {
        let ScheduleUpdate { key, definition, note, remaining_actions, revision } = update;
        let _admitted = self.parts.admit_write()?;
        let turn = self.parts.schedules.turn(&key);
        let _turn = turn.lock().await;
        let mut row = self.schedule_row(&key).await?;
        let told = row.state.told;
        if revision.is_some_and(|revision| revision != told) {
            return Err(ApiError::Conflict(format!("the schedule is at revision {told} now")));
        }
        let now = self.parts.clock.now();
        // What came before now is due by what it was.
        if let Ok(times) = times(&row) {
            while row.state.take_due(&times, &row.definition.policies, now).has_more {}
        }
        row.definition = definition;
        row.state.told += 1;
        row.state.note = note.unwrap_or(row.state.note);
        row.state.remaining_actions = remaining_actions;
        row.state.seen_until = row.state.seen_until.max(now);
        row.changed_at = now;
        check(&row, None)?;
        self.drive(row, true).await?;
        self.describe_schedule(&key).await
    }

    /// Pauses a schedule, triggers it, and the like. The same `request_id` is one order.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput`, `Busy`.
    pub async fn order_schedule(
        &self,
        key: &ScheduleKey,
        order: ScheduleOrder,
        request_id: Option<&str>,
    ) -> Result<ScheduleDescription, ApiError> {
        let _admitted = self.parts.admit_write()?;
        let turn = self.parts.schedules.turn(key);
        let turn = turn.lock().await;
        let mut row = self.schedule_row(key).await?;
        check(&row, request_id)?;
        let now = self.parts.clock.now();
        if row.state.is_new_request(request_id) {
            obey(&mut row, order, now)?;
            row.changed_at = now;
            self.drive(row, true).await?;
        }
        drop(turn);
        self.describe_schedule(key).await
    }

    /// Forgets a schedule. Runs that it started go on.
    ///
    /// # Errors
    /// `NotFound`, `Busy`.
    pub async fn delete_schedule(&self, key: &ScheduleKey) -> Result<(), ApiError> {
        let _admitted = self.parts.admit_write()?;
        let turn = self.parts.schedules.turn(key);
        let _turn = turn.lock().await;
        let was_there =
            self.parts.store.delete_schedule(key.clone()).await.map_err(|error| internal(&error))?;
        if was_there { Ok(()) } else { Err(not_found(key)) }
    }

    /// Describes a schedule.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn describe_schedule(&self, key: &ScheduleKey) -> Result<ScheduleDescription, ApiError> {
        self.schedule_row(key).await.map(describe)
    }

    /// A page of the schedules of a namespace.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn schedules(&self, request: ScheduleListRequest) -> Result<ScheduleList, ApiError> {
        let ScheduleListRequest { namespace, after, limit } = request;
        let limit = limit.clamp(1, PAGE);
        let found = self.parts.store.schedules(&namespace, after.as_deref(), limit + 1).await;
        let mut rows = found.map_err(|error| internal(&error))?;
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| !is_last).map(|row| row.key.schedule_id.clone());
        Ok(ScheduleList { schedules: rows.into_iter().map(describe).collect(), next })
    }

    async fn schedule_row(&self, key: &ScheduleKey) -> Result<ScheduleRow, ApiError> {
        let found = self.parts.store.schedule(key).await.map_err(|error| internal(&error))?;
        found.ok_or_else(|| not_found(key))
    }
}

fn not_found(key: &ScheduleKey) -> ApiError {
    ApiError::NotFound(format!("there is no schedule {}", key.schedule_id))
}

/// Takes an order into a schedule's state.
fn obey(row: &mut ScheduleRow, order: ScheduleOrder, now: Timestamp) -> Result<(), ApiError> {
    let own = row.definition.policies.overlap;
    let state = &mut row.state;
    match order {
        ScheduleOrder::Pause { note } => {
            (state.paused, state.note) = (true, note);
            state.told += 1;
        }
        ScheduleOrder::Unpause { note } => {
            if state.paused {
                // What passed meanwhile is past.
                state.seen_until = state.seen_until.max(now);
            }
            (state.paused, state.note) = (false, note);
            state.told += 1;
        }
        ScheduleOrder::Trigger { overlap } => state.trigger(overlap.unwrap_or(own), now),
        ScheduleOrder::Backfill { from, to, overlap } => {
            if to < from {
                return Err(ApiError::InvalidInput("to is before from".to_owned()));
            }
            if state.backfills.len() >= MOST_BACKFILLS {
                let message = format!("{MOST_BACKFILLS} backfills of the schedule are under way already");
                return Err(ApiError::LimitExceeded(message));
            }
            state.backfill(from, to, overlap.unwrap_or(own));
        }
    }
    Ok(())
}

/// Says whether a schedule can be.
fn check(row: &ScheduleRow, request_id: Option<&str>) -> Result<(), ApiError> {
    let action = &row.definition.action;
    let texts = [
        ("schedule_id", row.key.schedule_id.as_str(), LONGEST),
        ("action: workflow_id", &action.workflow_id, LONGEST),
        ("action: workflow_type", &action.workflow_type, LONGEST_ID),
        ("request_id", request_id.unwrap_or("-"), LONGEST_ID),
    ];
    for (name, text, longest) in texts {
        if text.is_empty() || text.len() > longest || text.chars().any(char::is_control) {
            let message = format!("{name}: 1 to {longest} bytes without control characters");
            return Err(ApiError::InvalidInput(message));
        }
    }
    if row.state.note.len() > 4 * LONGEST_ID {
        return Err(ApiError::InvalidInput(format!("note: at most {} bytes", 4 * LONGEST_ID)));
    }
    let marked = marked(action.search_attributes.clone(), &row.key.schedule_id, row.created_at);
    let checked = marked.check().and_then(|()| action.memo.check());
    let checked = checked.and_then(|()| row.definition.policies.check());
    let checked = checked.and_then(|()| action.terms.check());
    checked.and_then(|()| times(row).map(|_| ())).map_err(ApiError::InvalidInput)
}

fn describe(row: ScheduleRow) -> ScheduleDescription {
    let next_times = times(&row).map(|times| row.state.next_times(&times, NEXT_TIMES)).unwrap_or_default();
    let ScheduleRow { key, definition, state, created_at, changed_at, .. } = row;
    ScheduleDescription {
        key,
        revision: state.told,
        definition,
        paused: state.paused,
        note: state.note,
        remaining_actions: state.remaining_actions,
        next_times,
        running: state.running,
        recent: state.recent,
        waiting: state.buffer.len(),
        backfills: state.backfills.len(),
        counts: state.counts,
        last_error: state.last_error,
        created_at,
        changed_at,
    }
}
