//! How findings and changes are said, to people and to scripts.

use std::fmt::Write;

use serde_json::{Value, json};

use super::amend::Amended;
use super::difference::difference;
use super::document::Document;
use super::findings::{Finding, Verdict, are_ok};

/// What is to be written, or was.
pub(super) struct Change<'a> {
    /// None for a role that is to be made.
    pub(super) before: Option<&'a Document>,
    pub(super) after: &'a Amended,
    /// A managed policy that is to be attached.
    pub(super) attach: Option<&'a str>,
}

/// A line a point, in columns.
pub(super) fn findings(all: &[Finding]) -> String {
    let mut text = String::new();
    for finding in all {
        let (verdict, point) = (finding.verdict.name(), finding.point.name());
        writeln!(text, "{verdict:<8} {point:<10} {}", finding.says).expect("infallible");
    }
    text
}

/// The whole new policy, with what goes and what comes, and all else that changes.
pub(super) fn change(role: &str, change: &Change<'_>) -> String {
    let Change {
        before,
        after,
        attach,
    } = change;
    let mut text = String::new();
    let new = after.document.to_string();
    match before {
        Some(before) if **before == after.document => {
            writeln!(text, "the trust policy of {role} stays as it is").expect("infallible");
        }
        Some(before) => {
            writeln!(text, "the trust policy of {role} changes:\n").expect("infallible");
            text.push_str(&difference(&before.to_string(), &new));
        }
        None => {
            writeln!(
                text,
                "a role {role} is made, with this trust policy:\n\n{new}"
            )
            .expect("infallible");
        }
    }
    if let Some(policy) = attach {
        writeln!(text, "\n{policy} is attached").expect("infallible");
    }
    for warning in &after.warnings {
        writeln!(text, "\nnote: {warning}").expect("infallible");
    }
    text
}

/// What is not as it should be, if anything.
pub(super) fn what_remains(all: &[Finding]) -> String {
    let is_left = |finding: &&Finding| finding.verdict != Verdict::Ok;
    let left: Vec<Finding> = all.iter().filter(is_left).cloned().collect();
    if left.is_empty() {
        return String::new();
    }
    format!(
        "this is left, which only a person can judge:\n{}",
        findings(&left)
    )
}

/// The answer of `--check`.
pub(super) fn checked(role: &str, kind: &str, all: &[Finding]) -> Value {
    let point = |finding: &Finding| {
        json!({
            "point": finding.point.name(),
            "verdict": finding.verdict.name(),
            "says": finding.says,
        })
    };
    json!({
        "role": role,
        "kind": kind,
        "ok": are_ok(all),
        "points": all.iter().map(point).collect::<Vec<_>>(),
    })
}

/// The answer of `--create` and `--update`: that of `--check`, for what is there
/// now, and what was written.
pub(super) fn written(role: &str, kind: &str, all: &[Finding], change: &Change<'_>) -> Value {
    let mut answer = checked(role, kind, all);
    answer["before"] = change.before.map_or(Value::Null, Document::value);
    answer["after"] = change.after.document.value();
    answer["attached"] = change.attach.map_or(Value::Null, Value::from);
    answer["notes"] = json!(change.after.warnings);
    answer
}
