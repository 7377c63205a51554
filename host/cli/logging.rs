//! The log: to standard error, readable or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::failure::{Exit, Failure};
use crate::config::{LogFormat, LogSection};

/// Starts the log.
pub(super) fn start(settings: &LogSection) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|error| {
        Failure::new(Exit::Usage, format!("log.level: `{}`: {error}", settings.level))
            .hint("a level is error, warn, info, debug or trace; directives look like `info,everfold::runner=debug`")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => {
            let shows_colour = std::io::stderr().is_terminal()
                && anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            registry.with(lines.with_ansi(shows_colour)).try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}").into())
}
