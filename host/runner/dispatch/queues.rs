//! Task queues: where activities that wait for a worker and workers that wait for one meet. All of it is in memory:
//! what waits in a queue has not begun, and a host that starts puts it there again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everfold_core::command::ActivityScheduled;
use everfold_core::ids::Namespace;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::runner::api::ActivityTask;

/// The name of a queue in its namespace.
type Name = (Namespace, String);

/// All task queues in which something waits. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::runner) struct TaskQueues {
    queues: Arc<Mutex<HashMap<Name, Queue>>>,
    places: Arc<AtomicU64>,
}

/// A place in the order of arrival; one that is left and taken again stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

#[derive(Debug, Default)]
struct Queue {
    /// By type, then in the order of arrival.
    offers: BTreeMap<String, BTreeMap<Place, oneshot::Sender<Claim>>>,
    polls: BTreeMap<Place, Poll>,
}

/// A worker that waits.
#[derive(Debug)]
struct Poll {
    /// What it runs; empty for everything.
    activity_types: Vec<String>,
    claim: Claim,
}

/// A worker's claim to an attempt.
#[derive(Debug)]
pub(super) struct Claim {
    /// The worker, as it names itself.
    pub(super) identity: String,
    deliver: oneshot::Sender<Box<ActivityTask>>,
}

impl Claim {
    /// Whether nobody waits for the attempt any more.
    pub(super) fn is_gone(&self) -> bool {
        self.deliver.is_closed()
    }

    /// Hands the attempt out. False when nobody waits for it any more.
    pub(super) fn deliver(self, task: ActivityTask) -> bool {
        self.deliver.send(Box::new(task)).is_ok()
    }
}

/// An attempt that is offered; it is withdrawn by being dropped.
#[derive(Debug)]
pub(super) struct Offered {
    queues: TaskQueues,
    name: Name,
    activity_type: String,
    place: Place,
    claimed: oneshot::Receiver<Claim>,
}

/// A poll that waits; it is withdrawn by being dropped.
#[derive(Debug)]
pub(in crate::runner) struct Polling {
    queues: TaskQueues,
    name: Name,
    place: Place,
    delivered: oneshot::Receiver<Box<ActivityTask>>,
}

impl TaskQueues {
    /// A new place behind all others.
    pub(super) fn place(&self) -> Place {
        Place(self.places.fetch_add(1, Ordering::Relaxed))
    }

    /// Offers an attempt to whoever waits longest, or will poll next.
    pub(super) fn offer(
        &self,
        namespace: &Namespace,
        scheduled: &ActivityScheduled,
        place: Place,
    ) -> Offered {
        let name = (namespace.clone(), scheduled.task_queue.clone());
        let activity_type = scheduled.activity_type.clone();
        let (claim, claimed) = oneshot::channel();
        let mut queues = self.queues.lock();
        let queue = queues.entry(name.clone()).or_default();
        match queue.take_poll(&activity_type) {
            Some(poll) => drop(claim.send(poll.claim)),
            None => {
                queue.offers.entry(activity_type.clone()).or_default().insert(place, claim);
            }
        }
        forget_if_empty(&mut queues, &name);
        drop(queues);
        Offered { queues: self.clone(), name, activity_type, place, claimed }
    }

    /// Waits for an attempt on behalf of a worker.
    pub(in crate::runner) fn poll(
        &self,
        namespace: &Namespace,
        task_queue: &str,
        activity_types: Vec<String>,
        identity: String,
    ) -> Polling {
        let name = (namespace.clone(), task_queue.to_owned());
        let place = self.place();
        let (deliver, delivered) = oneshot::channel();
        let mut claim = Claim { identity, deliver };
        let mut queues = self.queues.lock();
        let queue = queues.entry(name.clone()).or_default();
        loop {
            let Some(offer) = queue.take_offer(&activity_types) else {
                queue.polls.insert(place, Poll { activity_types, claim });
                break;
            };
            // An offer that is just being withdrawn takes nothing.
            match offer.send(claim) {
                Ok(()) => break,
                Err(back) => claim = back,
            }
        }
        forget_if_empty(&mut queues, &name);
        drop(queues);
        Polling { queues: self.clone(), name, place, delivered }
    }

    /// How many attempts, and how many workers, wait.
    pub(in crate::runner) fn waiting(&self) -> (usize, usize) {
        let queues = self.queues.lock();
        let offers = queues.values().flat_map(|queue| queue.offers.values()).map(BTreeMap::len).sum();
        (offers, queues.values().map(|queue| queue.polls.len()).sum())
    }
}

impl Queue {
    /// The longest waiting worker that runs such activities.
    fn take_poll(&mut self, activity_type: &str) -> Option<Poll> {
        let runs = |poll: &Poll| {
            poll.activity_types.is_empty() || poll.activity_types.iter().any(|runs| runs == activity_type)
        };
        // Those that are gone are just being withdrawn.
        let place = *self.polls.iter().find(|(_, poll)| runs(poll) && !poll.claim.is_gone())?.0;
        self.polls.remove(&place)
    }

    /// The longest waiting attempt of one of those types, or of any.
    fn take_offer(&mut self, activity_types: &[String]) -> Option<oneshot::Sender<Claim>> {
        let first = |offers: &BTreeMap<Place, _>| offers.first_key_value().map(|(place, _)| *place);
        let wanted = |(name, offers): (&String, &BTreeMap<Place, _>)| Some((first(offers)?, name.clone()));
        let (place, name) = if activity_types.is_empty() {
            self.offers.iter().filter_map(wanted).min()?
        } else {
            let of_types = activity_types.iter().filter_map(|name| self.offers.get_key_value(name));
            of_types.filter_map(wanted).min()?
        };
        self.remove_offer(&name, place)
    }

    fn remove_offer(&mut self, activity_type: &str, place: Place) -> Option<oneshot::Sender<Claim>> {
        let offers = self.offers.get_mut(activity_type)?;
        let offer = offers.remove(&place);
        if offers.is_empty() {
            self.offers.remove(activity_type);
        }
        offer
    }
}

fn forget_if_empty(queues: &mut HashMap<Name, Queue>, name: &Name) {
    if queues.get(name).is_some_and(|queue| queue.offers.is_empty() && queue.polls.is_empty()) {
        queues.remove(name);
    }
}

impl Offered {
    /// Waits for a worker's claim.
    pub(super) async fn claimed(&mut self) -> Claim {
        match (&mut self.claimed).await {
            Ok(claim) => claim,
            // Its place was taken over by another offer of the same attempt, which there is not.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let mut queues = self.queues.queues.lock();
        if let Some(queue) = queues.get_mut(&self.name) {
            queue.remove_offer(&self.activity_type, self.place);
        }
        forget_if_empty(&mut queues, &self.name);
    }
}

impl Polling {
    /// Waits for an attempt; none if the claim came to nothing.
    pub(in crate::runner) async fn delivered(&mut self) -> Option<Box<ActivityTask>> {
        (&mut self.delivered).await.ok()
    }

    /// Waits no longer, unless an attempt is on its way.
    pub(in crate::runner) fn withdraw(&self) -> Withdrawn {
        let mut queues = self.queues.queues.lock();
        let poll = queues.get_mut(&self.name).and_then(|queue| queue.polls.remove(&self.place));
        forget_if_empty(&mut queues, &self.name);
        if poll.is_some() { Withdrawn::Yes } else { Withdrawn::TooLate }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// What came of giving up a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runner) enum Withdrawn {
    /// It waits no longer.
    Yes,
    /// An attempt has been claimed for it.
    TooLate,
}
