//! What one schedule has seen, is to do, and has done. It says what is to be done next; whoever does it tells what came of it.

use serde::{Deserialize, Serialize};

use super::span::Span;
use super::spec::Times;
use crate::ids::{RunId, Timestamp, WorkflowId};

/// How far behind its time a start may be where the policies do not say (Temporal's default).
const CATCHUP_WINDOW: Span = Span::days(365);
/// The shortest window: a host that restarts is to lose nothing.
const SHORTEST_WINDOW: Span = Span::seconds(10);
/// Starts that wait at most.
pub const MOST_BUFFERED: usize = 1_000;
/// Times that are taken at once.
const MOST_AT_ONCE: usize = 1_000;
/// Missed times that are counted at once; of more it is only known that they were missed.
const MOST_MISSED: usize = 100_000;
/// Starts of backfills that wait at once.
const BACKFILLED: usize = 100;
/// Runs that are followed to their end: of more at once the oldest are let go.
pub const MOST_RUNNING: usize = 1_000;
/// Actions and callers' requests that are remembered.
const RECENT: usize = 10;
const REQUESTS: usize = 100;

/// What becomes of a start that is due while a run of the schedule is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// It is left out.
    #[default]
    Skip,
    /// It waits for the end of the run; one does, further ones are left out.
    BufferOne,
    /// It waits, and so do further ones.
    BufferAll,
    /// The run is asked to cancel; it waits for the end of it, in place of all that waited before.
    CancelOther,
    /// The run is terminated.
    TerminateOther,
    /// It begins beside it.
    AllowAll,
}

impl OverlapPolicy {
    /// Every policy.
    pub const ALL: [Self; 6] = [
        Self::Skip,
        Self::BufferOne,
        Self::BufferAll,
        Self::CancelOther,
        Self::TerminateOther,
        Self::AllowAll,
    ];

    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::BufferOne => "buffer_one",
            Self::BufferAll => "buffer_all",
            Self::CancelOther => "cancel_other",
            Self::TerminateOther => "terminate_other",
            Self::AllowAll => "allow_all",
        }
    }
}

/// How a schedule takes what comes between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Of starts that meet an open run.
    #[serde(default)]
    pub overlap: OverlapPolicy,
    /// A time that passed while the host was down is acted on if it is no longer ago than this; a year if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catchup_window: Option<Span>,
    /// Pause the schedule when a run of it fails or times out.
    #[serde(default)]
    pub pause_on_failure: bool,
}

impl Policies {
    /// Says whether they can be.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        if self.catchup_window.is_some_and(|window| window < SHORTEST_WINDOW || window > super::spec::LONGEST)
        {
            return Err(format!(
                "policies: catchup_window: between {SHORTEST_WINDOW} and {}",
                super::spec::LONGEST
            ));
        }
        Ok(())
    }

    fn window(&self) -> Span {
        self.catchup_window.unwrap_or(CATCHUP_WINDOW)
    }
}

/// A start that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueStart {
    /// The time that it stands for.
    pub nominal: Timestamp,
    /// The number of the trigger or backfill that asked for it; absent where the time did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<u64>,
    /// What becomes of it while a run is open.
    pub overlap: OverlapPolicy,
    /// Not before this time: the host could not do it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

impl DueStart {
    /// The workflow id of its run: the prefix and the nominal time, as Temporal has it.
    #[must_use]
    pub fn workflow_id(&self, prefix: &str) -> WorkflowId {
        let nominal = self.nominal.to_string().replace(".000Z", "Z");
        WorkflowId(format!("{prefix}-{nominal}"))
    }

    /// The request by which it is done once, however often it is tried.
    #[must_use]
    pub fn request_id(&self, schedule_id: &str, created_at: Timestamp) -> String {
        let manual = self.manual.map_or_else(String::new, |number| format!("/{number}"));
        format!("schedule/{schedule_id}/{}/{}{manual}", created_at.0, self.nominal.0)
    }
}

/// A run that the schedule started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The time that it stands for.
    pub nominal: Timestamp,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// Its first run.
    pub run_id: RunId,
    /// Whether it was asked to end because another start waits for that.
    #[serde(default)]
    pub is_asked_to_stop: bool,
}

