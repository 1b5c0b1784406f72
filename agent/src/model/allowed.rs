//! Who may use which role, whoever declares it.

use std::sync::Arc;

use super::glob::{Glob, Invalid};
use super::{Association, RoleArn};

/// The most patterns of one list: each is tried at each request.
const MOST: usize = 64;

/// Patterns of role ARNs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedRoles(Arc<[Glob]>);

/// Why a list of patterns cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// One of them.
    #[error("{0}")]
    Pattern(#[from] Invalid),
    /// Of all of them.
    #[error("no pattern, or more than 64")]
    Count,
}

/// What is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// This role.
    Role(RoleArn),
    /// A role that only EKS knows.
    Hidden,
}

impl AllowedRoles {
    /// From patterns one by one.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Malformed> {
        let globs: Result<Vec<Glob>, Invalid> = texts.into_iter().map(str::parse).collect();
        let globs = globs?;
        if globs.is_empty() || globs.len() > MOST {
            return Err(Malformed::Count);
        }
        Ok(Self(globs.into()))
    }

    /// From one text, in which commas or spaces part them.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let is_gap = |letter: char| letter == ',' || letter.is_ascii_whitespace();
        Self::new(text.split(is_gap).filter(|part| !part.is_empty()))
    }

    /// Whether all roles on the way are allowed.
    pub fn check(&self, association: &Association) -> Result<(), Beyond> {
        let Some(grant) = association.grant() else {
            return Err(Beyond::Hidden);
        };
        for role in [Some(&grant.role), grant.target_role.as_ref()] {
            let Some(role) = role else { continue };
            if !self.0.iter().any(|glob| glob.matches(role.as_str())) {
                return Err(Beyond::Role(role.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Grant;

    const PODS: &str = "arn:aws:iam::111122223333:role/pods/*";

    fn role(text: &str) -> RoleArn {
        text.parse().expect("a role")
    }

    #[test]
    fn every_role_on_the_way_must_be_allowed() {
        let allowed = AllowedRoles::parse(PODS).expect("a pattern");
        let mut grant = Grant::of(role("arn:aws:iam::111122223333:role/pods/cart"));
        assert_eq!(allowed.check(&Association::Role(grant.clone())), Ok(()));
        let target = role("arn:aws:iam::444455556666:role/pods/cart");
        grant.target_role = Some(target.clone());
        let answer = allowed.check(&Association::Role(grant));
        assert_eq!(answer, Err(Beyond::Role(target)));
        assert_eq!(allowed.check(&Association::EksAuth), Err(Beyond::Hidden));
    }

    #[test]
    fn patterns_are_parted_by_commas_and_spaces_and_all_must_be_good() {
        let both = format!("arn:aws:iam::444455556666:role/x, {PODS}\n");
        let allowed = AllowedRoles::parse(&both).expect("two patterns");
        let grant = Grant::of(role("arn:aws:iam::444455556666:role/x"));
        assert_eq!(allowed.check(&Association::Role(grant)), Ok(()));
        for text in ["", " , ", "arn:aws:iam::1:role/é", "[a]"] {
            assert!(AllowedRoles::parse(text).is_err(), "{text}");
        }
    }
}
