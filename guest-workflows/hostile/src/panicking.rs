//! Workflows that panic.

use everfold_guest::{Context, Failure};
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
