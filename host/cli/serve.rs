//! `everfold serve`: the composition root. [`compose`] is the one place where the parts of a host meet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use clap::Args;
use everfold::activity::{Attempts, Registry};
use everfold::clock::Clock;
use everfold::guest::{CodeCache, Engine};
use everfold::orders::{self, OrdersApp, Sandbox};
use everfold::runner::{Host, HostParts};
use everfold::server::metrics::MetricsServer;
use everfold::server::{ServeError, Server};
use everfold::store::SqliteStore;
use everfold::telemetry::Telemetry;
use everfold_core::ids::Namespace;
use figment::value::Value;
use owo_colors::OwoColorize as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};
use super::logging;
use crate::config::{LogFormat, Settings};

/// How long attempts and requests under way may go on after the first signal.
const GRACE: Duration = Duration::from_secs(10);
/// The exit code of a host that must not go on (`EX_SOFTWARE` of sysexits.h).
const FATAL: i32 = 70;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The data folder; default: everfold-data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where runs are kept, as sqlite:FOLDER; default: the data folder
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A folder whose .wasm files are deployed, also those that are dropped into it later
    #[arg(long, value_name = "DIR")]
    components: Option<PathBuf>,
    /// The address to listen on; default: 127.0.0.1:8233. Beyond loopback it needs a token
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Run stand-ins for the payment gateway and the carrier too
    #[arg(long)]
    sandbox: bool,
    /// A TOML file of settings
    #[arg(long, value_name = "FILE", env = "EVERFOLD_CONFIG")]
    config: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// The parts of a running host.
struct Composition {
    host: Host,
    /// The routes of the order application, and of the sandbox where there is one.
    application: Router,
    /// The stand-ins; they stop when this is dropped.
    sandbox: Option<Sandbox>,
}

impl Serve {
    pub(super) async fn run(self, token: Option<String>) -> Result<(), Failure> {
        let settings = self.settings(token)?;
        logging::start(&settings.log)?;
        // Signals count from here on: one that comes while the host starts is not lost.
        let mut signals = Signals::new()?;
        let server = Server::bind(settings.server_settings()).await.map_err(|error| refused(&error))?;
        let server = server.describing([orders::openapi()]);
        let metrics = match settings.metrics.listen {
            Some(listen) => {
                let server = MetricsServer::bind(listen, &settings.server_settings()).await;
                Some(server.map_err(|error| refused(&error))?)
            }
            None => None,
        };
        create_private(&settings.data)?;
        let components = settings.components.clone();
        if let Some(components) = &components {
            check_components(components)?;
        }
        let parts = compose(&settings, self.sandbox).await?;
        if let Some(components) = components {
            let open = move || Dir::open_ambient_dir(&components, ambient_authority());
            parts.host.watch(open, Namespace::default());
        }
        greet(&server, metrics.as_ref(), &settings, parts.sandbox.as_ref());
        let telemetry = parts.host.telemetry().clone();
        let served = serve(server, metrics, parts, &mut signals).await;
        telemetry.shut_down().await;
        served
    }

    fn settings(&self, token: Option<String>) -> Result<Settings, Failure> {
        let path =
            |path: &Path| path.to_str().map(Value::from).context("a path on the command line is not UTF-8");
        let mut flags = Vec::new();
        if let Some(data) = &self.data {
            flags.push(("data", path(data)?));
        }
        if let Some(store) = &self.store {
            flags.push(("store", Value::from(store.as_str())));
        }
        if let Some(components) = &self.components {
            flags.push(("components", path(components)?));
        }
        if let Some(listen) = self.listen {
            flags.push(("server.listen", Value::from(listen.to_string())));
        }
        if let Some(token) = token {
            flags.push(("server.token", Value::from(token)));
        }
        if let Some(format) = self.log_format {
            let name = match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            };
            flags.push(("log.format", Value::from(name)));
        }
        Settings::load(self.config.as_deref(), std::env::vars(), flags)
            .map_err(|error| Failure::new(Exit::Usage, format!("{error:#}")))
    }
}

/// Puts the host together: store, engine, activities, the order application, the sandbox.
async fn compose(settings: &Settings, wants_sandbox: bool) -> anyhow::Result<Composition> {
    let data = &settings.data;
    let clock = Clock::system();
    let telemetry = match &settings.telemetry.otlp_endpoint {
        Some(endpoint) => Telemetry::tracing_to(endpoint, clock.clone())?,
        None => Telemetry::new(clock.clone()),
    };
    // First: it locks the folder, so that nothing else here is opened twice.
    let store = SqliteStore::open(settings.store_folder()).await?;
    let engine = Engine::new(settings.engine_settings(), Some(CodeCache::open(&data.join("code-cache"))?))?;

    let sandbox = if wants_sandbox { Some(Sandbox::start(data, clock.clone()).await?) } else { None };
    let orders = OrdersApp::open(data, settings.orders_settings(sandbox.as_ref()), clock.clone()).await?;
    let mut registry = Registry::default();
    orders.register(&mut registry);
    let attempts = Attempts::new(registry, clock.clone(), settings.attempt_settings());

    let parts = HostParts {
        store: Arc::new(store),
        engine,
        attempts,
        clock,
        telemetry,
        // What is on disk is right; what this process believes may not be. A new one reads it again.
        on_fatal: Box::new(|_| std::process::exit(FATAL)),
    };
    let host = Host::open(parts, &settings.host_settings());
    let mut application = orders.router(host.clone());
    tokio::spawn(repair(orders, host.clone()));
    if let Some(sandbox) = &sandbox {
        application = application.merge(sandbox.router());
    }
    Ok(Composition { host, application, sandbox })
}

