//! Texts with `*` and `?` as IAM compares them, and how much of one another covers.

/// Part of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `*`: any text.
    Any,
    /// `?`: any character.
    One,
    /// This character.
    Is(char),
}

/// A text for comparison: what a policy has, or what is asked for.
pub(super) struct Pattern(Vec<Token>);

/// How much of what is asked for a policy's text covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everything.
    All,
    /// Something, and not surely everything.
    Some,
    /// Nothing.
    None,
}

impl Pattern {
    /// In which `*` and `?` are wildcards.
    pub(super) fn wild(text: &str) -> Self {
        let token = |letter| match letter {
            '*' => Token::Any,
            '?' => Token::One,
            letter => Token::Is(letter),
        };
        Self(text.chars().map(token).collect())
    }

    /// In which they are characters like others.
    pub(super) fn literal(text: &str) -> Self {
        Self(text.chars().map(Token::Is).collect())
    }

    /// How much of the texts that `asked` stands for are texts of this one's.
    pub(super) fn reach(&self, asked: &Self) -> Reach {
        if relate(&self.0, &asked.0, covers) {
            Reach::All
        } else if relate(&self.0, &asked.0, overlaps) {
            Reach::Some
        } else {
            Reach::None
        }
    }
}

/// `ArnLike`, and `ArnEquals`, which is the same: part by part, so that no
/// wildcard stands for a colon but in the last of the six. None for what is no ARN.
pub(super) fn reach_of_arn(text: &str, asked: &str) -> Option<Reach> {
    let parts = |text: &str| -> Option<Vec<Pattern>> {
        let parts: Vec<Pattern> = text.splitn(6, ':').map(Pattern::wild).collect();
        (parts.len() == 6 && text.starts_with("arn:")).then_some(parts)
    };
    let (text, asked) = (parts(text)?, parts(asked)?);
    let each = text
        .iter()
        .zip(&asked)
        .map(|(text, asked)| text.reach(asked));
    Some(each.fold(Reach::All, |all, one| match (all, one) {
        (Reach::None, _) | (_, Reach::None) => Reach::None,
        (Reach::Some, _) | (_, Reach::Some) => Reach::Some,
        (Reach::All, Reach::All) => Reach::All,
    }))
}

/// What two first tokens allow: to go on after both, after ours, after theirs.
struct Steps {
    both: bool,
    ours: bool,
    theirs: bool,
}

/// A wildcard that is asked for is covered by a wildcard alone. So this is never
/// wrongly true; wrongly false it is for oddities such as `?*` and `*?`.
fn covers(ours: Option<Token>, theirs: Option<Token>) -> Steps {
    let both = match (ours, theirs) {
        (Some(Token::Any) | None, _) | (_, None | Some(Token::Any)) => false,
        (Some(Token::One), Some(_)) => true,
        (Some(ours), Some(theirs)) => ours == theirs,
    };
    Steps {
        both,
        ours: ours == Some(Token::Any),
        theirs: ours == Some(Token::Any) && theirs.is_some(),
    }
}

/// Whether there is a text that both stand for.
fn overlaps(ours: Option<Token>, theirs: Option<Token>) -> Steps {
    let both = match (ours, theirs) {
        (None, _) | (_, None) => false,
        (Some(Token::Is(ours)), Some(Token::Is(theirs))) => ours == theirs,
        (Some(_), Some(_)) => true,
    };
    Steps {
        both,
        ours: ours == Some(Token::Any) || (theirs == Some(Token::Any) && ours.is_some()),
        theirs: theirs == Some(Token::Any) || (ours == Some(Token::Any) && theirs.is_some()),
    }
}

/// Whether such steps lead to the end of both.
fn relate(
    ours: &[Token],
    theirs: &[Token],
    steps: fn(Option<Token>, Option<Token>) -> Steps,
) -> bool {
    // From the ends backwards; a row for each place in ours, of flags for theirs.
    let mut below = vec![false; theirs.len() + 1];
    for at in (0..=ours.len()).rev() {
        let mut row = vec![false; theirs.len() + 1];
        for other in (0..=theirs.len()).rev() {
            let is_end = at == ours.len() && other == theirs.len();
            let step = steps(ours.get(at).copied(), theirs.get(other).copied());
            row[other] = is_end
                || (step.both && below[other + 1])
                || (step.ours && below[other])
                || (step.theirs && row[other + 1]);
        }
        below = row;
    }
    below[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_reaches_what_it_covers() {
        for (pattern, asked, reach) in [
            ("a", "a", Reach::All),
            ("a", "b", Reach::None),
            ("a", "A", Reach::None),
            ("", "", Reach::All),
            ("*", "", Reach::All),
            ("*", "*", Reach::All),
            ("*", "a/*", Reach::All),
            ("a/*", "*", Reach::Some),
            ("a/*", "a/b/*", Reach::All),
            ("a/b/*", "a/*", Reach::Some),
            ("a/*", "b/*", Reach::None),
            ("a?c", "abc", Reach::All),
            ("a?c", "a*c", Reach::Some),
            ("a?c", "ac", Reach::None),
            ("a*c", "a?c", Reach::All),
            ("?", "*", Reach::Some),
            ("*b", "a*", Reach::Some),
            ("a*b*c", "axbxc", Reach::All),
            ("a*b*c", "axc", Reach::None),
            ("**", "a", Reach::All),
            ("abc", "*", Reach::Some),
            ("abc", "a*", Reach::Some),
            ("abc", "a*d", Reach::None),
        ] {
            let found = Pattern::wild(pattern).reach(&Pattern::wild(asked));
            assert_eq!(found, reach, "{pattern} {asked}");
        }
    }

    #[test]
    fn a_literal_star_is_a_star() {
        let star = Pattern::literal("a*");
        assert_eq!(star.reach(&Pattern::wild("ab")), Reach::None);
        assert_eq!(star.reach(&Pattern::literal("a*")), Reach::All);
        assert_eq!(star.reach(&Pattern::wild("a*")), Reach::Some);
    }

    #[test]
    fn arns_are_compared_part_by_part() {
        let asked = "arn:aws:eks:eu-central-1:111122223333:fargateprofile/prod/*";
        for (pattern, reach) in [
            (asked, Some(Reach::All)),
            (
                "arn:aws:eks:*:111122223333:fargateprofile/*/*",
                Some(Reach::All),
            ),
            ("arn:aws:eks:*:*:fargateprofile/*", Some(Reach::All)),
            ("arn:*:eks:*:*:*", Some(Reach::All)),
            (
                "arn:aws:eks:eu-central-?:111122223333:fargateprofile/prod/*",
                Some(Reach::All),
            ),
            (
                "arn:aws:eks:us-east-1:111122223333:fargateprofile/prod/*",
                Some(Reach::None),
            ),
            (
                "arn:aws:eks:eu-central-1:111122223333:fargateprofile/prod/web/*",
                Some(Reach::Some),
            ),
            // No wildcard stands for a colon before the last part.
            ("arn:aws:eks:*:fargateprofile/prod/*", None),
            (
                "arn:aws:*:111122223333:fargateprofile:x:y",
                Some(Reach::None),
            ),
            ("*", None),
        ] {
            assert_eq!(reach_of_arn(pattern, asked), reach, "{pattern}");
        }
    }
}
