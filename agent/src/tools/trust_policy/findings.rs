//! What of a wish a role has, point by point.

use super::document::Document;
use super::judge::{Fit, Guard};
use super::statement::{Effect, Statement};
use super::wish::{Wanted, Wish};
use crate::model::{Partition, RoleArn};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Whether the role is where it must be.
    Account,
    /// Whether a statement can be read.
    Statement,
    /// Whether anything trusts the principal.
    Principal,
    /// Whether that is for the actions.
    Action,
    /// Whether that keeps others out.
    Condition,
    /// Whether that lets in whom it is for.
    Line,
    /// Whether anything refuses it nevertheless.
    Denial,
    /// Whether the managed policy is attached.
    Policy,
}

/// How it is with a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Not there.
    Missing,
    /// There, and not as it should be.
    Wrong,
    /// It cannot be said from here, and so is not ok.
    Unsure,
}

/// One point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) point: Point,
    pub(super) verdict: Verdict,
    pub(super) says: String,
}

impl Point {
    /// For people and scripts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Statement => "statement",
            Self::Principal => "principal",
            Self::Action => "action",
            Self::Condition => "condition",
            Self::Line => "line",
            Self::Denial => "denial",
            Self::Policy => "policy",
        }
    }
}

impl Verdict {
    /// For people and scripts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Unsure => "unsure",
        }
    }
}

/// Everything of a role that a wish is about.
pub(super) fn of_role(
    wish: &Wish,
    role: &RoleArn,
    document: &Document,
    attached: &[String],
) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(account(wish, role));
    all.extend(of_document(wish, document));
    all.extend(wish.policy.as_ref().map(|policy| {
        if attached.contains(policy) {
            finding(Point::Policy, Verdict::Ok, format!("{policy} is attached"))
        } else {
            let says = format!("{policy} is not attached");
            finding(Point::Policy, Verdict::Missing, says)
        }
    }));
    all
}

/// Whether there is nothing to mend.
pub(super) fn are_ok(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.verdict == Verdict::Ok)
}

/// What the trust policy alone shows.
pub(super) fn of_document(wish: &Wish, document: &Document) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut statements = Vec::new();
    for (at, value) in document.statements.iter().enumerate() {
        let number = at + 1;
        match Statement::read(value) {
            Ok(statement) => statements.push((number, statement)),
            Err(why) => {
                let says = format!("statement {number} cannot be judged: {why}");
                all.push(finding(Point::Statement, Verdict::Unsure, says));
            }
        }
    }
    let (allow, deny): (Vec<_>, Vec<_>) = statements
        .into_iter()
        .partition(|(_, statement)| statement.effect == Effect::Allow);
    all.push(principal(wish, &allow));
    all.extend(
        wish.actions
            .iter()
            .map(|action| self::action(wish, &allow, action)),
    );
    all.extend(
        wish.conditions
            .iter()
            .map(|wanted| condition(wish, &allow, wanted)),
    );
    all.push(line(wish, &allow));
    all.push(denial(wish, &deny));
    all
}

/// Whether the statement may be what lets the wish in: it is for its principal
/// and a first action, and its conditions are not for others only.
pub(super) fn may_let_in(wish: &Wish, statement: &Statement) -> bool {
    let is_about = wish
        .actions
        .first()
        .is_some_and(|action| statement.is_about(action));
    statement.effect == Effect::Allow
        && is_about
        && !matches!(
            statement.is_for(wish).and(statement.holds(wish)),
            Fit::No(_)
        )
}

fn account(wish: &Wish, role: &RoleArn) -> Option<Finding> {
    let wanted = wish.account.as_ref()?;
    let partition = wish.partition.map(Partition::as_str).unwrap_or_default();
    let is_there = role.account_id() == wanted && role.partition() == wish.partition;
    Some(if is_there {
        let says = format!("the role is in {partition} {wanted}");
        finding(Point::Account, Verdict::Ok, says)
    } else {
        let says = format!("the role is not in {partition} {wanted}: {role}");
        finding(Point::Account, Verdict::Wrong, says)
    })
}

fn principal(wish: &Wish, allow: &[(usize, Statement)]) -> Finding {
    let name = &wish.principal.1;
    let mut reasons = Vec::new();
    let mut unsure = Vec::new();
    for (number, statement) in allow {
        match statement.is_for(wish) {
            Fit::Yes => {
                let says = format!("statement {number} trusts {name}");
                return finding(Point::Principal, Verdict::Ok, says);
            }
            Fit::No(why) => reasons.push(format!("statement {number} {why}")),
            Fit::Unsure(why) => unsure.push(format!("statement {number}: {why}")),
        }
    }
    if !unsure.is_empty() {
        return finding(Point::Principal, Verdict::Unsure, unsure.join("; "));
    }
    let mut says = format!("no statement trusts {name}");
    if let Some(deleted) = reasons.iter().find(|why| why.contains("deleted")) {
        says = format!("{says}; {deleted}");
    }
    finding(Point::Principal, Verdict::Missing, says)
}

