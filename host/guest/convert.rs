//! Between the core's shapes and those of the WIT package: [`lower`] goes into a guest and cannot
//! fail, [`lift`] comes out of one and refuses what breaks the interface's rules.

pub(super) mod lift;
pub(super) mod lower;

/// Links of a failure's chain that a guest may hand over. Exported histories nest a failure's
/// causes, and readers of JSON stop at a depth of 128.
const FAILURE_LINKS: usize = 64;
/// Bytes of an activity type, a task queue or an idempotency key.
const NAME_BYTES: usize = 1_000;
/// Bytes of the reason of a request to cancel.
const REASON_BYTES: usize = 4_096;
/// Bytes of a summary.
const SUMMARY_BYTES: usize = 4_096;
