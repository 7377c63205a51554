//! The HTTP client: asks the host, and turns refusals into exit codes and hints.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::{RequestBuilder, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use owo_colors::OwoColorize as _;

use super::Run;
use super::failure::{Exit, Failure};

mod long;

pub(super) use long::{Long, Refused, Sent};

/// Pause before a host that went away while it was followed is asked again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked again.
const RECONNECT_TRIES: u32 = 60;
/// How long a host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take beyond the wait that was asked for.
const ANSWER: Duration = Duration::from_secs(30);
/// How long one request of a longer wait waits in the host.
pub(super) const LONG_POLL: Duration = Duration::from_secs(30);

/// A host to be asked.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    namespace: Option<String>,
}

impl Client {
    /// A client of the host at `server`.
    pub(super) fn new(server: &str, token: Option<&str>, namespace: Option<String>) -> Result<Self, Failure> {
        let base: Url = server
            .parse()
            .ok()
            .filter(|url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                Failure::new(Exit::Usage, format!("`{server}` is not the address of a host"))
                    .hint("give --server or EVERFOLD_URL as http://HOST:PORT")
            })?;
        // A second installation in this process would be refused; there is none.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT);
        let is_local = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if is_local {
            http = http.no_proxy();
        }
        if base.scheme() == "http" {
            // A machine without root certificates can still ask a host that needs none.
            http = http.tls_certs_only([]);
        }
        let http = http.build().context("the HTTP client cannot be set up")?;
        Ok(Self { http, base, token: token.map(str::to_owned), namespace })
    }

    /// Asks for JSON.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        self.answer(self.http.get(self.url(path, query)?)).await
    }

    /// Sends JSON.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T, Failure> {
        self.ask(path, &[], body).await
    }

    /// The same with a query.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        body: &Value,
    ) -> Result<T, Failure> {
        self.answer(self.http.post(self.url(path, query)?).json(body)).await
    }

    /// Says how something is to be.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.answer(self.http.put(self.url(path, &[])?).json(body)).await
    }

    /// Asks for something to be forgotten.
    pub(super) async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.body(self.http.delete(self.url(path, &[])?)).await.map(|_| ())
    }

    /// Asks for something to be done that has no answer.
    pub(super) async fn order(&self, path: &[&str]) -> Result<(), Failure> {
        self.body(self.http.post(self.url(path, &[])?)).await.map(|_| ())
    }

    /// Sends the bytes of a component.
    pub(super) async fn post_wasm<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let request = self.http.post(self.url(path, &[])?).header("content-type", "application/wasm");
        self.answer(request.body(body)).await
    }

    /// Asks about a run.
    pub(super) async fn get_run<T: DeserializeOwned>(
        &self,
        run: &Run,
        what: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        let (path, query) = address(run, what, query)?;
        self.get(&path, &query).await
    }

    /// Says something to a run.
    pub(super) async fn post_run<T: DeserializeOwned>(
        &self,
        run: &Run,
        what: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask_run(run, what, &[], body).await
    }

    /// The same with a query.
    pub(super) async fn ask_run<T: DeserializeOwned>(
        &self,
        run: &Run,
        what: &[&str],
        query: &[(&str, String)],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let (path, query) = address(run, what, query)?;
        self.answer(self.http.post(self.url(&path, &query)?).json(body)).await
    }

    /// Asks about a run and waits in the host. One that restarts goes on where it was: so does who
    /// waits for it.
    pub(super) async fn await_run<T: DeserializeOwned>(
        &self,
        run: &Run,
        what: &[&str],
        query: &[(&str, String)],
        wait: Duration,
    ) -> Result<T, Failure> {
        let wait = ("wait", format!("{}ms", wait.as_millis()));
        let waiting: Vec<_> = query.iter().cloned().chain([wait]).collect();
        for tried in 0..RECONNECT_TRIES {
            match self.get_run(run, what, &waiting).await {
                Err(failure) if failure.is_unreachable() => {
                    if tried == 0 {
                        anstream::eprintln!("{}", "the host went away; waiting for it to come back".yellow());
                    }
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
                answer => return answer,
            }
        }
        self.get_run(run, what, query).await
    }

    /// The query of a request that waits in the host as long as one request may.
    pub(super) fn long_poll() -> (&'static str, String) {
        ("wait", format!("{}s", LONG_POLL.as_secs()))
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("`{}` cannot have a path", self.base))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        let namespace = self.namespace.iter().map(|namespace| ("namespace", namespace.clone()));
        for (name, value) in query.iter().cloned().chain(namespace) {
            url.query_pairs_mut().append_pair(name, &value);
        }
        Ok(url)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        self.read(&self.body(request).await?)
    }

    async fn body(&self, request: RequestBuilder) -> Result<Bytes, Failure> {
        let unreachable = |error: reqwest::Error| self.unreachable(error);
        let request = self.authorized(request).timeout(LONG_POLL + ANSWER);
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if status.is_success() { Ok(body) } else { Err(refusal(status.as_u16(), &body)) }
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        let answer = serde_json::from_slice(body);
        Ok(answer.with_context(|| format!("{} answers what this client cannot read", self.base))?)
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        if error.is_timeout() && !error.is_connect() {
            let message = format!("the host at {} does not answer in time", self.base);
            return Failure::new(Exit::Unreachable, message).hint("what was asked may be done all the same");
        }
        let cause = innermost(&error.without_url());
        Failure::new(Exit::Unreachable, format!("no host answers at {}: {cause}", self.base))
            .hint("start one with `everfold serve`, or name another with --server or EVERFOLD_URL")
    }
}

