//! One run in this host: load → fold → decide → commit → act.
//!
//! ```text
//!              load          fold
//! Unloaded ──────────▶ Ready ──────▶ Ready │ Closed
//!   ▲   ▲                │ fault of the guest
//!   │   │ Retry          └──────▶ Blocked
//!   │   └────────────────────────────┘
//!   └── from any phase: a decision in flight was refused or rolled back
//! ```
//!
//! The phase is the one behind the last decision that was submitted, and runs ahead of the disk by the decisions
//! in flight. Each is acted on when it is committed, one after the other. What comes from outside is folded on
//! while others are on their way ([`Run::may_go_on`]), so that a run that gets much at once shares transactions
//! with itself; everything else waits until nothing is in flight. When a decision does not come to be, the store
//! refuses those behind it by its fence, what was folded past it goes, and no message is taken before all
//! of them are answered.
//!
//! A run that is `Blocked` takes no input, and neither does one that is to begin later (`Delayed`): what arrives goes to its
//! inbox, durably and in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use everfold_core::decision::{
    BlockChange, Blocked, Closed, Decision, Effects, InboxInput, InboxSeq, NewRun, Outcome, PendingActivity,
    Request,
};
use everfold_core::event::{Event, Input, WorkflowStarted};
use everfold_core::fold::{Activated, Activation, Guest as _, GuestFault};
use everfold_core::ids::{Digest, EventId};
use everfold_core::limits::{LimitKind, Limits, Usage};
use everfold_core::machine::RunState;
use tokio::sync::oneshot;

use super::Parts;
use super::act::{self, Done};
use super::api::{ApiError, Started};
use super::block::{self, Fault};
use super::cells::Cell;
use super::load::{self, Loaded, Trial};
use super::moves::{MoveAnswer, Moved};
use super::position::{Position, is_signal};
use super::reset::ResetStart;
use super::source::{Keep, Source};
use super::succession;
use super::talk::{Answer, Ask, Taken};
use super::validation;
use crate::guest::Instance;
use crate::store::{CommitError, Verdict};
use crate::telemetry::{Arrival, Folded, Folding, RunNames};

/// What a run is told.
pub(super) enum Message {
    /// Begin.
    Start(Box<Start>),
    /// Begin in place of a closed run, from an earlier event of that one.
    StartReset(Box<ResetStart>),
    /// A fact from outside that is only in memory yet.
    Input(Input),
    /// An attempt failed: write down when the next one is due.
    Attempt {
        /// The row to write.
        pending: Box<PendingActivity>,
        /// Answers whether it is on disk; false when the run is gone.
        reply: oneshot::Sender<bool>,
    },
    /// Be loaded, so that its open activities are known; answers whether the store could be read.
    Load {
        /// Where the answer goes.
        reply: oneshot::Sender<bool>,
    },
    /// Do what a caller asks, and answer.
    Talk(Box<Talk>),
    /// Look whether something is to be done.
    Wake,
    /// The run's own timer has fired: it is to begin, or has taken too long.
    Alarm,
    /// If the run is blocked and its time has come, try again.
    Retry,
    /// If the run is blocked, try again at once.
    RetryNow,
    /// Go on on another version, if the replay holds there.
    Move {
        /// Which one.
        to: Digest,
        /// What became of it.
        reply: oneshot::Sender<MoveAnswer>,
    },
    /// Give up the instance.
    Evict,
}

/// A run to begin.
pub(super) struct Start {
    pub(super) started: Arc<WorkflowStarted>,
    pub(super) new_run: NewRun,
    /// What it is sent at once: it waits in the inbox behind its beginning.
    pub(super) sent: Option<Box<InboxInput>>,
    pub(super) reply: oneshot::Sender<Result<Started, ApiError>>,
}

