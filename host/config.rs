//! Settings of `everfold serve`. Later sources win: the defaults below, the TOML file of `--config`,
//! environment variables, flags.
//!
//! A setting `section.name` is `EVERFOLD_SECTION_NAME` in the environment. Short names:
//! `EVERFOLD_TOKEN` is `server.token`, `EVERFOLD_LISTEN` is `server.listen`, `EVERFOLD_LOG` is
//! `log.level`. OpenTelemetry's `OTEL_EXPORTER_OTLP_ENDPOINT` is `telemetry.otlp_endpoint`. A name that no setting bears is refused, wherever it stands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everfold::activity::AttemptSettings;
use everfold::guest::{Allocation, EngineSettings};
use everfold::orders::{OrdersSettings, Sandbox};
use everfold::runner::{HostSettings, LoadLimits, ResidentLimits};
use everfold::server::access::{AllowedHost, Token};
use everfold::server::{ServerLimits, ServerSettings};
use everfold_core::limits::Limits;
use figment::error::Kind;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The data folder: the store, the order application's tables, compiled code.
    /// Default: `everfold-data` in the working folder.
    pub(crate) data: PathBuf,
    /// Where runs are kept; default: a SQLite file in the data folder. `sqlite:FOLDER` names another
    /// folder.
    pub(crate) store: Option<StoreUrl>,
    /// A folder whose `.wasm` files are deployed: those that are there, and those that are dropped into it;
    /// default none. It must exist.
    pub(crate) components: Option<PathBuf>,
    /// The listener.
    pub(crate) server: ServerSection,
    /// The log.
    pub(crate) log: LogSection,
    /// Metrics.
    pub(crate) metrics: MetricsSection,
    /// Traces.
    pub(crate) telemetry: TelemetrySection,
    /// What runs, components and instances may use.
    pub(crate) limits: LimitsSection,
    /// The order application.
    pub(crate) orders: OrdersSection,
    /// Native activities.
    pub(crate) activities: ActivitiesSection,
    /// How long things are kept.
    pub(crate) retention: RetentionSection,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerSection {
    /// The address and port to listen on; default `127.0.0.1:8233`. Anything but loopback needs a token.
    pub(crate) listen: SocketAddr,
    /// The secret that requests must carry as `Authorization: Bearer`; default none.
    pub(crate) token: Option<Token>,
    /// Names, with or without a port, that requests may be addressed to besides the loopback ones
    /// and the listening address; a reverse proxy's name, say. Default none.
    pub(crate) allowed_hosts: Vec<AllowedHost>,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    /// `text` (default) or `json`.
    pub(crate) format: LogFormat,
    /// A level, or directives such as `info,everfold::run=debug`; default `info`.
    pub(crate) level: String,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MetricsSection {
    /// An address and port that serve `GET /metrics` alone, `127.0.0.1:2112` say; default none. The
    /// server's own port serves it in any case. Anything but loopback needs the server's token.
    pub(crate) listen: Option<SocketAddr>,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TelemetrySection {
    /// The base address of an OpenTelemetry collector that takes OTLP over HTTP, `http://127.0.0.1:4318`
    /// say; traces are posted to its `/v1/traces`. Default: the environment's
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, else none, and no traces. The environment's other `OTEL_…` variables
    /// (headers, batching, resource) count too.
    pub(crate) otlp_endpoint: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    /// Bytes of one payload with its encoding's name (18 for JSON); default 2 MiB.
    #[serde(deserialize_with = "positive")]
    pub(crate) payload_bytes: usize,
    /// Events of a history; default 51,200. At the limit the run blocks.
    #[serde(deserialize_with = "positive")]
    pub(crate) history_events: u64,
    /// Bytes of a history, about; default 50 MiB. At the limit the run blocks.
    #[serde(deserialize_with = "positive")]
    pub(crate) history_bytes: u64,
    /// Activities of a run that are open at once; default 2,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) pending_activities: usize,
    /// Signals that a run may be sent; default 10,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) signals: u64,
    /// Requests of a run to other runs that are not answered; default 2,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) pending_external_requests: usize,
    /// Children of a run that are open at once; default 2,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) pending_children: usize,
    /// Updates that a run was sent and has not answered; default 1,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) pending_updates: usize,
    /// Memory of an instance in bytes; default 64 MiB.
    #[serde(deserialize_with = "positive")]
    pub(crate) memory_bytes: usize,
    /// Time of one activation in milliseconds; default 1,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) activation_time_ms: u64,
    /// Bytes of a component; default 16 MiB.
    #[serde(deserialize_with = "positive")]
    pub(crate) component_bytes: usize,
    /// Instances kept alive; default 8,192. Each takes four memory mappings, and the kernel allows a
    /// process 65,530 unless told otherwise.
    #[serde(deserialize_with = "positive")]
    pub(crate) live_instances: usize,
    /// Bytes of the bodies of all requests that are not answered yet; default 256 MiB. What does not fit is
    /// refused with 503, as with all bounds that follow.
    #[serde(deserialize_with = "positive")]
    pub(crate) request_bytes_under_way: usize,
    /// Starts, signals, requests to cancel and terminations that are not on disk yet; default 10,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) writes_under_way: usize,
    /// Activities of all runs that are scheduled and not closed; default 100,000. At the bound no run is
    /// started; open runs go on.
    #[serde(deserialize_with = "positive")]
    pub(crate) activities_under_way: usize,
    /// Open connections; default 10,000, or fewer where the process may not open so many files.
    #[serde(deserialize_with = "positive")]
    pub(crate) connections: usize,
    /// Requests that wait for a run's end, its next event, or an attempt to make; default 5,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) waiting_requests: usize,
}

/// `[orders]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OrdersSection {
    /// The workflow type that `POST /orders` starts; default `order-saga`.
    pub(crate) workflow_type: String,
    /// The payment gateway; `serve --sandbox` brings its own.
    pub(crate) gateway_url: Option<String>,
    /// The carrier; `serve --sandbox` brings its own.
    pub(crate) carrier_url: Option<String>,
}

/// `[activities]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ActivitiesSection {
    /// Attempts that run at once; default 1,000.
    #[serde(deserialize_with = "positive")]
    pub(crate) max_concurrent: usize,
}

