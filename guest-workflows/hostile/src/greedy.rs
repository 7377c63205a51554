//! Workflows that take all the time, all the memory or all the stack.

use std::hint::black_box;
use std::time::Duration;

use everfold_guest::{Activity, Context, Failure};
use serde::de::IgnoredAny;

pub(crate) const NOOP: Activity<(), IgnoredAny> =
    Activity::new("noop").start_to_close(Duration::from_secs(10));

pub(crate) async fn spin(_: Context, _: IgnoredAny) -> Result<(), Failure> {
    loop_for_ever()
}

pub(crate) async fn spin_after_step(ctx: Context, _: IgnoredAny) -> Result<(), Failure> {
    ctx.execute(NOOP, &()).await?;
    loop_for_ever()
}

#[inline(never)]
fn loop_for_ever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Takes 64 KiB at a time, and writes to it, so that it is really taken.
pub(crate) async fn eat_memory(_: Context, _: IgnoredAny) -> Result<(), Failure> {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; 64 * 1024]));
    }
}

pub(crate) async fn deep_recursion(_: Context, _: IgnoredAny) -> Result<u64, Failure> {
    Ok(depth(0))
}

/// Never returns, and holds a frame that no optimiser can do without.
#[inline(never)]
fn depth(level: u64) -> u64 {
    let frame = black_box([level; 16]);
    let below = if black_box(true) { depth(level + 1) } else { 0 };
    below + black_box(frame)[0]
}
