//! What one statement says of a request, as IAM would decide it.

use super::pattern::{Pattern, Reach, reach_of_arn};
use super::statement::{Actions, Condition, Principals, Statement};
use super::wish::{Known, Wanted, Wish};

/// An answer, with its reason where it is not yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does.
    Yes,
    /// It does not.
    No(String),
    /// It cannot be said from here.
    Unsure(String),
}

/// Whether a statement has a condition that keeps others out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// It has.
    Held,
    /// No condition is on the key, or it holds for a request without the key.
    Absent,
    /// One is, and this value of it lets everybody in.
    Open(String),
    /// One is, and it cannot be judged.
    Unsure(String),
}

/// How an operator compares.
#[derive(Clone, Copy)]
struct Operator {
    compare: Compare,
    /// Holds if no value fits.
    negated: bool,
    /// Holds for a request without the key.
    holds_without: bool,
}

#[derive(Clone, Copy)]
enum Compare {
    Literal,
    IgnoringCase,
    Wild,
    Arn,
    /// Whether the key is absent.
    Null,
}

impl Fit {
    /// Yes if both are; no if either is.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No(why), _) | (Self::Yes | Self::Unsure(_), Self::No(why)) => Self::No(why),
            (Self::Unsure(why), Self::Yes | Self::Unsure(_)) | (Self::Yes, Self::Unsure(why)) => {
                Self::Unsure(why)
            }
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

impl Statement {
    /// Whether the statement is for the principal.
    pub(super) fn is_for(&self, wish: &Wish) -> Fit {
        let (kind, name) = (wish.principal.0, wish.principal.1.as_str());
        let these = match &self.principals {
            Principals::Everybody if kind == "AWS" => return Fit::Yes,
            Principals::Everybody => {
                return Fit::Unsure(format!(
                    "whether Principal \"*\" includes {name} is not said by AWS"
                ));
            }
            Principals::AllBut => {
                return Fit::Unsure("NotPrincipal is not for trust policies".to_owned());
            }
            Principals::These(these) => these,
        };
        if self.names(wish) {
            return Fit::Yes;
        }
        let of_kind = these.iter().filter(|(its, _)| its == kind);
        let mut reason = None;
        for (_, its) in of_kind {
            if kind == "AWS" {
                match for_aws(its, name) {
                    Fit::Yes => return Fit::Yes,
                    unsure @ Fit::Unsure(_) => return unsure,
                    Fit::No(why) => reason = Some(why),
                }
            } else if its.contains(['*', '?']) {
                return Fit::Unsure(format!("no wildcard is known for {kind}: {its}"));
            }
        }
        Fit::No(reason.unwrap_or_else(|| format!("is not for {name}")))
    }

    /// Whether the principal is among those that it names.
    pub(super) fn names(&self, wish: &Wish) -> bool {
        let (kind, name) = &wish.principal;
        match &self.principals {
            Principals::These(these) => these.iter().any(|(its, text)| its == kind && text == name),
            Principals::Everybody | Principals::AllBut => false,
        }
    }

    /// Whether the principal is all that it names.
    pub(super) fn names_alone(&self, wish: &Wish) -> bool {
        match &self.principals {
            Principals::These(these) => self.names(wish) && these.len() == 1,
            Principals::Everybody | Principals::AllBut => false,
        }
    }

    /// Whether the statement is about the action. Always decided.
    pub(super) fn is_about(&self, action: &str) -> bool {
        let action = Pattern::literal(&action.to_ascii_lowercase());
        let fits = |pattern: &String| {
            Pattern::wild(&pattern.to_ascii_lowercase()).reach(&action) == Reach::All
        };
        match &self.actions {
            Actions::These(patterns) => patterns.iter().any(fits),
            Actions::AllBut(patterns) => !patterns.iter().any(fits),
        }
    }

    /// Whether all conditions hold.
    pub(super) fn holds(&self, wish: &Wish) -> Fit {
        let each = self
            .conditions
            .iter()
            .map(|condition| condition.holds(wish));
        each.fold(Fit::Yes, Fit::and)
    }

    /// Whether the statement keeps out who does not have what is wanted.
    pub(super) fn guard(&self, wanted: &Wanted) -> Guard {
        let mut answer = Guard::Absent;
        for condition in &self.conditions {
            if !condition.key.eq_ignore_ascii_case(&wanted.key) {
                continue;
            }
            match condition.keeps_out(wanted) {
                Guard::Held => return Guard::Held,
                Guard::Absent => {}
                other => answer = other,
            }
        }
        answer
    }
}

impl Condition {
    /// Whether it lets in what is asked for.
    pub(super) fn holds(&self, wish: &Wish) -> Fit {
        let Some(operator) = Operator::read(&self.operator) else {
            return Fit::Unsure(format!(
                "{} on {} is beyond this check",
                self.operator, self.key
            ));
        };
        let no = |why: &str| Fit::No(format!("{} {} {why}", self.operator, self.key));
        let value = match wish.known(&self.key) {
            Known::Is(value) => value,
            Known::Absent => {
                return match operator.compare {
                    Compare::Null => self.null(true, "the request has none"),
                    Compare::Literal | Compare::IgnoringCase | Compare::Wild | Compare::Arn => {
                        if operator.holds_without || operator.negated {
                            Fit::Yes
                        } else {
                            no("is there, and the request has none")
                        }
                    }
                };
            }
            Known::Unknown => {
                return Fit::Unsure(format!("only a request tells its {}", self.key));
            }
        };
        if matches!(operator.compare, Compare::Null) {
            return self.null(false, "the request has one");
        }
        let mut unsure = None;
        for own in &self.values {
            match (operator.reach(own, value), operator.negated) {
                (Some(Reach::All), true) => return no(&format!("keeps {value} out")),
                (Some(Reach::All), false) => return Fit::Yes,
                (Some(Reach::None), _) => {}
                (Some(Reach::Some), _) => {
                    unsure = Some(format!(
                        "{} {own} is for a part of {value} at most",
                        self.key
                    ));
                }
                (None, _) => unsure = Some(format!("{} {own} is beyond this check", self.key)),
            }
        }
        match unsure {
            Some(why) => Fit::Unsure(why),
            None if operator.negated => Fit::Yes,
            None => no(&format!("does not have {value}")),
        }
    }

