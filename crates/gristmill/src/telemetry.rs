//! The process's own log: lines for people on a terminal, JSON for machines otherwise.

mod format;
mod line;
mod otlp;

use std::io::IsTerminal as _;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

pub(crate) use format::LogFormat;
use line::{Named, Names};
pub(crate) use otlp::start as start_otlp;

/// Starts writing the process's own log to standard error. May be called once.
pub(crate) fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("telemetry.filter: `{filter}` is not a filter"))?;
    let terminal = std::io::stderr().is_terminal();
    let as_json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = fmt::Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if as_json {
        let line = fmt::format().json().flatten_event(true).with_current_span(false);
        lines.json().event_format(Named { line, names: Names::Json }).try_init()
    } else {
        let line = fmt::format().with_target(false);
        let named = Named { line, names: Names::Text };
        lines.with_ansi(terminal).event_format(named).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
