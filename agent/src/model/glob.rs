//! Patterns of names: text, and `*` for any text.

use std::fmt;
use std::str::FromStr;

/// A pattern. It covers a whole text, never a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(Box<[Box<str>]>);

/// How much a pattern says: an exact one most, then the one with more text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Of so many bytes besides the stars.
    Pattern(usize),
    /// One text.
    Exact,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It could match nothing.
    #[error("an empty pattern")]
    Empty,
    /// It would take long to match.
    #[error("a pattern of more than 2048 characters, or with more than 16 `*`")]
    Long,
    /// It has what no name and no ARN has.
    #[error("a pattern with more than letters, digits, `*` and `:/_+=,.@-`")]
    Letters,
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("*"))
    }
}

impl Glob {
    /// Whether the whole text is what the pattern says.
    pub fn matches(&self, text: &str) -> bool {
        let [first, rest @ ..] = &*self.0 else {
            return false;
        };
        let [middle @ .., last] = rest else {
            return **first == *text;
        };
        let Some(mut text) = text.strip_prefix(&**first) else {
            return false;
        };
        // The first place that fits leaves most for those after it.
        for part in middle {
            let Some(at) = text.find(&**part) else {
                return false;
            };
            text = &text[at + part.len()..];
        }
        text.ends_with(&**last)
    }

    /// For which of several patterns counts.
    pub fn rank(&self) -> Rank {
        match &*self.0 {
            [_] => Rank::Exact,
            parts => Rank::Pattern(parts.iter().map(|part| part.len()).sum()),
        }
    }
}

impl FromStr for Glob {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Box<[Box<str>]> = text.split('*').map(Box::from).collect();
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"*:/_+=,.@-".contains(&byte);
        if text.is_empty() {
            return Err(Invalid::Empty);
        }
        if text.len() > 2048 || parts.len() > 17 {
            return Err(Invalid::Long);
        }
        if !text.bytes().all(is_legal) {
            return Err(Invalid::Letters);
        }
        Ok(Self(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        text.parse().expect("a pattern")
    }

    #[test]
    fn a_pattern_covers_the_whole_text() {
        for (pattern, text, fits) in [
            ("cart", "cart", true),
            ("cart", "cart-1", false),
            ("cart", "a-cart", false),
            ("*", "", true),
            ("*", "cart", true),
            ("cart-*", "cart-", true),
            ("cart-*", "cart", false),
            ("*-cart", "a-cart", true),
            ("*-cart", "a-cart-b", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*b", "ab", false),
            ("a*b*b", "abb", true),
            ("a**b", "ab", true),
            ("arn:aws:iam::1:role/x/*", "arn:aws:iam::1:role/x/y/z", true),
            ("arn:aws:iam::1:role/x/*", "xarn:aws:iam::1:role/x/y", false),
        ] {
            assert_eq!(glob(pattern).matches(text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn an_exact_pattern_says_more_than_a_longer_one_with_a_star() {
        assert!(glob("a").rank() > glob("abcdef*").rank());
        assert!(glob("ab*").rank() > glob("*a").rank());
        assert_eq!(glob("a*b").rank(), glob("*ab").rank());
    }

    #[test]
    fn what_no_name_has_is_no_pattern() {
        assert_eq!("".parse::<Glob>(), Err(Invalid::Empty));
        for text in ["a b", "a?", "[a]", "ü", "a\n"] {
            assert_eq!(text.parse::<Glob>(), Err(Invalid::Letters), "{text}");
        }
        assert_eq!("*".repeat(17).parse::<Glob>(), Err(Invalid::Long));
        assert_eq!("a".repeat(2049).parse::<Glob>(), Err(Invalid::Long));
    }
}
