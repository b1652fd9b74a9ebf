//! The operational log: what the gateway tells its operators, on standard error. JSON lines for machines, short lines on a terminal.
//! Whoever logs never waits for standard error. Requests are logged elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_config::config::{Level, LogTarget};
use tidegate_core::clock::Clock;
use tidegate_proxy::telemetry::{LogCounters, LogSender, LogWriter, timestamp};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The running log, whose level a reload may change. Dropping it writes what is queued.
pub(crate) struct OpLog {
    filter: reload::Handle<Targets, Registry>,
    writer: Option<LogWriter>,
}

impl OpLog {
    /// Starts the process's log. When there is one already (in tests), that one stays.
    pub(crate) fn start(level: Level, clock: Clock, counters: &Arc<LogCounters>) -> io::Result<Self> {
        let writer = LogWriter::start(Some(LogTarget::Stderr), Arc::clone(counters))?;
        let (filter, handle) = reload::Layer::new(targets(level));
        let lines = Lines { clock, json: !io::stderr().is_terminal(), sender: writer.sender() };
        tracing_subscriber::registry().with(filter).with(lines).try_init().ok();
        Ok(Self { filter: handle, writer: Some(writer) })
    }

    /// Changes what is logged.
    pub(crate) fn set_level(&self, level: Level) {
        // Fails when the log is not ours; then there is nothing to change.
        self.filter.reload(targets(level)).ok();
    }
}

impl Drop for OpLog {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.finish(LAST_LINES);
        }
    }
}

/// Of the libraries only what should worry someone: at `debug` HTTP/2 alone would tell of every frame.
fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    Targets::new().with_target("tidegate", level).with_default(level.min(LevelFilter::WARN))
}

struct Lines {
    clock: Clock,
    json: bool,
    sender: LogSender,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = timestamp(self.clock.wall());
        let level = event.metadata().level().as_str();
        let line = if self.json { json_line(&time, level, &fields) } else { short_line(&time, level, &fields) };
        self.sender.line(line);
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.push(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.into());
    }
}

fn json_line(time: &str, level: &str, fields: &Fields) -> String {
    let level = level.to_ascii_lowercase();
    let mut line = format!(r#"{{"time":"{time}","level":"{level}","message":{}"#, Value::from(&*fields.message));
    for (name, value) in &fields.others {
        push(&mut line, format_args!(",{}:{value}", Value::from(*name)));
    }
    line.push_str("}\n");
    line
}

/// Values of several lines, such as excerpts of the configuration, follow below.
fn short_line(time: &str, level: &str, fields: &Fields) -> String {
    let clock = time.get(11..19).unwrap_or(time);
    let mut line = format!("{clock} {level:<5} {}", fields.message);
    let is_long = |value: &&(&str, Value)| value.1.as_str().is_some_and(|text| text.contains('\n'));
    for (name, value) in fields.others.iter().filter(|value| !is_long(value)) {
        match value.as_str() {
            Some(text) if !text.is_empty() && text.chars().all(|char| char.is_ascii_graphic()) => {
                push(&mut line, format_args!(" {name}={text}"));
            }
            // JSON, so that a text cannot steer the terminal.
            _ => push(&mut line, format_args!(" {name}={value}")),
        }
    }
    line.push('\n');
    for text in fields.others.iter().filter(is_long).filter_map(|(_, value)| value.as_str()) {
        let shown = text.trim_end().replace(|char: char| char.is_control() && char != '\n', "\u{fffd}");
        push(&mut line, format_args!("{shown}\n"));
    }
    line
}

fn push(line: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    line.write_fmt(text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "listening".into(),
            others: vec![
                ("listener", "default".into()),
                ("address", "127.0.0.1:8080".into()),
                ("tls", false.into()),
                ("why", "line\n  | one\u{1b}[0m\n".into()),
                ("odd", "a\u{1b}b".into()),
            ],
        }
    }

    #[test]
    fn machines_get_one_line_of_json() {
        let line = json_line("2026-11-21T02:19:25.123456Z", "INFO", &fields());
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["level"], "info");
        assert_eq!(value["message"], "listening");
        assert_eq!(value["address"], "127.0.0.1:8080");
        assert_eq!(value["tls"], false);
    }

    #[test]
    fn people_get_a_short_line_that_cannot_steer_their_terminal() {
        let line = short_line("2026-11-21T02:19:25.123456Z", "INFO", &fields());
        assert_eq!(
            line,
            "02:19:25 INFO  listening listener=default address=127.0.0.1:8080 tls=false odd=\"a\\u001bb\"\n\
             line\n  | one\u{fffd}[0m\n"
        );
    }

    #[test]
    fn libraries_speak_up_only_when_something_is_wrong() {
        use tracing::Level as Loud;
        let at_debug = targets(Level::Debug);
        assert!(at_debug.would_enable("tidegate_proxy::gateway", &Loud::DEBUG));
        assert!(at_debug.would_enable("h2::codec", &Loud::WARN));
        assert!(!at_debug.would_enable("h2::codec", &Loud::INFO));
        assert!(!targets(Level::Error).would_enable("h2::codec", &Loud::WARN));
    }
}