/// A range of times that is acted on as if it passed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Times up to this one are done with.
    pub seen_until: Timestamp,
    /// The last time that counts.
    pub to: Timestamp,
    /// Of its starts.
    pub overlap: OverlapPolicy,
    /// Its number among triggers and backfills.
    pub number: u64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Runs started.
    pub started: u64,
    /// Times that were too long ago when the host came to them.
    pub missed_catchup_window: u64,
    /// Starts left out because of an open run.
    pub skipped_overlap: u64,
    /// Starts left out because too many waited.
    pub dropped_from_buffer: u64,
    /// Starts that could not be done.
    pub failed: u64,
}

/// One schedule's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Whether times pass without a start.
    pub paused: bool,
    /// For people: why it is paused, say.
    #[serde(default)]
    pub note: String,
    /// Starts that are left; no limit if absent.
    #[serde(default)]
    pub remaining_actions: Option<u64>,
    /// How often callers have said what the schedule is, from 1: what one of them has seen is told by it.
    pub told: u64,
    /// Nominal times up to this one are taken.
    pub seen_until: Timestamp,
    /// Starts that are due, in order.
    #[serde(default)]
    pub buffer: Vec<DueStart>,
    /// Runs that have not ended, as far as it is known.
    #[serde(default)]
    pub running: Vec<Action>,
    /// The last runs started, the latest last.
    #[serde(default)]
    pub recent: Vec<Action>,
    /// Backfills under way.
    #[serde(default)]
    pub backfills: Vec<Backfill>,
    /// Triggers and backfills so far.
    #[serde(default)]
    pub manual: u64,
    /// What was counted.
    #[serde(default)]
    pub counts: Counts,
    /// Why the last start was not done, if it was not.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Callers' requests that were done, the latest last.
    #[serde(default)]
    pub requests: Vec<String>,
}

/// What came of a look at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When the next time is acted on.
    pub wake: Option<Timestamp>,
    /// Whether there is more to take now.
    pub has_more: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Start a run.
    Start(DueStart),
    /// Ask a run to cancel.
    Cancel(Action),
    /// Terminate a run.
    Terminate(Action),
}

