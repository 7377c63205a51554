//! How a command ends when it does not end well: an exit code, a sentence, and a hint what to do.

use std::io;
use std::process::ExitCode;

use owo_colors::OwoColorize as _;

/// What scripts can tell apart. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The run's failure, a divergence, anything that has no code of its own.
    Failed = 1,
    /// The command line, or the data given with it.
    Usage = 2,
    /// No such run, workflow type, file.
    NotFound = 3,
    /// It does not fit how things stand.
    Conflict = 4,
    /// No host answers, or it takes nothing now.
    Unreachable = 5,
}

/// A command's bad end.
#[derive(Debug)]
pub(super) enum Failure {
    /// To be told on standard error.
    Told {
        /// The exit code.
        exit: Exit,
        /// What happened.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The host's code for it, if it comes from one.
        code: Option<String>,
    },
    /// All is said already.
    Silent(Exit),
    /// Nobody reads our output any more: no failure of ours.
    ReaderGone,
}

impl Failure {
    /// A bad end with its sentence.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into(), hint: None, code: None }
    }

    /// The same with the host's code.
    pub(super) fn code(self, code: impl Into<String>) -> Self {
        match self {
            Self::Told { exit, message, hint, code: _ } => {
                Self::Told { exit, message, hint, code: Some(code.into()) }
            }
            Self::Silent(_) | Self::ReaderGone => self,
        }
    }

    /// The same with a hint what to do.
    pub(super) fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Told { exit, message, hint: _, code } => {
                Self::Told { exit, message, hint: Some(text.into()), code }
            }
            Self::Silent(_) | Self::ReaderGone => self,
        }
    }

    /// Whether the host's code for it is that.
    pub(super) fn is_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Told { code: Some(code), .. } if code == wanted)
    }

    /// Whether another try may succeed because the host was away.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Told { exit, .. } | Self::Silent(exit) => *exit == Exit::Unreachable,
            Self::ReaderGone => false,
        }
    }

    /// Says it on standard error and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Told { exit, message, hint, code: _ } => {
                anstream::eprintln!("{} {message}", "error:".red().bold());
                if let Some(hint) = hint {
                    anstream::eprintln!("{} {hint}", "hint:".cyan().bold());
                }
                ExitCode::from(exit as u8)
            }
            Self::Silent(exit) => ExitCode::from(exit as u8),
            Self::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"))
    }
}

/// Failures of writing our own output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        Self::new(Exit::Failed, format!("standard output cannot be written: {error}"))
    }
}
