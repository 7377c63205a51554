//! Observations: what a guest says beside its commands. They are not recorded; the caller emits
//! them after the commit, and never on a replay.

/// Lines that one activation may log.
const LINES: usize = 1_000;
/// Bytes that one activation may log.
const BYTES: usize = 1024 * 1024;

/// Something that a guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The log lines of one activation, bounded: a guest cannot fill the host's memory or its log.
#[derive(Debug, Default)]
pub(super) struct LogBuffer {
    lines: Vec<Observation>,
    bytes: usize,
    dropped: usize,
}

impl LogBuffer {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new(), bytes: 0, dropped: 0 }
    }

    /// Takes a line, or counts it as dropped. A line that does not fit drops all later ones too,
    /// so that what remains is a beginning without gaps.
    pub(super) fn push(
        &mut self,
        level: LogLevel,
        target: String,
        message: String,
        fields: Vec<(String, String)>,
    ) {
        let pairs: usize = fields.iter().map(|(key, value)| key.len() + value.len()).sum();
        let bytes = self.bytes + target.len() + message.len() + pairs;
        if self.dropped > 0 || self.lines.len() >= LINES || bytes > BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes = bytes;
        self.lines.push(Observation::Log { level, target, message, fields });
    }

    /// Takes everything out; a last line says how much was dropped.
    pub(super) fn take(&mut self) -> Vec<Observation> {
        let Self { mut lines, bytes: _, dropped } = std::mem::take(self);
        if dropped > 0 {
            lines.push(Observation::Log {
                level: LogLevel::Warn,
                target: "everfold::guest".to_owned(),
                message: format!(
                    "{dropped} more log lines of this activation were dropped: at most {LINES} lines \
                     and {BYTES} bytes are kept"
                ),
                fields: Vec::new(),
            });
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(buffer: &mut LogBuffer, message: &str) {
        buffer.push(LogLevel::Info, String::new(), message.to_owned(), Vec::new());
    }

    fn last(lines: &[Observation]) -> &str {
        match lines.last() {
            Some(Observation::Log { message, .. }) => message,
            None => "",
        }
    }

    #[test]
    fn lines_and_bytes_are_bounded_and_the_rest_is_counted() {
        let mut buffer = LogBuffer::default();
        for _ in 0..LINES {
            log(&mut buffer, "one");
        }
        assert_eq!(buffer.take().len(), LINES);

        for _ in 0..LINES + 2 {
            log(&mut buffer, "one");
        }
        let lines = buffer.take();
        assert_eq!(lines.len(), LINES + 1);
        assert!(last(&lines).starts_with("2 more log lines"), "{}", last(&lines));

        log(&mut buffer, "fits");
        log(&mut buffer, &"x".repeat(BYTES));
        log(&mut buffer, "would fit, but stands behind one that does not");
        let lines = buffer.take();
        assert_eq!(lines.len(), 2);
        assert!(last(&lines).starts_with("2 more log lines"), "{}", last(&lines));
        assert_eq!(buffer.take(), []);
    }
}
