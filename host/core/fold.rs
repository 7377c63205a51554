//! The fold: one event goes in, the guest's calls come out, and both become history in one order.
//!
//! An [`Activation`] is one step of the fold. The runner makes it, a [`Guest`] takes it by value
//! while it runs and gives it back: live, each call is appended behind the input; on replay, each
//! call is checked *as it is made* against what was recorded. The guest cannot tell which.

use std::sync::Arc;

use crate::command::{
    Command, SignalTaken, UpdateAccepted, UpdateCompleted, UpdateOutcome, VersionMarkerRecorded,
};
use crate::divergence::{Change, Comparison, Nondeterminism, Replaying};
use crate::event::{Event, EventKind, Input, SignalReceived};
use crate::ids::{EventId, RunId, Timestamp};
use crate::limits::Limits;
use crate::machine::update::not_open;
use crate::machine::version::DEFAULT_VERSION;
use crate::machine::{IllegalEvent, RunState};

/// Whatever folds events: a component's instance, or a script in a test.
pub trait Guest {
    /// What it says beside its commands: log lines, metrics.
    type Observations;

    /// Folds `activation.input()`, making its calls through [`Activation::command`].
    fn activate(&mut self, activation: Activation) -> Activated<Self::Observations>;
}

/// An activation that the guest gave back.
#[derive(Debug)]
pub struct Activated<O> {
    /// What was asked for.
    pub activation: Activation,
    /// Whether the guest came to its end.
    pub outcome: Result<(), GuestFault>,
    /// To be emitted after the commit, never on a replay.
    pub observations: O,
}

/// A fault of the guest's code. It blocks the run and never fails it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GuestFault {
    /// Its calls differ from the recorded ones.
    #[error("nondeterminism: {0}")]
    Nondeterminism(Box<Nondeterminism>),
    /// It trapped or panicked.
    #[error("{message}")]
    Trap {
        /// What happened: the panic's message and place, or the trap.
        message: String,
        /// The guest's frames, one a line, innermost first.
        backtrace: String,
    },
    /// It passed a limit (memory, time, payload, history).
    #[error("limit exceeded: {message}")]
    LimitExceeded {
        /// Which limit, and its value.
        message: String,
        /// The guest's frames, one a line, innermost first.
        backtrace: String,
    },
}

/// A call that was refused: the guest must be stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It differs from the recorded one.
    #[error("nondeterminism: {0}")]
    Nondeterminism(Box<Nondeterminism>),
    /// It breaks a rule of the `host` interface.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// It passes a limit.
    #[error("limit exceeded: {0}")]
    Limit(String),
}

/// One step of the fold.
#[derive(Debug)]
pub struct Activation {
    state: RunState,
    /// The input, then the commands: as made so far, or as recorded.
    events: Vec<Event>,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Live { limits: Limits },
    Replay { made: usize, comparison: Comparison, changes: Vec<Change> },
}

/// What a finished activation leaves.
#[derive(Debug)]
pub struct Folded {
    /// The state behind its last event.
    pub state: RunState,
    /// Its events: the input first, then the commands.
    pub events: Vec<Event>,
    /// What differs from the record without being a divergence.
    pub changes: Vec<Change>,
}

impl Activation {
    /// A new step: `input` gets the next number, and the time `now` unless the run's last event is
    /// later.
    ///
    /// # Errors
    /// When the state does not await the input (ask [`RunState::awaits`] first).
    pub fn live(
        mut state: RunState,
        now: Timestamp,
        input: Input,
        limits: Limits,
    ) -> Result<Self, IllegalEvent> {
        let event = Event { id: state.next(), time: now.max(state.time()), kind: EventKind::Input(input) };
        state.apply(&event)?;
        Ok(Self { state, events: vec![event], mode: Mode::Live { limits } })
    }

