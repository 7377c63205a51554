//! The lanes: queues of cells that have something to do, and the threads that wait at them. A thread is woken
//! only where one waits, and does not spin: a wake-up costs more than most steps of a run.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// A queue that threads wait at.
pub(super) struct Lane<T> {
    state: Mutex<State<T>>,
    woken: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    /// Threads that wait and were not woken yet.
    waiting: usize,
    is_closed: bool,
}

impl<T> Lane<T> {
    pub(super) const fn new() -> Self {
        let state = State { queue: VecDeque::new(), waiting: 0, is_closed: false };
        Self { state: Mutex::new(state), woken: Condvar::new() }
    }

    /// Queues an item; in a closed lane it is dropped.
    pub(super) fn push(&self, item: T) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.queue.push_back(item);
        if state.waiting > 0 {
            state.waiting -= 1;
            drop(state);
            self.woken.notify_one();
        }
    }

    /// Takes the oldest item, waiting for one; none once the lane is closed.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(item) = state.queue.pop_front() {
                return Some(item);
            }
            state.waiting += 1;
            self.woken.wait(&mut state);
        }
    }

    /// Lets all threads go; what is queued is dropped.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.waiting = 0;
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        self.woken.notify_all();
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn everything_queued_is_taken_once_and_in_order_by_whoever_waits() {
        let lane = Arc::new(Lane::new());
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let lane = Arc::clone(&lane);
                thread::spawn(move || {
                    let mut taken = Vec::new();
                    while let Some(number) = lane.pop() {
                        taken.push(number);
                        if number == 9_999 {
                            lane.close();
                        }
                    }
                    taken
                })
            })
            .collect();
        (0..10_000).for_each(|number| lane.push(number));
        let taken: Vec<Vec<i32>> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
        assert!(taken.iter().all(|taken| taken.is_sorted()), "a lane is first in, first out");
        let mut all = taken.concat();
        all.sort_unstable();
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
        lane.push(1);
        assert_eq!(lane.pop(), None, "a closed lane gives nothing");
    }
}
