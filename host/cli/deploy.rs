//! `everfold deploy`: adds components, or says what they would do. Making one current is in `promote`.

mod promote;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use everfold::server::wire::Deployed;
use everfold_core::route::Percent;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use super::check::{self, Scope};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::render::{deployed, report, versions};
use super::route;

#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// Components; with --json and more than one, the answer is a list
    #[arg(required = true, value_name = "FILE.wasm")]
    files: Vec<PathBuf>,
    /// Deploy nothing: replay the open runs of its types with it and say what it would do; exit 1 if
    /// not all could be moved
    #[arg(long, conflicts_with_all = ["promote", "ramp", "open_runs", "only_compatible"])]
    check: bool,
    /// Make it current for all its types, and move their open runs to it; refused while any would break
    #[arg(long)]
    promote: bool,
    /// Make it the candidate of all its types: so many of a hundred new runs start on it
    #[arg(long, value_name = "PERCENT", conflicts_with = "promote", value_parser = route::percent)]
    ramp: Option<Percent>,
    /// With --promote: what becomes of open runs
    #[arg(long, value_enum, default_value_t, hide_default_value = true, requires = "promote")]
    open_runs: OpenRuns,
    /// The same as --open-runs move-compatible
    #[arg(long, requires = "promote", conflicts_with = "open_runs")]
    only_compatible: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    form: Form,
}

/// What becomes of open runs when a version is promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OpenRuns {
    /// All move, or nothing is promoted (the default)
    #[default]
    Move,
    /// Those move whose replay holds; the others stay on their version
    MoveCompatible,
    /// All stay on their version
    Leave,
}

/// A file and its bytes.
struct File<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
}

impl Deploy {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        if !self.scope.is_default() && !self.check && !self.promote {
            let what = "--closed-days, --strict and --look-ahead say how to check";
            return Err(Failure::new(Exit::Usage, what).hint("give --check or --promote with them"));
        }
        let mut answers = Answers { output: Output::new(), form: self.form, all: Vec::new() };
        let mut end = Ok(());
        for path in &self.files {
            let file = File { path, bytes: read(path)? };
            let done = if self.check {
                self.check(client, file, &mut answers).await
            } else if self.promote {
                self.promote(client, file, &mut answers).await
            } else {
                self.add(client, file, &mut answers).await
            };
            match done {
                // The others are looked at too: each has its own verdict.
                Err(Failure::Silent(exit)) => end = Err(Failure::Silent(exit)),
                Err(failure) => {
                    answers.finish()?;
                    return Err(failure);
                }
                Ok(()) => {}
            }
        }
        answers.finish()?;
        end
    }

    async fn check(&self, client: &Client, file: File<'_>, answers: &mut Answers) -> Result<(), Failure> {
        let path = file.path;
        let found = check::bytes(client, file.bytes, self.scope).await;
        let found = found.map_err(|failure| in_file(path, failure))?;
        answers.tell(&found, || report::check(&found, Output::width()))?;
        if found.holds { Ok(()) } else { Err(Failure::Silent(Exit::Failed)) }
    }

    async fn add(&self, client: &Client, file: File<'_>, answers: &mut Answers) -> Result<(), Failure> {
        let path = file.path;
        let found = deploy(client, file).await?;
        let Some(percent) = self.ramp else {
            answers.tell(&found, || deployed::lines(&found))?;
            if !self.form.is_json() {
                deployed::next(&found, path).iter().for_each(|line| anstream::eprintln!("{}", line.dimmed()));
            }
            return Ok(());
        };
        let mut routed = Vec::new();
        for kind in found.types.iter().filter(|kind| kind.routing.current != found.digest) {
            routed.push(route::put(client, &kind.name, found.digest, Some(percent)).await?);
        }
        let told = serde_json::json!({ "deployed": found, "routed": routed });
        answers.tell(&told, || {
            deployed::lines(&found).into_iter().chain(routed.iter().flat_map(versions::routed)).collect()
        })
    }

    fn open_runs(&self) -> OpenRuns {
        if self.only_compatible { OpenRuns::MoveCompatible } else { self.open_runs }
    }
}

/// What is said about the files.
struct Answers {
    output: Output,
    form: Form,
    all: Vec<serde_json::Value>,
}

impl Answers {
    /// Says something about a file, as JSON at the end or as lines now.
    fn tell(&mut self, value: &impl Serialize, lines: impl FnOnce() -> Vec<String>) -> Result<(), Failure> {
        if self.form.is_json() {
            self.all.push(serde_json::to_value(value).map_err(anyhow::Error::from)?);
            return Ok(());
        }
        lines().into_iter().try_for_each(|line| self.output.line(line))
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match self.all.as_slice() {
            [] => Ok(()),
            [one] => self.output.json(one),
            several => self.output.json(&several),
        }
    }
}

async fn deploy(client: &Client, file: File<'_>) -> Result<Deployed, Failure> {
    let deployed = client.post_wasm(&["components"], file.bytes).await;
    deployed.map_err(|failure| in_file(file.path, failure))
}

/// Says which file a failure is about.
fn in_file(path: &Path, failure: Failure) -> Failure {
    match failure {
        Failure::Told { exit, message, hint, code } => {
            Failure::Told { exit, message: format!("{}: {message}", path.display()), hint, code }
        }
        Failure::Silent(_) | Failure::ReaderGone => failure,
    }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("{} does not exist", file.display()))
                .hint("`cargo xtask guests` builds the components into target/components/")
        }
        _ => Failure::new(Exit::Failed, format!("{} cannot be read: {error}", file.display())),
    })
}