    /// A recorded step: `events` are an input and the commands behind it.
    ///
    /// # Errors
    /// When the first event is no input or cannot stand there.
    pub fn replay(
        mut state: RunState,
        events: Vec<Event>,
        replaying: Replaying,
    ) -> Result<Self, IllegalEvent> {
        match events.first() {
            Some(event @ Event { kind: EventKind::Input(_), .. }) => state.apply(event)?,
            Some(event) => {
                return Err(IllegalEvent(format!(
                    "event {} ({}) stands where an input should",
                    event.id,
                    event.kind.type_name()
                )));
            }
            None => return Err(IllegalEvent("an activation without events".to_owned())),
        }
        let comparison = match state.digest() {
            Some(recorded_by) => replaying.comparison(recorded_by),
            None => unreachable!("the first input of a state is WorkflowStarted"),
        };
        Ok(Self { state, events, mode: Mode::Replay { made: 0, comparison, changes: Vec::new() } })
    }

    /// The event to fold.
    #[must_use]
    pub fn input(&self) -> (&Event, &Input) {
        match self.events.first() {
            Some(event @ Event { kind: EventKind::Input(input), .. }) => (event, input),
            _ => unreachable!("both constructors put an input first"),
        }
    }

    /// The state behind the last call.
    #[must_use]
    pub const fn state(&self) -> &RunState {
        &self.state
    }

