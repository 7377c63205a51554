//! The scripted host: takes the workflow's commands, numbers them, and holds them to the rules of the
//! WIT package as the real host does, by a panic.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use serde_json::Value;

use super::shown;
use crate::bindings::everfold::workflow::types::{ActivityOptions, EventId, FailureLink, Payload};
use crate::bindings::exports::everfold::workflow::workflow::{
    Event, EventKind, SignalReceived, UpdateAdmitted,
};
use crate::continue_as_new::{ContinueAsNew, VersionChoice};
use crate::details::{self, Described};
use crate::failure::Failure;
use crate::host::{ChildOptions, ExternalWorkflow, Host, MetricKind, Signal};
use crate::log::Level;
use crate::version::DEFAULT_VERSION;

/// An activity that was asked for and has not closed.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenActivity {
    /// The number of its command.
    pub id: EventId,
    /// Its type.
    pub activity_type: String,
    /// Its input, as JSON.
    pub input: Value,
    /// What was asked with it.
    pub options: ActivityOptions,
    /// Whether its cancellation was asked for.
    pub cancel_requested: bool,
}

/// How a run closed.
#[derive(Clone, Debug, PartialEq)]
pub enum Closed {
    /// With this result, as JSON.
    Completed(Value),
    /// With this failure.
    Failed(Failure),
    /// As cancelled, with these details, as JSON.
    Canceled(Vec<Value>),
    /// By going on as a new run.
    ContinuedAsNew {
        /// The new run's type.
        workflow_type: String,
        /// Its input, as JSON.
        input: Value,
        /// What travels beside the input, as JSON.
        headers: Vec<(String, Value)>,
        /// Which component folds it.
        version: VersionChoice,
    },
}

/// A signal that nobody has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadSignal {
    /// Its name.
    pub name: String,
    /// Its input.
    pub input: Payload,
    received_event_id: EventId,
}

/// An update that the workflow has not accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct UnacceptedUpdate {
    /// Its id.
    pub update_id: String,
    /// Its name.
    pub name: String,
    /// Its input.
    pub input: Payload,
}

/// An update that was admitted.
struct Update {
    update_id: String,
    name: String,
    input: Payload,
    stage: UpdateStage,
}

enum UpdateStage {
    Admitted,
    Accepted,
    Completed(Result<Value, Failure>),
}

/// What the scripted host is doing with the workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Folding,
    /// Commands are refused, and observations dropped.
    Querying,
}

/// The state of the scripted host.
pub(super) struct Script {
    now_ms: Cell<u64>,
    cancel_requested: Cell<bool>,
    history: RefCell<Vec<String>>,
    logs: RefCell<Vec<String>>,
    metrics: RefCell<Vec<String>>,
    mode: Cell<Mode>,
    unread: RefCell<VecDeque<UnreadSignal>>,
    updates: RefCell<BTreeMap<EventId, Update>>,
    announced: RefCell<Vec<&'static str>>,
    activities: RefCell<BTreeMap<EventId, OpenActivity>>,
    timers: RefCell<BTreeMap<EventId, u64>>,
    external: RefCell<BTreeSet<EventId>>,
    children: RefCell<BTreeMap<EventId, ChildState>>,
    versions: RefCell<BTreeMap<String, Followed>>,
    closed: RefCell<Option<Closed>>,
    search_attributes: RefCell<Described>,
    memo: RefCell<Described>,
}

/// A child that has not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildState {
    Initiated,
    Started,
}

/// The version of a change that a run follows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Followed {
    /// The test says so, and the workflow has not asked yet.
    Told(i32),
    /// The workflow knows.
    Answered(i32),
}

impl Script {
    pub(super) fn new(now_ms: u64) -> Rc<Self> {
        Rc::new(Self {
            now_ms: Cell::new(now_ms),
            cancel_requested: Cell::new(false),
            history: RefCell::default(),
            logs: RefCell::default(),
            metrics: RefCell::default(),
            mode: Cell::new(Mode::Folding),
            unread: RefCell::default(),
            updates: RefCell::default(),
            announced: RefCell::default(),
            activities: RefCell::default(),
            timers: RefCell::default(),
            external: RefCell::default(),
            children: RefCell::default(),
            versions: RefCell::default(),
            closed: RefCell::default(),
            search_attributes: RefCell::default(),
            memo: RefCell::default(),
        })
    }

