//! The log: to standard error, readable or as JSON.
//!
//! Both forms show a workflow's own fields as fields: `key=value` in text, the object `fields` in JSON.

use std::fmt;
use std::io::IsTerminal as _;

use everfold::telemetry::{FIELDS, WORKFLOW_TARGET};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::failure::{Exit, Failure};
use crate::config::{LogFormat, LogSection};

/// The field of a line's text.
const MESSAGE: &str = "message";

/// Starts the log.
pub(super) fn start(settings: &LogSection) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|error| {
        Failure::new(Exit::Usage, format!("log.level: `{}`: {error}", settings.level)).hint(
            "a level is error, warn, info, debug or trace; directives look like `info,everfold::run=debug`",
        )
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => registry.with(lines.event_format(Json)).try_init(),
        LogFormat::Text => {
            let shows_colour = std::io::stderr().is_terminal()
                && anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            let lines = lines.with_ansi(shows_colour).fmt_fields(debug_fn(write_text));
            registry.with(lines).try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}").into())
}

/// One field of a line of text, behind a space of its own.
fn write_text(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        MESSAGE => write!(writer, "{} ", one_line(&format!("{value:?}"))),
        FIELDS => {
            let Ok(fields) = serde_json::from_str::<Map<String, Value>>(&format!("{value:?}")) else {
                return Ok(());
            };
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if is_plain(text) => write!(writer, "{}={text} ", one_line(&name))?,
                    Some(text) => write!(writer, "{}={text:?} ", one_line(&name))?,
                    None => write!(writer, "{}={value} ", one_line(&name))?,
                }
            }
            Ok(())
        }
        name => write!(writer, "{name}={} ", one_line(&format!("{value:?}"))),
    }
}

/// Whether a text can stand without quotation marks.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
}

/// A text whose line breaks and escapes cannot pass for lines of the log.
fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// One JSON object a line: `timestamp`, `level`, `message`, the fields, `target`.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), time.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        event.record(&mut Fields {
            line: &mut line,
            is_workflow: event.metadata().target() == WORKFLOW_TARGET,
        });
        line.insert("target".to_owned(), event.metadata().target().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields of a line, on their way into its object.
struct Fields<'a> {
    line: &'a mut Map<String, Value>,
    is_workflow: bool,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.line.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match serde_json::from_str::<Map<String, Value>>(&text) {
            Ok(fields) if self.is_workflow && field.name() == FIELDS => self.put(field, fields),
            Ok(_) | Err(_) => self.put(field, text),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::json;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn say() {
        let fields = json!({ "order": "o-1", "why": "two words", "n": "1" });
        tracing::info!(target: WORKFLOW_TARGET, run_id = "r", attempt = 2_u32, %fields, "paid\nINFO forged");
    }

    #[test]
    fn a_workflows_own_fields_are_fields() {
        let kept = Kept::default();
        let json = tracing_subscriber::fmt::layer().with_writer(kept.clone()).event_format(Json);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(json), say);
        let line = String::from_utf8(std::mem::take(&mut *kept.0.lock())).expect("text");
        let mut line: Value = serde_json::from_str(line.trim_end()).expect("one object");
        assert!(line["timestamp"].take().is_string());
        assert_eq!(
            line,
            json!({
                "timestamp": null,
                "level": "INFO",
                "message": "paid\nINFO forged",
                "run_id": "r",
                "attempt": 2,
                "fields": { "order": "o-1", "why": "two words", "n": "1" },
                "target": "everfold::workflow",
            })
        );

        let text = tracing_subscriber::fmt::layer()
            .with_writer(kept.clone())
            .with_ansi(false)
            .fmt_fields(debug_fn(write_text));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(text), say);
        let line = String::from_utf8(std::mem::take(&mut *kept.0.lock())).expect("text");
        assert_eq!(line.lines().count(), 1, "{line}");
        let end =
            "everfold::workflow: paid\\nINFO forged run_id=\"r\" attempt=2 order=o-1 why=\"two words\" n=1";
        assert!(line.trim_end().ends_with(end), "{line}");
    }
}
