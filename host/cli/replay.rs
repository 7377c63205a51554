//! `everfold replay`: folds an exported history into a component and checks every call, with the
//! engine and the core alone.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use everfold::guest::{Engine, EngineSettings};
use everfold_core::divergence::{Change, Comparison, Replaying, Strictness};
use everfold_core::fold::{GuestFault, activations};
use everfold_core::history::Export;
use everfold_core::ids::{Digest, EventId};
use everfold_core::machine::RunStatus;
use everfold_core::replay::{ReplayFault, replay};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use super::deploy::read;
use super::failure::{Exit, Failure};
use super::output::{Form, Output};

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The exported history
    #[arg(value_name = "HISTORY.json")]
    history: PathBuf,
    /// The component to replay it with
    #[arg(long, value_name = "FILE.wasm")]
    with: PathBuf,
    /// On another version of the component: count changed inputs and options as divergence too
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    form: Form,
}

/// What a replay showed.
#[derive(Debug)]
pub(super) struct Report {
    /// The component that was tried.
    digest: Digest,
    /// How it was compared.
    comparison: Comparison,
    /// Events of the history.
    events: usize,
    /// How it went.
    outcome: Result<Held, ReplayFault>,
}

/// A replay that held.
#[derive(Debug)]
struct Held {
    status: RunStatus,
    changes: Vec<Change>,
}

impl Replay {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = self.history.display();
        let text = read(&self.history).map_err(|failure| match failure {
            // The hint of components does not fit a history.
            Failure::Told { exit, message, hint: _ } => Failure::Told { exit, message, hint: None }
                .hint("`everfold export ID > history.json` writes one"),
            Failure::Silent(_) | Failure::ReaderGone => failure,
        })?;
        let export = Export::from_json(&text)
            .map_err(|error| Failure::new(Exit::Usage, format!("{file}: {error}")))?;
        let report = replay_file(export, &read(&self.with)?, self.strict)
            .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error:#}", self.with.display())))?;
        let mut output = Output::new();
        if self.form.is_json() {
            output.json(&report.to_value())?;
        } else {
            for line in report.lines() {
                output.line(line)?;
            }
        }
        if report.outcome.is_err() { Err(Failure::Silent(Exit::Failed)) } else { Ok(()) }
    }
}

/// Replays an export with a component.
///
/// # Errors
/// When the component cannot be loaded, or does not have the workflow type.
pub(super) fn replay_file(export: Export, wasm: &[u8], strict: bool) -> anyhow::Result<Report> {
    let engine = Engine::new(EngineSettings::default(), None)?;
    let component = engine.load(wasm)?;
    let digest = component.digest();
    let types = &component.description().workflow_types;
    if !types.iter().any(|workflow_type| workflow_type.name == export.workflow_type) {
        let types: Vec<&str> = types.iter().map(|workflow_type| workflow_type.name.as_str()).collect();
        anyhow::bail!(
            "there is no workflow type {} in it; it has {}",
            export.workflow_type,
            types.join(", ")
        );
    }
    let strictness = if strict { Strictness::Strict } else { Strictness::Lenient };
    let replaying = Replaying { digest, strictness };
    let comparison = replaying.comparison(export.digest);
    let mut guest = component.instantiate().context("the component cannot be started")?;
    let events = export.events.len();
    let outcome = replay(&mut guest, activations(export.events), replaying)
        .map(|replayed| Held { status: replayed.state.status(), changes: replayed.changes });
    Ok(Report { digest, comparison, events, outcome })
}

impl Report {
    fn to_value(&self) -> Value {
        let mut value = json!({
            "digest": self.digest,
            "comparison": match self.comparison {
                Comparison::SameDigest => "same_digest",
                Comparison::OtherDigest => "other_digest",
                Comparison::OtherDigestStrict => "other_digest_strict",
            },
            "events": self.events,
            "held": self.outcome.is_ok(),
        });
        match &self.outcome {
            Ok(held) => {
                value["status"] = json!(held.status);
                value["changes"] = json!(held.changes);
            }
            Err(ReplayFault::Malformed(error)) => {
                value["fault"] = json!({ "kind": "malformed_history", "message": error.to_string() });
            }
            Err(ReplayFault::Guest { event_id, fault }) => value["fault"] = fault_value(*event_id, fault),
        }
        value
    }

    fn lines(&self) -> Vec<String> {
        let (events, digest) = (self.events, self.digest.short());
        match &self.outcome {
            Ok(held) => {
                let mut lines = vec![format!(
                    "{} {events} events replayed with {digest}: {}",
                    "held".green().bold(),
                    match (self.comparison, held.changes.is_empty()) {
                        (Comparison::SameDigest, _) =>
                            "the same component made the same calls, byte for byte",
                        (Comparison::OtherDigest | Comparison::OtherDigestStrict, true) => {
                            "another version of the component made the same calls"
                        }
                        (Comparison::OtherDigest | Comparison::OtherDigestStrict, false) => {
                            "another version made the same calls, with changes (--strict refuses them)"
                        }
                    }
                )];
                lines.extend(held.changes.iter().map(change_line));
                lines
            }
            Err(fault) => {
                let mut lines = vec![format!("{} with {digest}: {fault}", headline(fault).red().bold())];
                if let ReplayFault::Guest { event_id, fault } = fault {
                    lines.push(format!("  while event {event_id} was folded"));
                    lines.extend(backtrace(fault).lines().map(|frame| format!("  {}", frame.dimmed())));
                }
                lines
            }
        }
    }
}

/// Which sort of end, in a word.
fn headline(fault: &ReplayFault) -> &'static str {
    match fault {
        ReplayFault::Malformed(_) => "unreadable",
        ReplayFault::Guest { fault: GuestFault::Nondeterminism(_), .. } => "diverged",
        ReplayFault::Guest { fault: GuestFault::Trap { .. }, .. } => "trapped",
        ReplayFault::Guest { fault: GuestFault::LimitExceeded { .. }, .. } => "stopped",
    }
}

fn change_line(change: &Change) -> String {
    let fields: Vec<String> = change.fields.iter().map(ToString::to_string).collect();
    format!("  event {} {}: {}", change.event_id, change.call, fields.join("; "))
}

fn backtrace(fault: &GuestFault) -> &str {
    match fault {
        GuestFault::Nondeterminism(error) => &error.backtrace,
        GuestFault::Trap { backtrace, .. } | GuestFault::LimitExceeded { backtrace, .. } => backtrace,
    }
}

fn fault_value(event_id: EventId, fault: &GuestFault) -> Value {
    let mut value = match fault {
        GuestFault::Nondeterminism(error) => {
            let mut value = json!(error);
            value["kind"] = json!("nondeterminism");
            value
        }
        GuestFault::Trap { message, backtrace } => {
            json!({ "kind": "trap", "message": message, "backtrace": backtrace })
        }
        GuestFault::LimitExceeded { message, backtrace } => {
            json!({ "kind": "limit_exceeded", "message": message, "backtrace": backtrace })
        }
    };
    value["folding_event_id"] = json!(event_id);
    value
}