    /// The idempotency key of an activity scheduled next, unless the guest names one itself.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let (id, recorded) = self.next_call();
        if let Some(EventKind::Command(Command::ActivityScheduled(activity))) =
            recorded.map(|event| &event.kind)
            && is_made(&activity.idempotency_key, id)
        {
            // That of another run, if this one has it from a reset.
            return activity.idempotency_key.clone();
        }
        match self.state.started() {
            Some(started) => format!("{}/{id}", started.run_id),
            None => unreachable!("the first input of a state is WorkflowStarted"),
        }
    }

    /// The id of a run that the next command begins: the recorded one on a replay, else a fresh one.
    #[must_use]
    pub fn new_run_id(&self) -> RunId {
        let (id, recorded) = self.next_call();
        match recorded.map(|event| &event.kind) {
            Some(EventKind::Command(Command::WorkflowContinuedAsNew(next))) => return next.new_run_id,
            Some(EventKind::Command(Command::DetachedWorkflowStarted(started))) => return started.run_id,
            Some(EventKind::Command(Command::ChildWorkflowInitiated(child))) => return child.run_id,
            Some(EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_)) | None => {}
        }
        match self.state.started() {
            Some(started) => started.run_id.following(&started.seed, id, self.events[0].time),
            None => unreachable!("the first input of a state is WorkflowStarted"),
        }
    }

    /// The number of the guest's next call, unless that is a marker, and what is recorded there.
    fn next_call(&self) -> (EventId, Option<&Event>) {
        match &self.mode {
            Mode::Live { .. } => (self.state.next(), None),
            Mode::Replay { made, comparison, changes: _ } => {
                let ahead = &self.events[*made + 1..];
                let passed = match comparison {
                    Comparison::SameDigest => 0,
                    Comparison::OtherDigest | Comparison::OtherDigestStrict => {
                        ahead.iter().take_while(|event| is_marker(event)).count()
                    }
                };
                (EventId(self.state.next().0 + passed as u64), ahead.get(passed))
            }
        }
    }

    /// Gives the guest the oldest unread signal of that name, if there is one; that is a command.
    ///
    /// # Errors
    /// As [`Activation::command`].
    pub fn take_signal(&mut self, name: &str) -> Result<Option<(EventId, Arc<SignalReceived>)>, Refused> {
        let Some((received_event_id, signal)) = self.state.signals().oldest(name).cloned() else {
            return Ok(None);
        };
        self.command(Command::SignalTaken(SignalTaken { received_event_id, name: name.to_owned() }))?;
        Ok(Some((received_event_id, signal)))
    }

    /// Takes the update on that an event brought.
    ///
    /// # Errors
    /// As [`Activation::command`].
    pub fn accept_update(&mut self, admitted_event_id: EventId) -> Result<EventId, Refused> {
        let (update_id, name) = self.update(admitted_event_id)?;
        self.command(Command::UpdateAccepted(UpdateAccepted { admitted_event_id, update_id, name }))
    }

    /// Answers the update that an event brought.
    ///
    /// # Errors
    /// As [`Activation::command`].
    pub fn complete_update(
        &mut self,
        admitted_event_id: EventId,
        outcome: UpdateOutcome,
    ) -> Result<EventId, Refused> {
        let (update_id, name) = self.update(admitted_event_id)?;
        let completed = UpdateCompleted { admitted_event_id, update_id, name, outcome };
        self.command(Command::UpdateCompleted(Box::new(completed)))
    }

    /// The id and the name of an update that is not answered.
    fn update(&self, admitted: EventId) -> Result<(String, String), Refused> {
        let open = self.state.updates().get(admitted).ok_or_else(|| Refused::Illegal(not_open(admitted)))?;
        Ok((open.update.update_id.clone(), open.update.name.clone()))
    }

    /// Which version of a change the run follows; the code knows versions from `minimum` to `maximum`.
    ///
    /// The first time it is asked, the answer is `maximum`, and a marker records it. Where the history
    /// goes on without such a marker, the run passed here before the change: the answer is
    /// [`DEFAULT_VERSION`], now and on every replay.
    ///
    /// # Errors
    /// When the version is outside the range, else as [`Activation::command`].
    pub fn get_version(&mut self, change_id: &str, minimum: i32, maximum: i32) -> Result<i32, Refused> {
        if minimum > maximum {
            let rule =
                format!("get-version `{change_id}`: the minimum {minimum} is above the maximum {maximum}");
            return Err(Refused::Illegal(IllegalEvent(rule)));
        }
        let remembered = self.state.versions().of(change_id);
        let known = match remembered {
            Some(_) => remembered,
            None => self.recorded_marker(change_id)?,
        };
        let version = match known {
            Some(version) => version,
            None => {
                let marker = VersionMarkerRecorded { change_id: change_id.to_owned(), version: maximum };
                match &self.mode {
                    Mode::Replay {
                        comparison: Comparison::OtherDigest | Comparison::OtherDigestStrict,
                        ..
                    } => {
                        self.state.follow_default(change_id);
                        DEFAULT_VERSION
                    }
                    Mode::Replay { comparison: Comparison::SameDigest, .. } | Mode::Live { .. } => {
                        self.command(Command::VersionMarkerRecorded(marker))?;
                        maximum
                    }
                }
            }
        };
        if (minimum..=maximum).contains(&version) {
            return Ok(version);
        }
        Err(Refused::Illegal(IllegalEvent(format!(
            "get-version `{change_id}`: the run follows version {version}, but this code knows only {minimum} to {maximum}"
        ))))
    }

    /// The version in a marker that this step recorded and that is still ahead; taken if it comes next. The
    /// component that recorded the step asks for it when it comes next, and at no other time.
    fn recorded_marker(&mut self, change_id: &str) -> Result<Option<i32>, Refused> {
        let Mode::Replay { made, comparison, changes: _ } = &self.mode else { return Ok(None) };
        let reach = match comparison {
            Comparison::SameDigest => 1,
            Comparison::OtherDigest | Comparison::OtherDigestStrict => usize::MAX,
        };
        let ahead = self.events[*made + 1..].iter().take(reach).enumerate();
        let found = ahead.filter_map(|(place, event)| match &event.kind {
            EventKind::Command(Command::VersionMarkerRecorded(marker)) => Some((place, marker)),
            EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_) => None,
        });
        let Some((place, marker)) = found
            .into_iter()
            .find(|(_, marker)| marker.change_id == change_id)
            .map(|(place, marker)| (place, marker.clone()))
        else {
            return Ok(None);
        };
        let version = marker.version;
        if place == 0 {
            self.command(Command::VersionMarkerRecorded(marker))?;
        }
        Ok(Some(version))
    }

    /// Takes one call of the guest: appends it, or checks it against the record.
    ///
    /// # Errors
    /// When it must not stand here; the guest must be stopped then.
    pub fn command(&mut self, command: Command) -> Result<EventId, Refused> {
        match &mut self.mode {
            Mode::Live { limits } => {
                limits.check(&self.state, &command).map_err(Refused::Limit)?;
                let (id, time) = (self.state.next(), self.events[0].time);
                let event = Event { id, time, kind: EventKind::Command(command) };
                self.state.apply(&event)?;
                self.events.push(event);
                Ok(id)
            }
            Mode::Replay { made, comparison, changes } => {
                if !matches!(command, Command::VersionMarkerRecorded(_)) {
                    skip_markers(&mut self.state, &self.events, made, *comparison)?;
                }
                let id = self.state.next();
                let recorded = match self.events.get(*made + 1) {
                    Some(Event { kind: EventKind::Command(recorded), .. }) => Some(recorded),
                    Some(Event { kind: EventKind::Input(_) | EventKind::Note(_), .. }) | None => None,
                };
                let change = comparison
                    .compare(id, recorded, Some(&command))
                    .map_err(|error| Refused::Nondeterminism(Box::new(error)))?;
                changes.extend(change);
                self.state.apply(&self.events[*made + 1])?;
                *made += 1;
                Ok(id)
            }
        }
    }

    /// Ends the step after the guest returned.
    ///
    /// # Errors
    /// A nondeterminism error when recorded calls were not made.
    pub fn finish(self) -> Result<Folded, GuestFault> {
        let Self { mut state, events, mode } = self;
        match mode {
            Mode::Live { .. } => Ok(Folded { state, events, changes: Vec::new() }),
            Mode::Replay { mut made, comparison, changes } => {
                skip_markers(&mut state, &events, &mut made, comparison).map_err(|illegal| {
                    GuestFault::Trap { message: illegal.to_string(), backtrace: String::new() }
                })?;
                if let Some(Event { id, kind: EventKind::Command(recorded), .. }) = events.get(made + 1) {
                    comparison
                        .compare(*id, Some(recorded), None)
                        .map_err(|error| GuestFault::Nondeterminism(Box::new(error)))?;
                }
                Ok(Folded { state, events, changes })
            }
        }
    }
}

