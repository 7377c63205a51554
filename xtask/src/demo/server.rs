//! The demonstration's host: started on a free loopback port with a data folder of its own, and
//! stopped by its id when the demonstration ends, is interrupted, or fails.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::step::say;

/// The port that the command line asks when it is told no other.
const DEFAULT_PORT: u16 = 8233;
/// How long the host may take until it takes requests.
const START: Duration = Duration::from_secs(60);
/// How long it may take to stop in order; it gives what is under way 10 s itself.
const STOP: Duration = Duration::from_secs(15);
/// Between two looks at the host while it starts or stops.
const LOOK: Duration = Duration::from_millis(50);
/// The exit code of a command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;
/// Lines of the host's log that are shown when it does not start.
const LOG_LINES: usize = 20;

/// A running host.
pub(super) struct Server {
    process: Arc<Process>,
    arguments: Vec<OsString>,
    url: String,
    id: u32,
}

/// What must be cleared away, by whoever comes first.
struct Process {
    child: Mutex<Option<Child>>,
    data: Data,
    /// Set once nothing is left but to wait for Ctrl-C.
    may_be_interrupted: AtomicBool,
}

/// The data folder.
enum Data {
    Removed(Mutex<Option<TempDir>>, PathBuf),
    Kept(PathBuf),
}

/// A command without the settings of the person who runs the demonstration.
pub(super) fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("EVERFOLD_")) {
            command.env_remove(&name);
        }
    }
    command
}

/// An HTTP client for loopback.
pub(super) fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(timeout))
        .build()
        .new_agent()
}

impl Server {
    /// Starts the host and returns once it takes requests.
    pub(super) fn start(binary: &Path, keep: bool) -> Result<Self> {
        let data = Data::new(keep)?;
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let listen = format!("127.0.0.1:{port}");
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--sandbox".into(), "--listen".into()];
        arguments.extend([listen.into(), "--data".into(), data.path().into()]);
        let log = File::create(data.log())?;
        let child = clean(binary)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for this command, which then stops the host in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let id = child.id();
        arguments.insert(0, binary.into());
        let may_be_interrupted = AtomicBool::new(false);
        let process = Arc::new(Process { child: Mutex::new(Some(child)), data, may_be_interrupted });
        let server = Self { process, arguments, url, id };
        stop_when_interrupted(&server.process)?;
        server.wait_until_ready()?;
        say(format!("host {id} serves {} from {}", server.url, server.data().display()));
        Ok(server)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn data(&self) -> &Path {
        self.process.data.path()
    }

    /// What starts it again.
    pub(super) fn command_line(&self) -> String {
        self.arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Waits for Ctrl-C, which stops the host and ends the command well.
    pub(super) fn run_until_interrupted(&self) -> ! {
        say("the host runs until you press Ctrl-C");
        self.process.may_be_interrupted.store(true, Ordering::SeqCst);
        loop {
            thread::park();
        }
    }

    /// Stops the host in order.
    pub(super) fn stop(&self) -> Result<()> {
        self.process.stop()
    }

    fn wait_until_ready(&self) -> Result<()> {
        let began = Instant::now();
        let agent = agent(Duration::from_secs(1));
        loop {
            if let Some(status) = self.process.exited()? {
                bail!("the host ended at once ({status}); its log ends:\n{}", self.process.data.end_of_log());
            }
            let answer = agent.get(format!("{}/readyz", self.url)).call();
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < START,
                "the host is not ready after {START:?}; its log ends:\n{}",
                self.process.data.end_of_log()
            );
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.process.stop() {
            say(format!("the host {} could not be stopped: {error:#}", self.id));
        }
    }
}

impl Process {
    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exited(&self) -> Result<Option<std::process::ExitStatus>> {
        match self.lock().as_mut() {
            Some(child) => Ok(child.try_wait()?),
            None => bail!("interrupted"),
        }
    }

    /// Asks the host to stop, waits for it, and removes its data. Does nothing the second time.
    fn stop(&self) -> Result<()> {
        let Some(mut child) = self.lock().take() else { return Ok(()) };
        if child.try_wait()?.is_none() {
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        }
        let began = Instant::now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > STOP {
                say(format!("the host {} did not stop within {STOP:?} and is ended", child.id()));
                child.kill()?;
                child.wait()?;
                break;
            }
            thread::sleep(LOOK);
        }
        self.data.clear();
        Ok(())
    }
}

impl Data {
    fn new(keep: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("everfold-demo-").tempdir()?;
        if keep {
            return Ok(Self::Kept(folder.keep()));
        }
        let path = folder.path().to_path_buf();
        Ok(Self::Removed(Mutex::new(Some(folder)), path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Removed(_, path) | Self::Kept(path) => path,
        }
    }

    fn log(&self) -> PathBuf {
        self.path().join("everfold.log")
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn clear(&self) {
        match self {
            Self::Removed(folder, _) => drop(folder.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Self::Kept(path) => say(format!("the data is kept in {}", path.display())),
        }
    }
}

/// The default port if it is free, else any.
fn free_port() -> Result<u16> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(DEFAULT_PORT).or_else(|_| bind(0)).context("no loopback port is free")?;
    Ok(listener.local_addr()?.port())
}

/// On Ctrl-C or a request to end: stops the host, then this command.
fn stop_when_interrupted(process: &Arc<Process>) -> Result<()> {
    let process = Arc::clone(process);
    ctrlc::set_handler(move || {
        if let Err(error) = process.stop() {
            say(format!("the host could not be stopped: {error:#}"));
        }
        std::process::exit(if process.may_be_interrupted.load(Ordering::SeqCst) { 0 } else { INTERRUPTED });
    })
    .context("Ctrl-C cannot be listened for")
}
