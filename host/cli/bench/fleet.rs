//! The driver: a number of connections, each of which sends the next request as soon as its last one is
//! answered. It counts and times; what is sent, and which answer is right, is the [`Work`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use everfold::server::wire::Progress;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::connection::{Call, Connection, Endpoint, Reply};
use crate::cli::failure::Failure;
use crate::cli::progress::Bar;

/// How long a request that the host refuses for now is sent again before it counts as an error.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause before it, where the refusal names none.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the bar moves.
const BAR_PERIOD: Duration = Duration::from_millis(200);
/// The longest latency that is told from longer ones: an hour.
const LONGEST_US: u64 = 3_600_000_000;
/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// What is sent, and what must be answered.
pub(super) trait Work: Send + Sync + 'static {
    /// The request of that number, from 0; none when all is sent.
    fn call(&self, number: u64) -> Option<Call>;

    /// Looks at its answer.
    ///
    /// # Errors
    /// The kind of error, if it is not what was asked for.
    fn judge(&self, number: u64, reply: &Reply) -> Result<(), String> {
        let _ = number;
        if reply.status.is_success() { Ok(()) } else { Err(kind_of(reply)) }
    }
}

/// What requests came to.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Microseconds from sending until the right answer, refusals and pauses included.
    pub(super) latencies: Histogram<u64>,
    /// How often the host said that it takes nothing now.
    pub(super) refused: u64,
    /// Requests that did not come to what they were to, by kind.
    pub(super) errors: BTreeMap<String, u64>,
}

/// Connections.
#[derive(Debug)]
pub(super) struct Fleet {
    connections: Vec<Connection>,
}

/// Requests under way.
struct Drive<W> {
    work: W,
    next: AtomicU64,
    tally: Mutex<Tally>,
}

/// How one request ended.
enum End {
    Right,
    Wrong(String),
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// None that happens: the digits are as many as there may be.
    pub(super) fn new() -> anyhow::Result<Self> {
        let latencies =
            Histogram::new_with_bounds(1, LONGEST_US, LATENCY_DIGITS).context("latencies cannot be kept")?;
        Ok(Self { latencies, refused: 0, errors: BTreeMap::new() })
    }

    /// Requests that came to what they were to.
    pub(super) fn right(&self) -> u64 {
        self.latencies.len()
    }

    /// Requests that did not.
    pub(super) fn wrong(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds what another one came to.
    ///
    /// # Errors
    /// None that happens: all latencies are kept in the same way.
    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies).context("latencies cannot be added")?;
        self.refused += other.refused;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        Ok(())
    }

    fn record(&mut self, took: Duration, refused: u64, end: End) {
        self.refused += refused;
        match end {
            End::Right => self.latencies.saturating_record(micros(took)),
            End::Wrong(kind) => *self.errors.entry(kind).or_default() += 1,
        }
    }
}

impl Fleet {
    /// Opens so many connections.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn open(endpoint: &Arc<Endpoint>, size: u32) -> Result<Self, Failure> {
        let mut connections = Vec::new();
        for _ in 0..size {
            connections.push(Connection::open(Arc::clone(endpoint)).await?);
        }
        Ok(Self { connections })
    }

    /// Sends all of the work, and shows how far it has come of `total`.
    ///
    /// # Errors
    /// When the host goes away.
    pub(super) async fn drive(&mut self, work: impl Work, told: Told) -> Result<Tally, Failure> {
        let drive = Arc::new(Drive { work, next: AtomicU64::new(0), tally: Mutex::new(Tally::new()?) });
        let mut under_way = JoinSet::new();
        for connection in self.connections.drain(..) {
            under_way.spawn(send_all(connection, Arc::clone(&drive)));
        }
        let bar = Bar::counting(told.what, told.things);
        let mut turn = tokio::time::interval(BAR_PERIOD);
        loop {
            tokio::select! {
                ended = under_way.join_next() => match ended {
                    None => break,
                    Some(ended) => self.connections.push(ended.context("the driver failed")??),
                },
                _ = turn.tick() => {
                    let done = drive.next.load(Ordering::Relaxed).min(told.total);
                    bar.tell(Progress { done, total: told.total });
                }
            }
        }
        let tally = drive.tally.lock().clone();
        Ok(tally)
    }
}

/// What the bar says.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// What goes on: `16 in flight`, say.
    pub(super) what: String,
    /// What is counted.
    pub(super) things: &'static str,
    /// How many there will be.
    pub(super) total: u64,
}

async fn send_all<W: Work>(mut connection: Connection, drive: Arc<Drive<W>>) -> Result<Connection, Failure> {
    loop {
        let number = drive.next.fetch_add(1, Ordering::Relaxed);
        let Some(call) = drive.work.call(number) else {
            return Ok(connection);
        };
        let began = Instant::now();
        let (refused, end) = send_one(&mut connection, &call, &drive.work, number).await?;
        drive.tally.lock().record(began.elapsed(), refused, end);
    }
}

/// Sends a request until it is taken.
async fn send_one(
    connection: &mut Connection,
    call: &Call,
    work: &impl Work,
    number: u64,
) -> Result<(u64, End), Failure> {
    let began = Instant::now();
    let mut refused = 0;
    loop {
        let Some(reply) = connection.send(call).await? else {
            return Ok((refused, End::Wrong("connection_broke".to_owned())));
        };
        if !matches!(reply.status.as_u16(), 429 | 503) {
            let end = match work.judge(number, &reply) {
                Ok(()) => End::Right,
                Err(kind) => End::Wrong(kind),
            };
            return Ok((refused, end));
        }
        refused += 1;
        if began.elapsed() > PATIENCE {
            return Ok((refused, End::Wrong("refused_for_too_long".to_owned())));
        }
        tokio::time::sleep(reply.retry_after.unwrap_or(PAUSE)).await;
    }
}

/// The kind of a refusal: its code, else its status.
pub(super) fn kind_of(reply: &Reply) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
    }
    match serde_json::from_slice(&reply.body) {
        Ok(Problem { code }) => code,
        Err(_) => format!("http_{}", reply.status.as_u16()),
    }
}

/// Microseconds, at most what a number holds.
pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
