//! One kept-alive HTTP/1.1 connection with one request under way at a time: what a request costs the
//! driver is taken from the host, since both share the machine. It knows nothing of what is measured.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;

use crate::cli::failure::{Exit, Failure};

/// How long a host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Where requests go, and what each of them carries.
#[derive(Debug)]
pub(super) struct Endpoint {
    base: Url,
    host: String,
    port: u16,
    authority: HeaderValue,
    authorization: Option<HeaderValue>,
    namespace: Option<String>,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    uri: Uri,
    body: Bytes,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Its status.
    pub(super) status: StatusCode,
    /// When to ask again, if it says so.
    pub(super) retry_after: Option<Duration>,
    /// Its body.
    pub(super) body: Bytes,
}

/// A connection; it is made anew when it broke.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Arc<Endpoint>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Endpoint {
    /// The host at `url`.
    ///
    /// # Errors
    /// What is not a plain HTTP address, or a token that no header can carry.
    pub(super) fn new(url: &str, token: Option<&str>, namespace: Option<&str>) -> Result<Self, Failure> {
        let usage = |message: String| Failure::new(Exit::Usage, message);
        let not_plain = || {
            usage(format!("`{url}` is not the address of a host that a benchmark can drive"))
                .hint("give --server or EVERFOLD_URL as http://HOST:PORT")
        };
        let parsed: Url = url.parse().map_err(|_| not_plain())?;
        let host = parsed.host_str().filter(|_| parsed.scheme() == "http" && parsed.path() == "/");
        let host = host.ok_or_else(not_plain)?.to_owned();
        let port = parsed.port_or_known_default().ok_or_else(not_plain)?;
        let header = |text: String| HeaderValue::try_from(text);
        let authorization = token.map(|token| header(format!("Bearer {token}"))).transpose();
        Ok(Self {
            authority: header(format!("{host}:{port}")).map_err(|_| not_plain())?,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authorization: authorization.map_err(|_| usage("the token cannot be sent".to_owned()))?,
            namespace: namespace.map(str::to_owned),
            base: parsed,
        })
    }

    /// A request to a path of the interface, with a query if it has one.
    ///
    /// # Errors
    /// A path that is none.
    pub(super) fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Call, Failure> {
        let no_path = || Failure::new(Exit::Usage, format!("`{path}` is no path"));
        let mut url = self.base.join(path).map_err(|_| no_path())?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("namespace", namespace);
        }
        // A connection knows its host: only path and query are sent.
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{}{query}", url.path());
        Ok(Call { method, uri: Uri::try_from(target).map_err(|_| no_path())?, body: body.into() })
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(Exit::Unreachable, format!("no host answers at {}: {error}", self.base)).hint(
            "start one with `everfold serve`, or leave --server and EVERFOLD_URL out for one of its own",
        )
    }
}

impl Call {
    /// The same request with another body.
    pub(super) fn with_body(&self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self.clone() }
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn open(endpoint: Arc<Endpoint>) -> Result<Self, Failure> {
        let mut connection = Self { endpoint, sender: None };
        connection.connect().await?;
        Ok(connection)
    }

    /// Sends a request and reads its answer. None is given for a connection that broke meanwhile.
    ///
    /// # Errors
    /// When it is broken and cannot be made anew.
    pub(super) async fn send(&mut self, call: &Call) -> Result<Option<Reply>, Failure> {
        let request = self.request(call);
        // The connection's own task may not yet have seen the end of the answer before.
        let is_ready = match &mut self.sender {
            Some(sender) => sender.is_ready() || sender.ready().await.is_ok(),
            None => false,
        };
        let sender = match self.sender.take().filter(|_| is_ready) {
            Some(sender) => self.sender.insert(sender),
            None => self.connect().await?,
        };
        let reply = exchange(sender, request).await;
        if reply.is_err() {
            self.sender = None;
        }
        Ok(reply.ok())
    }

    async fn connect(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failure> {
        let endpoint = &self.endpoint;
        let unreachable = |error: &dyn std::fmt::Display| endpoint.unreachable(error);
        let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let stream = tokio::time::timeout(CONNECT, connecting).await.map_err(|error| unreachable(&error))?;
        let stream = stream.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        // How it ends is seen at the sender.
        tokio::spawn(connection);
        Ok(self.sender.insert(sender))
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.endpoint.authority.clone());
        if !call.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(authorization) = &self.endpoint.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Reply> {
    let response = sender.send_request(request).await?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Reply { status, retry_after: retry_after.map(Duration::from_secs), body })
}
