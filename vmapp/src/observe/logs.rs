//! The log on standard error: lines for a person, or one JSON object a line. Guest bytes never go here.

use super::LogFormat;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Environment variable with a filter for the log (`debug`, `vmapp=trace`).
const FILTER_VARIABLE: &str = "WORLDSWITCH_LOG";

/// Starts logging for this process; later calls change nothing.
pub fn init(format: LogFormat, quiet: bool) {
    let level = if quiet {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var(FILTER_VARIABLE)
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Fails if somebody logs already: then it is done.
    match format {
        LogFormat::Human => log.event_format(Human).try_init().ok(),
        LogFormat::Json => log.json().flatten_event(true).with_target(false).try_init().ok(),
    };
}

/// `worldswitch: NAME: message`, with the level where it is not the usual one.
struct Human;

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        write!(out, "worldswitch: ")?;
        if !line.vm.is_empty() {
            write!(out, "{}: ", line.vm)?;
        }
        match *event.metadata().level() {
            Level::WARN => write!(out, "warning: ")?,
            Level::DEBUG | Level::TRACE => write!(out, "debug: ")?,
            _ => {}
        }
        writeln!(out, "{}{}", line.message, line.rest)
    }
}

#[derive(Default)]
struct Line {
    vm: String,
    message: String,
    rest: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "vm" => value.clone_into(&mut self.vm),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        let written = match name {
            "vm" => write!(self.vm, "{value:?}"),
            "message" => write!(self.message, "{value:?}"),
            _ => write!(self.rest, " {name}={value:?}"),
        };
        // Writing to a string does not fail; a broken Debug would only cut its own text.
        written.ok();
    }
}
