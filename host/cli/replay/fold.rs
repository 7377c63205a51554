//! The replay itself, and what is seen of it.

use anyhow::Context as _;
use everfold::guest::{Engine, EngineSettings, LoadedComponent, Observation};
use everfold_core::divergence::{Change, Comparison, Replaying, Strictness};
use everfold_core::event::{Event, EventKind, Input, Note};
use everfold_core::failure::Failure as GuestFailure;
use everfold_core::fold::{Guest, activations};
use everfold_core::history::Export;
use everfold_core::ids::{Digest, EventId};
use everfold_core::machine::RunState;
use everfold_core::replay::{ReplayFault, Replayed, replay_telling};
use serde_json::Value;

use super::questions::Question;
use crate::cli::failure::{Exit, Failure};

/// The type by which a guest says that it does not know the question (wit/query.wit).
const UNKNOWN_QUERY: &str = "UnknownQuery";

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Until {
    /// All the way, and only to see whether it holds.
    End,
    /// To the end of the step that holds this event, to look at the run there.
    Event(EventId),
}

/// What a replay showed.
#[derive(Debug)]
pub(in crate::cli) struct Report {
    /// The component that was tried.
    pub(in crate::cli) digest: Digest,
    /// Who recorded the events, in order.
    pub(in crate::cli) parts: Vec<Part>,
    /// Events that were to be replayed.
    pub(in crate::cli) events: usize,
    /// How it went.
    pub(in crate::cli) outcome: Result<Held, ReplayFault>,
}

/// Events that one component recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Part {
    /// Which component.
    pub(in crate::cli) recorded_by: Digest,
    /// The first of them.
    pub(in crate::cli) from: EventId,
    /// The last of them.
    pub(in crate::cli) to: EventId,
    /// How the calls were compared.
    pub(in crate::cli) comparison: Comparison,
}

/// A replay that held.
#[derive(Debug)]
pub(in crate::cli) struct Held {
    /// The state behind the last event that was replayed.
    pub(in crate::cli) state: RunState,
    /// Differences that are no divergence.
    pub(in crate::cli) changes: Vec<Change>,
    /// Present if somebody wants to look.
    pub(in crate::cli) scene: Option<Scene>,
}

/// What there is to see at an event.
#[derive(Debug)]
pub(in crate::cli) struct Scene {
    /// The event that was asked for.
    pub(in crate::cli) until: EventId,
    /// What the code had said so far, and while which event was folded.
    pub(in crate::cli) said: Vec<(EventId, Observation)>,
    /// What it answered.
    pub(in crate::cli) answers: Answers,
}

/// Questions by name, and their answers, in the order of asking.
pub(in crate::cli) type Answers = Vec<(String, Value)>;

/// Loads the component.
///
/// # Errors
/// When it cannot be loaded, or does not have the workflow type.
pub(super) fn load(export: &Export, wasm: &[u8]) -> anyhow::Result<LoadedComponent> {
    let engine = Engine::new(EngineSettings::default(), None)?;
    let component = engine.load(wasm)?;
    let types = &component.description().workflow_types;
    if !types.iter().any(|workflow_type| workflow_type.name == export.workflow_type) {
        let types: Vec<&str> = types.iter().map(|workflow_type| workflow_type.name.as_str()).collect();
        anyhow::bail!(
            "there is no workflow type {} in it; it has {}",
            export.workflow_type,
            types.join(", ")
        );
    }
    Ok(component)
}