/// A caller's request to a run.
pub(super) struct Talk {
    pub(super) ask: Ask,
    pub(super) request: Option<Request>,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What became of a run's decision.
pub(super) type Committed = Result<Verdict, Arc<CommitError>>;

/// Decisions of one run that may be on their way to the disk when another one follows.
const MOST_IN_FLIGHT: usize = 64;
/// Bytes of payloads in them.
const MOST_BYTES_IN_FLIGHT: usize = 4 * 1024 * 1024;

/// What the host knows of one run.
#[derive(Default)]
pub(super) struct Run {
    /// The phase behind what is in flight.
    phase: Phase,
    /// Decisions on their way to the disk, in order.
    in_flight: VecDeque<Flight>,
    /// Who it is, once that is known here.
    pub(super) names: Option<Arc<RunNames>>,
    /// The limits that it is near to and that were told, or that it was near to when it was read.
    near: BTreeSet<LimitKind>,
    /// When what is folded next arrived.
    pub(super) arrival: Option<Arrival>,
}

#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Unloaded,
    Ready(Box<Ready>),
    Blocked(BlockedRun),
    /// It begins later; what arrives goes to its inbox.
    Delayed(Position),
    Closed,
}

/// A run that can be folded.
pub(super) struct Ready {
    pub(super) state: RunState,
    pub(super) digest: Digest,
    pub(super) instance: Option<Instance>,
    /// The history, until an instance is built from it.
    pub(super) recorded: Vec<Event>,
    /// Inputs from the inbox; they come before any message.
    pub(super) backlog: VecDeque<(InboxSeq, InboxInput)>,
    /// Present while the run is blocked and tried again.
    pub(super) blocked: Option<Blocked>,
    /// The version that may heal the blocked run; tried before its own.
    pub(super) healer: Option<Digest>,
    /// The move that the next decision records.
    pub(super) moved: Option<Moved>,
}

/// A run whose code is at fault.
pub(super) struct BlockedRun {
    pub(super) at: Position,
    pub(super) blocked: Blocked,
    /// The updates of the run, those in its inbox included; read when the first one comes.
    pub(super) updates: Option<KnownUpdates>,
}

/// The updates of a blocked run.
pub(super) struct KnownUpdates {
    /// Each id, with the first event that can have anything to say of it.
    pub(super) ids: BTreeMap<String, EventId>,
    /// How many are not answered.
    pub(super) pending: usize,
}

/// A decision on its way to the disk.
pub(super) struct Flight {
    /// The activation that the decision records, if it does.
    pub(super) folded: Option<Folded>,
    pub(super) keep: Keep,
    pub(super) done: Done,
    /// Whether the store takes it unless something is wrong, so that others may follow at once.
    is_plain: bool,
    /// Of its payloads.
    bytes: usize,
}

impl Run {
    pub(super) const fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(super) const fn phase_mut(&mut self) -> &mut Phase {
        &mut self.phase
    }

    /// Whether a decision is on its way to the disk.
    pub(super) fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether the message may be handled now: nothing is in flight, or only what the store takes unless
    /// something is wrong, and the message brings an input that the run can fold at once. An input that the run
    /// does not await ahead of the disk waits: it is not for what may not come to be to drop or refuse it.
    pub(super) fn may_go_on(&self, message: &Message, limits: &Limits) -> bool {
        let Some(last) = self.in_flight.back() else { return true };
        let Phase::Ready(ready) = &self.phase else { return false };
        let has_room = self.in_flight.len() < MOST_IN_FLIGHT
            && self.in_flight.iter().map(|flight| flight.bytes).sum::<usize>() < MOST_BYTES_IN_FLIGHT;
        if !last.is_plain || !has_room || !ready.backlog.is_empty() || ready.instance.is_none() {
            return false;
        }
        match message {
            Message::Input(input) => ready.state.awaits(input),
            Message::Talk(talk) => match &talk.ask {
                // It is validated on what is on disk.
                Ask::Take(Input::UpdateAdmitted(_)) => false,
                Ask::Take(input) => {
                    let is_too_much = is_signal(input) && ready.state.signals().received() >= limits.signals;
                    talk.request.is_none() && ready.state.awaits(input) && !is_too_much
                }
                Ask::Terminate(_) | Ask::Reset(_) => false,
            },
            Message::Start(_)
            | Message::StartReset(_)
            | Message::Attempt { .. }
            | Message::Load { .. }
            | Message::Wake
            | Message::Alarm
            | Message::Retry
            | Message::RetryNow
            | Message::Move { .. }
            | Message::Evict => false,
        }
    }