impl ScheduleState {
    /// The state of a schedule that begins now.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            paused: false,
            note: String::new(),
            remaining_actions: None,
            told: 1,
            seen_until: now,
            buffer: Vec::new(),
            running: Vec::new(),
            recent: Vec::new(),
            backfills: Vec::new(),
            manual: 0,
            counts: Counts {
                started: 0,
                missed_catchup_window: 0,
                skipped_overlap: 0,
                dropped_from_buffer: 0,
                failed: 0,
            },
            last_error: None,
            requests: Vec::new(),
        }
    }

    /// Takes the times that have come into the buffer.
    pub fn take_due(&mut self, times: &Times, policies: &Policies, now: Timestamp) -> Due {
        let window = policies.window().0;
        let (mut taken, mut missed, mut wake) = (0, 0, None);
        while taken < MOST_AT_ONCE {
            let Some(nominal) = times.next(self.seen_until) else { break };
            let acted_on = times.acted_on(nominal);
            if acted_on > now {
                wake = self.is_acting().then_some(acted_on);
                break;
            }
            self.seen_until = nominal;
            if !self.is_acting() {
                missed += 1;
            } else if now.ms_since(acted_on) > window {
                self.counts.missed_catchup_window += 1;
                missed += 1;
            } else {
                self.put(DueStart { nominal, manual: None, overlap: policies.overlap, retry_at: None });
                taken += 1;
            }
            if missed >= MOST_MISSED {
                // Counting all of a long time would take long itself.
                let is_acting = self.is_acting();
                let behind = if is_acting { now.0.saturating_sub_unsigned(window) - 1 } else { now.0 };
                self.seen_until = self.seen_until.max(Timestamp(behind));
                missed = 0;
            }
        }
        self.take_backfill(times);
        Due { wake, has_more: taken == MOST_AT_ONCE }
    }

    fn take_backfill(&mut self, times: &Times) {
        while let Some(backfill) = self.backfills.first_mut() {
            if self.buffer.len() >= BACKFILLED {
                return;
            }
            match times.next(backfill.seen_until).filter(|nominal| *nominal <= backfill.to) {
                Some(nominal) => {
                    backfill.seen_until = nominal;
                    let Backfill { overlap, number, .. } = *backfill;
                    self.put(DueStart { nominal, manual: Some(number), overlap, retry_at: None });
                }
                None => _ = self.backfills.remove(0),
            }
        }
    }

    fn put(&mut self, start: DueStart) {
        if self.buffer.len() < MOST_BUFFERED {
            self.buffer.push(start);
        } else {
            self.counts.dropped_from_buffer += 1;
        }
    }

    /// Asks for a start now.
    pub fn trigger(&mut self, overlap: OverlapPolicy, now: Timestamp) {
        // Two within a millisecond have two names.
        let is_taken = |nominal: Timestamp, state: &Self| {
            let of_runs = state.running.iter().chain(&state.recent).map(|run| run.nominal);
            of_runs.chain(state.buffer.iter().map(|start| start.nominal)).any(|taken| taken == nominal)
        };
        let mut nominal = now;
        while is_taken(nominal, self) {
            nominal = nominal.plus_ms(1);
        }
        self.manual += 1;
        self.put(DueStart { nominal, manual: Some(self.manual), overlap, retry_at: None });
    }

    /// Asks for the times from `from` to `to`, both included.
    pub fn backfill(&mut self, from: Timestamp, to: Timestamp, overlap: OverlapPolicy) {
        self.manual += 1;
        let number = self.manual;
        self.backfills.push(Backfill { seen_until: Timestamp(from.0 - 1), to, overlap, number });
    }

    /// Notes a caller's request; false if it was done before.
    pub fn is_new_request(&mut self, request_id: Option<&str>) -> bool {
        let Some(request_id) = request_id else { return true };
        if self.requests.iter().any(|done| done == request_id) {
            return false;
        }
        self.requests.push(request_id.to_owned());
        let surplus = self.requests.len().saturating_sub(REQUESTS);
        self.requests.drain(..surplus);
        true
    }

    /// Whether times lead to starts.
    fn is_acting(&self) -> bool {
        !self.paused && self.remaining_actions != Some(0)
    }

    /// What is to be done next; asks again once it is told what came of that. What the policies leave out goes.
    pub fn next_act(&mut self, now: Timestamp) -> Option<Act> {
        let (mut at, mut kept, mut stop) = (0, 0_usize, None);
        while at < self.buffer.len() {
            let DueStart { manual, overlap, retry_at, .. } = self.buffer[at];
            if manual.is_none() && !self.is_acting() {
                self.buffer.remove(at);
                continue;
            }
            if retry_at.is_some_and(|retry_at| retry_at > now) {
                // Nothing overtakes it.
                return None;
            }
            if self.running.is_empty() || overlap == OverlapPolicy::AllowAll {
                return Some(Act::Start(self.buffer[at].clone()));
            }
            match overlap {
                OverlapPolicy::Skip => self.leave_out(at..at + 1),
                OverlapPolicy::BufferOne if kept > 0 => self.leave_out(at..at + 1),
                OverlapPolicy::BufferOne | OverlapPolicy::BufferAll => {
                    (at, kept) = (at + 1, kept + 1);
                }
                OverlapPolicy::CancelOther | OverlapPolicy::TerminateOther => {
                    self.leave_out(0..at);
                    (at, kept, stop) = (1, 1, Some(overlap));
                }
                OverlapPolicy::AllowAll => at += 1,
            }
        }
        let overlap = stop?;
        let run = self.running.iter().find(|run| !run.is_asked_to_stop)?.clone();
        Some(if overlap == OverlapPolicy::TerminateOther { Act::Terminate(run) } else { Act::Cancel(run) })
    }

    fn leave_out(&mut self, which: std::ops::Range<usize>) {
        self.counts.skipped_overlap += which.len() as u64;
        self.buffer.drain(which);
    }

    /// A start was done.
    pub fn started(&mut self, start: &DueStart, workflow_id: WorkflowId, run_id: RunId, now: Timestamp) {
        self.buffer.retain(|other| other != start);
        let nominal = start.nominal;
        let action = Action { nominal, started_at: now, workflow_id, run_id, is_asked_to_stop: false };
        self.counts.started += 1;
        self.last_error = None;
        if start.manual.is_none()
            && let Some(remaining) = &mut self.remaining_actions
        {
            *remaining = remaining.saturating_sub(1);
        }
        self.recent.push(action.clone());
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
        self.running.push(action);
        let surplus = self.running.len().saturating_sub(MOST_RUNNING);
        self.running.drain(..surplus);
    }

    /// A start could not be done, and never will be.
    pub fn failed(&mut self, start: &DueStart, error: String) {
        self.buffer.retain(|other| other != start);
        self.counts.failed += 1;
        self.last_error = Some(error);
    }

    /// A start could not be done now: it is tried again at `retry_at`, unless its window has passed.
    pub fn put_off(&mut self, start: &DueStart, error: String, retry_at: Timestamp, policies: &Policies) {
        self.last_error = Some(error);
        if start.manual.is_none() && retry_at.ms_since(start.nominal) > policies.window().0 {
            self.buffer.retain(|other| other != start);
            self.counts.missed_catchup_window += 1;
            return;
        }
        if let Some(waiting) = self.buffer.iter_mut().find(|other| *other == start) {
            waiting.retry_at = Some(retry_at);
        }
    }

    /// A run was asked to end.
    pub fn asked_to_stop(&mut self, run_id: RunId) {
        for run in self.running.iter_mut().filter(|run| run.run_id == run_id) {
            run.is_asked_to_stop = true;
        }
    }

    /// A run has ended; `failure` says how if that was by failing or timing out.
    pub fn ended(&mut self, run_id: RunId, failure: Option<&str>, policies: &Policies) {
        let Some(place) = self.running.iter().position(|run| run.run_id == run_id) else { return };
        let run = self.running.remove(place);
        if let Some(failure) = failure.filter(|_| policies.pause_on_failure && !self.paused) {
            self.paused = true;
            self.note = format!("paused because workflow {} {failure}", run.workflow_id);
        }
    }

    /// When there is something to do that no run's end brings.
    #[must_use]
    pub fn wake(&self, due: Due, now: Timestamp) -> Option<Timestamp> {
        let retries = self.buffer.iter().filter_map(|start| start.retry_at).filter(|at| *at > now);
        let has_room = self.buffer.len() < BACKFILLED && !self.backfills.is_empty();
        retries.chain(due.wake).chain((due.has_more || has_room).then_some(now)).min()
    }

    /// The next times at which it acts.
    #[must_use]
    pub fn next_times(&self, times: &Times, count: usize) -> Vec<Timestamp> {
        if !self.is_acting() {
            return Vec::new();
        }
        let first = times.next(self.seen_until);
        let nominal = std::iter::successors(first, |nominal| times.next(*nominal));
        let left =
            self.remaining_actions.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        nominal.take(count.min(left)).map(|nominal| times.acted_on(nominal)).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::schedule::ScheduleSpec;

    const MINUTE: i64 = 60_000;

    fn every_minute() -> Times {
        let spec: ScheduleSpec =
            serde_json::from_str(r#"{"intervals": [{"every": "1m"}]}"#).expect("a specification");
        spec.times("s", |_| Some(TimeZone::UTC)).expect("it can be")
    }

    fn policies(overlap: OverlapPolicy) -> Policies {
        Policies { overlap, ..Policies::default() }
    }

    fn minute(n: i64) -> Timestamp {
        Timestamp(n * MINUTE)
    }

    fn run_id(n: u8) -> RunId {
        RunId([n; 16])
    }

    /// Does all there is to do; starts count up, and what was asked of runs is told.
    fn drive(state: &mut ScheduleState, now: Timestamp) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(act) = state.next_act(now) {
            match act {
                Act::Start(start) => {
                    let number = u8::try_from(state.counts.started).expect("few") + 1;
                    done.push(format!("start {}", start.nominal.0 / MINUTE));
                    state.started(&start, start.workflow_id("w"), run_id(number), now);
                }
                Act::Cancel(run) => {
                    done.push(format!("cancel {}", run.run_id.0[0]));
                    state.asked_to_stop(run.run_id);
                }
                Act::Terminate(run) => {
                    done.push(format!("terminate {}", run.run_id.0[0]));
                    state.ended(run.run_id, None, &Policies::default());
                }
            }
        }
        done
    }

    #[test]
    fn each_overlap_policy_does_with_an_open_run_what_it_says() {
        // Minutes 1, 2 and 3 come, then the first run ends, then minute 4 comes.
        let cases: [(OverlapPolicy, [&[&str]; 5], u64); 6] = [
            (OverlapPolicy::Skip, [&["start 1"], &[], &[], &[], &["start 4"]], 2),
            (OverlapPolicy::BufferOne, [&["start 1"], &[], &[], &["start 2"], &[]], 1),
            (OverlapPolicy::BufferAll, [&["start 1"], &[], &[], &["start 2"], &[]], 0),
            (OverlapPolicy::CancelOther, [&["start 1"], &["cancel 1"], &[], &["start 3"], &["cancel 2"]], 1),
            (
                OverlapPolicy::TerminateOther,
                [
                    &["start 1"],
                    &["terminate 1", "start 2"],
                    &["terminate 2", "start 3"],
                    &[],
                    &["terminate 3", "start 4"],
                ],
                0,
            ),
            (OverlapPolicy::AllowAll, [&["start 1"], &["start 2"], &["start 3"], &[], &["start 4"]], 0),
        ];
        for (overlap, expected, skipped) in cases {
            let (times, policies) = (every_minute(), policies(overlap));
            let mut state = ScheduleState::new(minute(0));
            let come = |state: &mut ScheduleState, n| {
                let due = state.take_due(&times, &policies, minute(n));
                assert_eq!(due.wake, Some(minute(n + 1)));
                drive(state, minute(n))
            };
            let mut done: Vec<Vec<String>> = (1..=3).map(|n| come(&mut state, n)).collect();
            state.ended(run_id(1), None, &policies);
            done.push(drive(&mut state, minute(3)));
            done.push(come(&mut state, 4));
            assert_eq!(done, expected, "{overlap:?}");
            assert_eq!(state.counts.skipped_overlap, skipped, "{overlap:?}");
        }
    }

    #[test]
    fn what_was_missed_is_caught_up_with_within_the_window() {
        let times = every_minute();
        let window =
            Policies { catchup_window: Some(Span::seconds(150)), ..policies(OverlapPolicy::AllowAll) };
        let mut state = ScheduleState::new(minute(0));
        state.take_due(&times, &window, minute(10));
        assert_eq!(drive(&mut state, minute(10)), ["start 8", "start 9", "start 10"]);
        assert_eq!(state.counts.missed_catchup_window, 7);
        // A year of minutes is not counted one by one.
        state.take_due(&times, &window, minute(10_000_000));
        assert_eq!(drive(&mut state, minute(10_000_000)).len(), 3);
        // By default a year counts.
        let mut state = ScheduleState::new(minute(0));
        let due = state.take_due(&times, &Policies::default(), minute(365 * 24 * 60));
        assert_eq!((state.buffer.len(), due.has_more), (MOST_AT_ONCE, true));
    }

    #[test]
    fn a_pause_and_the_end_of_the_actions_let_times_pass() {
        let (times, policies) = (every_minute(), policies(OverlapPolicy::AllowAll));
        let mut state = ScheduleState::new(minute(0));
        state.remaining_actions = Some(2);
        state.take_due(&times, &policies, minute(3));
        assert_eq!(drive(&mut state, minute(3)), ["start 1", "start 2"]);
        assert_eq!(state.take_due(&times, &policies, minute(4)).wake, None);
        state.trigger(OverlapPolicy::AllowAll, Timestamp(4 * MINUTE + 7));
        state.trigger(OverlapPolicy::AllowAll, Timestamp(4 * MINUTE + 7));
        assert_eq!(drive(&mut state, minute(4)), ["start 4", "start 4"], "asked for, they do not count");
        let names: Vec<String> = state.recent[2..].iter().map(|run| run.workflow_id.0.clone()).collect();
        assert_eq!(names, ["w-1970-01-01T00:04:00.007Z", "w-1970-01-01T00:04:00.008Z"]);
        assert_eq!(state.next_times(&times, 10), []);

        state.remaining_actions = None;
        state.paused = true;
        assert_eq!(state.take_due(&times, &policies, minute(9)).wake, None);
        assert_eq!(drive(&mut state, minute(9)), [""; 0]);
        state.paused = false;
        state.take_due(&times, &policies, minute(10));
        assert_eq!(drive(&mut state, minute(10)), ["start 10"]);
        assert_eq!(state.next_times(&times, 2), [minute(11), minute(12)]);
    }

    #[test]
    fn a_failed_run_pauses_where_that_is_asked_for() {
        let policies = Policies { pause_on_failure: true, ..Policies::default() };
        let mut state = ScheduleState::new(minute(0));
        state.take_due(&every_minute(), &policies, minute(1));
        drive(&mut state, minute(1));
        state.ended(run_id(1), Some("failed"), &policies);
        assert!(state.paused);
        assert_eq!(state.note, "paused because workflow w-1970-01-01T00:01:00Z failed");
    }

    #[test]
    fn a_backfill_goes_through_its_times_beside_the_pause() {
        let (times, policies) = (every_minute(), Policies::default());
        let mut state = ScheduleState::new(minute(1_000));
        state.paused = true;
        state.backfill(minute(10), minute(259), OverlapPolicy::AllowAll);
        let mut done = Vec::new();
        loop {
            let due = state.take_due(&times, &policies, minute(1_000));
            assert!(state.buffer.len() <= BACKFILLED);
            done.extend(drive(&mut state, minute(1_000)));
            if state.wake(due, minute(1_000)).is_none() {
                break;
            }
        }
        assert_eq!((done.len(), done[0].as_str(), done[249].as_str()), (250, "start 10", "start 259"));
        assert_eq!(state.backfills, []);
    }

    #[test]
    fn what_cannot_be_done_now_is_tried_again_in_its_place() {
        let window =
            Policies { catchup_window: Some(Span::seconds(60)), ..policies(OverlapPolicy::AllowAll) };
        let mut state = ScheduleState::new(minute(0));
        let due = state.take_due(&every_minute(), &window, minute(1));
        let Some(Act::Start(start)) = state.next_act(minute(1)) else { panic!("it is due") };
        state.put_off(&start, "busy".to_owned(), Timestamp(MINUTE + 500), &window);
        assert_eq!(state.next_act(minute(1)), None);
        assert_eq!(state.wake(due, minute(1)), Some(Timestamp(MINUTE + 500)));
        let Some(Act::Start(again)) = state.next_act(Timestamp(MINUTE + 500)) else {
            panic!("it is due again")
        };
        assert_eq!(again.request_id("s", minute(0)), start.request_id("s", minute(0)));
        state.put_off(&again, "busy".to_owned(), minute(3), &window);
        assert_eq!((state.buffer.len(), state.counts.missed_catchup_window), (0, 1));
        assert_eq!(state.last_error.as_deref(), Some("busy"));
    }

    #[test]
    fn a_state_reads_back_and_a_request_is_done_once() {
        let mut state = ScheduleState::new(minute(0));
        state.take_due(&every_minute(), &Policies::default(), minute(3));
        drive(&mut state, minute(3));
        state.backfill(minute(1), minute(2), OverlapPolicy::BufferAll);
        assert!(
            state.is_new_request(Some("a")) && !state.is_new_request(Some("a")) && state.is_new_request(None)
        );
        let text = serde_json::to_string(&state).expect("JSON");
        assert_eq!(serde_json::from_str::<ScheduleState>(&text).expect("it reads back"), state);
    }
}
