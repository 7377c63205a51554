//! Signals: taken when the workflow wants one, in order, and never lost.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use everfold_guest::testing::{Closed, TestRun};
use everfold_guest::{Activity, Context, Failure, INVALID_SIGNAL, Payload, SignalError, Stop};
use futures::future::join;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, select_biased};
use serde_json::json;

const WORK: Activity<str, ()> = Activity::new("work").start_to_close(Duration::from_secs(1));

/// Polls once, and gives what is ready.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|task| match Pin::new(&mut *future).poll(task) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn take_two(ctx: Context, (): ()) -> Result<[u64; 2], Failure> {
    let added = ctx.signal("add");
    Ok([added.recv().await?, added.recv().await?])
}

#[test]
fn signals_wake_who_waits_for_their_name_and_come_in_order() {
    let mut run = TestRun::start(take_two, &());
    run.signal("other", &0);
    run.signal("add", &1);
    run.signal("add", &2);
    assert_eq!(
        run.history(),
        [
            "1 WorkflowStarted",
            "2 SignalReceived other 0",
            "3 SignalReceived add 1",
            "4 SignalTaken 3 add",
            "5 SignalReceived add 2",
            "6 SignalTaken 5 add",
            "7 WorkflowCompleted [1,2]",
        ],
    );
}

#[test]
fn a_signal_of_another_name_wakes_nobody() {
    async fn count_polls(ctx: Context, (): ()) -> Result<u64, Failure> {
        let mut polls = 0;
        let mut wait = ctx.signal::<()>("enough").recv();
        poll_fn(|task| {
            polls += 1;
            Pin::new(&mut wait).poll(task)
        })
        .await?;
        Ok(polls)
    }

    let mut run = TestRun::start(count_polls, &());
    run.signal("add", &1);
    run.signal("add", &2);
    run.signal("enough", &());
    assert_eq!(run.closed(), Some(Closed::Completed(json!(2))), "at first, and when it came");
}

#[test]
fn signals_that_come_before_anybody_waits_stay_with_the_host() {
    async fn late(ctx: Context, (): ()) -> Result<[u64; 2], Failure> {
        let added = ctx.signal("add");
        ctx.execute(WORK, "first").await?;
        Ok([added.recv().await?, added.recv().await?])
    }

    let mut run = TestRun::start(late, &());
    run.signal("add", &1);
    run.signal("add", &2);
    assert_eq!(run.unread_signals().len(), 2);
    run.complete(2, &());
    assert_eq!(
        run.history()[4..],
        [
            "5 ActivityCompleted work",
            "6 SignalTaken 3 add",
            "7 SignalTaken 4 add",
            "8 WorkflowCompleted [1,2]",
        ],
    );
}

#[test]
fn of_two_waits_each_gets_a_signal_of_its_own() {
    async fn both(ctx: Context, (): ()) -> Result<(u64, u64), Failure> {
        let (left, right) = join(ctx.signal("add").recv(), ctx.signal("add").recv()).await;
        Ok((left?, right?))
    }
    async fn in_order_of_waking(ctx: Context, (): ()) -> Result<Vec<u64>, Failure> {
        let added = ctx.signal("add");
        let waits: FuturesUnordered<_> = (0..3).map(|_| added.recv()).collect();
        let taken: Vec<_> = waits.collect().await;
        taken.into_iter().map(|number| Ok(number?)).collect()
    }

    let mut run = TestRun::start(both, &());
    run.signal("add", &1);
    assert_eq!(run.closed(), None);
    run.signal("add", &2);
    assert_eq!(run.closed(), Some(Closed::Completed(json!([1, 2]))));

    let mut run = TestRun::start(in_order_of_waking, &());
    for number in 1..=3 {
        run.signal("add", &number);
    }
    assert_eq!(run.closed(), Some(Closed::Completed(json!([1, 2, 3]))));
}

/// Races a signal against a timer, after an activity.
async fn race(ctx: Context, (): ()) -> Result<String, Failure> {
    let news = ctx.signal::<String>("news");
    let mut signal = news.recv();
    let mut timer = ctx.sleep(Duration::from_secs(60));
    let winner = select_biased! {
        news = signal => news?,
        fired = timer => {
            fired?;
            "the time is up".to_owned()
        }
    };
    drop((signal, timer));
    ctx.execute(WORK, "after").await?;
    let left = news.try_recv().transpose()?;
    Ok(format!("{winner}; {}", left.as_deref().unwrap_or("nothing left")))
}

#[test]
fn a_signal_beats_a_timer_that_would_fire_later() {
    let mut run = TestRun::start(race, &());
    run.signal("news", "hello");
    run.complete(6, &());
    assert_eq!(
        run.history()[1..],
        [
            "2 TimerStarted 60000 ms",
            "3 SignalReceived news \"hello\"",
            "4 SignalTaken 3 news",
            "5 TimerCanceled 2",
            "6 ActivityScheduled work \"after\"",
            "7 ActivityCompleted work",
            "8 WorkflowCompleted \"hello; nothing left\"",
        ],
    );
}

#[test]
fn a_wait_that_loses_and_is_dropped_loses_no_signal() {
    let mut run = TestRun::start(race, &());
    assert!(run.fire_next_timer());
    run.signal("news", "late");
    assert_eq!(run.unread_signals().len(), 1);
    run.complete(4, &());
    assert_eq!(
        run.history()[2..],
        [
            "3 TimerFired",
            "4 ActivityScheduled work \"after\"",
            "5 SignalReceived news \"late\"",
            "6 ActivityCompleted work",
            "7 SignalTaken 5 news",
            "8 WorkflowCompleted \"the time is up; late\"",
        ],
    );
}