    /// Whether nothing is lost when the cell goes.
    pub(super) fn holds_nothing(&self) -> bool {
        if self.is_in_flight() {
            return false;
        }
        match &self.phase {
            Phase::Unloaded | Phase::Blocked(_) | Phase::Delayed(_) | Phase::Closed => true,
            Phase::Ready(ready) => ready.instance.is_none() && ready.backlog.is_empty(),
        }
    }

    /// Whether what comes next may take as long as an activation may: a blocked run that is tried
    /// again, a move, or the start of a run whose code is suspect.
    pub(super) fn belongs_apart(&self, parts: &Parts, next: Option<&Message>) -> bool {
        if self.is_in_flight() {
            return false;
        }
        match (&self.phase, next) {
            (Phase::Unloaded | Phase::Ready(_) | Phase::Blocked(_), Some(Message::Move { .. })) => true,
            (Phase::Ready(ready), Some(Message::Talk(talk)))
                if matches!(talk.ask, Ask::Take(Input::UpdateAdmitted(_))) =>
            {
                let is_suspect =
                    |started: &WorkflowStarted| parts.suspects.contains(ready.digest, &started.workflow_type);
                ready.blocked.is_some() || ready.state.started().is_some_and(is_suspect)
            }
            // On another version it is replayed first.
            (Phase::Unloaded | Phase::Ready(_) | Phase::Blocked(_), Some(Message::Talk(talk)))
                if matches!(talk.ask, Ask::Reset(_)) =>
            {
                true
            }
            (Phase::Ready(ready), _) => ready.blocked.is_some(),
            (Phase::Unloaded, Some(Message::Start(start))) => {
                parts.suspects.contains(start.new_run.digest, &start.new_run.workflow_type)
            }
            (Phase::Unloaded | Phase::Blocked(_) | Phase::Delayed(_) | Phase::Closed, _) => false,
        }
    }

    /// Whether inputs of the inbox come before any message, or the run is blocked and tried again.
    pub(super) fn has_backlog(&self) -> bool {
        match &self.phase {
            _ if self.is_in_flight() => false,
            Phase::Ready(ready) => !ready.backlog.is_empty() || ready.blocked.is_some(),
            Phase::Unloaded | Phase::Blocked(_) | Phase::Delayed(_) | Phase::Closed => false,
        }
    }

    /// Folds the next input of the inbox, or heals a blocked run that has none.
    pub(super) fn fold_backlog(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>) {
        let Phase::Ready(ready) = &mut self.phase else { return };
        match ready.backlog.pop_front() {
            Some((seq, waiting)) => {
                self.arrival = Some(Arrival::ago(parts.clock.now().ms_since(waiting.received_at)));
                self.fold(parts, cell, waiting.input, Source::Inbox(seq));
            }
            None if ready.blocked.is_some() => self.heal(parts, cell),
            None => {}
        }
    }

    /// Takes one message, which [`Run::may_go_on`] lets through.
    pub(super) fn handle(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, message: Message) {
        match message {
            Message::Start(start) => self.start(parts, cell, *start),
            Message::StartReset(start) => self.start_reset(parts, cell, *start),
            Message::Input(input) => self.input(parts, cell, input),
            Message::Talk(talk) => self.talk(parts, cell, *talk),
            Message::Attempt { pending, reply } => self.attempt(parts, cell, *pending, reply),
            Message::Load { reply } => {
                let _ = reply.send(self.ensure_loaded(parts, cell));
            }
            Message::Wake => self.wake(parts, cell),
            Message::Alarm => self.alarm(parts, cell),
            Message::Retry => self.retry(parts, cell, Trial::WhenDue, Message::Retry),
            Message::RetryNow => self.retry(parts, cell, Trial::Now, Message::RetryNow),
            Message::Move { to, reply } => self.move_to(parts, cell, to, reply),
            Message::Evict => {
                if matches!(self.phase, Phase::Ready(_)) {
                    self.phase = Phase::Unloaded;
                    parts.residents.remove(&cell.key);
                }
            }
        }
    }

