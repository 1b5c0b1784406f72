//! The key of a node's taint.

use super::{Error, usage};

/// A legal one: a name, after the DNS name of whose it is, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintKey(String);

impl TaintKey {
    /// An empty variable of the environment is as none.
    pub(super) fn given(given: Option<String>) -> Result<Option<Self>, Error> {
        let given = given.filter(|given| !given.is_empty());
        let key = given.map(|given| Self::parse(&given)).transpose();
        key.map_err(|why| usage("--startup-taint", &format!("is {why}")))
    }

    /// As Kubernetes takes it (`IsQualifiedName` in k8s.io/apimachinery).
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || Err("not the key of a taint, such as credlet.dev/agent-not-ready".to_owned());
        let name = match text.split_once('/') {
            Some((prefix, _)) if !is_subdomain(prefix) => return wrong(),
            Some((_, name)) => name,
            None => text,
        };
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let ends = [name.bytes().next(), name.bytes().last()];
        let ends_well = ends
            .iter()
            .all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()));
        if name.len() > 63 || !ends_well || !name.bytes().all(is_inner) {
            return wrong();
        }
        Ok(Self(text.to_owned()))
    }

    /// As it stands in the taint.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_legal =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_well_ended = !label.starts_with('-') && !label.ends_with('-');
        !label.is_empty() && is_well_ended && label.bytes().all(is_legal)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_name_with_a_prefix_or_without() {
        for key in [
            "credlet.dev/agent-not-ready",
            "not-ready",
            "startup-taint.cluster-autoscaler.kubernetes.io/credlet",
        ] {
            assert_eq!(TaintKey::parse(key).as_ref().map(TaintKey::as_str), Ok(key));
        }
    }

    #[test]
    fn what_the_api_server_would_not_have_is_no_key() {
        let long = "k".repeat(64);
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "Credlet.dev/a",
            "credlet..dev/a",
            "-a.dev/a",
            "a_",
            "credlet.dev/a=true",
            "credlet.dev/a:NoSchedule",
            &long,
        ] {
            assert!(TaintKey::parse(key).is_err(), "{key}");
        }
    }
}
