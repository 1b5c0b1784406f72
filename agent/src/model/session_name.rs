//! What sessions are called: a text with fields.

use std::str::FromStr;
use std::sync::Arc;

use super::Invalid;

/// A template of role session names, such as `{cluster}-{namespace}-{serviceAccount}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionName(Arc<[Part]>);

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// As it stands: only what STS accepts in a name.
    Text(Box<str>),
    /// What differs from session to session.
    Field(Field),
}

/// What a template can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The cluster, or nothing where it has no name.
    Cluster,
    /// The service account's namespace.
    Namespace,
    /// The service account.
    ServiceAccount,
    /// The pod; nothing where the session is its account's.
    Pod,
    /// This node.
    Node,
}

const FIELDS: [(&str, Field); 5] = [
    ("cluster", Field::Cluster),
    ("namespace", Field::Namespace),
    ("serviceAccount", Field::ServiceAccount),
    ("pod", Field::Pod),
    ("node", Field::Node),
];

/// Whether STS accepts it in the name of a session: `[\w+=,.@-]`.
pub fn is_in_session_names(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_+=,.@-".contains(letter)
}

impl SessionName {
    /// Its pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether the name differs between the pods of one account.
    pub fn names_pod(&self) -> bool {
        self.0.contains(&Part::Field(Field::Pod))
    }
}

impl FromStr for SessionName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, field) = rest
                .split_once('{')
                .map_or((rest, None), |(before, after)| (before, Some(after)));
            if !literal.chars().all(is_in_session_names) {
                return Err(Invalid::SessionName);
            }
            if !literal.is_empty() {
                parts.push(Part::Text(literal.into()));
            }
            let Some(field) = field else { break };
            let (name, after) = field.split_once('}').ok_or(Invalid::SessionName)?;
            let known = FIELDS.iter().find(|(known, _)| *known == name);
            let (_, field) = known.ok_or(Invalid::SessionName)?;
            parts.push(Part::Field(*field));
            rest = after;
        }
        if parts.is_empty() {
            return Err(Invalid::SessionName);
        }
        Ok(Self(parts.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_fields() {
        let name: SessionName = "eks-{cluster}@{pod}".parse().unwrap();
        let text = |text: &str| Part::Text(text.into());
        let wanted = [
            text("eks-"),
            Part::Field(Field::Cluster),
            text("@"),
            Part::Field(Field::Pod),
        ];
        assert_eq!(name.parts(), wanted);
        assert!(name.names_pod());
    }

    #[test]
    fn a_template_with_an_unknown_field_or_what_sts_refuses_is_none() {
        for text in [
            "", "{", "}", "{pod", "{Pod}", "{}", "a b", "a/b", "{{pod}}", "ü",
        ] {
            let parsed = text.parse::<SessionName>();
            assert_eq!(parsed, Err(Invalid::SessionName), "{text}");
        }
    }
}
