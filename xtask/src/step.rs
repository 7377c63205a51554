//! Runs other programs, one step after the other, and says which.

use std::fmt;
use std::io::Read;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A step that ended badly; the whole command ends with its exit code.
#[derive(Debug)]
struct StepFailed {
    name: String,
    status: ExitStatus,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed ({})", self.name, self.status)
    }
}

impl std::error::Error for StepFailed {}

/// The exit code for an error: that of the step that failed, otherwise 1.
pub(crate) fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    let code = error.downcast_ref::<StepFailed>().and_then(|step| step.status.code());
    match code.map(u8::try_from) {
        Some(Ok(code)) if code > 0 => ExitCode::from(code),
        Some(_) | None => ExitCode::FAILURE,
    }
}

/// Tells what is going on.
pub(crate) fn say(line: impl fmt::Display) {
    eprintln!("==> {line}");
}

/// Announces a program and runs it to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(shown(command));
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    check(command, status)
}

/// Runs a program quietly and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Announces a program and runs it, reading what it prints; what it says goes to people.
pub(crate) fn run_and_read(command: &mut Command) -> Result<String> {
    say(shown(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut printed)?;
    }
    let status = child.wait()?;
    check(command, status)?;
    Ok(printed)
}

/// Announces a program and runs it, but not for longer than that.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    say(shown(command));
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return check(command, status);
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{}` took longer than {limit:?}", shown(command));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(StepFailed { name: shown(command), status }.into())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
