//! Findings in words: for reading, and for scripts.

use std::fmt::Write;

use serde_json::{Value, json};

use super::finding::{Finding, Verdict, worst};

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Coloured,
    Plain,
}

const RESET: &str = "\x1b[0m";

/// One paragraph a finding: the verdict, the check and what it says, and below it
/// what to do.
pub(super) fn text(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        let (colour, reset) = match paint {
            Paint::Coloured => (colour(finding.verdict), RESET),
            Paint::Plain => ("", ""),
        };
        let verdict = format!("{:<7}", finding.verdict.name());
        let check = finding.check.name();
        let says = printable(&finding.says);
        writeln!(text, "{colour}{verdict}{reset}  {check:<16}  {says}").expect("infallible");
        if let Some(remedy) = &finding.remedy {
            writeln!(text, "{:27}-> {}", "", printable(remedy)).expect("infallible");
        }
    }
    let count = |verdict| {
        let same = findings.iter().filter(|it| it.verdict == verdict);
        format!("{} {}", same.count(), verdict.name())
    };
    let all = [
        Verdict::Ok,
        Verdict::Warning,
        Verdict::Failure,
        Verdict::Skipped,
    ];
    writeln!(text, "\n{}", all.map(count).join(", ")).expect("infallible");
    text
}

/// The same as one JSON object.
pub(super) fn json(findings: &[Finding]) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "check": finding.check.name(),
            "verdict": finding.verdict.name(),
            "says": finding.says,
            "remedy": finding.remedy,
        })
    };
    json!({
        "verdict": worst(findings).name(),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "\x1b[32m",
        Verdict::Skipped => "\x1b[2m",
        Verdict::Warning => "\x1b[33m",
        Verdict::Failure => "\x1b[1;31m",
    }
}

/// What servers and other programs say may be written for a terminal to obey.
fn printable(text: &str) -> String {
    let kept = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::finding::Check;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok(Check::Link, "it is there"),
            Finding::skipped(Check::Eks, "nobody asked", "ask"),
            Finding::warning(Check::Imds, "two\nlines \x1b[2J", "look"),
        ]
    }

    #[test]
    fn the_worst_counts_and_what_was_skipped_does_not() {
        let mut all = findings();
        assert_eq!(worst(&all), Verdict::Warning);
        assert_eq!(worst(&all[..2]), Verdict::Ok);
        assert_eq!(worst(&all[1..2]), Verdict::Ok);
        all.push(Finding::failure(Check::Agent, "gone", "start it"));
        assert_eq!(worst(&all), Verdict::Failure);
        assert_eq!(json(&all)["verdict"], "failure");
    }

    #[test]
    fn text_has_a_line_for_each_and_one_for_what_to_do() {
        let text = text(&findings(), Paint::Plain);
        let wanted = "\
ok       link              it is there
skipped  eks               nobody asked
                           -> ask
warning  imds              two lines  [2J
                           -> look

1 ok, 1 warning, 0 failure, 1 skipped
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn only_the_verdict_is_coloured_and_nobody_else_colours_the_terminal() {
        let text = text(&findings(), Paint::Coloured);
        assert!(text.starts_with("\x1b[32mok     \x1b[0m  link"), "{text:?}");
        assert_eq!(text.matches('\x1b').count(), 6);
    }
}
