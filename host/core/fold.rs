//! The fold: one event goes in, the guest's calls come out, and both become history in one order.
//!
//! An [`Activation`] is one step of the fold. The runner makes it, a [`Guest`] takes it by value
//! while it runs and gives it back: live, each call is appended behind the input; on replay, each
//! call is checked *as it is made* against what was recorded. The guest cannot tell which.

use std::sync::Arc;

use crate::command::{Command, SignalTaken};
use crate::divergence::{Change, Comparison, Nondeterminism};
use crate::event::{Event, EventKind, Input, SignalReceived};
use crate::ids::{EventId, RunId, Timestamp};
use crate::limits::Limits;
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
        comparison: Comparison,
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
        match self.state.started() {
            Some(started) => format!("{}/{}", started.run_id, self.state.next()),
            None => unreachable!("the first input of a state is WorkflowStarted"),
        }
    }

    /// The id of a run that the next command begins: the recorded one on a replay, else a fresh one.
    #[must_use]
    pub fn new_run_id(&self) -> RunId {
        let recorded = match &self.mode {
            Mode::Live { .. } => None,
            Mode::Replay { made, .. } => self.events.get(*made + 1),
        };
        match recorded.map(|event| &event.kind) {
            Some(EventKind::Command(Command::WorkflowContinuedAsNew(next))) => return next.new_run_id,
            Some(EventKind::Command(Command::DetachedWorkflowStarted(started))) => return started.run_id,
            Some(EventKind::Command(_) | EventKind::Input(_) | EventKind::Note(_)) | None => {}
        }
        match self.state.started() {
            Some(started) => started.run_id.following(&started.seed, self.state.next(), self.events[0].time),
            None => unreachable!("the first input of a state is WorkflowStarted"),
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

    /// Takes one call of the guest: appends it, or checks it against the record.
    ///
    /// # Errors
    /// When it must not stand here; the guest must be stopped then.
    pub fn command(&mut self, command: Command) -> Result<EventId, Refused> {
        let id = self.state.next();
        let time = self.events[0].time;
        match &mut self.mode {
            Mode::Live { limits } => {
                limits.check(&self.state, &command).map_err(Refused::Limit)?;
                let event = Event { id, time, kind: EventKind::Command(command) };
                self.state.apply(&event)?;
                self.events.push(event);
            }
            Mode::Replay { made, comparison, changes } => {
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
            }
        }
        Ok(id)
    }

    /// Ends the step after the guest returned.
    ///
    /// # Errors
    /// A nondeterminism error when recorded calls were not made.
    pub fn finish(self) -> Result<Folded, GuestFault> {
        let Self { state, events, mode } = self;
        match mode {
            Mode::Live { .. } => Ok(Folded { state, events, changes: Vec::new() }),
            Mode::Replay { made, comparison, changes } => {
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
