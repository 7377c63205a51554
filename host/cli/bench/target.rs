//! The host that is measured: one of the benchmark's own, or one that was named; and the component on it.
//! What only the own one can tell or do (its process, its end) is asked for here and may be absent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everfold::server::wire::Deployed;
use http::Method;
use serde_json::Value;

use super::calls::Calls;
use super::connection::{Call, Connection, Endpoint};
use super::fleet::{Fleet, kind_of};
use super::private_host::{PrivateHost, Settings};
use super::process::Process;
use super::scrape::Scrape;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};

/// How often the host's metrics are looked at while something is waited for.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// A host that somebody named.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Its address.
    pub(super) server: String,
    /// Its token, where it wants one.
    pub(super) token: Option<String>,
    /// The namespace of the runs.
    pub(super) namespace: Option<String>,
}

/// The component whose workflows are run.
#[derive(Clone, Debug)]
pub(super) struct Component {
    /// Its file.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) bytes: Vec<u8>,
}

/// A host with the component on it.
#[derive(Debug)]
pub(super) struct Target {
    endpoint: Arc<Endpoint>,
    calls: Calls,
    client: Client,
    private: Option<PrivateHost>,
}

impl Target {
    /// Starts a host of the benchmark's own.
    ///
    /// # Errors
    /// When it cannot be started, or does not take the component.
    pub(super) async fn private(settings: Settings, component: &Component) -> Result<Self, Failure> {
        let host = PrivateHost::start(settings).await?;
        let named = Named { server: host.url(), token: None, namespace: None };
        let target = Self::named(&named, component).await?;
        // Its first version is current: requests need not say which.
        Ok(Self { private: Some(host), calls: Calls::new(&target.endpoint, None)?, ..target })
    }

    /// Takes a host that is there.
    ///
    /// # Errors
    /// When it cannot be reached, or does not take the component.
    pub(super) async fn named(named: &Named, component: &Component) -> Result<Self, Failure> {
        let Named { server, token, namespace } = named;
        let endpoint = Arc::new(Endpoint::new(server, token.as_deref(), namespace.as_deref())?);
        let client = Client::new(server, token.as_deref(), namespace.clone())?;
        let deployed: Result<Deployed, _> = client.post_wasm(&["components"], component.bytes.clone()).await;
        let deployed = deployed.map_err(|failure| match failure {
            Failure::Told { exit, message, hint, code } if exit != Exit::Unreachable => Failure::Told {
                exit,
                message: format!("{}: {message}", component.path.display()),
                hint,
                code,
            },
            other => other,
        })?;
        let calls = Calls::new(&endpoint, Some(deployed.digest))?;
        Ok(Self { endpoint, calls, client, private: None })
    }

    /// Requests to it.
    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Asks it what takes its time, or needs no driver.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The host of the benchmark's own.
    pub(super) fn host(&self) -> Option<&PrivateHost> {
        self.private.as_ref()
    }

    /// The host of the benchmark's own, to be killed and started again.
    ///
    /// # Errors
    /// When it is somebody else's.
    pub(super) fn host_mut(&mut self) -> Result<&mut PrivateHost, Failure> {
        self.private.as_mut().ok_or_else(|| Failure::new(Exit::Usage, "this host is not to be restarted"))
    }

    /// The process of the host of the benchmark's own.
    pub(super) fn process(&self) -> Option<Process> {
        self.private.as_ref().map(PrivateHost::process)
    }

    /// So many connections to it.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn fleet(&self, size: u32) -> Result<Fleet, Failure> {
        Fleet::open(&self.endpoint, size).await
    }

    /// One connection to it, made when it is waited for.
    pub(super) fn connecting(&self) -> impl Future<Output = Result<Connection, Failure>> + Send + 'static {
        Connection::open(Arc::clone(&self.endpoint))
    }

    /// Sends one request that must succeed, and reads its answer.
    ///
    /// # Errors
    /// When the host is away or refuses it.
    pub(super) async fn ask(&self, call: &Call) -> Result<Value, Failure> {
        let mut connection = Connection::open(Arc::clone(&self.endpoint)).await?;
        let broke = || Failure::new(Exit::Unreachable, "the host ended in the middle of an answer");
        let reply = connection.send(call).await?.ok_or_else(broke)?;
        if !reply.status.is_success() {
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            return Err(Failure::new(Exit::Failed, format!("the host answers {}: {text}", kind_of(&reply))));
        }
        Ok(serde_json::from_slice(&reply.body).unwrap_or_else(|_| {
            // Metrics are text.
            Value::from(String::from_utf8_lossy(&reply.body).into_owned())
        }))
    }

    /// The host's metrics as they stand.
    ///
    /// # Errors
    /// When the host is away or refuses.
    pub(super) async fn scrape(&self) -> Result<Scrape, Failure> {
        let text = self.ask(&self.endpoint.call(Method::GET, "/metrics", "")?).await?;
        Ok(Scrape::new(text.as_str().unwrap_or_default()))
    }

    /// Looks at the metrics until they are as wished; tells whether they became so in time.
    ///
    /// # Errors
    /// When the host is away or refuses.
    pub(super) async fn until(
        &self,
        patience: Duration,
        is_there: impl Fn(&Scrape) -> bool,
    ) -> Result<bool, Failure> {
        let began = std::time::Instant::now();
        while !is_there(&self.scrape().await?) {
            if began.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        Ok(true)
    }
}
