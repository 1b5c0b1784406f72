//! How logs look.

use clap::{Args, ValueEnum};

/// How logs look, of every program that serves.
#[derive(Args, Clone, Copy, Debug)]
pub struct Log {
    /// How logs look
    #[arg(id = "log_format", long = "log-format", env = "CREDLET_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub format: LogFormat,
    /// The least severe event that is logged
    #[arg(id = "log_level", long = "log-level", env = "CREDLET_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading on a terminal.
    Text,
}

/// The least severe event that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What needs somebody.
    Error,
    /// What may soon.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}