/// Instances beside those that are kept alive: of runs whose step is on its way to the disk, of replicas and
/// checks.
const SPARE_INSTANCES: u32 = 4_096;

/// `[retention]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionSection {
    /// Days for which a closed run is kept: its history, its result and the `request_id`s that name it. A part
    /// of a day may be given (`0.5`). Default: for ever. An order's own rows stay in any case.
    pub(crate) closed_days: Option<Days>,
}

/// Reads a number that must not be 0: with nothing allowed, nothing would ever be done.
fn positive<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default + PartialEq>(
    deserializer: D,
) -> Result<T, D::Error> {
    let number = T::deserialize(deserializer)?;
    if number == T::default() {
        return Err(D::Error::custom("`0` allows nothing; it must be at least 1"));
    }
    Ok(number)
}

/// A positive number of days.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(crate) struct Days(f64);

impl TryFrom<f64> for Days {
    type Error = String;

    fn try_from(days: f64) -> Result<Self, String> {
        if days > 0.0 && days.is_finite() {
            Ok(Self(days))
        } else {
            Err(format!(
                "`{days}` is not a positive number of days; leave the setting out to keep runs for ever"
            ))
        }
    }
}

impl Days {
    fn duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0 * 24.0 * 60.0 * 60.0).unwrap_or(Duration::MAX)
    }
}

/// Where runs are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum StoreUrl {
    /// One SQLite file in this folder.
    Sqlite(PathBuf),
}

impl std::str::FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
        match path {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            _ => Err(format!("`{text}` is no store that this binary has; it has sqlite:FOLDER")),
        }
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: PathBuf::from("everfold-data"),
            store: None,
            components: None,
            server: ServerSection::default(),
            log: LogSection::default(),
            metrics: MetricsSection::default(),
            telemetry: TelemetrySection::default(),
            limits: LimitsSection::default(),
            orders: OrdersSection::default(),
            activities: ActivitiesSection { max_concurrent: 1_000 },
            retention: RetentionSection::default(),
        }
    }
}

