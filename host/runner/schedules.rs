//! Schedules: a task that sleeps until the first of them has something to do, and what is done then.
//!
//! ```text
//!  wake ─▶ take what is due ─▶ write it down ─▶ start, cancel, terminate ─▶ write down what came of it ─▶ sleep
//!                                                     │
//!                          follow each started run ◀──┘──▶ its end: look at the schedule again
//! ```
//!
//! All of it is in the store: a row for each schedule, with what is due and what runs. One schedule is worked on by one task
//! at a time, many beside each other. A start bears a `request_id` made of the schedule and its nominal time, so that a host that was killed
//! between the start and the note of it starts nothing twice; retention waits for the first look at all schedules, so that
//! no request is forgotten before.

mod orders;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use everfold_core::attributes::{
    AttributeValue, Details, SCHEDULED_BY, SCHEDULED_START_TIME, SearchAttributes,
};
use everfold_core::ids::{RunId, RunKey, Timestamp};
use everfold_core::machine::RunStatus;
use everfold_core::schedule::{Act, Action, DueStart, ScheduleAction, Times};
use futures::{StreamExt as _, stream};
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, Notify, watch};
use tokio::time::Instant;

use super::api::{ApiError, IdConflictPolicy, IdReusePolicy, RunRef, ScheduleKey, StartRequest, StopRequest};
use super::{Host, STORE_PAUSE_MS, internal};
use crate::store::ScheduleRow;

/// Schedules read at once, and those worked on at a time.
const PAGE: usize = 256;
const AT_ONCE: usize = 16;
/// How long a start waits that meets something which people have to change.
const MENDED_MS: u64 = 60_000;
/// How long one look at a followed run may take; then it is looked at again.
const LONG: Duration = Duration::from_secs(3_600);
/// Turns that are kept though nobody may want them.
const MOST_TURNS: usize = 1_024;
/// Acts of one schedule before what came of them is written down.
const ACTS: usize = 64;

/// What the schedules of this host share.
#[derive(Debug)]
pub(super) struct Schedules {
    /// Whose turn it is, for each schedule.
    turns: Mutex<HashMap<ScheduleKey, Arc<Turn<()>>>>,
    /// Told when one may have to be looked at earlier than it was known.
    changed: Notify,
    /// Runs that are followed to their end.
    followed: Mutex<HashSet<(ScheduleKey, RunId)>>,
    /// Whether all were looked at once.
    caught_up: watch::Sender<bool>,
}

impl Default for Schedules {
    fn default() -> Self {
        let (turns, followed) = (Mutex::default(), Mutex::default());
        Self { turns, changed: Notify::new(), followed, caught_up: watch::Sender::new(false) }
    }
}

impl Schedules {
    /// Waits until all schedules were looked at once: what an earlier process left undone is done.
    pub(super) async fn caught_up(&self) {
        let mut caught_up = self.caught_up.subscribe();
        // The sender lives as long as `self`.
        let _ = caught_up.wait_for(|is_so| *is_so).await;
    }

    fn turn(&self, key: &ScheduleKey) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock();
        if turns.len() > MOST_TURNS {
            // Those that nobody has or waits for are made again when they are wanted.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(key.clone()).or_default())
    }
}