    /// Notes what the run is described by when it begins.
    pub(super) fn describe(&self, search_attributes: &[(String, Payload)], memo: &[(String, Payload)]) {
        self.search_attributes.borrow_mut().extend(search_attributes.iter().cloned());
        self.memo.borrow_mut().extend(memo.iter().cloned());
    }

    pub(super) fn search_attributes(&self) -> Described {
        self.search_attributes.borrow().clone()
    }

    pub(super) fn memo(&self) -> Described {
        self.memo.borrow().clone()
    }

    /// Notes which version of a change the run follows.
    pub(super) fn follow(&self, change_id: &str, version: i32) {
        self.versions.borrow_mut().insert(change_id.to_owned(), Followed::Told(version));
    }

    pub(super) fn history(&self) -> Vec<String> {
        self.history.borrow().clone()
    }

    pub(super) fn logs(&self) -> Vec<String> {
        self.logs.borrow().clone()
    }

    pub(super) fn metrics(&self) -> Vec<String> {
        self.metrics.borrow().clone()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    pub(super) fn unread_signals(&self) -> Vec<UnreadSignal> {
        self.unread.borrow().iter().cloned().collect()
    }

    /// Keeps a signal, and gives the event that says so.
    pub(super) fn receive(&self, name: &str, input: Payload) -> Event {
        let received = SignalReceived { name: name.to_owned() };
        let line = format!("SignalReceived {name} {}", shown(&input));
        let event = self.input(&line, EventKind::SignalReceived(received));
        let name = name.to_owned();
        self.unread.borrow_mut().push_back(UnreadSignal { name, input, received_event_id: event.id });
        event
    }

    /// Notes an update that the component says it takes.
    pub(super) fn announce(&self, name: &'static str) {
        self.announced.borrow_mut().push(name);
    }

    pub(super) fn announced(&self) -> Vec<&'static str> {
        self.announced.borrow().clone()
    }

    /// Keeps an update, and gives the event that brings it.
    pub(super) fn admit(&self, update_id: &str, name: &str, input: Payload) -> Event {
        let (update_id, name) = (update_id.to_owned(), name.to_owned());
        let is_new = self.updates.borrow().values().all(|update| update.update_id != update_id);
        assert!(is_new, "update `{update_id}` was admitted before");
        let line = format!("UpdateAdmitted {name} {update_id} {}", shown(&input));
        let admitted = UpdateAdmitted {
            update_id: update_id.clone(),
            name: name.clone(),
            input: input.clone(),
            headers: Vec::new(),
        };
        let event = self.input(&line, EventKind::UpdateAdmitted(admitted));
        let update = Update { update_id, name, input, stage: UpdateStage::Admitted };
        self.updates.borrow_mut().insert(event.id, update);
        event
    }

    pub(super) fn update_answer(&self, update_id: &str) -> Option<Result<Value, Failure>> {
        let updates = self.updates.borrow();
        let update = updates.values().find(|update| update.update_id == update_id)?;
        match &update.stage {
            UpdateStage::Admitted | UpdateStage::Accepted => None,
            UpdateStage::Completed(answer) => Some(answer.clone()),
        }
    }

    pub(super) fn unaccepted_updates(&self) -> Vec<UnacceptedUpdate> {
        let updates = self.updates.borrow();
        let unaccepted = updates.values().filter(|update| matches!(update.stage, UpdateStage::Admitted));
        let of = |update: &Update| UnacceptedUpdate {
            update_id: update.update_id.clone(),
            name: update.name.clone(),
            input: update.input.clone(),
        };
        unaccepted.map(of).collect()
    }

