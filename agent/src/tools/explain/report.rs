//! How it is said, to people and to scripts.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Explanation;
use super::candidates::{Candidate, Says};
use super::environment::{Container, Token, Way};
use super::facts::{Here, Seen};
use super::first::{First, advice};
use super::role::Described;
use crate::identity::pods::{Life, Network};
use crate::model::Association;
use crate::status::Asked;

/// What has no words of its own.
const NOTHING: &str = "-";

/// In paragraphs, each with its points in columns.
pub(super) fn text(of: &Explanation<'_>) -> String {
    let mut text = String::new();
    let (facts, caller) = (of.facts, &of.caller);
    let namespace = caller.account().namespace();
    line(&mut text, &format!("pod {namespace}/{}", caller.name()));
    point(&mut text, "account", &caller.account().to_string());
    point(&mut text, "state", state(of));
    point(&mut text, "node", node(of));
    point(&mut text, "agent", &agent(&facts.here));
    point(&mut text, "known by", &known_by(of));
    if let Some(why) = &facts.assumed {
        let settings = format!("the agents' are not known, so their defaults are taken ({why})");
        point(&mut text, "settings", &settings);
    }

    line(
        &mut text,
        "\nassociations, in the order in which they count",
    );
    if of.candidates.is_empty() {
        point(
            &mut text,
            "none",
            &format!("{} has none in any source", caller.account()),
        );
    }
    for (at, candidate) in of.candidates.iter().enumerate() {
        let verdict = verdict(candidate, at);
        point(&mut text, verdict, &described(candidate));
    }
    if let Some(role) = &of.role {
        text.push_str(&session(role));
    }

    line(&mut text, "\nenvironment of its containers");
    for container in &of.containers {
        point(&mut text, &container.name, &found(container));
        if !container.unseen.is_empty() {
            let unseen = format!("not looked into: {}", container.unseen.join(", "));
            point(&mut text, "", &unseen);
        }
        if !container.lacks.is_empty() {
            point(
                &mut text,
                "",
                &format!("lacks {}", container.lacks.join(", ")),
            );
        }
    }
    if let Some(left) = &of.left {
        point(
            &mut text,
            NOTHING,
            &format!("no webhook adds anything: {left}"),
        );
    }

    line(&mut text, "\nits first request");
    for (name, says) in outcome(&of.first) {
        point(&mut text, name, &says);
    }
    if let Some(asked) = &facts.asked {
        line(&mut text, "\nwhat its agent would answer it now");
        for (name, says) in told(asked) {
            point(&mut text, name, &says);
        }
    }
    text
}

/// One object.
pub(super) fn json(of: &Explanation<'_>) -> Value {
    let caller = &of.caller;
    let candidate = |(at, it): (usize, &Candidate)| {
        json!({
            "source": it.source,
            "declaration": it.of,
            "verdict": verdict(it, at),
            "says": says(&it.says),
        })
    };
    let candidates: Vec<Value> = of.candidates.iter().enumerate().map(candidate).collect();
    json!({
        "pod": {
            "namespace": caller.account().namespace(),
            "name": caller.name(),
            "uid": caller.pod().as_str(),
            "serviceAccount": caller.account().name(),
            "node": of.facts.pod["spec"]["nodeName"],
            "addresses": of.facts.report.addresses,
            "state": state(of),
            "knownBy": known_by(of),
        },
        "agent": agent(&of.facts.here),
        "settingsAssumed": of.facts.assumed,
        "associations": candidates,
        "session": of.role,
        "containers": of.containers,
        "notInjected": of.left.map(|left| left.to_string()),
        "firstRequest": of.first,
        "agentAnswers": of.facts.asked.as_ref().map(|asked| match asked {
            Ok(asked) => json!(asked),
            Err(why) => json!({"unseen": why}),
        }),
    })
}

fn line(text: &mut String, says: &str) {
    writeln!(text, "{says}").expect("infallible");
}

fn point(text: &mut String, name: &str, says: &str) {
    writeln!(text, "  {name:<10} {says}").expect("infallible");
}

fn state(of: &Explanation<'_>) -> &'static str {
    match of.facts.report.life {
        Life::Live => "it can call",
        Life::Terminating => "it is being ended, and can call until its containers have",
        Life::Over => "it has ended",
    }
}

fn node<'a>(of: &Explanation<'a>) -> &'a str {
    of.facts.pod["spec"]["nodeName"]
        .as_str()
        .unwrap_or("none yet")
}

fn agent(here: &Here) -> String {
    match here {
        Here::Ready(name) => format!("{name}, ready"),
        Here::Unready(name) => format!("{name}, not ready"),
        Here::None => "none on this node".to_owned(),
        Here::Nowhere => "none: the pod is on no node yet".to_owned(),
        Here::Unseen(why) => format!("not to be seen: {why}"),
    }
}

