//! How a store stands for those who want to write, and what is said of it: once when it gets worse and
//! once when it is well again, however many transactions fail in between.
//!
//! ```text
//!             rolled back                   outcome unknown, flush failed
//! Writable ◀──────────────▶ Refusing          (either) ─────────────────▶ Lost
//!           one happened
//! ```
//!
//! It decides nothing: the store reports, and the host draws the conclusions.

use tokio::sync::watch;

/// How a store stands for those who want to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// The last transaction happened.
    #[default]
    Writable,
    /// The last transaction was rolled back, for this reason. The store tries by itself whether one can
    /// happen again.
    Refusing(String),
    /// What is in the store may be something else than this process thinks. Only a new process can tell.
    Lost(String),
}

/// Keeps a store's condition, and tells it to who watches and to the log.
#[derive(Debug)]
pub(super) struct Reporter {
    condition: watch::Sender<Condition>,
    /// Transactions that were rolled back in a row.
    refused: u64,
    /// Checkpoints that failed in a row.
    postponed: u64,
}

impl Reporter {
    /// A reporter, and where its reports can be watched.
    pub(super) fn new() -> (Self, watch::Receiver<Condition>) {
        let (condition, watched) = watch::channel(Condition::Writable);
        (Self { condition, refused: 0, postponed: 0 }, watched)
    }

    /// Whether the last transaction was rolled back.
    pub(super) const fn is_refusing(&self) -> bool {
        self.refused > 0
    }

    /// Whether the last checkpoint failed.
    pub(super) const fn is_postponing(&self) -> bool {
        self.postponed > 0
    }

    /// A transaction happened.
    pub(super) fn happened(&mut self) {
        if self.refused > 0 {
            tracing::info!(transactions_rolled_back = self.refused, "the store can be written again");
            self.refused = 0;
            self.condition.send_replace(Condition::Writable);
        }
    }

    /// A transaction was rolled back.
    pub(super) fn rolled_back(&mut self, reason: &str) {
        self.refused += 1;
        if self.refused == 1 {
            tracing::error!(
                reason,
                "the store cannot be written: new work is refused, open runs wait until it can"
            );
            self.condition.send_replace(Condition::Refusing(reason.to_owned()));
        }
    }

    /// A checkpoint was made.
    pub(super) fn checkpointed(&mut self) {
        if self.postponed > 0 {
            let checkpoints_failed = self.postponed;
            tracing::info!(checkpoints_failed, "the write-ahead log goes into the database again");
            self.postponed = 0;
        }
    }

    /// A checkpoint failed; everything is in the log, which grows meanwhile.
    pub(super) fn postponed(&mut self, reason: &str) {
        self.postponed += 1;
        if self.postponed == 1 {
            tracing::error!(
                reason,
                "the write-ahead log cannot go into the database, and grows until it can"
            );
        }
    }

    /// Nothing may be written any more.
    pub(super) fn lost(&self, reason: String) {
        self.condition.send_replace(Condition::Lost(reason));
    }
}

impl Drop for Reporter {
    /// A writer that panics can say nothing else any more.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lost("the writer of the store panicked".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_rollbacks_is_one_change_there_and_one_back() {
        let (mut reporter, mut watched) = Reporter::new();
        reporter.happened();
        assert!(!watched.has_changed().unwrap());
        reporter.rolled_back("the disk is full");
        assert_eq!(*watched.borrow_and_update(), Condition::Refusing("the disk is full".to_owned()));
        reporter.rolled_back("the disk is full");
        assert!(!watched.has_changed().unwrap());
        reporter.happened();
        assert_eq!(*watched.borrow_and_update(), Condition::Writable);
    }

    #[test]
    fn a_writer_that_panics_has_lost_the_store() {
        let (reporter, watched) = Reporter::new();
        let thread = std::thread::spawn(move || {
            let _reporter = reporter;
            panic!("the test wants it");
        });
        assert!(thread.join().is_err());
        assert!(matches!(&*watched.borrow(), Condition::Lost(_)));
    }
}