    /// Asks a question as of a replica: commands are refused meanwhile.
    pub(super) fn querying<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.mode.set(Mode::Querying);
        let answer = ask();
        self.mode.set(Mode::Folding);
        answer
    }

    pub(super) fn closed(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }

    pub(super) fn open_activities(&self) -> Vec<OpenActivity> {
        self.activities.borrow().values().cloned().collect()
    }

    pub(super) fn pass(&self, ms: u64) {
        self.now_ms.set(self.now_ms.get() + ms);
    }

    pub(super) fn advance_to(&self, ms: u64) {
        self.now_ms.set(self.now_ms.get().max(ms));
    }

    pub(super) fn note_cancel_request(&self) {
        self.cancel_requested.set(true);
    }

    pub(super) fn close_activity(&self, id: EventId) -> OpenActivity {
        match self.activities.borrow_mut().remove(&id) {
            Some(activity) => activity,
            None => panic!("activity {id} is not open"),
        }
    }

    pub(super) fn close_next_timer(&self) -> Option<(EventId, u64)> {
        let mut timers = self.timers.borrow_mut();
        let (&id, &due_ms) = timers.iter().min_by_key(|(id, due_ms)| (**due_ms, **id))?;
        timers.remove(&id);
        Some((id, due_ms))
    }

    pub(super) fn input(&self, line: &str, kind: EventKind) -> Event {
        assert!(self.closed().is_none(), "the run has closed: `{line}` cannot be folded");
        let id = self.append(line);
        Event { id, time: self.now_ms.get(), kind }
    }

    fn command(&self, line: &str) -> EventId {
        self.refuse_while_querying(line);
        assert!(self.closed().is_none(), "the run has closed: `{line}` follows");
        self.append(line)
    }

    fn initiate(&self, line: &str) -> EventId {
        let id = self.command(line);
        self.external.borrow_mut().insert(id);
        id
    }

    pub(super) fn close_external(&self, id: EventId) {
        assert!(self.external.borrow_mut().remove(&id), "request {id} to another run is not open");
    }

    /// Moves a child from one state to the next, or closes it.
    pub(super) fn move_child(&self, id: EventId, from: ChildState, to: Option<ChildState>) {
        let mut children = self.children.borrow_mut();
        assert_eq!(children.remove(&id), Some(from), "child {id} does not stand there");
        children.extend(to.map(|to| (id, to)));
    }

    fn refuse_while_querying(&self, command: &str) {
        assert!(self.mode.get() == Mode::Folding, "a query's answer asked for something: `{command}`");
    }

    fn append(&self, line: &str) -> EventId {
        let mut history = self.history.borrow_mut();
        let id = history.len() as u64 + 1;
        history.push(format!("{id} {line}"));
        id
    }

    fn mark(&self, change_id: &str, version: i32) -> i32 {
        self.command(&format!("VersionMarkerRecorded {change_id} {version}"));
        version
    }

    fn close(&self, line: &str, closed: Closed) {
        self.command(line);
        self.closed.replace(Some(closed));
    }
}

/// The scripted host as the SDK sees it.
pub(super) struct ScriptedHost(pub(super) Rc<Script>);

impl Host for ScriptedHost {
    fn schedule_activity(&self, activity_type: &str, input: &Payload, options: &ActivityOptions) -> EventId {
        let timeouts = &options.timeouts;
        assert!(
            timeouts.start_to_close.is_some() || timeouts.schedule_to_close.is_some(),
            "activity `{activity_type}` has neither a start-to-close nor a schedule-to-close time-out",
        );
        let input = shown(input);
        let id = self.0.command(&format!("ActivityScheduled {activity_type} {input}"));
        let activity = OpenActivity {
            id,
            activity_type: activity_type.to_owned(),
            input,
            options: options.clone(),
            cancel_requested: false,
        };
        self.0.activities.borrow_mut().insert(id, activity);
        id
    }

    fn request_cancel_activity(&self, scheduled: EventId) {
        self.0.command(&format!("ActivityCancelRequested {scheduled}"));
        let mut activities = self.0.activities.borrow_mut();
        let Some(activity) = activities.get_mut(&scheduled) else {
            panic!("cancellation of activity {scheduled} was asked for, and it is not open");
        };
        assert!(!activity.cancel_requested, "cancellation of {scheduled} was asked for twice");
        activity.cancel_requested = true;
    }

