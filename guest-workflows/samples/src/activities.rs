//! The activities that the samples call. What they give back is nobody's business here.

use std::time::Duration;

use everfold_guest::Activity;
use serde_json::Value;

/// Does nothing.
pub(crate) const NOOP: Activity<u64, Value> = Activity::new("noop").start_to_close(START_TO_CLOSE);

/// Takes its time.
pub(crate) const SLOW: Activity<(), Value> = Activity::new("slow").start_to_close(START_TO_CLOSE);

/// How long one attempt of any of them may take.
pub(crate) const START_TO_CLOSE: Duration = Duration::from_secs(10);