/// Whether an idempotency key is one that a run makes for its command `id`.
fn is_made(key: &str, id: EventId) -> bool {
    key.split_once('/').is_some_and(|(run_id, number)| {
        run_id.parse::<RunId>().is_ok() && number.parse().is_ok_and(|number| EventId(number) == id)
    })
}

/// Passes over recorded markers that another component does not ask for: they are no calls of its own.
fn skip_markers(
    state: &mut RunState,
    events: &[Event],
    made: &mut usize,
    comparison: Comparison,
) -> Result<(), IllegalEvent> {
    if comparison == Comparison::SameDigest {
        return Ok(());
    }
    while let Some(event) = events.get(*made + 1).filter(|event| is_marker(event)) {
        state.apply(event)?;
        *made += 1;
    }
    Ok(())
}

const fn is_marker(event: &Event) -> bool {
    matches!(event.kind, EventKind::Command(Command::VersionMarkerRecorded(_)))
}

/// Splits a history into its activations: each an input with the commands behind it. Notes come
/// alone.
pub fn activations(history: Vec<Event>) -> impl Iterator<Item = Vec<Event>> {
    let mut events = history.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut batch = vec![events.next()?];
        while let Some(event) = events.next_if(|event| matches!(event.kind, EventKind::Command(_))) {
            batch.push(event);
        }
        Some(batch)
    })
}
