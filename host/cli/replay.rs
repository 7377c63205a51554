//! `everfold replay`: folds an exported history into a component and checks every call, with the
//! engine and the core alone. It can stop at an event and show how the run stood there.

mod fold;
mod questions;

use std::path::PathBuf;

use clap::Args;
use everfold_core::history::Export;
use everfold_core::ids::EventId;
use jiff::tz::TimeZone;

use super::deploy::read;
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::render;
pub(super) use fold::{Answers, Held, Part, Report, Scene, Until};
use questions::Questions;

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
    /// Stop behind the step that holds this event, and show how the run stood there: what its code had
    /// said, and what it waited for
    #[arg(long, value_name = "EVENT")]
    until: Option<u64>,
    #[command(flatten)]
    questions: Questions,
    #[command(flatten)]
    form: Form,
}

impl Replay {
    pub(super) fn run(self) -> Result<(), Failure> {
        let file = self.history.display();
        let text = read(&self.history).map_err(|failure| match failure {
            // The hint of components does not fit a history.
            Failure::Told { exit, message, hint: _, code } => {
                { Failure::Told { exit, message, hint: None, code } }
                    .hint("`everfold export ID > history.json` writes one")
            }
            Failure::Silent(_) | Failure::ReaderGone => failure,
        })?;
        let export = Export::from_json(&text)
            .map_err(|error| Failure::new(Exit::Usage, format!("{file}: {error}")))?;
        let until = self.until(&export)?;
        let component = fold::load(&export, &read(&self.with)?)
            .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error:#}", self.with.display())))?;
        let history = export.events.clone();
        let report = fold::replay(export, &component, self.strict, until, &self.questions.asked()?)?;
        let mut output = Output::new();
        if self.form.is_json() {
            output.json(&render::replay::to_value(&report))?;
        } else {
            for line in render::replay::lines(&report, &history, &TimeZone::system(), Output::width()) {
                output.line(line)?;
            }
        }
        if report.outcome.is_err() { Err(Failure::Silent(Exit::Failed)) } else { Ok(()) }
    }

    /// How far to go. Whoever asks something without saying when asks at the end.
    fn until(&self, export: &Export) -> Result<Until, Failure> {
        let last = export.events.len() as u64;
        match self.until {
            Some(event) if (1..=last).contains(&event) => Ok(Until::Event(EventId(event))),
            Some(event) => Err(Failure::new(
                Exit::Usage,
                format!("--until {event}: the history has the events 1 to {last}"),
            )),
            None if self.questions.is_empty() => Ok(Until::End),
            None => Ok(Until::Event(EventId(last))),
        }
    }
}
