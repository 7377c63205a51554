//! Callers that wait for a run: a channel for each run that somebody watches. Who waits for the end alone
//! is not woken by the steps before it.

use std::collections::HashMap;
use std::sync::Arc;

use everfold_core::decision::Closed;
use everfold_core::ids::RunKey;
use parking_lot::Mutex;
use tokio::sync::watch;

/// The end of a run, once that is committed.
pub(super) type Progress = Option<Arc<Closed>>;

type Channels = Arc<Mutex<HashMap<RunKey, watch::Sender<Progress>>>>;

/// The runs that are watched.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    /// Told of each commit.
    steps: Channels,
    /// Told of the last one.
    ends: Channels,
}

/// A caller's watch over one run.
#[derive(Debug)]
pub(super) struct Watch {
    key: RunKey,
    receiver: Option<watch::Receiver<Progress>>,
    channels: Channels,
}

impl Watchers {
    /// Begins a watch over a run's steps. What is committed from now on is seen.
    pub(super) fn watch(&self, key: &RunKey) -> Watch {
        Watch::begin(&self.steps, key)
    }

    /// Begins a watch over a run's end. It is seen if it is committed from now on.
    pub(super) fn watch_end(&self, key: &RunKey) -> Watch {
        Watch::begin(&self.ends, key)
    }

    /// Tells those who watch the run that it has moved.
    pub(super) fn tell(&self, key: &RunKey, closed: Option<&Closed>) {
        let mut told = None;
        if let Some(sender) = self.steps.lock().get(key) {
            told = closed.cloned().map(Arc::new);
            sender.send_replace(told.clone());
        }
        if let Some(closed) = closed
            && let Some(sender) = self.ends.lock().get(key)
        {
            sender.send_replace(told.or_else(|| Some(Arc::new(closed.clone()))));
        }
    }
}

impl Watch {
    fn begin(channels: &Channels, key: &RunKey) -> Self {
        let mut watched = channels.lock();
        let sender = watched.entry(key.clone()).or_insert_with(|| watch::Sender::new(Progress::default()));
        Self { key: key.clone(), receiver: Some(sender.subscribe()), channels: Arc::clone(channels) }
    }

    /// Waits for the next commit that it is told of.
    pub(super) async fn changed(&mut self) -> Progress {
        let Some(receiver) = &mut self.receiver else { return Progress::default() };
        match receiver.changed().await {
            Ok(()) => receiver.borrow_and_update().clone(),
            // The sender lives as long as a receiver does.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut channels = self.channels.lock();
        self.receiver = None;
        if channels.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            channels.remove(&self.key);
        }
    }
}
