//! Trust policies of IAM roles: printed, checked and mended.

use std::io::{self, IsTerminal, Write};

use self::amend::{Amended, amend};
use self::iam::{Found, Iam};
use self::report::Change;
use self::wish::Wish;
use crate::aws::{Failure, NoRegion};
use crate::config::{Consent, Output, Role, Task, TrustPolicy};
use crate::model::RoleArn;
use crate::process::Verdict;

mod amend;
mod difference;
mod document;
mod findings;
mod iam;
mod judge;
mod pattern;
mod report;
mod statement;
#[cfg(test)]
mod tests;
mod wish;

/// Why there is no answer. Each says what was not written, where anything could have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// AWS cannot be asked.
    #[error(transparent)]
    NoRegion(#[from] NoRegion),
    /// A call failed.
    #[error("{call}: {why}")]
    Call {
        /// As permissions name it.
        call: &'static str,
        /// AWS's words.
        why: Failure,
    },
    /// AWS says something unexpected.
    #[error("{0} cannot be read")]
    Unreadable(&'static str),
    /// What the role has is not what IAM would take.
    #[error("the role's trust policy cannot be read: {0}")]
    Policy(String),
    /// There is none.
    #[error("there is no role {0}; --create makes one")]
    NoRole(String),
    /// There is one.
    #[error("there is a role {0} already; --update has it trust this, too")]
    IsThere(RoleArn),
    /// The name is that of another role.
    #[error("the role of this name is another one: {0}")]
    OtherRole(RoleArn),
    /// The role is where the policy would be of no use.
    #[error(
        "the role would have to be in the account {wanted}, and these credentials are of {ours}"
    )]
    OtherAccount {
        /// The account of the trust policy.
        wanted: String,
        /// The account of the credentials.
        ours: String,
    },
    /// IAM would not take it.
    #[error(
        "the trust policy would have {length} characters, and IAM takes {quota} (the quota «Role \
         trust policy length»); nothing was written. Patterns in the place of single names make it shorter"
    )]
    TooLong {
        /// Characters but white space.
        length: usize,
        /// The account's quota.
        quota: usize,
    },
    /// Nobody can be asked.
    #[error("nothing was written: there is no terminal to ask at; --yes writes without asking")]
    NotAsked,
    /// Somebody was.
    #[error("nothing was written")]
    Refused,
    /// Somebody else was faster.
    #[error("nothing was written: the role's trust policy has changed meanwhile")]
    Changed,
    /// The first half is done.
    #[error("the trust policy is written, but {policy} is not attached: {why}")]
    NotAttached {
        /// What is missing.
        policy: String,
        /// Why.
        why: Box<Error>,
    },
}

/// Does what the command line asks for, and says on standard output what came of it.
pub async fn run(config: &TrustPolicy) -> Result<Verdict, Error> {
    let wish = Wish::of(&config.trust);
    let output = config.output;
    match &config.task {
        Task::Print => {
            say(&wish.document().to_string());
            Ok(Verdict::Well)
        }
        Task::Check(role) => {
            let iam = connect(&wish, role).await?;
            let found = existing(&iam, role).await?;
            let attached = attached(&iam, &wish, role).await?;
            let all = findings::of_role(&wish, &found.arn, &found.document, &attached);
            match output {
                Output::Text => {
                    say(&format!(
                        "{} ({})\n\n{}",
                        found.arn,
                        wish.kind,
                        report::findings(&all)
                    ));
                }
                Output::Json => {
                    say(&report::checked(found.arn.as_str(), wish.kind, &all).to_string());
                }
            }
            Ok(answer(&all))
        }
        Task::Create(role, consent) => create(&wish, role, *consent, output).await,
        Task::Update(role, consent) => update(&wish, role, *consent, output).await,
    }
}

async fn create(
    wish: &Wish,
    role: &Role,
    consent: Consent,
    output: Output,
) -> Result<Verdict, Error> {
    let iam = connect(wish, role).await?;
    let given = role.arn.as_ref().map(|arn| arn.account_id().to_owned());
    let wanted: Vec<&String> = wish.account.iter().chain(&given).collect();
    if !wanted.is_empty() {
        let ours = iam.account().await?;
        check_account(wanted, &ours)?;
    }
    if let Some(found) = iam.find(role).await? {
        return Err(Error::IsThere(found.arn));
    }
    let after = Amended {
        document: wish.document(),
        warnings: Vec::new(),
    };
    let change = Change {
        before: None,
        after: &after,
        attach: wish.policy.as_deref(),
    };
    iam.check_length(&after.document).await?;
    show_and_ask(&role.name, &change, consent, output)?;
    let arn = iam.create(role, &after.document).await?;
    attach(&iam, role, change.attach).await?;
    let all = findings::of_role(wish, &arn, &after.document, wish.policy.as_slice());
    tell(&arn, wish, &all, &change, output);
    Ok(answer(&all))
}

