//! `credlet doctor` as scripts run it, and what it finds.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::process::binary;

/// What it said, and how it ended.
#[derive(Debug)]
pub struct Report {
    /// 0 all is well, 3 a warning, 1 a failure.
    pub code: Option<i32>,
    findings: Vec<Value>,
}

/// `credlet doctor` with these arguments, and with nothing in its environment but
/// a region, and AWS where nobody listens.
pub fn command(arguments: &str) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["doctor", "--output", "json"])
        .args(arguments.split_whitespace())
        .env_clear()
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // Where nobody is.
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Report {
    /// Of a command that has ended.
    ///
    /// # Panics
    /// If it has said nothing in JSON.
    pub fn of(output: &Output) -> Self {
        let said = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| {
            let errors = String::from_utf8_lossy(&output.stderr);
            panic!("no report:\n{said}\n{errors}")
        });
        let findings = report["findings"].as_array();
        Self {
            code: output.status.code(),
            findings: findings.expect("a list").clone(),
        }
    }

    /// That there is a finding of this check and verdict with these words, and what
    /// to do about it unless all is well.
    ///
    /// # Panics
    /// If there is none: with all that there is.
    pub fn has(&self, check: &str, verdict: &str, words: &str) {
        let Some(found) = self.find(check, verdict, words) else {
            panic!(
                "no {verdict} of {check} with «{words}» in {:#?}",
                self.findings
            );
        };
        let remedy = found["remedy"].as_str().unwrap_or_default();
        assert_eq!(remedy.is_empty(), verdict == "ok", "{found}");
    }

    /// Whether there is such a finding.
    pub fn says(&self, check: &str, verdict: &str, words: &str) -> bool {
        self.find(check, verdict, words).is_some()
    }

    fn find(&self, check: &str, verdict: &str, words: &str) -> Option<&Value> {
        let is_it = |it: &&Value| {
            let says = it["says"].as_str().unwrap_or_default();
            it["check"] == check && it["verdict"] == verdict && says.contains(words)
        };
        self.findings.iter().find(is_it)
    }

    /// That this check has found nothing that is so bad.
    ///
    /// # Panics
    /// If it has: with all that there is.
    pub fn has_no(&self, check: &str, verdict: &str) {
        let mut all = self.findings.iter();
        let is_it = |it: &Value| it["check"] == check && it["verdict"] == verdict;
        assert!(!all.any(is_it), "{check}: {:#?}", self.findings);
    }
}
