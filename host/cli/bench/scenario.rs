//! Which scenarios there are, and which sizes each of them has.

use std::fmt;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::report::Measurement;
use super::{Stage, observed, parked, replay, restart, soak, talk, throughput, timers, wide_and_long};
use crate::cli::failure::{Exit, Failure};

/// What can be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// Orders of four steps, many at a time
    #[default]
    Throughput,
    /// Orders of four steps, one at a time
    Latency,
    /// Runs of a thousand steps at once
    FanOut,
    /// One run of a hundred thousand steps, and whether the last ones take longer
    Long,
    /// Runs that wait for a signal: what they weigh, a restart among them, their end
    Parked,
    /// Timers that are due within one second: how late they fire
    Timers,
    /// A host that is killed among runs under way: how soon all go on
    Restart,
    /// Histories folded once more
    Replay,
    /// Queries to one run and to many
    Query,
    /// Orders on a host that rebuilds every run for its next step
    Evicted,
    /// Orders as large as a payload may be
    Payload,
    /// Signals to one run
    Signals,
    /// Orders beside a run that is signalled all the time
    Hot,
    /// Orders on a host that is silent, on one that logs and is scraped, and on one that sends traces
    Observed,
    /// Orders at a constant rate for a long time
    Soak,
    /// Every scenario but soak
    All,
}

/// How much of it. What is not said is as docs/benchmark.md says.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Sizes {
    /// How many orders
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    orders: Option<u64>,
    /// How many requests are in flight; several numbers are measured one after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Vec<u32>,
    /// How many runs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    runs: Option<u64>,
    /// How many steps a run has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    steps: Option<u64>,
    /// How many signals or queries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How long, as 90s or 20m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How many orders a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
}

/// A size that a scenario has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Orders,
    /// Several numbers.
    Concurrencies,
    /// One number.
    Concurrency,
    Runs,
    Steps,
    Requests,
    Duration,
    Rate,
}

impl Scenario {
    /// Itself, or all that it stands for.
    pub(super) fn each(self) -> Vec<Self> {
        match self {
            Self::All => {
                let all = Self::value_variants().iter().copied();
                all.filter(|scenario| !matches!(scenario, Self::All | Self::Soak)).collect()
            }
            one => vec![one],
        }
    }

    /// Whether it does to its host what nobody does to somebody else's.
    pub(super) fn needs_own_host(self) -> bool {
        match self {
            Self::Restart | Self::Evicted | Self::Hot | Self::Observed => true,
            Self::Throughput
            | Self::Latency
            | Self::FanOut
            | Self::Long
            | Self::Parked
            | Self::Timers
            | Self::Replay
            | Self::Query
            | Self::Payload
            | Self::Signals
            | Self::Soak
            | Self::All => false,
        }
    }

    /// Measures it once.
    ///
    /// # Errors
    /// When the host cannot be measured.
    pub(super) async fn measure(self, stage: &Stage) -> Result<Vec<Measurement>, Failure> {
        match self {
            Self::Throughput => throughput::throughput(stage).await,
            Self::Latency => throughput::latency(stage).await,
            Self::FanOut => wide_and_long::fan_out(stage).await,
            Self::Long => wide_and_long::long(stage).await,
            Self::Parked => parked::parked(stage).await,
            Self::Timers => timers::timers(stage).await,
            Self::Restart => restart::restart(stage).await,
            Self::Replay => replay::replay(stage).await,
            Self::Query => talk::query(stage).await,
            Self::Evicted => throughput::evicted(stage).await,
            Self::Payload => throughput::payload(stage).await,
            Self::Signals => talk::signals(stage).await,
            Self::Hot => talk::hot(stage).await,
            Self::Observed => observed::observed(stage).await,
            Self::Soak => soak::soak(stage).await,
            Self::All => Ok(Vec::new()),
        }
    }

    fn sizes(self) -> &'static [Size] {
        match self {
            Self::Throughput | Self::Evicted => &[Size::Orders, Size::Concurrencies],
            Self::Latency => &[Size::Orders],
            Self::Payload | Self::Hot | Self::Observed => &[Size::Orders, Size::Concurrency],
            Self::FanOut | Self::Restart | Self::Replay => &[Size::Runs, Size::Steps],
            Self::Long => &[Size::Steps],
            Self::Parked => &[Size::Runs, Size::Concurrency],
            Self::Timers => &[Size::Runs],
            Self::Query => &[Size::Runs, Size::Requests, Size::Concurrency],
            Self::Signals => &[Size::Requests, Size::Concurrency],
            Self::Soak => &[Size::Duration, Size::Rate],
            Self::All => &[],
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

impl Sizes {
    /// Refuses what the scenario would not heed.
    ///
    /// # Errors
    /// Which one.
    pub(super) fn check(&self, scenario: Scenario) -> Result<(), Failure> {
        let has = scenario.sizes();
        let concurrencies = self.concurrency.len();
        let given = [
            ("--orders", self.orders.is_some(), has.contains(&Size::Orders)),
            (
                "--concurrency",
                concurrencies == 1,
                has.contains(&Size::Concurrency) || has.contains(&Size::Concurrencies),
            ),
            ("--concurrency with several numbers", concurrencies > 1, has.contains(&Size::Concurrencies)),
            ("--runs", self.runs.is_some(), has.contains(&Size::Runs)),
            ("--steps", self.steps.is_some(), has.contains(&Size::Steps)),
            ("--requests", self.requests.is_some(), has.contains(&Size::Requests)),
            ("--duration", self.duration.is_some(), has.contains(&Size::Duration)),
            ("--rate", self.rate.is_some(), has.contains(&Size::Rate)),
        ];
        match given.iter().find(|(_, is_given, is_heeded)| *is_given && !is_heeded) {
            Some((name, ..)) => Err(Failure::new(Exit::Usage, format!("{scenario} has no {name}"))),
            None => Ok(()),
        }
    }

    /// How many orders, unless that was said.
    pub(super) fn orders(&self, otherwise: u64) -> u64 {
        self.orders.unwrap_or(otherwise)
    }

    /// How many runs, unless that was said.
    pub(super) fn runs(&self, otherwise: u64) -> u64 {
        self.runs.unwrap_or(otherwise)
    }

    /// How many steps a run has, unless that was said.
    pub(super) fn steps(&self, otherwise: u64) -> u64 {
        self.steps.unwrap_or(otherwise)
    }

    /// How many signals or queries, unless that was said.
    pub(super) fn requests(&self, otherwise: u64) -> u64 {
        self.requests.unwrap_or(otherwise)
    }

    /// How long, unless that was said.
    pub(super) fn duration(&self, otherwise: Duration) -> Duration {
        self.duration.unwrap_or(otherwise)
    }

    /// How many orders a second, unless that was said.
    pub(super) fn rate(&self, otherwise: u32) -> u32 {
        self.rate.unwrap_or(otherwise)
    }

    /// The numbers of requests in flight, unless they were said.
    pub(super) fn concurrencies(&self, otherwise: &[u32]) -> Vec<u32> {
        if self.concurrency.is_empty() { otherwise.to_vec() } else { self.concurrency.clone() }
    }

    /// The number of requests in flight, unless it was said.
    pub(super) fn concurrency(&self, otherwise: u32) -> u32 {
        self.concurrency.first().copied().unwrap_or(otherwise)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let read: Result<jiff::SignedDuration, _> = text.parse();
    let duration = read.ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.filter(|duration| !duration.is_zero()).ok_or_else(|| "a time such as 90s or 20m".to_owned())
}
