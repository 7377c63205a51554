//! Callers that wait for a run: a channel for each run that somebody watches.

use std::collections::HashMap;
use std::sync::Arc;

use everfold_core::decision::Closed;
use everfold_core::ids::RunKey;
use parking_lot::Mutex;
use tokio::sync::watch;

/// The end of a run, once that is committed. Each commit of the run sends one.
pub(super) type Progress = Option<Arc<Closed>>;

/// The runs that are watched.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    channels: Arc<Mutex<HashMap<RunKey, watch::Sender<Progress>>>>,
}

/// A caller's watch over one run.
#[derive(Debug)]
pub(super) struct Watch {
    key: RunKey,
    receiver: Option<watch::Receiver<Progress>>,
    channels: Arc<Mutex<HashMap<RunKey, watch::Sender<Progress>>>>,
}

impl Watchers {
    /// Begins a watch. What is committed from now on is seen.
    pub(super) fn watch(&self, key: &RunKey) -> Watch {
        let mut channels = self.channels.lock();
        let sender = channels.entry(key.clone()).or_insert_with(|| watch::Sender::new(Progress::default()));
        Watch { key: key.clone(), receiver: Some(sender.subscribe()), channels: Arc::clone(&self.channels) }
    }

    /// Tells those who watch the run that it has moved.
    pub(super) fn tell(&self, key: &RunKey, closed: Option<&Closed>) {
        if let Some(sender) = self.channels.lock().get(key) {
            sender.send_replace(closed.cloned().map(Arc::new));
        }
    }
}

impl Watch {
    /// Waits for the next commit of the run.
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
