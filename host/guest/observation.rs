//! Observations: what a guest says beside its commands. They are not recorded; the caller emits
//! them after the commit, and never on a replay.

/// Lines and measurements of one activation.
const ENTRIES: usize = 1_000;
/// Bytes of the lines and measurements of one activation.
const BYTES: usize = 1024 * 1024;

/// Something that a guest said.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A log line.
    Log {
        /// How grave it is.
        level: LogLevel,
        /// The module that speaks.
        target: String,
        /// For people.
        message: String,
        /// Named values, in the guest's order.
        fields: Vec<(String, String)>,
    },
    /// A measurement.
    Metric {
        /// What becomes of it.
        kind: MetricKind,
        /// What is measured, with its unit.
        name: String,
        /// How much.
        value: f64,
        /// By what it is told apart.
        attributes: Vec<(String, String)>,
    },
}

/// What becomes of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It is added to a sum.
    Counter,
    /// It is counted in buckets.
    Histogram,
}

/// How grave a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

/// What one activation said, bounded: a guest cannot fill the host's memory or its log.
#[derive(Debug, Default)]
pub(super) struct ObservationBuffer {
    entries: Vec<Observation>,
    bytes: usize,
    dropped: usize,
}

impl ObservationBuffer {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), bytes: 0, dropped: 0 }
    }

    /// Takes a line.
    pub(super) fn log(
        &mut self,
        level: LogLevel,
        target: String,
        message: String,
        fields: Vec<(String, String)>,
    ) {
        let bytes = target.len() + message.len() + pairs_bytes(&fields);
        self.push(bytes, Observation::Log { level, target, message, fields });
    }

    /// Takes a measurement.
    pub(super) fn metric(
        &mut self,
        kind: MetricKind,
        name: String,
        value: f64,
        attributes: Vec<(String, String)>,
    ) {
        let bytes = name.len() + pairs_bytes(&attributes);
        self.push(bytes, Observation::Metric { kind, name, value, attributes });
    }

    /// Takes an entry, or counts it as dropped. One that does not fit drops all later ones too, so
    /// that what remains is a beginning without gaps.
    fn push(&mut self, bytes: usize, entry: Observation) {
        let bytes = self.bytes + bytes;
        if self.dropped > 0 || self.entries.len() >= ENTRIES || bytes > BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes = bytes;
        self.entries.push(entry);
    }

    /// Takes everything out; a last line says how much was dropped.
    pub(super) fn take(&mut self) -> Vec<Observation> {
        let Self { mut entries, bytes: _, dropped } = std::mem::take(self);
        if dropped > 0 {
            entries.push(Observation::Log {
                level: LogLevel::Warn,
                target: "everfold::guest".to_owned(),
                message: format!(
                    "{dropped} more lines and measurements of this activation were dropped: at most \
                     {ENTRIES} and {BYTES} bytes are kept"
                ),
                fields: Vec::new(),
            });
        }
        entries
    }
}

fn pairs_bytes(pairs: &[(String, String)]) -> usize {
    pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(buffer: &mut ObservationBuffer, message: &str) {
        buffer.log(LogLevel::Info, String::new(), message.to_owned(), Vec::new());
    }

    fn last(lines: &[Observation]) -> &str {
        match lines.last() {
            Some(Observation::Log { message, .. }) => message,
            Some(Observation::Metric { name, .. }) => name,
            None => "",
        }
    }

    #[test]
    fn lines_and_bytes_are_bounded_and_the_rest_is_counted() {
        let mut buffer = ObservationBuffer::default();
        for _ in 0..ENTRIES {
            log(&mut buffer, "one");
        }
        assert_eq!(buffer.take().len(), ENTRIES);

        for _ in 0..ENTRIES + 2 {
            log(&mut buffer, "one");
        }
        let lines = buffer.take();
        assert_eq!(lines.len(), ENTRIES + 1);
        assert!(last(&lines).starts_with("2 more lines"), "{}", last(&lines));

        log(&mut buffer, "fits");
        log(&mut buffer, &"x".repeat(BYTES));
        log(&mut buffer, "would fit, but stands behind one that does not");
        let lines = buffer.take();
        assert_eq!(lines.len(), 2);
        assert!(last(&lines).starts_with("2 more lines"), "{}", last(&lines));
        assert_eq!(buffer.take(), []);
    }
}