    /// Looks whether something is to be done: what came to the inbox since it was read.
    fn wake(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>) {
        match &mut self.phase {
            Phase::Ready(ready) if ready.blocked.is_none() => {
                match parts.runtime.block_on(parts.store.inbox(&cell.key)) {
                    Ok(inbox) => {
                        parts.admission.was_read();
                        ready.backlog = inbox.inputs.into();
                        if let Some(termination) = inbox.termination {
                            let at = Position::of_ready(ready);
                            self.terminate(parts, cell, at, termination, None, Done::Nothing);
                        }
                    }
                    Err(error) => {
                        parts.admission.was_not_read(&error);
                        parts.send_later(&cell.key, Message::Wake);
                    }
                }
                return;
            }
            // What waits for it counts in where it stands.
            Phase::Blocked(_) | Phase::Delayed(_) => self.phase = Phase::Unloaded,
            Phase::Ready(_) | Phase::Unloaded | Phase::Closed => {}
        }
        if !self.ensure_loaded(parts, cell) {
            parts.send_later(&cell.key, Message::Wake);
        }
    }

    /// Where the run stands, if it is open and was read.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.phase {
            Phase::Ready(ready) => Some(Position::of_ready(ready)),
            Phase::Blocked(blocked) => Some(blocked.at),
            Phase::Delayed(at) => Some(*at),
            Phase::Unloaded | Phase::Closed => None,
        }
    }

    /// Takes the answer to the oldest decision in flight.
    pub(super) fn committed(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        committed: Committed,
        decision: Decision,
    ) {
        let Some(flight) = self.in_flight.pop_front() else { return };
        let phase = &mut self.phase;
        act::after_commit(parts, cell, flight, committed, decision, self.names.as_ref(), phase);
    }

    fn start(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, start: Start) {
        let Start { started, new_run, sent, reply } = start;
        if let Some(start_at) = new_run.start_at.filter(|at| *at > parts.clock.now()) {
            return self.start_later(parts, cell, start_at, Start { started, new_run, sent, reply });
        }
        self.phase = Phase::Ready(Box::new(Ready {
            state: RunState::new(),
            digest: new_run.digest,
            instance: None,
            recorded: Vec::new(),
            backlog: VecDeque::new(),
            blocked: None,
            healer: None,
            moved: None,
        }));
        let input = Input::WorkflowStarted(started);
        self.fold(parts, cell, input, Source::Start { new_run, sent, reply });
    }

    fn input(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, input: Input) {
        if !self.ensure_loaded(parts, cell) {
            parts.send_later(&cell.key, Message::Input(input));
            return;
        }
        match &self.phase {
            Phase::Ready(ready) if !ready.backlog.is_empty() || ready.blocked.is_some() => {
                // The inbox comes first.
                parts.send(&cell.key, Message::Input(input));
            }
            Phase::Ready(_) => self.fold(parts, cell, input, Source::Mailbox),
            Phase::Blocked(BlockedRun { at, .. }) | Phase::Delayed(at) => {
                let mut decision = at.decision(&cell.key);
                decision.effects = Effects::of_input(&input, parts.clock.now());
                decision.inbox_put = vec![InboxInput { received_at: parts.clock.now(), input }];
                self.submit(parts, cell, decision, None, Keep::Waiting, Done::Nothing);
            }
            Phase::Closed => act::forget(parts, &cell.key, &input),
            Phase::Unloaded => unreachable!("the run was loaded"),
        }
    }

    fn attempt(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        pending: PendingActivity,
        reply: oneshot::Sender<bool>,
    ) {
        if !self.ensure_loaded(parts, cell) {
            parts.send_later(&cell.key, Message::Attempt { pending: Box::new(pending), reply });
            return;
        }
        let Some(at) = self.position() else {
            let _ = reply.send(false);
            return;
        };
        let mut decision = at.decision(&cell.key);
        decision.attempts = vec![pending.clone()];
        let done = Done::Attempt { pending: Box::new(pending), reply };
        self.submit(parts, cell, decision, None, Keep::Nothing, done);
    }

    /// Tries the run again if it is blocked; where it cannot be read, `again` comes later.
    fn retry(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, trial: Trial, again: Message) {
        if matches!(self.phase, Phase::Blocked(_)) {
            self.phase = Phase::Unloaded;
        }
        if !self.ensure_loaded_for(parts, cell, trial) {
            parts.send_later(&cell.key, again);
        }
    }

    /// Loads the run if need be. False when the store does not answer: try again later.
    pub(super) fn ensure_loaded(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>) -> bool {
        self.ensure_loaded_for(parts, cell, Trial::WhenDue)
    }

    /// The same; a blocked run is tried again as `trial` says.
    pub(super) fn ensure_loaded_for(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, trial: Trial) -> bool {
        if !matches!(self.phase, Phase::Unloaded) {
            return true;
        }
        match parts.runtime.block_on(load::load(parts, &cell.key, trial)) {
            Ok(Loaded { phase, names, termination }) => {
                if let Phase::Ready(ready) = &phase {
                    self.near = parts.limits.near(&ready.state).map(|usage| usage.limit).collect();
                }
                self.phase = phase;
                self.names = names.or_else(|| self.names.take());
                parts.admission.was_read();
                if let (Some(termination), Some(at)) = (termination, self.position()) {
                    self.terminate(parts, cell, at, termination, None, Done::Nothing);
                }
                true
            }
            Err(error) => {
                parts.admission.was_not_read(&error);
                false
            }
        }
    }

    /// Folds one input into the guest and submits what it decided.
    pub(super) fn fold(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, input: Input, source: Source) {
        let Phase::Ready(mut ready) = std::mem::take(&mut self.phase) else { return };
        if !ready.state.awaits(&input) {
            self.phase = Phase::Ready(ready);
            self.drop_input(parts, cell, &input, source);
            return;
        }
        let mut instance = match block::instance(parts, &mut ready) {
            Ok(instance) => instance,
            Err(fault) => return self.fault(parts, cell, *ready, fault, input, source),
        };
        if let Input::UpdateAdmitted(update) = &input {
            match validation::validate(parts, &cell.key, &ready, update) {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    ready.instance = Some(instance);
                    return self.refuse_update(parts, cell, ready, update, failure, source);
                }
                Err(fault) => return self.fault(parts, cell, *ready, fault, input, source),
            }
        }
        let at = Position::of_ready(&ready);
        let Ready { state, digest, instance: _, recorded: _, backlog, blocked, healer: _, moved } = *ready;
        let input = begun_on(digest, input);
        let folding = Folding::begin(self.arrival, parts.clock.now());
        let activation = match Activation::live(state, parts.clock.now(), input, parts.limits) {
            Ok(activation) => activation,
            Err(illegal) => unreachable!("the state awaits the input: {illegal}"),
        };
        let Activated { activation, outcome, observations } = instance.activate(activation);
        let mut folded_as = folding.end(observations);
        // Copied only where it is needed again: behind a fault it waits.
        let input = outcome.is_err().then(|| activation.input().1.clone());
        if let (Err(GuestFault::LimitExceeded { .. }), Some(started)) =
            (&outcome, activation.state().started())
        {
            parts.suspects.add(digest, &started.workflow_type);
        }
        let folded = outcome.and_then(|()| activation.finish());
        if let (Err(fault), Some(_)) = (&folded, &moved) {
            return self.not_healed(parts, cell, digest, &fault.to_string());
        }
        match (folded, input) {
            (Ok(folded), input) => {
                let (mut decision, state) = Decision::of(cell.key.clone(), folded);
                if let Err(fault) = succession::complete(parts, &mut decision, &state, digest) {
                    if moved.is_some() {
                        return self.not_healed(parts, cell, digest, fault.reason());
                    }
                    let input = input.or_else(|| decision.take_input());
                    let Some(input) = input else { unreachable!("an activation has an input") };
                    if self.is_in_flight() {
                        return self.put_back(parts, cell, input, source);
                    }
                    return self.block(parts, cell, at, blocked, fault, input, source);
                }
                if let Some(started) = state.started() {
                    parts.suspects.clear(digest, &started.workflow_type);
                }
                folded_as.near = self.newly_near(parts, &state);
                if blocked.is_some() {
                    decision.blocked = BlockChange::Clear;
                }
                // Where it goes on as another run, that one takes over whatever waits.
                let goes_on = |closed: &Closed| matches!(closed.outcome, Outcome::ContinuedAs(_));
                if decision.closed.as_ref().is_some_and(|closed| !goes_on(closed)) {
                    decision.inbox_known = source.known(backlog.len());
                }
                if let Some(moved) = moved {
                    moved.record_in(&mut decision);
                }
                self.phase = if decision.closed.is_some() {
                    // The instance goes with the phase, after everybody was answered.
                    Phase::Closed
                } else {
                    let instance = Some(instance);
                    let recorded = Vec::new();
                    Phase::Ready(Box::new(Ready {
                        state,
                        digest,
                        instance,
                        recorded,
                        backlog,
                        blocked: None,
                        healer: None,
                        moved: None,
                    }))
                };
                let (done, keep) = source.into_done(&mut decision, &cell.key, Keep::Folded);
                self.submit(parts, cell, decision, Some(folded_as), keep, done);
            }
            (Err(fault), None) => unreachable!("a live activation is not checked when it ends: {fault}"),
            (Err(_), Some(input)) if self.is_in_flight() => self.put_back(parts, cell, input, source),
            (Err(fault), Some(input)) => {
                self.block(parts, cell, at, blocked, Fault::guest(at.next, fault), input, source);
            }
        }
    }

    /// The limits that the run has come near to since that was told last.
    fn newly_near(&mut self, parts: &Parts, state: &RunState) -> Vec<Usage> {
        let mut near = parts.limits.near(state).peekable();
        if near.peek().is_none() {
            return Vec::new();
        }
        near.filter(|usage| self.near.insert(usage.limit)).collect()
    }

    /// The input could not be folded ahead of what is in flight. When that is on disk, the run is loaded again
    /// and the input folded once more, alone: then a fault of the code is told of a run that stands still.
    fn put_back(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, input: Input, source: Source) {
        self.phase = Phase::Unloaded;
        parts.residents.remove(&cell.key);
        let message = match source {
            Source::Mailbox => Message::Input(input),
            Source::Caller { request, reply } => {
                Message::Talk(Box::new(Talk { ask: Ask::Take(input), request, reply }))
            }
            Source::Inbox(_) | Source::Start { .. } => unreachable!("they wait until nothing is in flight"),
        };
        cell.put_back(self.arrival, message);
    }

    /// An input that the run does not await: a duplicate, or news of something closed.
    fn drop_input(&mut self, parts: &Arc<Parts>, cell: &Arc<Cell>, input: &Input, source: Source) {
        act::forget(parts, &cell.key, input);
        let seq = match source {
            Source::Inbox(seq) => seq,
            Source::Mailbox | Source::Start { .. } => return,
            Source::Caller { reply, .. } => {
                // Nothing is left to do: the run is asked to cancel already.
                let from = EventId::FIRST;
                let _ = reply.send(Ok(Taken { run_id: cell.key.run_id, is_duplicate: true, from }));
                return;
            }
        };
        let Phase::Ready(ready) = &self.phase else { return };
        let mut decision = Position::of(&ready.state).decision(&cell.key);
        decision.inbox_taken = vec![seq];
        self.submit(parts, cell, decision, None, Keep::Nothing, Done::Nothing);
    }

    /// Sends a decision to the disk; the present phase is the one behind it.
    pub(super) fn submit(
        &mut self,
        parts: &Arc<Parts>,
        cell: &Arc<Cell>,
        decision: Decision,
        folded: Option<Folded>,
        keep: Keep,
        done: Done,
    ) {
        self.names = self.names.take().or_else(|| RunNames::of_decision(&decision));
        if let Some(digest) = decision.moved_to {
            self.names = self.names.take().map(|names| names.on(digest));
        }
        let is_plain = folded.is_some()
            && decision.request.is_none()
            && decision.new_run.is_none()
            && decision.closed.is_none()
            && decision.inbox_taken.is_empty();
        let bytes = decision.payload_bytes();
        self.in_flight.push_back(Flight { folded, keep, done, is_plain, bytes });
        let (answered_in, answered) = (Arc::clone(parts), Arc::clone(cell));
        let on_done = move |committed, decision| answered_in.cells.committed(&answered, committed, decision);
        parts.committer.submit(decision, Box::new(on_done));
    }
}

/// A run's first event names the component that folds it: it may have been moved while the event waited.
fn begun_on(digest: Digest, mut input: Input) -> Input {
    if let Input::WorkflowStarted(started) = &mut input
        && started.digest != digest
    {
        Arc::make_mut(started).digest = digest;
    }
    input
}
