//! A trust policy that has what it lacked, and all else as it was.

use serde_json::{Value, json};

use super::document::Document;
use super::findings::may_let_in;
use super::judge::{Fit, Guard};
use super::statement::{Actions, Condition, Effect, Statement};
use super::wish::{Wanted, Wish};

/// A policy, and what became of it in words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Amended {
    pub(super) document: Document,
    /// What takes something away from somebody.
    pub(super) warnings: Vec<String>,
}

/// The least change by which the policy has the wish: first what is open is
/// closed, then a statement that nearly has it is completed, else one is added.
/// What cannot be judged is left alone.
pub(super) fn amend(document: &Document, wish: &Wish) -> Amended {
    let mut document = document.clone();
    let mut warnings = Vec::new();
    for (at, value) in document.statements.iter_mut().enumerate() {
        warnings.extend(close(value, wish).map(|what| format!("statement {} {what}", at + 1)));
    }
    if !has(&document, wish) && !document.statements.iter_mut().any(|it| complete(it, wish)) {
        document.statements.push(wish.statement());
    }
    Amended { document, warnings }
}

/// Whether statements let the wish in for all its actions.
fn has(document: &Document, wish: &Wish) -> bool {
    wish.actions.iter().all(|action| {
        document.statements.iter().any(|value| {
            Statement::read(value).is_ok_and(|it| {
                it.effect == Effect::Allow
                    && it.is_about(action)
                    && it.is_for(wish).and(it.holds(wish)) == Fit::Yes
            })
        })
    })
}

/// Gives the statement the conditions that it lacks, if it is the principal's
/// alone; else takes the principal out of it. Says what that changes.
fn close(value: &mut Value, wish: &Wish) -> Option<String> {
    let statement = Statement::read(value).ok()?;
    if !statement.names(wish) || !may_let_in(wish, &statement) {
        return None;
    }
    let is_open = |wanted: &&Wanted| match statement.guard(wanted) {
        Guard::Absent | Guard::Open(_) => true,
        Guard::Held | Guard::Unsure(_) => false,
    };
    let open: Vec<&Wanted> = wish.conditions.iter().filter(is_open).collect();
    if open.is_empty() {
        return None;
    }
    let name = &wish.principal.1;
    if !statement.names_alone(wish) {
        remove_principal(value, wish);
        return Some(format!(
            "is no longer for {name}, and as it was for the others"
        ));
    }
    for wanted in &open {
        match statement.guard(wanted) {
            Guard::Open(_) => shut(value, wanted),
            Guard::Absent | Guard::Held | Guard::Unsure(_) => {}
        }
        // Under another operator it would have to hold together with what is left.
        let left = Statement::read(value).ok()?.conditions;
        let left: Vec<Condition> = left
            .into_iter()
            .filter(|it| {
                it.key.eq_ignore_ascii_case(&wanted.key) && it.keeps_out(wanted) == Guard::Held
            })
            .collect();
        match left.iter().find(|it| it.could_have(wanted)) {
            Some(condition) => insert_value(value, &condition.operator, wanted),
            None if left.is_empty() => insert_value(value, wanted.operator(), wanted),
            None => {}
        }
    }
    let others: Vec<&str> = open.iter().map(|wanted| wanted.else_whom).collect();
    Some(format!("no longer trusts {}", others.join(", ")))
}

/// Completes a statement that is the principal's alone: with actions, or with the
/// one value that it lacks. With two it would let in their combinations, too.
fn complete(value: &mut Value, wish: &Wish) -> bool {
    let Ok(statement) = Statement::read(value) else {
        return false;
    };
    if statement.effect != Effect::Allow || !statement.names_alone(wish) {
        return false;
    }
    let Actions::These(_) = &statement.actions else {
        return false;
    };
    let is_guarded = |wanted: &Wanted| statement.guard(wanted) == Guard::Held;
    if !wish.conditions.iter().all(is_guarded) {
        return false;
    }
    let (mut lacking, mut others) = (Vec::new(), Fit::Yes);
    for condition in &statement.conditions {
        let holds = condition.holds(wish);
        let wanted = wish
            .conditions
            .iter()
            .find(|it| it.key.eq_ignore_ascii_case(&condition.key));
        match (holds, wanted) {
            (Fit::No(_), Some(wanted)) => lacking.push((condition, wanted)),
            (holds, _) => others = others.and(holds),
        }
    }
    if others != Fit::Yes {
        return false;
    }
    match lacking[..] {
        [] => {}
        [(condition, wanted)] if condition.could_have(wanted) => {
            insert_value(value, &condition.operator, wanted);
        }
        _ => return false,
    }
    for action in wish
        .actions
        .iter()
        .filter(|action| !statement.is_about(action))
    {
        push(&mut value["Action"], action);
    }
    true
}

/// Takes out the values by which the statement is open.
fn shut(value: &mut Value, wanted: &Wanted) {
    let Some(operators) = value["Condition"].as_object_mut() else {
        return;
    };
    for (operator, keys) in operators.iter_mut() {
        let Some(keys) = keys.as_object_mut() else {
            continue;
        };
        keys.retain(|key, values| {
            if !key.eq_ignore_ascii_case(&wanted.key) {
                return true;
            }
            let is_open = |own: &Value| {
                let condition = Condition {
                    operator: operator.clone(),
                    key: key.clone(),
                    values: own.as_str().map(str::to_owned).into_iter().collect(),
                };
                matches!(condition.keeps_out(wanted), Guard::Open(_))
            };
            match values {
                Value::Array(items) => {
                    items.retain(|item| !is_open(item));
                    !items.is_empty()
                }
                one => !is_open(one),
            }
        });
    }
    operators.retain(|_, keys| keys.as_object().is_none_or(|keys| !keys.is_empty()));
}

/// Adds the value to those that the statement has for the key under the operator.
/// Keys are the same whatever their case.
fn insert_value(value: &mut Value, operator: &str, wanted: &Wanted) {
    let Some(statement) = value.as_object_mut() else {
        return;
    };
    let conditions = statement.entry("Condition").or_insert_with(|| json!({}));
    let keys = &mut conditions[operator];
    let spelled = keys.as_object().and_then(|keys| {
        keys.keys()
            .find(|key| key.eq_ignore_ascii_case(&wanted.key))
            .cloned()
    });
    push(
        &mut keys[spelled.as_deref().unwrap_or(&wanted.key)],
        &wanted.value,
    );
}

/// Adds a text to one text or a list of them.
fn push(value: &mut Value, text: &str) {
    match value {
        Value::Null => *value = json!(text),
        Value::Array(items) => items.push(json!(text)),
        one => *one = json!([one.take(), text]),
    }
}

fn remove_principal(value: &mut Value, wish: &Wish) {
    let (kind, name) = &wish.principal;
    let Some(kinds) = value["Principal"].as_object_mut() else {
        return;
    };
    kinds.retain(|its, names| {
        if its != kind {
            return true;
        }
        match names {
            Value::Array(items) => {
                items.retain(|item| item.as_str() != Some(name));
                !items.is_empty()
            }
            one => one.as_str() != Some(name),
        }
    });
}