impl Default for ServerSection {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8233)), token: None, allowed_hosts: Vec::new() }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl Default for LimitsSection {
    /// DESIGN.md sections 1 and 6.
    fn default() -> Self {
        let Limits {
            payload_bytes,
            history_events,
            history_bytes,
            pending_activities,
            signals,
            pending_external_requests,
            pending_children,
            pending_updates,
        } = Limits::default();
        let LoadLimits { writes_under_way, activities_under_way } = LoadLimits::default();
        let ServerLimits { request_bytes_under_way, connections, waiting_requests } = ServerLimits::default();
        Self {
            payload_bytes,
            history_events,
            history_bytes,
            pending_activities,
            signals,
            pending_external_requests,
            pending_children,
            pending_updates,
            memory_bytes: 64 * 1024 * 1024,
            activation_time_ms: 1_000,
            component_bytes: 16 * 1024 * 1024,
            live_instances: 8_192,
            request_bytes_under_way,
            writes_under_way,
            activities_under_way,
            connections,
            waiting_requests,
        }
    }
}

impl Default for OrdersSection {
    fn default() -> Self {
        Self { workflow_type: "order-saga".to_owned(), gateway_url: None, carrier_url: None }
    }
}

impl Default for ActivitiesSection {
    fn default() -> Self {
        Settings::default().activities
    }
}

impl Settings {
    /// Reads all sources. `flags` are pairs of a setting's name and the value given for it.
    ///
    /// # Errors
    /// Which setting of which source is wrong, and how.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: Vec<(&'static str, Value)>,
    ) -> anyhow::Result<Self> {
        let mut sources = Figment::new();
        if let Some(path) = file {
            anyhow::ensure!(path.is_file(), "the configuration file {} does not exist", path.display());
            sources = sources.merge(Toml::file_exact(path));
        }
        let sources = sources.merge(Named::environment(environment)).merge(Named::flags(flags));
        sources.extract().map_err(|errors| {
            let lines: Vec<String> = errors.into_iter().map(|error| describe(&error)).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })
    }

    /// The folder of the store.
    pub(crate) fn store_folder(&self) -> &Path {
        match &self.store {
            Some(StoreUrl::Sqlite(folder)) => folder,
            None => &self.data,
        }
    }

    /// What bounds a guest.
    pub(crate) fn engine_settings(&self) -> EngineSettings {
        EngineSettings {
            allocation: Allocation::Pooled {
                instances: u32::try_from(self.limits.live_instances)
                    .unwrap_or(u32::MAX)
                    .saturating_add(SPARE_INSTANCES),
            },
            memory_bytes: self.limits.memory_bytes,
            activation_time: Duration::from_millis(self.limits.activation_time_ms),
            component_bytes: self.limits.component_bytes,
            ..EngineSettings::default()
        }
    }

    /// What bounds attempts.
    pub(crate) fn attempt_settings(&self) -> AttemptSettings {
        AttemptSettings {
            max_concurrent: self.activities.max_concurrent,
            max_result_bytes: self.limits.payload_bytes,
        }
    }

    /// What bounds runs.
    pub(crate) fn host_settings(&self) -> HostSettings {
        let LimitsSection {
            payload_bytes,
            history_events,
            history_bytes,
            pending_activities,
            signals,
            pending_external_requests,
            pending_children,
            pending_updates,
            live_instances,
            writes_under_way,
            activities_under_way,
            ..
        } = self.limits;
        HostSettings {
            limits: Limits {
                payload_bytes,
                history_events,
                history_bytes,
                pending_activities,
                signals,
                pending_external_requests,
                pending_children,
                pending_updates,
            },
            residents: ResidentLimits { count: live_instances, ..ResidentLimits::default() },
            closed_runs_kept: self.retention.closed_days.map(Days::duration),
            load: LoadLimits { writes_under_way, activities_under_way },
            ..HostSettings::default()
        }
    }

    /// The order application's settings; the sandbox stands in for what is not configured.
    pub(crate) fn orders_settings(&self, sandbox: Option<&Sandbox>) -> OrdersSettings {
        let OrdersSection { workflow_type, gateway_url, carrier_url } = &self.orders;
        let or_sandbox = |url: &Option<String>, of: fn(&Sandbox) -> &String| {
            url.clone().or_else(|| sandbox.map(|sandbox| of(sandbox).clone()))
        };
        OrdersSettings {
            workflow_type: workflow_type.clone(),
            gateway_url: or_sandbox(gateway_url, |sandbox| &sandbox.gateway_url),
            carrier_url: or_sandbox(carrier_url, |sandbox| &sandbox.carrier_url),
        }
    }

    /// The server's part.
    pub(crate) fn server_settings(&self) -> ServerSettings {
        let LimitsSection { request_bytes_under_way, connections, waiting_requests, .. } = self.limits;
        ServerSettings {
            listen: self.server.listen,
            token: self.server.token.clone(),
            allowed_hosts: self.server.allowed_hosts.clone(),
            payload_bytes: self.limits.payload_bytes,
            component_bytes: self.limits.component_bytes,
            limits: ServerLimits { request_bytes_under_way, connections, waiting_requests },
        }
    }
}

