//! Why a guest stopped: wasmtime's errors as [`GuestFault`]s.

use everfold_core::fold::{GuestFault, Refused};
use wasmtime::{Trap, WasmBacktrace};

use super::engine::EngineSettings;

/// Why the host stopped a guest from within one of its calls.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// The core refused a command.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A call breaks a rule of the `host` interface that the core does not know.
    #[error("{0}")]
    Illegal(String),
    /// A limit was passed.
    #[error("{0}")]
    Limit(String),
}

impl Stop {
    pub(super) fn illegal(rule: impl Into<String>) -> Self {
        Self::Illegal(rule.into())
    }

    pub(super) fn limit(which: impl Into<String>) -> Self {
        Self::Limit(which.into())
    }
}

/// A panic that the guest reported before it trapped.
#[derive(Debug)]
pub(super) struct Panic {
    pub(super) message: String,
    pub(super) location: String,
}

/// What wasmtime says when a call hands over more than its `hostcall_fuel`, and when an instance
/// has too many parts; the types of these errors are private to it.
const CALL_TOO_LARGE: &str = "fuel allocated for hostcalls has been exhausted";
const TOO_MANY_PARTS: &str = "resource limit exceeded";
/// The name of the module through which wit-component leads calls of the host.
const SHIM: &str = "wit-component:shim";

/// The fault that an error of a guest's call means.
pub(super) fn of(error: wasmtime::Error, panic: Option<Panic>, settings: &EngineSettings) -> GuestFault {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    let trap = error.downcast_ref::<Trap>().copied();
    let error = match error.downcast::<Stop>() {
        Ok(stop) => return stopped(stop, backtrace),
        Err(error) => error,
    };
    if trap == Some(Trap::Interrupt) {
        let message = format!("an activation may take at most {:?}", settings.activation_time);
        return GuestFault::LimitExceeded { message, backtrace };
    }
    let root = error.root_cause().to_string();
    if root.contains(CALL_TOO_LARGE) {
        let message = format!("a call may hand over at most {} bytes", settings.call_bytes);
        return GuestFault::LimitExceeded { message, backtrace };
    }
    if root.contains(TOO_MANY_PARTS) {
        return GuestFault::LimitExceeded { message: root, backtrace };
    }
    let message = match (trap, panic) {
        (Some(Trap::UnreachableCodeReached), Some(Panic { message, location })) => {
            format!("panicked at {location}: {message}")
        }
        (Some(Trap::StackOverflow), _) => {
            format!(
                "the call stack of {} bytes is exhausted: the recursion is too deep",
                settings.stack_bytes
            )
        }
        (Some(trap), _) => trap.to_string(),
        (None, _) => root,
    };
    GuestFault::Trap { message, backtrace }
}

fn stopped(stop: Stop, backtrace: String) -> GuestFault {
    match stop {
        Stop::Refused(Refused::Nondeterminism(mut difference)) => {
            difference.backtrace = backtrace;
            GuestFault::Nondeterminism(difference)
        }
        Stop::Refused(Refused::Illegal(rule)) => GuestFault::Trap { message: rule.to_string(), backtrace },
        Stop::Illegal(message) => GuestFault::Trap { message, backtrace },
        Stop::Refused(Refused::Limit(message)) | Stop::Limit(message) => {
            GuestFault::LimitExceeded { message, backtrace }
        }
    }
}

/// A guest's frames, one a line, innermost first: `function (file:line:column)` where the
/// component has debug information, else the function's name.
fn frames(backtrace: &WasmBacktrace) -> String {
    let mut lines = String::new();
    for frame in backtrace.frames().iter().filter(|frame| frame.module().name() != Some(SHIM)) {
        if frame.symbols().is_empty() {
            push_line(&mut lines, &function_name(frame));
        }
        // Inlined functions come first.
        for symbol in frame.symbols() {
            let name = symbol.name().map_or_else(|| function_name(frame), demangled);
            let place = symbol.file().map(|file| {
                let number =
                    |number: Option<u32>| number.map(|number| format!(":{number}")).unwrap_or_default();
                format!(" ({file}{}{})", number(symbol.line()), number(symbol.column()))
            });
            push_line(&mut lines, &format!("{name}{}", place.unwrap_or_default()));
        }
    }
    lines
}

fn function_name(frame: &wasmtime::FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => demangled(name),
        None => format!("function {}", frame.func_index()),
    }
}

fn push_line(lines: &mut String, line: &str) {
    if !lines.is_empty() {
        lines.push('\n');
    }
    lines.push_str(line);
}

/// A name as its author wrote it; the hash of its crate is left out.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