    /// Its operator is `Null`.
    fn null(&self, is_absent: bool, why: &str) -> Fit {
        match self.values.as_slice() {
            [value] if value == "true" || value == "false" => {
                if (value == "true") == is_absent {
                    Fit::Yes
                } else {
                    Fit::No(format!("Null {} is {value}, and {why}", self.key))
                }
            }
            _ => Fit::Unsure(format!("Null {} is neither true nor false", self.key)),
        }
    }

    /// It is on the wanted key.
    pub(super) fn keeps_out(&self, wanted: &Wanted) -> Guard {
        let Some(operator) = Operator::read(&self.operator) else {
            return Guard::Unsure(format!(
                "{} on {} is beyond this check",
                self.operator, self.key
            ));
        };
        if operator.negated || operator.holds_without || matches!(operator.compare, Compare::Null) {
            return Guard::Absent;
        }
        for own in &self.values {
            for stranger in &wanted.strangers {
                match operator.reach(own, stranger) {
                    Some(Reach::None) => {}
                    Some(Reach::All | Reach::Some) => return Guard::Open(own.clone()),
                    None => {
                        return Guard::Unsure(format!("{} {own} is beyond this check", self.key));
                    }
                }
            }
        }
        Guard::Held
    }

    /// Whether its operator lets it have such a value beside its others.
    pub(super) fn could_have(&self, wanted: &Wanted) -> bool {
        let Some(operator) = Operator::read(&self.operator) else {
            return false;
        };
        !operator.negated
            && !operator.holds_without
            && operator.reach(&wanted.value, &wanted.value) == Some(Reach::All)
    }
}

impl Operator {
    /// By its name; none for those of other kinds (numbers, dates, addresses).
    fn read(name: &str) -> Option<Self> {
        let (name, holds_without) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        // For a key of one value `ForAnyValue` changes nothing. `ForAllValues`
        // holds without the key, too.
        let (name, holds_without) = match name.split_once(':') {
            None => (name, holds_without),
            Some(("ForAnyValue", name)) => (name, holds_without),
            Some(("ForAllValues", name)) => (name, true),
            Some(_) => return None,
        };
        let (compare, negated) = match name {
            "StringEquals" => (Compare::Literal, false),
            "StringNotEquals" => (Compare::Literal, true),
            "StringEqualsIgnoreCase" => (Compare::IgnoringCase, false),
            "StringNotEqualsIgnoreCase" => (Compare::IgnoringCase, true),
            "StringLike" => (Compare::Wild, false),
            "StringNotLike" => (Compare::Wild, true),
            "ArnEquals" | "ArnLike" => (Compare::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Compare::Arn, true),
            "Null" if !holds_without => (Compare::Null, false),
            _ => return None,
        };
        Some(Self {
            compare,
            negated,
            holds_without,
        })
    }

    /// How much of what is asked for a value covers; none where that is not known.
    fn reach(self, own: &str, asked: &str) -> Option<Reach> {
        if own.contains("${") {
            return None;
        }
        let wild = Pattern::wild(asked);
        match self.compare {
            Compare::Literal => Some(Pattern::literal(own).reach(&wild)),
            Compare::IgnoringCase => {
                let asked = Pattern::wild(&asked.to_lowercase());
                Some(Pattern::literal(&own.to_lowercase()).reach(&asked))
            }
            Compare::Wild => Some(Pattern::wild(own).reach(&wild)),
            Compare::Arn => reach_of_arn(own, asked),
            Compare::Null => None,
        }
    }
}

/// Whether a name of the type `AWS` includes a role.
fn for_aws(its: &str, role: &str) -> Fit {
    if its == "*" {
        return Fit::Yes;
    }
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let [_, partition, _, _, account, _] = parts[..] else {
        return Fit::No(format!("is not for {role}"));
    };
    // The whole account: then the role's own policies decide, as for credlet they do.
    if its == account || its == format!("arn:{partition}:iam::{account}:root") {
        return Fit::Yes;
    }
    let name = role.rsplit('/').next().unwrap_or_default();
    let session = format!("arn:{partition}:sts::{account}:assumed-role/{name}/");
    if its.starts_with(&session) {
        return Fit::Unsure(format!("{its} is one session of the role only"));
    }
    // What IAM puts in the place of a role that was deleted.
    if its.starts_with("AROA") {
        return Fit::No(format!("is for {its}, a role that was deleted"));
    }
    Fit::No(format!("is not for {role}"))
}
