//! What may be a session tag besides those that credlet sets itself.

use std::collections::HashSet;

use super::Invalid;

/// Keys that begin so say who somebody is: AWS's own, and those of
/// `AssumeRoleForPodIdentity` in the EKS user guide.
const RESERVED: [&str; 3] = ["aws:", "eks-cluster-", "kubernetes-"];

/// Whether STS accepts the tag, and nobody takes it for one of credlet's own.
pub fn check_session_tag(key: &str, value: &str) -> Result<(), Invalid> {
    let is_legal = |text: &str| {
        let legal = |letter: char| letter.is_alphanumeric() || " _.:/=+-@".contains(letter);
        text.chars().all(legal)
    };
    // STS compares keys without regard to case.
    let lower = key.to_lowercase();
    let is_reserved = RESERVED.iter().any(|reserved| lower.starts_with(reserved));
    let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
    if is_reserved || !fits || !is_legal(key) || !is_legal(value) {
        return Err(Invalid::SessionTag);
    }
    Ok(())
}

/// Whether STS accepts the tags together.
pub fn check_session_tags<'a>(
    tags: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    for (key, value) in tags {
        check_session_tag(key, value)?;
        if !seen.insert(key.to_lowercase()) {
            return Err(Invalid::SessionTagTwice);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_somebodys_own_is_what_sts_accepts() {
        for (key, value) in [
            ("team", "shop"),
            ("cost center", ""),
            ("Straße", "1:2/3=4+5-6@7_8"),
        ] {
            assert_eq!(check_session_tag(key, value), Ok(()), "{key}={value}");
        }
    }

    #[test]
    fn a_key_is_set_once_in_whatever_case() {
        let tags = ["team", "Team"].map(|key| (key.to_owned(), String::new()));
        let tags = tags.iter().map(|(key, value)| (key, value));
        assert_eq!(check_session_tags(tags), Err(Invalid::SessionTagTwice));
    }

    #[test]
    fn nobody_sets_a_tag_that_says_who_somebody_is() {
        for key in [
            "aws:team",
            "kubernetes-namespace",
            "Kubernetes-Pod-Name",
            "eks-cluster-arn",
        ] {
            assert_eq!(
                check_session_tag(key, "x"),
                Err(Invalid::SessionTag),
                "{key}"
            );
        }
        let long = "a".repeat(257);
        for (key, value) in [
            ("", "x"),
            ("a,b", "x"),
            (&long, "x"),
            ("a", &long),
            ("a", "b\n"),
        ] {
            assert_eq!(
                check_session_tag(key, value),
                Err(Invalid::SessionTag),
                "{key}"
            );
        }
    }
}
