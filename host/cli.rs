//! The command line: one file for each command, and what they share.
//!
//! Commands other than `serve`, `replay` and `completions` talk to a host over its HTTP interface and
//! know nothing else of it. Results go to standard output, everything that is said about them to
//! standard error. Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 host unreachable.

mod activity;
mod batch;
mod bench;
mod check;
mod client;
mod completions;
mod deploy;
mod described;
mod export;
mod failure;
mod history;
mod input;
mod list;
mod logging;
mod output;
mod progress;
mod query;
mod render;
mod replay;
mod reset;
mod result;
mod retire;
mod route;
mod schedule;
mod serve;
mod show;
mod signal;
mod start;
mod stop;
mod update;
mod upgrade;
mod version;
mod versions;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use everfold_core::ids::RunId;

use client::Client;
use failure::Failure;

/// Where a host listens unless told otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8233";

/// Runs durable workflows, and shows what they do.
#[derive(Debug, Parser)]
#[command(
    name = "everfold",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done, 1 failed (the run's failure, a divergence), 2 usage, 3 not found, 4 conflict, 5 host unreachable."
)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

/// Which host a command talks to.
#[derive(Debug, Args)]
struct Connection {
    /// The host's address; default: http://127.0.0.1:8233
    #[arg(long, global = true, env = "EVERFOLD_URL", value_name = "URL")]
    server: Option<String>,
    /// The host's token, where it wants one
    #[arg(long, global = true, env = "EVERFOLD_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The namespace of runs and components
    #[arg(long, global = true, env = "EVERFOLD_NAMESPACE")]
    namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the host
    Serve(serve::Serve),
    /// Add components; a workflow type's first version becomes current
    Deploy(deploy::Deploy),
    /// Show a workflow type's versions and the runs on each
    Versions(versions::Versions),
    /// Let new runs of a workflow type start on a version; runs under way stay where they are
    Promote(route::Promote),
    /// Let a share of new runs start on a candidate
    Ramp(route::Ramp),
    /// Withdraw the candidate, else go back to the version before the last promotion
    Rollback(route::RollBack),
    /// Move open runs to a version; each is replayed there first, and moves only if that holds
    Upgrade(upgrade::Upgrade),
    /// Retire a version that no run needs any more
    Retire(retire::Retire),
    /// Start a run
    Start(Box<start::Start>),
    /// List runs, the latest first
    List(list::List),
    /// Describe a run: how it stands and what it waits for
    Show(show::Show),
    /// Show a run's events as a timeline
    History(history::History),
    /// Print a run's result; exit 1 with its failure, 4 while it is running
    Result(result::ResultOf),
    /// Send a signal to an open run
    Signal(signal::Signal),
    /// Send an update to an open run and print its answer; exit 1 with its failure, 4 while there is none
    Update(update::Update),
    /// Ask a run a question and print the answer
    Query(query::Query),
    /// Ask a run to cancel: it undoes what is to be undone, and ends
    Cancel(stop::Stop),
    /// Close a run without asking its code; nothing is undone
    Terminate(stop::Stop),
    /// Let a run, open or closed, go on from an earlier event, as a new run; what it did later is not undone
    Reset(reset::Reset),
    /// Pause, resume or reset an open activity of a run
    #[command(subcommand)]
    Activity(activity::Activity),
    /// Start runs again and again: at times of the clock, or at intervals
    Schedule(Box<schedule::Schedule>),
    /// Cancel, terminate, signal or reset every run that a query finds
    Batch(batch::Batch),
    /// Write a run's whole history to standard output, to be replayed anywhere
    Export(export::Export),
    /// Replay an exported history with a component, without a host
    Replay(replay::Replay),
    /// Measure a host: orders a second, latencies, what they cost
    Bench(bench::Bench),
    /// Print the completion script of a shell
    Completions(completions::Completions),
}

/// Which run is meant.
#[derive(Debug, Args)]
struct Run {
    /// The workflow id
    #[arg(value_name = "ID")]
    workflow_id: String,
    /// A particular run; default: the open one, else the latest
    #[arg(long, value_name = "RUN")]
    run_id: Option<RunId>,
}

/// Runs the command that the process was called with.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { connection, command } = cli;
    match command {
        Command::Serve(serve) => runtime(Threads::Many)?.block_on(serve.run(connection.token)),
        Command::Replay(replay) => replay.run(),
        // One thread: the machine's others are the host's.
        Command::Bench(bench) => runtime(Threads::One)?.block_on(bench.run(connection)),
        Command::Completions(completions) => completions.run(Cli::command()),
        Command::Deploy(deploy) => runtime(Threads::One)?.block_on(deploy.run(&client(connection)?)),
        Command::Versions(versions) => runtime(Threads::One)?.block_on(versions.run(&client(connection)?)),
        Command::Promote(promote) => runtime(Threads::One)?.block_on(promote.run(&client(connection)?)),
        Command::Ramp(ramp) => runtime(Threads::One)?.block_on(ramp.run(&client(connection)?)),
        Command::Rollback(rollback) => runtime(Threads::One)?.block_on(rollback.run(&client(connection)?)),
        Command::Upgrade(upgrade) => runtime(Threads::One)?.block_on(upgrade.run(&client(connection)?)),
        Command::Retire(retire) => runtime(Threads::One)?.block_on(retire.run(&client(connection)?)),
        Command::Start(start) => runtime(Threads::One)?.block_on(start.run(&client(connection)?)),
        Command::List(list) => runtime(Threads::One)?.block_on(list.run(&client(connection)?)),
        Command::Schedule(schedule) => runtime(Threads::One)?.block_on(schedule.run(&client(connection)?)),
        Command::Batch(batch) => runtime(Threads::One)?.block_on(batch.run(&client(connection)?)),
        Command::Signal(signal) => runtime(Threads::One)?.block_on(signal.run(&client(connection)?)),
        Command::Update(update) => runtime(Threads::One)?.block_on(update.run(&client(connection)?)),
        Command::Query(query) => runtime(Threads::One)?.block_on(query.run(&client(connection)?)),
        Command::Cancel(stop) => runtime(Threads::One)?.block_on(stop.cancel(&client(connection)?)),
        Command::Terminate(stop) => runtime(Threads::One)?.block_on(stop.terminate(&client(connection)?)),
        Command::Reset(reset) => runtime(Threads::One)?.block_on(reset.run(&client(connection)?)),
        Command::Activity(activity) => runtime(Threads::One)?.block_on(activity.run(&client(connection)?)),
        Command::Show(show) => runtime(Threads::One)?.block_on(show.run(&client(connection)?)),
        Command::History(history) => runtime(Threads::One)?.block_on(history.run(&client(connection)?)),
        Command::Result(result) => runtime(Threads::One)?.block_on(result.run(&client(connection)?)),
        Command::Export(export) => runtime(Threads::One)?.block_on(export.run(&client(connection)?)),
    }
}

fn client(connection: Connection) -> Result<Client, Failure> {
    let server = connection.server.as_deref().unwrap_or(DEFAULT_SERVER);
    Client::new(server, connection.token.as_deref(), connection.namespace)
}

enum Threads {
    One,
    Many,
}

fn runtime(threads: Threads) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().context("the process cannot be set up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
