//! Workflows that panic.

use std::time::Duration;

use everfold_guest::{Activity, CancellationType, Context, Failure};
use futures::future::join;
use serde::de::IgnoredAny;

use crate::greedy::NOOP;

pub(crate) async fn panic(_: Context, _: IgnoredAny) -> Result<(), Failure> {
    outer()
}

/// Functions that show in the backtrace, because they are not inlined.
#[inline(never)]
fn outer() -> ! {
    middle("the workflow's own fault")
}

#[inline(never)]
fn middle(message: &str) -> ! {
    inner(message)
}

#[inline(never)]
fn inner(message: &str) -> ! {
    panic!("on purpose: {message}")
}

pub(crate) async fn panic_third_step(ctx: Context, _: IgnoredAny) -> Result<(), Failure> {
    ctx.execute(NOOP, &()).await?;
    ctx.execute(NOOP, &()).await?;
    outer()
}

/// With the first signal `go` it begins an activity, and with the second it panics.
pub(crate) async fn panic_beside_step(ctx: Context, activity: String) -> Result<(), Failure> {
    let go = ctx.signal::<IgnoredAny>("go");
    go.recv().await?;
    let step = Activity::<(), IgnoredAny>::named(activity)
        .start_to_close(Duration::from_secs(60))
        .cancellation(CancellationType::WaitCancellationCompleted);
    let panicking = async {
        let _ = ctx.shield(go.recv()).await;
        outer()
    };
    let (_, never) = join(ctx.execute(step, &()), panicking).await;
    never
}