    fn start_timer(&self, duration_ms: u64, summary: &str) -> EventId {
        let line = format!("TimerStarted {duration_ms} ms {summary}");
        let id = self.0.command(line.trim_end());
        let due_ms = self.0.now_ms.get().saturating_add(duration_ms);
        self.0.timers.borrow_mut().insert(id, due_ms);
        id
    }

    fn cancel_timer(&self, started: EventId) {
        self.0.command(&format!("TimerCanceled {started}"));
        let open = self.0.timers.borrow_mut().remove(&started);
        assert!(open.is_some(), "timer {started} was cancelled, and it is not open");
    }

    fn complete_workflow(&self, result: &Payload) {
        let result = shown(result);
        self.0.close(&format!("WorkflowCompleted {result}"), Closed::Completed(result));
    }

    fn fail_workflow(&self, failure: &[FailureLink]) {
        let failure = Failure::from_links(failure.to_vec());
        let name = failure.application_type().unwrap_or_default();
        self.0.close(&format!("WorkflowFailed {name}"), Closed::Failed(failure.clone()));
    }

    fn cancel_workflow(&self, details: &[Payload]) {
        assert!(self.0.cancel_requested.get(), "cancellation of the run was not requested");
        let details = details.iter().map(shown).collect();
        self.0.close("WorkflowCanceled", Closed::Canceled(details));
    }

    fn take_signal(&self, name: &str) -> Option<Signal> {
        self.0.refuse_while_querying("take-signal");
        let mut unread = self.0.unread.borrow_mut();
        let oldest = unread.iter().position(|signal| signal.name == name)?;
        let signal = unread.remove(oldest)?;
        self.0.command(&format!("SignalTaken {} {name}", signal.received_event_id));
        Some(Signal { received_event_id: signal.received_event_id, input: signal.input, headers: Vec::new() })
    }

    fn accept_update(&self, admitted: EventId) {
        let mut updates = self.0.updates.borrow_mut();
        let Some(update) = updates.get_mut(&admitted) else { panic!("event {admitted} brought no update") };
        assert!(
            matches!(update.stage, UpdateStage::Admitted),
            "the update of event {admitted} was accepted twice"
        );
        update.stage = UpdateStage::Accepted;
        self.0.command(&format!("UpdateAccepted {admitted} {}", update.name));
    }

    fn complete_update(&self, admitted: EventId, outcome: Result<&Payload, &[FailureLink]>) {
        let mut updates = self.0.updates.borrow_mut();
        let Some(update) = updates.get_mut(&admitted) else { panic!("event {admitted} brought no update") };
        assert!(
            matches!(update.stage, UpdateStage::Accepted),
            "the update of event {admitted} was completed, and was not at work"
        );
        let (answer, said) = match outcome {
            Ok(result) => {
                let result = shown(result);
                let said = result.to_string();
                (Ok(result), said)
            }
            Err(links) => {
                let failure = Failure::from_links(links.to_vec());
                let said = failure.application_type().unwrap_or_default().to_owned();
                (Err(failure), said)
            }
        };
        let line = format!("UpdateCompleted {admitted} {} {said}", update.name);
        self.0.command(line.trim_end());
        update.stage = UpdateStage::Completed(answer);
    }

    fn continue_as_new(&self, next: &ContinueAsNew) {
        let ContinueAsNew { workflow_type, input, headers, version } = next;
        let input = shown(input);
        let line = format!("WorkflowContinuedAsNew {workflow_type} {input}");
        let closed = Closed::ContinuedAsNew {
            workflow_type: workflow_type.clone(),
            input,
            headers: headers.iter().map(|(name, value)| (name.clone(), shown(value))).collect(),
            version: *version,
        };
        self.0.close(&line, closed);
    }

    fn start_detached_workflow(&self, workflow_type: &str, workflow_id: &str, input: &Payload) {
        let input = shown(input);
        self.0.command(&format!("DetachedWorkflowStarted {workflow_type} {workflow_id} {input}"));
    }