/// One line: the source, the setting, what is wrong with it.
fn describe(error: &figment::Error) -> String {
    let source = error.metadata.as_ref().map(|metadata| match &metadata.source {
        Some(source) => format!("{source}: "),
        None => format!("{}: ", metadata.name),
    });
    let source = source.unwrap_or_default();
    let path = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(_, known) => {
            format!("{source}there is no setting `{path}`; here are {}", known.join(", "))
        }
        kind if path.is_empty() => format!("{source}{}", kind.to_string().trim_end()),
        kind => format!("{source}{path}: {kind}"),
    }
}

/// Settings by name from somewhere that is no file.
struct Named {
    source: &'static str,
    values: Vec<(String, Value)>,
}

impl Named {
    fn flags(values: Vec<(&'static str, Value)>) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { source: "command line", values }
    }

    fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let values = variables.into_iter().filter_map(|(variable, text)| {
            let name = setting_of_variable(&variable)?;
            if text.is_empty() && name == OTLP_ENDPOINT {
                return None;
            }
            // A secret of digits is a text all the same.
            let value = if name == "server.token" { Value::from(text) } else { text.parse().ok()? };
            Some((name, value))
        });
        Self { source: "environment (EVERFOLD_…)", values: values.collect() }
    }
}

/// The setting that OpenTelemetry's own variable means too.
const OTLP_ENDPOINT: &str = "telemetry.otlp_endpoint";

/// The setting that an environment variable means, if it means one of the server's.
fn setting_of_variable(variable: &str) -> Option<String> {
    if variable == "OTEL_EXPORTER_OTLP_ENDPOINT" {
        return Some(OTLP_ENDPOINT.to_owned());
    }
    let name = variable.strip_prefix("EVERFOLD_")?.to_ascii_lowercase();
    match name.as_str() {
        // What clients, the command line and `cargo xtask` read.
        "url" | "namespace" | "config" | "guest_compiler" => None,
        "token" => Some("server.token".to_owned()),
        "listen" => Some("server.listen".to_owned()),
        "log" => Some("log.level".to_owned()),
        _ => Some(name.replacen('_', ".", 1)),
    }
}

impl Provider for Named {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut settings = Dict::new();
        for (name, value) in &self.values {
            match name.split_once('.') {
                None => drop(settings.insert(name.clone(), value.clone())),
                Some((section, name)) => {
                    let section =
                        settings.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
                    if let Value::Dict(_, section) = section {
                        section.insert(name.to_owned(), value.clone());
                    }
                }
            }
        }
        Ok(Profile::Default.collect(settings))
    }
}

#[cfg(test)]
mod tests;