/// Writes what an earlier process left unwritten, beside what is asked of this one.
async fn repair(orders: OrdersApp, host: Host) {
    match orders.repair(&host).await {
        Ok(repaired) => tracing::debug!(repaired, "the rows of orders were looked over"),
        Err(error) => tracing::warn!(%error, "the rows of orders could not be looked over"),
    }
}

/// Serves until a signal, then lets what is under way end. A second signal ends the process.
async fn serve(
    server: Server,
    metrics: Option<MetricsServer>,
    parts: Composition,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let stopping = CancellationToken::new();
    // The sandbox serves attempts under way until the host has let them end.
    let Composition { host, application, sandbox: _sandbox } = parts;
    if let Some(metrics) = metrics {
        tokio::spawn(metrics.serve(host.clone(), stopping.clone()));
    }
    let mut serving = tokio::spawn(server.serve(host.clone(), application, stopping.clone()));
    tokio::select! {
        ended = &mut serving => {
            host.drain(GRACE).await;
            ended.context("the server failed")?;
            return Ok(());
        }
        _ = signals.next() => {}
    }
    tracing::info!("stopping; a second signal stops at once");
    stopping.cancel();
    let drained = async {
        let served = tokio::time::timeout(GRACE, serving);
        let ((), served) = tokio::join!(host.drain(GRACE), served);
        if served.is_err() {
            tracing::warn!("requests were cut off after {} s", GRACE.as_secs());
        }
    };
    tokio::select! {
        () = drained => {
            tracing::info!("stopped in order");
            Ok(())
        }
        code = signals.next() => std::process::exit(code),
    }
}

/// The two signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for one; gives the exit code of a process that it ends at once.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
        }
    }
}

/// Creates the data folder for this user alone; an existing one is left as it is.
fn create_private(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::new(Exit::Failed, format!("the data folder {} cannot be created: {error}", path.display()))
            .hint("name another with --data DIR")
    })
}

/// Looks whether the folder is there whose components are deployed. It is not created: a name that is mistyped would be a
/// folder that nobody drops anything into.
fn check_components(path: &Path) -> Result<(), Failure> {
    Dir::open_ambient_dir(path, ambient_authority()).map(drop).map_err(|error| {
        let message = format!("the folder of components {} cannot be opened: {error}", path.display());
        Failure::new(Exit::Failed, message).hint("create it, or name another with --components DIR")
    })
}

fn refused(error: &ServeError) -> Failure {
    match error {
        ServeError::TokenNeeded(_) => Failure::new(Exit::Usage, error.to_string())
            .hint("set EVERFOLD_TOKEN to a long random text, or listen on 127.0.0.1"),
        ServeError::Bind { source, .. } => {
            let failure = Failure::new(Exit::Failed, error.to_string());
            if source.kind() == std::io::ErrorKind::AddrInUse {
                return failure
                    .hint("is another host running? choose another port with --listen 127.0.0.1:PORT");
            }
            failure
        }
    }
}

/// One readable block: where the host is, and what to do next.
fn greet(server: &Server, metrics: Option<&MetricsServer>, settings: &Settings, sandbox: Option<&Sandbox>) {
    let address = server.address();
    let url = format!("http://{address}");
    let client = if address.port() == 8233 { String::new() } else { format!("EVERFOLD_URL={url} ") };
    let data = std::path::absolute(&settings.data).unwrap_or_else(|_| settings.data.clone());
    anstream::eprintln!("{} {}", "everfold".bold(), env!("CARGO_PKG_VERSION"));
    anstream::eprintln!("  {}  {url}", "address".dimmed());
    anstream::eprintln!("  {}     {}", "data".dimmed(), data.display());
    if let Some(components) = &settings.components {
        let components = std::path::absolute(components).unwrap_or_else(|_| components.clone());
        anstream::eprintln!("  {}  {} (watched)", "components".dimmed(), components.display());
    }
    if let Some(metrics) = metrics {
        anstream::eprintln!("  {}  http://{}/metrics", "metrics".dimmed(), metrics.address());
    }
    if let Some(sandbox) = sandbox {
        let (gateway, carrier) = (&sandbox.gateway_url, &sandbox.carrier_url);
        anstream::eprintln!("  {}  gateway {gateway}, carrier {carrier}", "sandbox".dimmed());
    }
    anstream::eprintln!("  {}     {client}everfold deploy target/components/order.wasm", "next".dimmed());
}
