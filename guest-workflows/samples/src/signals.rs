//! A workflow that lives on signals.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use everfold_guest::{Context, Stop};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(crate) struct Signals {
    /// How many numbers to take in all.
    count: usize,
    /// After how many to go on as a new run.
    #[serde(default)]
    continue_every: Option<NonZeroUsize>,
    /// The numbers that the runs before this one took.
    #[serde(default)]
    collected: Vec<i64>,
}

/// Takes as many signals `add` as it is told, each a number, and returns them in order.
pub(crate) async fn signals(ctx: Context, input: Signals) -> Result<Vec<i64>, Stop> {
    let Signals { count, continue_every, collected } = input;
    let seen = Rc::new(RefCell::new(collected));
    ctx.on_query("seen", {
        let seen = Rc::clone(&seen);
        move |(): ()| seen.borrow().clone()
    });
    let added = ctx.signal::<i64>("add");
    let mut taken = 0;
    while seen.borrow().len() < count {
        if continue_every.is_some_and(|every| taken == every.get()) {
            let next = Signals { count, continue_every, collected: seen.borrow().clone() };
            return Err(ctx.continue_as_new(&next).into());
        }
        let number = added.recv().await?;
        seen.borrow_mut().push(number);
        taken += 1;
    }
    Ok(seen.borrow().clone())
}

#[cfg(test)]
mod tests {
    use everfold_guest::testing::{Closed, TestRun};
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_taken_in_order_and_can_be_asked_for() {
        let mut run = TestRun::start(signals, &json!({"count": 2}));
        assert_eq!(run.query("seen", &()), Ok(json!([])));
        run.signal("add", &3);
        assert_eq!(run.query("seen", &()), Ok(json!([3])));
        run.signal("add", &-1);
        assert_eq!(run.closed(), Some(Closed::Completed(json!([3, -1]))));
        assert_eq!(run.query("seen", &()), Ok(json!([3, -1])));
    }

    #[test]
    fn every_few_it_goes_on_as_a_new_run_with_what_it_has() {
        let mut run = TestRun::start(signals, &json!({"count": 3, "continue_every": 2}));
        run.signal("add", &1);
        run.signal("add", &2);
        let next = json!({"count": 3, "continue_every": 2, "collected": [1, 2]});
        let Some(Closed::ContinuedAsNew { input, .. }) = run.closed() else { panic!("{run:?}") };
        assert_eq!(input, next);
        let mut run = run.next_run(signals);
        assert_eq!(run.query("seen", &()), Ok(json!([1, 2])));
        run.signal("add", &3);
        assert_eq!(run.closed(), Some(Closed::Completed(json!([1, 2, 3]))));
    }

    #[test]
    fn a_signal_that_is_no_number_fails_the_run() {
        let mut run = TestRun::start(signals, &json!({"count": 2}));
        run.signal("add", "three");
        assert_eq!(run.failure().application_type(), Some("InvalidSignal"));
    }

    #[test]
    fn going_on_after_none_is_refused() {
        let run = TestRun::start(signals, &json!({"count": 2, "continue_every": 0}));
        assert_eq!(run.failure().application_type(), Some("InvalidInput"));
    }
}
