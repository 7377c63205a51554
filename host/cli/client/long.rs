//! Requests whose answer takes its time: the host tells in lines how far it has come.

use everfold::server::wire::Progress;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ANSWER, Client, LONG_POLL, refusal};
use crate::cli::failure::{Exit, Failure};

/// A request that takes its time.
pub(in crate::cli) struct Long<'a> {
    /// Where to.
    pub(in crate::cli) path: Vec<&'a str>,
    /// With which parameters.
    pub(in crate::cli) query: Vec<(&'a str, String)>,
    /// With which body.
    pub(in crate::cli) sent: Sent,
}

/// A request's body.
pub(in crate::cli) enum Sent {
    /// None.
    Nothing,
    /// JSON.
    Json(Value),
    /// A component.
    Wasm(Vec<u8>),
}

/// A request that the host refused.
#[derive(Debug)]
pub(in crate::cli) struct Refused {
    status: u16,
    problem: Value,
}

/// A line of the answer.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(Progress),
    Report(Value),
    Problem(Value),
}

impl Refused {
    /// What came with the refusal, if its code is that.
    pub(in crate::cli) fn member<T: DeserializeOwned>(&self, code: &str, name: &str) -> Option<T> {
        let is_it = self.problem["code"] == code;
        is_it.then(|| serde_json::from_value(self.problem[name].clone()).ok()).flatten()
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refusal(refused.status, refused.problem.to_string().as_bytes())
    }
}

impl Client {
    /// Asks, and tells how far the answer has come. A refusal is given to the caller, who may know more
    /// about it.
    pub(in crate::cli) async fn follow<T: DeserializeOwned>(
        &self,
        long: Long<'_>,
        tell: impl Fn(Progress),
    ) -> Result<Result<T, Refused>, Failure> {
        let request = self.authorized(self.http.post(self.url(&long.path, &long.query)?));
        let request = request.header(ACCEPT, "application/x-ndjson");
        let request = match long.sent {
            Sent::Nothing => request,
            Sent::Json(value) => request.json(&value),
            Sent::Wasm(bytes) => request.header(CONTENT_TYPE, "application/wasm").body(bytes),
        };
        let unreachable = |error: reqwest::Error| self.unreachable(error);
        // A component is compiled before the first line.
        let silence = LONG_POLL + ANSWER;
        let silent = || Failure::new(Exit::Unreachable, format!("{} says nothing any more", self.base));
        let sending = tokio::time::timeout(silence, request.send()).await.map_err(|_| silent())?;
        let mut response = sending.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let body = response.bytes().await.map_err(unreachable)?;
            let problem = serde_json::from_slice(&body).unwrap_or_default();
            return Ok(Err(Refused { status: status.as_u16(), problem }));
        }
        let mut read = Vec::new();
        loop {
            let chunk = tokio::time::timeout(silence, response.chunk()).await.map_err(|_| silent())?;
            let Some(chunk) = chunk.map_err(unreachable)? else {
                return Err(Failure::new(
                    Exit::Unreachable,
                    format!("{} ended in the middle of its answer", self.base),
                ));
            };
            read.extend_from_slice(&chunk);
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = read.drain(..=end).collect();
                match self.read(&line)? {
                    Line::Progress(progress) => tell(progress),
                    Line::Report(report) => return Ok(Ok(self.read(report.to_string().as_bytes())?)),
                    Line::Problem(problem) => {
                        let status = problem["status"].as_u64().and_then(|status| status.try_into().ok());
                        return Ok(Err(Refused { status: status.unwrap_or_default(), problem }));
                    }
                }
            }
        }
    }
}
