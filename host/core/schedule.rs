//! Schedules: when something is to be done again and again, and what one schedule has done so far. Pure: time zones and the
//! present come in, what is to be done goes out.
//!
//! ```text
//!            take_due              plan                     started │ failed │ ended
//!  (times) ─────────▶ buffer ──────────────▶ start, cancel ──────────────────────────▶ running, recent, counts
//! ```
//!
//! Whoever drives a [`ScheduleState`] writes it down between two of these arrows: what is due is on disk before it is done,
//! and has a name ([`DueStart::workflow_id`], [`DueStart::request_id`]) by which it is done once.

pub mod calendar;
pub mod cron;
pub mod definition;
pub mod span;
pub mod spec;
pub mod state;

pub use calendar::CalendarSpec;
pub use definition::{Definition, ScheduleAction};
pub use span::Span;
pub use spec::{IntervalSpec, ScheduleSpec, Times};
pub use state::{Act, Action, Backfill, Counts, Due, DueStart, OverlapPolicy, Policies, ScheduleState};
