//! One statement of a trust policy, read by IAM's grammar.

use serde_json::{Map, Value};

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Trusts.
    Allow,
    /// Refuses, whatever else trusts.
    Deny,
}

/// Whom a statement is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Principals {
    /// `"*"`.
    Everybody,
    /// By type, such as `Service`, and name.
    These(Vec<(String, String)>),
    /// `NotPrincipal`: roles cannot have it, so what it would mean is not said anywhere.
    AllBut,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Actions {
    /// Patterns.
    These(Vec<String>),
    /// `NotAction`: what fits none of these patterns.
    AllBut(Vec<String>),
}

/// A key and its values under one operator. All of a statement's must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) operator: String,
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

/// A statement that can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) effect: Effect,
    pub(super) principals: Principals,
    pub(super) actions: Actions,
    pub(super) conditions: Vec<Condition>,
}

impl Statement {
    /// Refuses, with the reason, what the grammar does not have.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let Value::Object(members) = value else {
            return Err("it is no object".to_owned());
        };
        let (mut effect, mut principals, mut actions) = (None, None, None);
        let mut conditions = Vec::new();
        for (name, member) in members {
            let is_second = match name.as_str() {
                "Sid" => false,
                "Effect" => effect.replace(read_effect(member)?).is_some(),
                "Principal" => principals.replace(read_principals(member)?).is_some(),
                "NotPrincipal" => principals.replace(Principals::AllBut).is_some(),
                "Action" => actions
                    .replace(Actions::These(texts(name, member)?))
                    .is_some(),
                "NotAction" => actions
                    .replace(Actions::AllBut(texts(name, member)?))
                    .is_some(),
                "Condition" => {
                    conditions = read_conditions(member)?;
                    false
                }
                _ => return Err(format!("trust policies have no `{name}`")),
            };
            if is_second {
                return Err(format!("it has `{name}` and its opposite"));
            }
        }
        Ok(Self {
            effect: effect.ok_or("it has no Effect")?,
            principals: principals.ok_or("it has no Principal")?,
            actions: actions.ok_or("it has no Action")?,
            conditions,
        })
    }
}

fn read_effect(value: &Value) -> Result<Effect, String> {
    match value.as_str() {
        Some("Allow") => Ok(Effect::Allow),
        Some("Deny") => Ok(Effect::Deny),
        Some(_) | None => Err("its Effect is neither Allow nor Deny".to_owned()),
    }
}

fn read_principals(value: &Value) -> Result<Principals, String> {
    if value.as_str() == Some("*") {
        return Ok(Principals::Everybody);
    }
    let mut all = Vec::new();
    for (kind, names) in object("Principal", value)? {
        let names = texts("Principal", names)?;
        all.extend(names.into_iter().map(|name| (kind.clone(), name)));
    }
    Ok(Principals::These(all))
}

fn read_conditions(value: &Value) -> Result<Vec<Condition>, String> {
    let mut all = Vec::new();
    for (operator, keys) in object("Condition", value)? {
        for (key, values) in object("Condition", keys)? {
            all.push(Condition {
                operator: operator.clone(),
                key: key.clone(),
                values: texts("Condition", values)?,
            });
        }
    }
    Ok(all)
}

fn object<'a>(name: &str, value: &'a Value) -> Result<&'a Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("its {name} cannot be read"))
}

/// One text or a list of them; truth values and numbers count as their texts.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("its {name} cannot be read"))
        }
    };
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}