/// A segment of a path that URLs would resolve away names nothing.
const NO_NAMES: [&str; 3] = ["", ".", ".."];

/// The segments of a path, and a query.
type Address<'a> = (Vec<&'a str>, Vec<(&'a str, String)>);

/// The path of a workflow type.
pub(super) fn type_path<'a>(workflow_type: &'a str, what: &[&'a str]) -> Result<Vec<&'a str>, Failure> {
    if NO_NAMES.contains(&workflow_type) {
        return Err(Failure::new(Exit::NotFound, format!("no workflow type is named `{workflow_type}`")));
    }
    Ok([&["workflow-types", workflow_type], what].concat())
}

/// The path and the query of a run.
fn address<'a>(run: &'a Run, what: &[&'a str], query: &[(&'a str, String)]) -> Result<Address<'a>, Failure> {
    if NO_NAMES.contains(&run.workflow_id.as_str()) {
        return Err(Failure::new(Exit::NotFound, format!("no workflow has the id `{}`", run.workflow_id)));
    }
    if let Some(name) = what.iter().find(|name| NO_NAMES.contains(name)) {
        return Err(Failure::new(Exit::Usage, format!("nothing is named `{name}`")));
    }
    let run_id = run.run_id.iter().map(|run_id| ("run_id", run_id.to_string()));
    let query = query.iter().cloned().chain(run_id).collect();
    Ok(([&["workflows", run.workflow_id.as_str()], what].concat(), query))
}

fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map_or_else(String::new, ToString::to_string)
}

/// What a problem means for the caller of a command.
fn refusal(status: u16, body: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    let Some(code) = text("code") else {
        return Failure::new(Exit::Failed, format!("the server answers {status}, and is no everfold host"))
            .hint("check --server or EVERFOLD_URL");
    };
    let message = text("detail").or_else(|| text("title")).unwrap_or_else(|| code.clone());
    let (exit, hint) = match code.as_str() {
        "not_found" => (Exit::NotFound, None),
        "unknown_workflow_type" => (Exit::NotFound, Some("add it with `everfold deploy FILE.wasm`")),
        "already_started" => {
            (Exit::Conflict, Some("follow it with `everfold history ID --follow`, or choose another --id"))
        }
        "unknown_query" | "unknown_update" => (Exit::NotFound, None),
        "unknown_version" => (Exit::NotFound, Some("see those that there are with `everfold versions TYPE`")),
        "version_conflict" => (Exit::Conflict, Some("see how they stand with `everfold versions TYPE`")),
        "activity_closed" => (Exit::Conflict, Some("see those that are open with `everfold show ID`")),
        "blocked" => (Exit::Conflict, Some("see why with `everfold show ID`")),
        "conflict" | "already_exists" => (Exit::Conflict, None),
        "invalid_input" | "payload_too_large" => (Exit::Usage, None),
        "busy" => (Exit::Unreachable, Some("try again in a moment")),
        "unauthorized" => (Exit::Failed, Some("give the host's token with --token or EVERFOLD_TOKEN")),
        "forbidden_host" => {
            (Exit::Failed, Some("address the host by a name it knows: see server.allowed_hosts"))
        }
        _ => (Exit::Failed, None),
    };
    let failure = Failure::new(exit, message).code(code);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