/// Does what schedules ask for as long as the host lives.
pub(super) async fn run_for_ever(host: Host) {
    let parts = Arc::clone(&host.parts);
    let mut is_followed = false;
    loop {
        let looked = async {
            if !is_followed {
                host.follow_all().await?;
                is_followed = true;
            }
            host.look_at_due().await
        };
        let wake = match looked.await {
            Ok(wake) => {
                parts.schedules.caught_up.send_replace(true);
                wake
            }
            Err(_) if parts.stopping.is_cancelled() => return,
            Err(error) => {
                tracing::error!(%error, "schedules cannot be looked at");
                Some(parts.clock.now().plus_ms(STORE_PAUSE_MS))
            }
        };
        let sleep = async {
            match wake {
                Some(wake) => parts.clock.sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = parts.schedules.changed.notified() => {}
        }
    }
}

impl Host {
    /// Follows the runs that an earlier process followed.
    async fn follow_all(&self) -> Result<(), ApiError> {
        let mut after = None;
        loop {
            let found = self.parts.store.schedules_running(after.as_ref(), PAGE).await;
            let page = found.map_err(|error| internal(&error))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for row in &page {
                row.state.running.iter().for_each(|run| self.follow(&row.key, run));
            }
        }
    }

    /// Looks at all schedules that have something to do; says when the next one has.
    async fn look_at_due(&self) -> Result<Option<Timestamp>, ApiError> {
        let parts = &self.parts;
        loop {
            let due = parts.store.schedules_due(parts.clock.now(), PAGE).await;
            let due = due.map_err(|error| internal(&error))?;
            if due.is_empty() {
                return parts.store.schedules_wake().await.map_err(|error| internal(&error));
            }
            let looks = due.into_iter().map(|key| async move { self.look_at(&key, |_| ()).await });
            let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
            while let Some(looked) = looks.next().await {
                looked?;
            }
        }
    }

    /// Changes a schedule, and does what it asks for then. Nothing happens if it is not there any more.
    async fn look_at(
        &self,
        key: &ScheduleKey,
        change: impl FnOnce(&mut ScheduleRow),
    ) -> Result<(), ApiError> {
        let turn = self.parts.schedules.turn(key);
        let _turn = turn.lock().await;
        let found = self.parts.store.schedule(key).await.map_err(|error| internal(&error))?;
        let Some(mut row) = found else { return Ok(()) };
        let before = row.state.clone();
        change(&mut row);
        let is_changed = row.state != before;
        self.drive(row, is_changed).await
    }

    /// Does what a schedule asks for, or some of it: then it stays due, and others have their turn before the rest, callers too.
    /// The caller has its turn.
    async fn drive(&self, mut row: ScheduleRow, mut is_changed: bool) -> Result<(), ApiError> {
        let parts = &self.parts;
        let times = match times(&row) {
            Ok(times) => times,
            Err(error) => {
                // The machine has lost a time zone that it had. It is looked at again when somebody changes it, or after a while.
                row.state.last_error = Some(error);
                row.wake_at = Some(parts.clock.now().plus_ms(MENDED_MS));
                return self.write(&mut row).await;
            }
        };
        let now = parts.clock.now();
        let (policies, before) = (row.definition.policies, row.state.clone());
        let due = row.state.take_due(&times, &policies, now);
        is_changed |= row.state != before;
        if is_changed && !row.state.buffer.is_empty() {
            // What is due is on disk before it is done. Until that is noted too, it stays due.
            row.wake_at = Some(now);
            self.write(&mut row).await?;
            is_changed = false;
        }
        let mut acts = 0;
        while acts < ACTS
            && let Some(act) = row.state.next_act(now)
        {
            self.act(&mut row, act, now).await?;
            acts += 1;
        }
        // What the policies left out is a change too.
        let wake = if acts == ACTS { Some(now) } else { row.state.wake(due, now) };
        if is_changed || row.state != before || wake != row.wake_at {
            row.wake_at = wake;
            self.write(&mut row).await?;
        }
        parts.schedules.changed.notify_one();
        Ok(())
    }

    async fn write(&self, row: &mut ScheduleRow) -> Result<(), ApiError> {
        row.revision += 1;
        let written = self.parts.store.put_schedule(row.clone()).await.map_err(|error| internal(&error))?;
        if written {
            return Ok(());
        }
        let message = format!("schedule {} was changed or deleted meanwhile", row.key.schedule_id);
        Err(ApiError::Conflict(message))
    }

    /// Does one thing, and tells the state what came of it.
    async fn act(&self, row: &mut ScheduleRow, act: Act, now: Timestamp) -> Result<(), ApiError> {
        let stop = |run: &Action| StopRequest {
            run: RunRef {
                namespace: row.key.namespace.clone(),
                workflow_id: run.workflow_id.clone(),
                // Whichever goes on from it.
                run_id: None,
            },
            reason: format!("schedule {} starts the next run", row.key.schedule_id),
            request_id: None,
        };
        match act {
            Act::Start(start) => self.start_due(row, &start, now).await,
            Act::Cancel(run) => {
                gone_or(self.cancel(stop(&run)).await)?;
                row.state.asked_to_stop(run.run_id);
                Ok(())
            }
            Act::Terminate(run) => {
                gone_or(self.terminate(stop(&run)).await)?;
                row.state.ended(run.run_id, None, &row.definition.policies);
                Ok(())
            }
        }
    }

    async fn start_due(
        &self,
        row: &mut ScheduleRow,
        start: &DueStart,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let policies = row.definition.policies;
        match self.start(request(row, start)).await {
            Ok(started) => {
                row.state.started(start, started.workflow_id, started.run_id, now);
                if let Some(run) = row.state.running.last() {
                    self.follow(&row.key, run);
                }
            }
            Err(ApiError::Busy(reason)) if self.parts.stopping.is_cancelled() => {
                return Err(ApiError::Busy(reason));
            }
            Err(error @ (ApiError::Busy(_) | ApiError::Internal(_))) => {
                row.state.put_off(start, error.to_string(), now.plus_ms(STORE_PAUSE_MS), &policies);
            }
            Err(
                error @ (ApiError::UnknownWorkflowType(_)
                | ApiError::UnknownVersion(_)
                | ApiError::VersionConflict(_)),
            ) => row.state.put_off(start, error.to_string(), now.plus_ms(MENDED_MS), &policies),
            Err(error) => {
                let schedule_id = &row.key.schedule_id;
                tracing::warn!(schedule_id, nominal = %start.nominal, %error, "a scheduled run cannot be started");
                row.state.failed(start, error.to_string());
            }
        }
        Ok(())
    }

    /// Waits for a run's end, and looks at its schedule then. A run is followed once.
    fn follow(&self, key: &ScheduleKey, run: &Action) {
        let followed = (key.clone(), run.run_id);
        if !self.parts.schedules.followed.lock().insert(followed.clone()) {
            return;
        }
        let host = self.clone();
        let run = RunKey { namespace: key.namespace.clone(), run_id: run.run_id };
        self.parts.runtime.spawn(async move {
            let parts = Arc::clone(&host.parts);
            let until_told = async {
                let failure = host.failure_of(run).await;
                let (key, run_id) = &followed;
                while let Err(error) = host
                    .look_at(key, |row| {
                        let policies = row.definition.policies;
                        row.state.ended(*run_id, failure, &policies);
                    })
                    .await
                {
                    tracing::error!(%error, "a scheduled run's end cannot be noted");
                    parts.clock.sleep_until(parts.clock.now().plus_ms(STORE_PAUSE_MS)).await;
                }
            };
            tokio::select! {
                () = until_told => {}
                () = parts.stopping.cancelled() => {}
            }
            parts.schedules.followed.lock().remove(&followed);
        });
    }

    /// Waits for a run's end, also through the runs that go on from it; says how it failed if it did.
    async fn failure_of(&self, run: RunKey) -> Option<&'static str> {
        loop {
            match self.end_of(run.clone(), Instant::now() + LONG).await.map(|end| end.status) {
                Ok(RunStatus::Running) => {}
                Ok(RunStatus::Failed) => return Some("failed"),
                Ok(RunStatus::TimedOut) => return Some("timed out"),
                Ok(
                    RunStatus::Completed
                    | RunStatus::Canceled
                    | RunStatus::Terminated
                    | RunStatus::ContinuedAsNew,
                )
                // It was removed: how it ended is not known any more.
                | Err(ApiError::NotFound(_)) => return None,
                Err(error) => {
                    tracing::error!(%error, "a scheduled run cannot be followed");
                    self.parts.clock.sleep_until(self.parts.clock.now().plus_ms(STORE_PAUSE_MS)).await;
                }
            }
        }
    }
}

