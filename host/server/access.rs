//! Who may send requests, decided before any route sees them.
//!
//! A host on a developer's machine can be reached by every web page in that machine's browser. So:
//! the `Host` must be one of this server's names (a page cannot bind its own name to 127.0.0.1), an
//! `Origin` must be this server's, and a write must not have a content type that a plain web form
//! can send. Where the server listens beyond loopback, all paths but the two of the probes need the token.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::{Code, Problem};

/// Names by which a loopback listener is reached.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// Content types of writes. None of them is one that a form of a foreign page can send without the
/// browser asking first (the Fetch standard's safelist: `text/plain`, `multipart/form-data`,
/// `application/x-www-form-urlencoded`). Routes may take fewer.
const CONTENT_TYPES: [&str; 3] = ["application/json", "application/wasm", "application/octet-stream"];
/// Paths of probes: they say nothing that needs hiding.
pub(super) const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// A secret that requests carry as `Authorization: Bearer`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token.
    ///
    /// # Errors
    /// When it is empty or has characters that no header can carry.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is one or more visible ASCII characters without spaces".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Takes the same time wherever the two differ, whatever their lengths.
    fn matches(&self, presented: &[u8]) -> bool {
        Sha256::digest(&self.0).ct_eq(&Sha256::digest(presented)).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A name that requests may be addressed to: `orders.example` (any port) or `orders.example:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    name: String,
    port: Option<u16>,
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a host name, with or without a port");
        let authority: Authority = text.parse().map_err(|_| bad())?;
        if text.contains(['@', '*']) || authority.host().is_empty() {
            return Err(bad());
        }
        Ok(Self { name: authority.host().to_ascii_lowercase(), port: authority.port_u16() })
    }
}

impl<'de> Deserialize<'de> for AllowedHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl AllowedHost {
    fn covers(&self, authority: &Authority) -> bool {
        self.name.eq_ignore_ascii_case(authority.host())
            && self.port.is_none_or(|port| authority.port_u16().unwrap_or(80) == port)
    }
}

/// The rules of one listener.
#[derive(Clone, Debug)]
pub struct Access {
    names: Vec<AllowedHost>,
    /// Set when the listener is bound to all addresses: then any address literal with its port is
    /// one of ours. A page cannot fake that, because only names can be bound anew.
    literal_port: Option<u16>,
    token: Option<Token>,
}

impl Access {
    /// The rules of a listener bound to `bound`.
    #[must_use]
    pub fn new(bound: SocketAddr, allowed: &[AllowedHost], token: Option<Token>) -> Self {
        let own = |name: String| AllowedHost { name, port: Some(bound.port()) };
        let literal = match bound.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let loopback = LOOPBACK_NAMES.map(|name| own(name.to_owned()));
        Self {
            names: loopback.into_iter().chain([own(literal)]).chain(allowed.iter().cloned()).collect(),
            literal_port: bound.ip().is_unspecified().then_some(bound.port()),
            token,
        }
    }

    /// Whether a request may go on.
    ///
    /// # Errors
    /// What to answer if not.
    fn check(&self, request: &Request) -> Result<(), Problem> {
        let host = self.check_host(request.uri(), request.headers())?;
        self.check_origin(request.headers(), &host)?;
        self.check_token(request.uri(), request.headers())?;
        check_content_type(request)
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
        let forbidden = |detail: String| Problem::new(StatusCode::FORBIDDEN, Code::FORBIDDEN_HOST, detail);
        let host: Authority = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .and_then(|host| host.parse().ok())
            .ok_or_else(|| forbidden("the request has no readable Host header".to_owned()))?;
        for named in [Some(&host), uri.authority()].into_iter().flatten() {
            if !self.is_own_name(named) && !self.is_own_literal(named) {
                return Err(forbidden(format!(
                    "`{named}` is no name of this server; add it to server.allowed_hosts if it is"
                )));
            }
        }
        Ok(host)
    }

    fn check_origin(&self, headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let authority = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")))
            .and_then(|authority| authority.parse::<Authority>().ok());
        if authority.is_some_and(|authority| authority == *host || self.is_own_name(&authority)) {
            return Ok(());
        }
        let detail =
            format!("requests of web pages at {} are refused", String::from_utf8_lossy(origin.as_bytes()));
        Err(Problem::new(StatusCode::FORBIDDEN, Code::FORBIDDEN_ORIGIN, detail))
    }

    fn check_token(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        if OPEN_PATHS.contains(&uri.path()) {
            return Ok(());
        }
        let presented = headers.get(header::AUTHORIZATION).and_then(bearer);
        if presented.is_some_and(|presented| token.matches(presented)) {
            return Ok(());
        }
        let detail = "send the server's token as `Authorization: Bearer TOKEN`";
        Err(Problem::new(StatusCode::UNAUTHORIZED, Code::UNAUTHORIZED, detail))
    }

    fn is_own_name(&self, authority: &Authority) -> bool {
        self.names.iter().any(|name| name.covers(authority))
    }

    fn is_own_literal(&self, authority: &Authority) -> bool {
        let text = authority.host().trim_start_matches('[').trim_end_matches(']');
        self.literal_port.is_some()
            && self.literal_port == authority.port_u16()
            && text.parse::<IpAddr>().is_ok()
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

fn check_content_type(request: &Request) -> Result<(), Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let refused = |detail: String| {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UNSUPPORTED_MEDIA_TYPE, detail)
    };
    match request.headers().get(header::CONTENT_TYPE) {
        None if request.body().is_end_stream() => Ok(()),
        None => Err(refused(
            "a body needs a Content-Type: application/json, or application/wasm for a component".to_owned(),
        )),
        Some(content_type) => {
            let text = String::from_utf8_lossy(content_type.as_bytes());
            let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if CONTENT_TYPES.contains(&essence.as_str()) {
                return Ok(());
            }
            Err(refused(format!(
                "content type `{text}` is refused; send application/json, or application/wasm for a component"
            )))
        }
    }
}

/// Lets a request through, or answers it.
pub(super) async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
