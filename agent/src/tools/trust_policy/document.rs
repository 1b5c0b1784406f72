//! A policy document: read without guessing, and written so that two can be compared.

use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

/// The order in which elements are written: that of AWS's own examples.
const ORDER: [&str; 12] = [
    "Version",
    "Id",
    "Statement",
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

/// A trust policy. Two are equal if they mean the same to a reader of JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// Everything but the statements.
    rest: Map<String, Value>,
    /// Not always objects: what IAM would refuse is kept, too.
    pub(super) statements: Vec<Value>,
}

impl Document {
    /// Of one statement.
    pub(super) fn of(statement: Value) -> Self {
        let mut rest = Map::new();
        rest.insert("Version".to_owned(), json!("2012-10-17"));
        Self {
            rest,
            statements: vec![statement],
        }
    }

    /// Refuses what is no JSON, has a name twice, or has no statements.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Unique(value) = serde_json::from_str(text).map_err(|why| why.to_string())?;
        let Value::Object(mut rest) = value else {
            return Err("not an object".to_owned());
        };
        let statements = match rest.remove("Statement") {
            Some(Value::Array(statements)) => statements,
            Some(statement @ Value::Object(_)) => vec![statement],
            Some(_) => return Err("Statement is neither a list nor an object".to_owned()),
            None => return Err("there is no Statement".to_owned()),
        };
        Ok(Self { rest, statements })
    }

    /// The document as JSON.
    pub(super) fn value(&self) -> Value {
        let mut all = self.rest.clone();
        let statements = Value::Array(self.statements.clone());
        all.insert("Statement".to_owned(), statements);
        Value::Object(all)
    }

    /// For IAM, which counts all characters but white space.
    pub(super) fn compact(&self) -> String {
        self.value().to_string()
    }

    /// How many of IAM's characters it has.
    pub(super) fn length(&self) -> usize {
        let text = self.compact();
        text.chars()
            .filter(|letter| !letter.is_whitespace())
            .count()
    }
}

/// For people.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write(&self.value(), 0, &mut text)?;
        f.write_str(&text)
    }
}

fn write(value: &Value, depth: usize, text: &mut String) -> fmt::Result {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(members) if !members.is_empty() => {
            let place = |name: &str| {
                ORDER
                    .iter()
                    .position(|it| *it == name)
                    .unwrap_or(ORDER.len())
            };
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| place(name));
            text.push_str("{\n");
            for (at, (name, member)) in members.iter().enumerate() {
                write!(text, "{pad}  {}: ", Value::from(name.as_str()))?;
                write(member, depth + 1, text)?;
                text.push_str(if at + 1 < members.len() { ",\n" } else { "\n" });
            }
            write!(text, "{pad}}}")
        }
        Value::Array(items) if !items.is_empty() => {
            text.push_str("[\n");
            for (at, item) in items.iter().enumerate() {
                write!(text, "{pad}  ")?;
                write(item, depth + 1, text)?;
                text.push_str(if at + 1 < items.len() { ",\n" } else { "\n" });
            }
            write!(text, "{pad}]")
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => write!(text, "{value}"),
    }
}

/// JSON in which no object has a name twice: which of the two counts, the
/// readers of JSON do not agree on.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Unique(member))) = members.next_entry::<String, Unique>()? {
            if all.insert(name.clone(), member).is_some() {
                return Err(A::Error::custom(format!("`{name}` is there twice")));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_in_the_order_of_its_grammar_and_read_again() {
        let text = r#"{"Statement": {"Condition": {}, "Action": ["a", "b"], "Principal": {"AWS": "x"},
            "Effect": "Allow", "Sid": "S"}, "Version": "2008-10-17"}"#;
        let document = Document::parse(text).expect("a document");
        let shown = document.to_string();
        assert_eq!(
            shown,
            r#"{
  "Version": "2008-10-17",
  "Statement": [
    {
      "Sid": "S",
      "Effect": "Allow",
      "Principal": {
        "AWS": "x"
      },
      "Action": [
        "a",
        "b"
      ],
      "Condition": {}
    }
  ]
}"#
        );
        assert_eq!(Document::parse(&shown), Ok(document.clone()));
        assert_eq!(Document::parse(&document.compact()), Ok(document));
    }

    #[test]
    fn what_cannot_be_read_for_sure_is_no_document() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"Statement": 1}"#,
            r#"{"Statement": [], "Statement": []}"#,
            r#"{"Statement": [{"Effect": "Deny", "Effect": "Allow"}]}"#,
            r#"{"Statement": [{"Condition": {"Null": {"a": "true", "a": "false"}}}]}"#,
            r#"{"Statement": []} x"#,
        ] {
            assert!(Document::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn white_space_does_not_count() {
        let mut document = Document::of(json!({"Sid": "a b"}));
        let before = document.length();
        document.statements[0] = json!({"Sid": "ab"});
        assert_eq!(document.length(), before);
        let shown: String = document.to_string();
        let counted = shown.chars().filter(|letter| !letter.is_whitespace());
        assert_eq!(counted.count(), before);
    }
}
