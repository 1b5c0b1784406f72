//! Logs: one line, on standard error, for each thing that an operator wants to know.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, filter, fmt};

use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging for the whole process. A second call changes nothing.
pub(super) fn start(log: Log) {
    let lines = match log.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).boxed(),
    };
    let ours = filter::Targets::new()
        .with_default(others(log.level))
        .with_targets([
            ("credlet", level(log.level)),
            ("netsetup", level(log.level)),
        ]);
    // Fails only where a test process has started logging already.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(ours))
        .try_init();
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Others' events say again what ours say, so they are for developers only. And
/// never below `info`: the HTTP and SDK crates write requests' headers, which may
/// hold tokens, at `debug` and `trace`.
fn others(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => LevelFilter::OFF,
        LogLevel::Debug | LogLevel::Trace => LevelFilter::INFO,
    }
}
