//! A host of the benchmark's own: this same executable as a child, on a temporary folder and a free port.
//! Whatever becomes of the benchmark, the process ends and the folder goes when it is dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::Method;
use owo_colors::OwoColorize as _;
use tempfile::TempDir;

use super::connection::{Connection, Endpoint};
use super::process::Process;
use crate::cli::failure::{Exit, Failure};

/// How often a host that starts is asked whether it is ready.
const READY_PERIOD: Duration = Duration::from_millis(2);
/// How long a host may take to get ready; a million parked runs take less.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// Lines of its log that are shown when it died.
const LAST_LINES: usize = 20;

/// Settings of a host, as its environment has them: `("EVERFOLD_LOG", "off")`, say.
pub(super) type Settings = Vec<(&'static str, String)>;

/// A child that serves.
#[derive(Debug)]
pub(super) struct PrivateHost {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
    settings: Settings,
    is_killed: bool,
}

impl PrivateHost {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, or does not get ready.
    pub(super) async fn start(settings: Settings) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("everfold-bench-").tempdir();
        let folder = folder.context("there is no room for the benchmark's host")?;
        let address = free_address().context("there is no port for the benchmark's host")?;
        let child = spawn(folder.path(), address, &settings)?;
        let mut host = Self { child, folder, address, settings, is_killed: false };
        host.ready().await?;
        Ok(host)
    }

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    pub(super) fn process(&self) -> Process {
        Process::of(self.child.id())
    }

    /// Bytes of the files that it keeps.
    pub(super) fn disk_bytes(&self) -> Option<u64> {
        folder_bytes(&data_folder(self.folder.path())).ok()
    }

    /// Kills it as a power cut does.
    pub(super) fn kill(&mut self) {
        self.is_killed = true;
        // One that is gone already cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same folder and port; gives the time until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, or does not get ready.
    pub(super) async fn restart(&mut self) -> Result<Duration, Failure> {
        let began = Instant::now();
        self.child = spawn(self.folder.path(), self.address, &self.settings)?;
        self.is_killed = false;
        self.ready().await?;
        Ok(began.elapsed())
    }

    async fn ready(&mut self) -> Result<(), Failure> {
        let endpoint = Arc::new(Endpoint::new(&self.url(), None, None)?);
        let readiness = endpoint.call(Method::GET, "/readyz", "")?;
        let began = Instant::now();
        while began.elapsed() < READY_PATIENCE {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err(Failure::new(Exit::Failed, "the benchmark's host cannot run"));
            }
            if let Ok(mut connection) = Connection::open(Arc::clone(&endpoint)).await
                && let Ok(Some(reply)) = connection.send(&readiness).await
                && reply.status.is_success()
            {
                return Ok(());
            }
            tokio::time::sleep(READY_PERIOD).await;
        }
        Err(Failure::new(Exit::Failed, "the benchmark's host does not get ready"))
    }

    /// Says on standard error how it ended, if that was not asked for.
    fn tell_of_death(&mut self) {
        let Ok(Some(status)) = self.child.try_wait() else { return };
        if self.is_killed {
            return;
        }
        anstream::eprintln!("{} the benchmark's host ended: {status}", "note:".yellow().bold());
        let log = std::fs::read_to_string(log_file(self.folder.path())).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
            anstream::eprintln!("  {}", line.dimmed());
        }
    }
}

impl Drop for PrivateHost {
    fn drop(&mut self) {
        self.tell_of_death();
        self.kill();
    }
}

fn spawn(folder: &Path, address: SocketAddr, settings: &Settings) -> Result<Child, Failure> {
    let log = File::options().create(true).append(true).open(log_file(folder));
    let log = log.context("the log of the benchmark's host cannot be written")?;
    let executable = std::env::current_exe().context("this executable has no path")?;
    let mut command = Command::new(executable);
    command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data_folder(folder));
    // Settings of somebody else's host would be measured; a setting that is missing is the default.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("EVERFOLD_") || name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").env("EVERFOLD_LOG", "warn").envs(settings.iter().map(|(n, v)| (*n, v)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // A Ctrl-C is for the benchmark, which ends its host then.
    command.process_group(0);
    Ok(command.spawn().context("the benchmark's host cannot be started")?)
}

/// A port that is free now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn data_folder(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("host.log")
}

fn folder_bytes(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        bytes += if kind.is_dir() { folder_bytes(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}
