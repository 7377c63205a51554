//! Workflows that misbehave: what the host's limits, its traps and its reports are tested with.
//!
//! Each does one bad thing, and would go on doing it if nobody stopped it.

mod greedy;
mod panicking;

everfold_guest::export! {
    /// Loops for ever.
    "spin" => greedy::spin,
    /// Makes one step, then loops for ever.
    "spin-after-step" => greedy::spin_after_step,
    /// Allocates for ever.
    "eat-memory" => greedy::eat_memory,
    /// Calls itself until the stack is full.
    "deep-recursion" => greedy::deep_recursion,
    /// Panics, three calls deep.
    "panic" => panicking::panic,
    /// Makes two steps, then panics.
    "panic-third-step" => panicking::panic_third_step,
    /// Begins an activity, and panics beside it.
    "panic-beside-step" => panicking::panic_beside_step {
        /// Begins the activity, then makes it panic.
        signal "go",
    },
}
