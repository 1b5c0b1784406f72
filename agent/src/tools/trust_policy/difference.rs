//! Two texts line by line: what goes and what comes.

use std::fmt::Write;

/// All lines, those that go with `-` before them and those that come with `+`.
pub(super) fn difference(before: &str, after: &str) -> String {
    let old: Vec<&str> = before.lines().collect();
    let new: Vec<&str> = after.lines().collect();
    // The most lines in common of the rests from each pair of places on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for other in (0..new.len()).rev() {
            common[at][other] = if old[at] == new[other] {
                common[at + 1][other + 1] + 1
            } else {
                common[at + 1][other].max(common[at][other + 1])
            };
        }
    }
    let (mut at, mut other) = (0, 0);
    let mut text = String::new();
    let mut line = |mark: char, line: &str| {
        writeln!(text, "{mark} {line}").expect("texts can be written to");
    };
    while at < old.len() || other < new.len() {
        if at < old.len() && other < new.len() && old[at] == new[other] {
            line(' ', old[at]);
            (at, other) = (at + 1, other + 1);
        } else if at < old.len()
            && (other == new.len() || common[at + 1][other] >= common[at][other + 1])
        {
            line('-', old[at]);
            at += 1;
        } else {
            line('+', new[other]);
            other += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_stay_are_shown_between_those_that_go_and_come() {
        assert_eq!(
            difference("a\nb\nc", "a\nx\nc\nd"),
            "  a\n- b\n+ x\n  c\n+ d\n"
        );
        assert_eq!(difference("", "a"), "+ a\n");
        assert_eq!(difference("a\nb", "a\nb"), "  a\n  b\n");
    }
}