fn action(wish: &Wish, allow: &[(usize, Statement)], action: &str) -> Finding {
    let found = allow
        .iter()
        .find(|(_, it)| it.is_about(action) && it.is_for(wish) == Fit::Yes);
    let (verdict, says) = found.map_or_else(
        || {
            let name = &wish.principal.1;
            let says = format!("no statement that trusts {name} allows {action}");
            (Verdict::Missing, says)
        },
        |(number, _)| (Verdict::Ok, format!("statement {number} allows {action}")),
    );
    finding(Point::Action, verdict, says)
}

/// One statement without it is enough to let others in.
fn condition(wish: &Wish, allow: &[(usize, Statement)], wanted: &Wanted) -> Finding {
    let key = &wanted.key;
    let others = wanted.else_whom;
    let mut held = None;
    for (number, statement) in allow.iter().filter(|(_, it)| may_let_in(wish, it)) {
        let (verdict, says) = match statement.guard(wanted) {
            Guard::Held => {
                held = Some(number);
                continue;
            }
            Guard::Absent => (
                Verdict::Missing,
                format!("statement {number} has no condition on {key}: it trusts {others}"),
            ),
            Guard::Open(value) => (
                Verdict::Wrong,
                format!("statement {number} has {value} for {key}: it trusts {others}"),
            ),
            Guard::Unsure(why) => (Verdict::Unsure, format!("statement {number}: {why}")),
        };
        return finding(Point::Condition, verdict, says);
    }
    let (verdict, says) = held.map_or_else(
        || {
            let says = format!("no statement with a condition on {key} lets it in");
            (Verdict::Missing, says)
        },
        |number| {
            let says = format!("statement {number} has a condition on {key}");
            (Verdict::Ok, says)
        },
    );
    finding(Point::Condition, verdict, says)
}

fn line(wish: &Wish, allow: &[(usize, Statement)]) -> Finding {
    let whom = &wish.whom;
    let (mut numbers, mut missing, mut unsure) = (Vec::new(), Vec::new(), Vec::new());
    for action in wish.actions {
        let about = allow.iter().filter(|(_, it)| it.is_about(action));
        let mut answer = Err(Vec::new());
        for (number, statement) in about {
            let is_for = statement.is_for(wish);
            let is_ours = !matches!(is_for, Fit::No(_));
            match is_for.and(statement.holds(wish)) {
                Fit::Yes => {
                    answer = Ok(number);
                    break;
                }
                fit @ (Fit::No(_) | Fit::Unsure(_)) => {
                    if let (Err(reasons), true) = (&mut answer, is_ours) {
                        reasons.push((number, fit));
                    }
                }
            }
        }
        match answer {
            Ok(number) if numbers.contains(number) => {}
            Ok(number) => numbers.push(*number),
            Err(reasons) => {
                for (number, fit) in reasons {
                    match fit {
                        Fit::Yes => {}
                        Fit::No(why) => missing.push(format!("statement {number}: {why}")),
                        Fit::Unsure(why) => unsure.push(format!("statement {number}: {why}")),
                    }
                }
                if missing.is_empty() && unsure.is_empty() {
                    missing.push(format!("no statement allows {action}"));
                }
            }
        }
    }
    missing.dedup();
    unsure.dedup();
    if !unsure.is_empty() {
        let says = format!("whether {whom} may: {}", unsure.join("; "));
        return finding(Point::Line, Verdict::Unsure, says);
    }
    if !missing.is_empty() {
        let says = format!("nothing lets in {whom}: {}", missing.join("; "));
        return finding(Point::Line, Verdict::Missing, says);
    }
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let says = format!("statement {} lets in {whom}", numbers.join(" and "));
    finding(Point::Line, Verdict::Ok, says)
}

fn denial(wish: &Wish, deny: &[(usize, Statement)]) -> Finding {
    let mut unsure = Vec::new();
    for (number, statement) in deny {
        if !wish.actions.iter().any(|action| statement.is_about(action)) {
            continue;
        }
        match statement.is_for(wish).and(statement.holds(wish)) {
            Fit::Yes => {
                let says = format!("statement {number} denies it");
                return finding(Point::Denial, Verdict::Wrong, says);
            }
            Fit::No(_) => {}
            Fit::Unsure(why) => unsure.push(format!("statement {number} may deny it: {why}")),
        }
    }
    if unsure.is_empty() {
        finding(
            Point::Denial,
            Verdict::Ok,
            "no statement denies it".to_owned(),
        )
    } else {
        finding(Point::Denial, Verdict::Unsure, unsure.join("; "))
    }
}

fn finding(point: Point, verdict: Verdict, says: String) -> Finding {
    Finding {
        point,
        verdict,
        says,
    }
}