/// The times of a schedule.
fn times(row: &ScheduleRow) -> Result<Times, String> {
    row.definition.spec.times(&row.key.schedule_id, |name| TimeZone::get(name).ok())
}

/// A run that is not open any more is as good as stopped.
fn gone_or<T>(answer: Result<T, ApiError>) -> Result<(), ApiError> {
    match answer {
        Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a scheduled run can be found by.
fn marked(mut own: SearchAttributes, schedule_id: &str, nominal: Timestamp) -> SearchAttributes {
    own.set(SCHEDULED_BY, AttributeValue::Keyword(schedule_id.to_owned()));
    own.set(SCHEDULED_START_TIME, AttributeValue::Time(nominal));
    own
}

/// The start that a schedule asks for.
fn request(row: &ScheduleRow, start: &DueStart) -> StartRequest {
    let ScheduleAction { workflow_type, workflow_id, input, headers, digest, search_attributes, memo, terms } =
        row.definition.action.clone();
    let schedule_id = &row.key.schedule_id;
    let search_attributes = marked(search_attributes, schedule_id, start.nominal);
    let details = Details { search_attributes, memo };
    StartRequest {
        namespace: row.key.namespace.clone(),
        workflow_type,
        workflow_id: Some(start.workflow_id(&workflow_id)),
        input,
        headers,
        request_id: Some(start.request_id(schedule_id, row.created_at)),
        digest,
        id_reuse: IdReusePolicy::default(),
        id_conflict: IdConflictPolicy::default(),
        signal: None,
        terms,
        update: None,
        details,
    }
}