/// Replays an export with a component, as far as is wanted, and asks it.
///
/// # Errors
/// When the component cannot be started, or has no answer.
pub(super) fn replay(
    export: Export,
    component: &LoadedComponent,
    strict: bool,
    until: Until,
    questions: &[Question],
) -> Result<Report, Failure> {
    let strictness = if strict { Strictness::Strict } else { Strictness::Lenient };
    let replaying = Replaying { digest: component.digest(), strictness };
    let events = wanted(export.events, until);
    let (count, parts) = (events.len(), parts(&events, replaying));
    let cannot_start = "the component cannot be started";
    let mut said = Said { until, lines: Vec::new() };
    let (replayed, answers) = if questions.is_empty() {
        let mut guest = component.instantiate().context(cannot_start)?;
        (folded(&mut guest, events, replaying, &mut said), Vec::new())
    } else {
        let Some(mut replica) = component.replica().context(cannot_start)? else {
            return Err(mute(component));
        };
        let replayed = folded(&mut replica, events, replaying, &mut said);
        let mut answers = Vec::new();
        // One that fell has nothing to say.
        for Question { name, input } in questions.iter().filter(|_| replayed.is_ok()) {
            let answer = replica
                .query(name, input)
                .map_err(|fault| Failure::new(Exit::Failed, format!("the query {name} failed: {fault}")))?
                .ok_or_else(|| mute(component))?;
            answers.push((name.clone(), answer.map_err(|failure| refused(name, &failure))?.to_value()));
        }
        (replayed, answers)
    };
    let outcome = replayed.map(|Replayed { state, changes }| {
        let scene = match until {
            Until::End => None,
            Until::Event(until) => Some(Scene { until, said: said.lines, answers }),
        };
        Held { state, changes, scene }
    });
    Ok(Report { digest: component.digest(), parts, events: count, outcome })
}

fn folded<G: Guest<Observations = Vec<Observation>>>(
    guest: &mut G,
    events: Vec<Event>,
    replaying: Replaying,
    said: &mut Said,
) -> Result<Replayed, ReplayFault> {
    replay_telling(guest, RunState::new(), activations(events), replaying, |event_id, observations| {
        said.take(event_id, observations);
    })
}

/// What the code said, if somebody wants to know.
struct Said {
    until: Until,
    lines: Vec<(EventId, Observation)>,
}

impl Said {
    fn take(&mut self, event_id: EventId, observations: Vec<Observation>) {
        match self.until {
            Until::End => {}
            Until::Event(_) => {
                self.lines.extend(observations.into_iter().map(|observation| (event_id, observation)));
            }
        }
    }
}

/// The events up to the end of the step that is wanted.
fn wanted(mut events: Vec<Event>, until: Until) -> Vec<Event> {
    if let Until::Event(until) = until {
        let goes_on = |event: &&Event| event.id <= until || matches!(event.kind, EventKind::Command(_));
        let count = events.iter().take_while(goes_on).count();
        events.truncate(count);
    }
    events
}

/// Who recorded which events. A run that was moved has several parts; the move is the last event of one.
fn parts(events: &[Event], replaying: Replaying) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut recorded_by = None;
    for event in events {
        if let EventKind::Input(Input::WorkflowStarted(started)) = &event.kind {
            recorded_by = Some(started.digest);
        }
        let Some(digest) = recorded_by else { continue };
        match parts.last_mut() {
            Some(part) if part.recorded_by == digest => part.to = event.id,
            Some(_) | None => parts.push(Part {
                recorded_by: digest,
                from: event.id,
                to: event.id,
                comparison: replaying.comparison(digest),
            }),
        }
        if let EventKind::Note(Note::VersionMoved(moved)) = &event.kind {
            recorded_by = Some(moved.to);
        }
    }
    parts
}

fn mute(component: &LoadedComponent) -> Failure {
    let digest = component.digest().short();
    Failure::new(Exit::NotFound, format!("component {digest} answers no queries"))
}

/// A question that the run's code did not answer.
fn refused(name: &str, failure: &GuestFailure) -> Failure {
    if failure.type_name() == UNKNOWN_QUERY {
        return Failure::new(Exit::NotFound, failure.message.clone());
    }
    Failure::new(
        Exit::Failed,
        format!("the query {name} failed: {}: {}", failure.type_name(), failure.message),
    )
}