fn known_by(of: &Explanation<'_>) -> String {
    let addresses = of.facts.report.addresses.join(", ");
    match of.facts.report.network {
        Network::Node => "its token alone: it is on the host network".to_owned(),
        Network::Unclear => "nothing: its network is unclear".to_owned(),
        Network::Pod if addresses.is_empty() => "no address yet".to_owned(),
        Network::Pod => {
            format!("its address {addresses}, the path there, and a token if it shows one")
        }
    }
}

fn verdict(candidate: &Candidate, at: usize) -> &'static str {
    match &candidate.says {
        Says::Is(_) if at == 0 => "counts",
        Says::Refused(_) if at == 0 => "refused",
        Says::Failing(_) if at == 0 => "fails",
        Says::Unseen(_) => "unseen",
        Says::Is(_) | Says::Refused(_) | Says::Failing(_) => "hidden",
    }
}

fn described(candidate: &Candidate) -> String {
    format!(
        "{}: {}: {}",
        candidate.source,
        candidate.of,
        says(&candidate.says)
    )
}

fn says(says: &Says) -> String {
    match says {
        Says::Is(association) => match &**association {
            Association::EksAuth => "EKS gives the credentials".to_owned(),
            Association::Role(grant) => match &grant.target_role {
                Some(target) => format!("{}, then {target}", grant.role),
                None => grant.role.to_string(),
            },
        },
        Says::Refused(why) => why.to_string(),
        Says::Failing(why) | Says::Unseen(why) => why.clone(),
    }
}

fn session(role: &Described) -> String {
    let mut text = String::new();
    line(&mut text, "\nsession");
    point(
        &mut text,
        "role",
        role.role.as_deref().unwrap_or("known to EKS alone"),
    );
    if let Some(target) = &role.target_role {
        point(&mut text, "then", target);
    }
    let by = match &role.audience {
        Some(audience) => format!(
            "{}, with a token of the pod's for {audience}",
            role.exchange
        ),
        None => format!("{}, by the agent's own identity", role.exchange),
    };
    point(&mut text, "exchange", &by);
    if let Some(name) = &role.session_name {
        point(&mut text, "name", name);
    }
    if let Some(identity) = &role.source_identity {
        point(&mut text, "identity", identity);
    }
    if let Some(seconds) = role.seconds {
        point(&mut text, "lives", &format!("{} minutes", seconds / 60));
    }
    for (at, (key, value)) in role.tags.iter().enumerate() {
        let name = if at == 0 { "tags" } else { "" };
        point(&mut text, name, &format!("{key}={value}"));
    }
    if role.external_id {
        point(&mut text, "and", "an external id");
    }
    if role.policy {
        point(&mut text, "and", "a policy that narrows it");
    }
    text
}

fn found(container: &Container) -> String {
    match &container.way {
        Way::Keys => "keys of its own in its environment, which SDKs use first".to_owned(),
        Way::Sts { role } => format!("STS, for {role}, with a token of the pod's"),
        Way::Agent { uri, token } => match token {
            Token::None => format!("credlet at {uri}, without a token"),
            Token::For { audience } if audience.is_empty() => {
                format!("credlet at {uri}, with a token for the API server")
            }
            Token::For { audience } => format!("credlet at {uri}, with a token for {audience}"),
            Token::Unclear => format!("credlet at {uri}, with a token of which more is not known"),
        },
        Way::Elsewhere { uri } => format!("not credlet: {uri}"),
        Way::Metadata => "credlet, as instance metadata".to_owned(),
        Way::Nothing => "nothing that leads to credentials".to_owned(),
    }
}

fn told(asked: &Seen<Asked>) -> Vec<(&'static str, String)> {
    let asked = match asked {
        Ok(asked) => asked,
        Err(why) => return vec![("unseen", why.clone())],
    };
    let mut all = Vec::new();
    match &asked.code {
        None => all.push(("gets", asked.status.to_string())),
        Some(code) => {
            let message = asked.message.as_deref().unwrap_or_default();
            all.push(("gets", format!("{} {code}: {message}", asked.status)));
            let advice = advice(code, message);
            if !advice.is_empty() {
                all.push(("so", advice.to_owned()));
            }
        }
    }
    if let Some(session) = &asked.session {
        all.push(("as", session.clone()));
    }
    if let Some(end) = asked.expires_at {
        all.push(("until", end.to_string()));
    }
    all
}

fn outcome(first: &First) -> Vec<(&'static str, String)> {
    match first {
        First::Asked { call } => vec![
            ("goes to", format!("AWS, by {call}")),
            (
                "then",
                "200, or 403 Denied with AWS's reason; --as-caller asks".to_owned(),
            ),
        ],
        First::Refused {
            status,
            code,
            message,
            advice,
        } => {
            let mut all = vec![("gets", format!("{status} {code}: {message}"))];
            if !advice.is_empty() {
                all.push(("so", (*advice).to_owned()));
            }
            all
        }
        First::NotAsked { why } => vec![("never", (*why).to_owned())],
        First::Nobody { why } => vec![("fails", why.clone())],
        First::Unclear { why } => vec![("unclear", why.clone())],
    }
}
