//! `everfold bench`: measures a host, one of its own or one that is named.
//!
//! | file | owns |
//! |---|---|
//! | `scenario` | which scenarios there are, and which sizes each of them has |
//! | `target`, `private_host` | the host that is measured, and the component on it |
//! | `connection`, `fleet` | the driver: connections, requests under way, latencies |
//! | `calls` | the requests that scenarios send, and which answers are right |
//! | `figures`, `process`, `scrape` | what is measured: by the driver, the kernel, the host |
//! | `report` | the JSON; how people see it is in `render::bench` |
//! | the others | one scenario, or a few that are alike |
//!
//! A scenario knows the host by its HTTP interface and, where it is the benchmark's own, by its process.
//! No figure is asserted here, and none is guessed: what cannot be known is null.

mod calls;
mod collector;
mod connection;
pub(super) mod figures;
mod fleet;
mod observed;
mod parked;
mod private_host;
mod process;
mod replay;
pub(super) mod report;
mod restart;
mod scenario;
mod scrape;
mod soak;
mod talk;
mod target;
mod throughput;
mod timers;
mod wide_and_long;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use owo_colors::OwoColorize as _;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Exit, Failure};
use super::output::{Form, Output};
use super::{Connection, deploy, render};
use figures::Figures;
use private_host::Settings;
use report::{Measured, Measurement, Report, ScenarioReport};
use scenario::{Scenario, Sizes};
use target::{Component, Named, Target};

/// What `cargo xtask guests` builds of the workflows that are measured.
const COMPONENT: &str = "target/components/samples.wasm";

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// What to measure
    #[arg(value_enum, default_value_t)]
    scenario: Scenario,
    #[command(flatten)]
    sizes: Sizes,
    /// Measure so many times; the median is shown beside each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// The component with the sample workflows; default: target/components/samples.wasm
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// What scenarios need.
#[derive(Debug)]
struct Stage {
    sizes: Sizes,
    component: Component,
    /// The host that was named; without one each measurement has its own.
    named: Option<Named>,
}

impl Bench {
    pub(super) async fn run(self, connection: Connection) -> Result<(), Failure> {
        self.sizes.check(self.scenario)?;
        let listen = |kind| signal(kind).context("signals cannot be received");
        let (mut interrupt, mut terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut hang_up = listen(SignalKind::hangup())?;
        // Whichever comes first: what is dropped then takes its host and its folder along.
        let report = tokio::select! {
            report = self.measure(connection) => report?,
            _ = interrupt.recv() => return Err(interrupted()),
            _ = terminate.recv() => return Err(interrupted()),
            _ = hang_up.recv() => return Err(interrupted()),
        };
        let mut output = Output::new();
        if self.form.is_json() {
            output.json(&report)?;
        } else {
            for line in render::bench::lines(&report) {
                output.line(line)?;
            }
        }
        match report.errors() {
            0 => Ok(()),
            errors => Err(Failure::new(
                Exit::Failed,
                format!("{errors} requests or runs did not come to what they were to: see `errors`"),
            )),
        }
    }

    async fn measure(&self, connection: Connection) -> Result<Report, Failure> {
        let stage = Stage {
            sizes: self.sizes.clone(),
            component: self.component()?,
            named: connection.server.map(|server| Named {
                server,
                token: connection.token,
                namespace: connection.namespace,
            }),
        };
        let mut report = Report::new(stage.named.as_ref().map(|named| named.server.as_str()), self.repeat);
        if let Some(named) = &stage.named {
            anstream::eprintln!("{}", format!("driving the host at {}", named.server).dimmed());
        }
        for scenario in self.scenario.each() {
            if stage.named.is_some() && scenario.needs_own_host() {
                if self.scenario == Scenario::All {
                    anstream::eprintln!("{}", format!("{scenario} is left out: {OWN_HOST}").yellow());
                    continue;
                }
                return Err(Failure::new(Exit::Usage, format!("{scenario} {OWN_HOST}"))
                    .hint("leave --server and EVERFOLD_URL out"));
            }
            report.scenarios.push(self.repeated(&stage, scenario).await?);
        }
        Ok(report)
    }

    async fn repeated(&self, stage: &Stage, scenario: Scenario) -> Result<ScenarioReport, Failure> {
        let mut rounds: Vec<Vec<Measurement>> = Vec::new();
        for _ in 0..self.repeat {
            rounds.push(scenario.measure(stage).await?);
        }
        let measured = rounds.first().map_or(0, Vec::len);
        let of = |number: usize| rounds.iter().filter_map(|round| round.get(number)).collect::<Vec<_>>();
        let measurements = (0..measured).filter_map(|number| Measured::of(&of(number))).collect();
        Ok(ScenarioReport { scenario: scenario.to_string(), measurements })
    }

    fn component(&self) -> Result<Component, Failure> {
        let path = self.component.clone().unwrap_or_else(|| PathBuf::from(COMPONENT));
        let bytes = deploy::read(&path)?;
        Ok(Component { path, bytes })
    }
}

/// Why a scenario cannot be measured on a host that was named.
const OWN_HOST: &str = "needs a host of the benchmark's own";

impl Stage {
    /// The host to be measured. One of the benchmark's own gets these settings.
    async fn target(&self, settings: Settings) -> Result<Target, Failure> {
        match &self.named {
            Some(named) => Target::named(named, &self.component).await,
            None => Target::private(settings, &self.component).await,
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::Failed, "interrupted: nothing was measured to its end")
}
