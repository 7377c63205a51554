//! Standard output: colours where a terminal shows them (`NO_COLOR` respected), and no complaint
//! when the reader goes away.

use std::fmt;
use std::io::{IsTerminal as _, Stdout, Write as _};

use anstream::AutoStream;
use clap::Args;
use serde::Serialize;

use super::failure::Failure;

/// Columns of a line where no terminal says how many it has.
const DEFAULT_WIDTH: usize = 120;

/// The form of a command's output.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Form {
    /// Print JSON
    #[arg(long = "json")]
    is_json: bool,
}

impl Form {
    /// Whether JSON is wanted.
    pub(super) const fn is_json(self) -> bool {
        self.is_json
    }
}

/// Where results go.
pub(super) struct Output {
    stream: AutoStream<Stdout>,
}

impl Output {
    /// Standard output.
    pub(super) fn new() -> Self {
        Self { stream: anstream::stdout() }
    }

    /// How many columns a line may have.
    pub(super) fn width() -> usize {
        if !std::io::stdout().is_terminal() {
            return DEFAULT_WIDTH;
        }
        terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0).max(40))
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.stream, "{line}")?;
        Ok(self.stream.flush()?)
    }

    /// Writes a value as indented JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
        self.line(text)
    }

    /// Writes a value as JSON in one line.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        self.line(text)
    }
}