async fn update(
    wish: &Wish,
    role: &Role,
    consent: Consent,
    output: Output,
) -> Result<Verdict, Error> {
    let iam = connect(wish, role).await?;
    let Found { arn, document } = existing(&iam, role).await?;
    check_account(wish.account.iter().collect(), arn.account_id())?;
    let mut attached = attached(&iam, wish, role).await?;
    let after = amend(&document, wish);
    let to_attach = wish
        .policy
        .as_deref()
        .filter(|policy| !attached.iter().any(|it| it == policy));
    let change = Change {
        before: Some(&document),
        after: &after,
        attach: to_attach,
    };
    let is_other = after.document != document;
    if is_other || to_attach.is_some() {
        iam.check_length(&after.document).await?;
        show_and_ask(arn.as_str(), &change, consent, output)?;
        // IAM has no conditional write, and a person may have thought for long.
        let now = existing(&iam, role).await?;
        if now.document != document {
            return Err(Error::Changed);
        }
        if is_other {
            iam.update(role, &after.document).await?;
        }
        attach(&iam, role, to_attach).await?;
        attached.extend(to_attach.map(str::to_owned));
    }
    let all = findings::of_role(wish, &arn, &after.document, &attached);
    tell(&arn, wish, &all, &change, output);
    Ok(answer(&all))
}

async fn connect(wish: &Wish, role: &Role) -> Result<Iam, Error> {
    let named = role.arn.as_ref().and_then(RoleArn::partition);
    Ok(Iam::connect(named.or(wish.partition)).await?)
}

async fn existing(iam: &Iam, role: &Role) -> Result<Found, Error> {
    let found = iam.find(role).await?;
    found.ok_or_else(|| Error::NoRole(role.name.clone()))
}

/// Only what is of interest is asked for.
async fn attached(iam: &Iam, wish: &Wish, role: &Role) -> Result<Vec<String>, Error> {
    match &wish.policy {
        Some(_) => iam.attached(role).await,
        None => Ok(Vec::new()),
    }
}

async fn attach(iam: &Iam, role: &Role, policy: Option<&str>) -> Result<(), Error> {
    let Some(policy) = policy else { return Ok(()) };
    let attached = iam.attach(role, policy).await;
    attached.map_err(|why| Error::NotAttached {
        policy: policy.to_owned(),
        why: Box::new(why),
    })
}

fn check_account(wanted: Vec<&String>, ours: &str) -> Result<(), Error> {
    match wanted.into_iter().find(|wanted| *wanted != ours) {
        None => Ok(()),
        Some(wanted) => Err(Error::OtherAccount {
            wanted: wanted.clone(),
            ours: ours.to_owned(),
        }),
    }
}

/// What is for scripts alone on standard output stays so.
fn show_and_ask(
    role: &str,
    change: &Change<'_>,
    consent: Consent,
    output: Output,
) -> Result<(), Error> {
    let shown = report::change(role, change);
    match output {
        Output::Text => say(&shown),
        Output::Json => note(&shown),
    }
    match consent {
        Consent::Given => Ok(()),
        Consent::Asked if !io::stdin().is_terminal() => Err(Error::NotAsked),
        Consent::Asked => {
            note("\nWrite this? [y/N] ");
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            match (read, line.trim().to_ascii_lowercase().as_str()) {
                (Ok(_), "y" | "yes") => Ok(()),
                _ => Err(Error::Refused),
            }
        }
    }
}

fn tell(
    arn: &RoleArn,
    wish: &Wish,
    all: &[findings::Finding],
    change: &Change<'_>,
    output: Output,
) {
    let is_none = change.attach.is_none() && change.before == Some(&change.after.document);
    match output {
        Output::Json => say(&report::written(arn.as_str(), wish.kind, all, change).to_string()),
        Output::Text => {
            let done = if is_none {
                "there is nothing to write"
            } else {
                "written"
            };
            say(&format!("{done}: {arn}\n{}", report::what_remains(all)));
        }
    }
}

fn answer(all: &[findings::Finding]) -> Verdict {
    if findings::are_ok(all) {
        Verdict::Well
    } else {
        Verdict::Amiss
    }
}

/// A reader who has seen enough is no error.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
}

fn note(text: &str) {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}
