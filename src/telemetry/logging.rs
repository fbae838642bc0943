//! Where log lines go and how they look. Standard output belongs to the asked-for document.

use crate::model::path::printable;
use std::fmt::Debug;
use std::io::IsTerminal;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, fields at its top level, `timestamp` in RFC 3339 and UTC.
    Json,
    Text,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("`{level}` is no log level or filter; write error, warn, info, debug or trace")]
    Level {
        level: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging was begun twice")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Begins logging to stderr, once a process.
///
/// # Errors
/// The level is no level, or logging has begun before.
pub fn begin(format: Format, level: &str) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(level).map_err(|source| LoggingError::Level {
        level: level.to_owned(),
        source,
    })?;
    let writer = BoxMakeWriter::new(std::io::stderr);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for people, not for files.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer);
    match format {
        Format::Json => tracing::subscriber::set_global_default(
            builder
                .json()
                .with_target(false)
                .flatten_event(true)
                .with_current_span(false)
                .finish(),
        ),
        Format::Text => tracing::subscriber::set_global_default(
            builder
                .with_target(false)
                .fmt_fields(debug_fn(write_field).delimited(" "))
                .finish(),
        ),
    }
    .map_err(LoggingError::Twice)
}

/// The message, or ` name=value`. Both may hold what strangers call their files.
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let value = printable(&format!("{value:?}"));
    match field.name() {
        "message" => out.write_str(&value),
        name => write!(out, "{name}={value}"),
    }
}
