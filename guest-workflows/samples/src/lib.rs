//! Small workflows, each of which shows one thing: the host's tests and its benchmark run them.

mod activities;
mod cancellation;
mod children;
mod described;
mod external;
mod program;
mod remote;
mod sequences;
mod signals;
mod talkative;
mod timers;
mod updates;
mod values;
mod versions;

everfold_guest::export! {
    /// Calls one activity four times in sequence.
    "four-steps" => sequences::four_steps,
    /// Calls `noop` as often as it is told, in sequence.
    "long" => sequences::long,
    /// Calls `noop` as often as it is told, all at once.
    "fan-out" => sequences::fan_out,
    /// Sleeps, and tells the time before and after.
    "sleeper" => timers::sleeper,
    /// Races the activity `slow` against a timer, and cancels the loser.
    "race" => timers::race,
    /// Takes as many signals as it is told and returns them, now and then as a new run.
    "signals" => signals::signals {
        /// A number to take.
        signal "add",
        /// The numbers taken so far.
        query "seen",
    },
    /// Waits for the activity `slow`, and cleans up when it is cancelled.
    "canceller" => cancellation::canceller,
    /// Sends what it is told to other runs, one after the other, and returns what came of each.
    "messenger" => external::messenger,
    /// Changes what it is described by as it is told, now and then as a new run, and returns what that is in the end.
    "described" => described::described {
        /// Lets it end.
        signal "go",
    },
    /// Begins children, and waits for them as it is told.
    "family" => children::family {
        /// Lets it end.
        signal "go",
    },
    /// Does what it is told, step by step, and returns what came of each.
    "program" => program::program {
        /// A value to take.
        signal "a",
        /// Another one.
        signal "b",
        /// What came of the steps so far.
        query "log",
    },
    /// Calls one activity with the options that it is told, and returns what it gave.
    "remote" => remote::remote,
    /// Says and counts each step, then waits.
    "talkative" => talkative::talkative {
        /// Lets it end.
        signal "go",
    },
    /// Fails until it is tried as often as it is told, and returns which try it is and how the one before failed.
    "retried" => values::retried,
    /// Takes changes to a cart until it is checked out, now and then as a new run.
    "cart" => updates::cart {
        /// Lets a cart that is closed at first take updates.
        signal "open",
        /// How many more or fewer of an article; answers with the new quantity.
        update "change",
        /// Prices what is in it; answers with the sum.
        update "check-out",
        /// What is in it.
        query "articles",
    },
    /// Returns its input at once.
    "echo" => values::echo,
    /// Returns random numbers, a UUID and the time.
    "random" => values::random,
    /// Asks which version of each change it follows that a signal names, and returns the answers.
    "versioned" => versions::versioned {
        /// The id of a change.
        signal "change",
    },
}