#[test]
fn where_signal_and_timer_are_both_there_the_first_branch_wins() {
    async fn both(ctx: Context, (): ()) -> Result<String, Failure> {
        // While the activity is under way, the timer fires and the signal comes.
        let mut timer = ctx.sleep(Duration::from_secs(1));
        let (started, worked) = join(poll_once(&mut timer), ctx.execute(WORK, "meanwhile")).await;
        assert_eq!(started, None);
        worked?;
        let mut signal = ctx.signal::<String>("news").recv();
        select_biased! {
            news = signal => Ok(news?),
            fired = timer => {
                fired?;
                Ok("the time is up".to_owned())
            }
        }
    }

    let mut run = TestRun::start(both, &());
    assert!(run.fire_next_timer());
    run.signal("news", "hello");
    run.complete(3, &());
    assert_eq!(
        run.history()[3..],
        [
            "4 TimerFired",
            "5 SignalReceived news \"hello\"",
            "6 ActivityCompleted work",
            "7 SignalTaken 5 news",
            "8 WorkflowCompleted \"hello\"",
        ],
    );
}

#[test]
fn a_signal_that_does_not_decode_is_the_authors_to_handle() {
    async fn number(ctx: Context, (): ()) -> Result<u64, Failure> {
        let added = ctx.signal::<u64>("add");
        match added.recv().await {
            Err(SignalError::Invalid(invalid)) => {
                assert_eq!(invalid.input().decode::<String>().ok().as_deref(), Some("one"));
                assert!(invalid.to_string().starts_with("the input of signal `add` does not decode: "));
            }
            other => panic!("it is not a number: {other:?}"),
        }
        Ok(added.recv().await?)
    }

    let mut run = TestRun::start(number, &());
    run.signal("add", "one");
    let foreign = Payload { metadata: vec![("encoding".into(), "binary/plain".into())], data: vec![1] };
    run.signal_payload("add", foreign);
    let failure = run.failure();
    assert_eq!(failure.application_type(), Some(INVALID_SIGNAL));
    assert!(failure.message().contains("`binary/plain`"), "{failure}");
}

#[test]
fn cancellation_ends_a_wait_and_takes_nothing() {
    let mut run = TestRun::start(take_two, &());
    run.signal("add", &1);
    run.request_cancel("enough");
    assert_eq!(run.closed(), Some(Closed::Canceled(vec![json!("enough")])));
    assert_eq!(run.history()[3..], ["4 WorkflowCancelRequested", "5 WorkflowCanceled"]);
}

#[test]
fn a_cancelled_run_begins_no_wait_outside_a_shield() {
    async fn late(ctx: Context, (): ()) -> Result<u64, Failure> {
        ctx.cancelled().await;
        let added = ctx.signal("add");
        let refused = added.recv().await;
        assert!(matches!(refused, Err(SignalError::Canceled(_))), "{refused:?}");
        // What is there can be taken all the same.
        let first = added.try_recv().transpose()?.unwrap_or(0);
        Ok(first + ctx.shield(added.recv()).await?)
    }

    let mut run = TestRun::start(late, &());
    run.signal("add", &1);
    run.request_cancel("");
    assert_eq!(run.closed(), None, "the shielded wait goes on");
    run.signal("add", &2);
    assert_eq!(run.closed(), Some(Closed::Completed(json!(3))));
}

#[test]
fn a_shielded_wait_goes_on_when_the_run_is_cancelled() {
    async fn patient(ctx: Context, (): ()) -> Result<u64, Failure> {
        Ok(ctx.shield(ctx.signal("add").recv()).await?)
    }

    let mut run = TestRun::start(patient, &());
    run.request_cancel("");
    run.signal("add", &7);
    assert_eq!(run.closed(), Some(Closed::Completed(json!(7))));
}

#[test]
fn what_is_not_taken_goes_over_to_the_next_run() {
    async fn one_at_a_time(ctx: Context, so_far: Vec<u64>) -> Result<Vec<u64>, Stop> {
        let added = ctx.signal("add");
        let _nobody_polls = ctx.signal::<u64>("other").recv();
        let mut numbers = so_far;
        numbers.push(added.recv().await?);
        ctx.execute(WORK, "count").await?;
        if numbers.len() == 2 {
            return Ok(numbers);
        }
        Err(ctx.continue_as_new(&numbers).into())
    }

    let mut run = TestRun::start(one_at_a_time, &json!([]));
    run.signal("add", &1);
    run.signal("other", &0);
    run.signal("add", &2);
    run.complete(4, &());
    let unread: Vec<_> = run.unread_signals().into_iter().map(|signal| signal.name).collect();
    assert_eq!(unread, ["other", "add"]);

    let mut next = run.next_run(one_at_a_time);
    assert_eq!(
        next.history(),
        [
            "1 WorkflowStarted",
            "2 SignalReceived other 0",
            "3 SignalReceived add 2",
            "4 SignalTaken 3 add",
            "5 ActivityScheduled work \"count\"",
        ],
    );
    next.complete(5, &());
    assert_eq!(next.closed(), Some(Closed::Completed(json!([1, 2]))));
}