    fn start_child_workflow(&self, workflow_type: &str, input: &Payload, options: &ChildOptions) -> EventId {
        let workflow_id = options.workflow_id.as_deref().unwrap_or("-");
        let line = format!("ChildWorkflowInitiated {workflow_type} {workflow_id} {}", shown(input));
        let id = self.0.command(&line);
        self.0.children.borrow_mut().insert(id, ChildState::Initiated);
        id
    }

    fn request_cancel_child_workflow(&self, command: EventId, reason: &str) {
        self.0.command(format!("ChildCancelRequested {command} {reason}").trim_end());
        assert!(self.0.children.borrow().contains_key(&command), "child {command} is not open");
    }

    fn signal_external_workflow(&self, to: &ExternalWorkflow, name: &str, input: &Payload) -> EventId {
        let line = format!("ExternalSignalInitiated {} {name} {}", target(to), shown(input));
        self.0.initiate(&line)
    }

    fn request_cancel_external_workflow(&self, to: &ExternalWorkflow, reason: &str) -> EventId {
        self.0.initiate(format!("ExternalCancelInitiated {} {reason}", target(to)).trim_end())
    }

    fn upsert_search_attributes(&self, changes: &[(String, Payload)]) {
        self.0.command(&format!("SearchAttributesUpserted {}", named(changes)));
        details::apply(&mut self.0.search_attributes.borrow_mut(), changes, &details::NO_ATTRIBUTE);
    }

    fn upsert_memo(&self, changes: &[(String, Payload)]) {
        self.0.command(&format!("MemoUpserted {}", named(changes)));
        details::apply(&mut self.0.memo.borrow_mut(), changes, &details::NO_ENTRY);
    }

    fn get_version(&self, change_id: &str, minimum: i32, maximum: i32) -> i32 {
        let ask = format!("get-version `{change_id}`");
        self.0.refuse_while_querying(&ask);
        assert!(minimum <= maximum, "{ask}: the minimum {minimum} is above the maximum {maximum}");
        let followed = self.0.versions.borrow().get(change_id).copied();
        let version = match followed {
            Some(Followed::Answered(version)) => version,
            // The run passed here before the change: its history has no marker.
            Some(Followed::Told(DEFAULT_VERSION)) => DEFAULT_VERSION,
            Some(Followed::Told(version)) => self.0.mark(change_id, version),
            None => self.0.mark(change_id, maximum),
        };
        self.0.versions.borrow_mut().insert(change_id.to_owned(), Followed::Answered(version));
        assert!(
            (minimum..=maximum).contains(&version),
            "{ask}: the run follows version {version}, but this code knows only {minimum} to {maximum}",
        );
        version
    }

    fn log(&self, level: Level, _target: &str, message: &str, fields: &[(String, String)]) {
        if self.0.mode.get() == Mode::Querying {
            return;
        }
        let level = match level {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        };
        let mut line = format!("{level} {message}");
        for (key, value) in fields {
            line.push_str(&format!(" {key}={value}"));
        }
        self.0.logs.borrow_mut().push(line);
    }

    fn record_metric(&self, kind: MetricKind, name: &str, value: f64, attributes: &[(String, String)]) {
        if self.0.mode.get() == Mode::Querying {
            return;
        }
        assert!(is_metric_name(name), "`{name}` is not the name of a metric");
        let kind = match kind {
            MetricKind::Counter => {
                assert!(value >= 0.0, "{value} was added to the counter `{name}`");
                "counter"
            }
            MetricKind::Histogram => "histogram",
        };
        let mut line = format!("{kind} {name} {value}");
        for (key, value) in attributes {
            line.push_str(&format!(" {key}={value}"));
        }
        self.0.metrics.borrow_mut().push(line);
    }
}

/// Named payloads as one JSON object.
fn named(payloads: &[(String, Payload)]) -> Value {
    payloads.iter().map(|(name, value)| (name.clone(), shown(value))).collect()
}

/// Another run as a line of the history names it.
fn target(to: &ExternalWorkflow) -> String {
    match &to.run_id {
        Some(run_id) => format!("{}/{run_id}", to.workflow_id),
        None => to.workflow_id.clone(),
    }
}

fn is_metric_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with("everfold")
}
