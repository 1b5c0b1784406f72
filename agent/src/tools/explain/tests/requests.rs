//! What a first request comes to, and what is said of it.

use serde_json::{Value, json};

use super::{Case, Here, ROLE, Verdict};

fn first(case: &Case) -> Value {
    case.json()["firstRequest"].take()
}

fn is_refused(case: &Case, status: u16, code: &str) {
    let first = first(case);
    assert_eq!(first["status"], status, "{first}");
    assert_eq!(first["code"], code, "{first}");
    assert_ne!(first["advice"], "", "{first}");
}

#[test]
fn an_account_without_an_association_gets_what_the_agent_says_of_it() {
    let (text, said, answer) = Case::injected().said();
    let first = &said["firstRequest"];
    assert_eq!(first["code"], "NoAssociation");
    let message = "no association for the service account shop/cart";
    assert_eq!(first["message"], message);
    assert!(text.contains("404 NoAssociation"), "{text}");
    assert!(text.contains("declare one"), "{text}");
    assert_eq!(answer, Verdict::Amiss);
}

#[test]
fn a_pod_that_has_it_all_has_aws_decide() {
    let (text, _, answer) = Case::injected().declared("it", "cart", ROLE).said();
    assert!(text.contains("AWS, by sts:AssumeRole"), "{text}");
    assert_eq!(answer, Verdict::Well);
}

#[test]
fn an_exchange_that_takes_a_token_takes_one_for_its_audience() {
    let irsa = |case: Case| case.annotated("eks.amazonaws.com/role-arn", ROLE);
    is_refused(&irsa(Case::injected()), 403, "NoToken");
    let shown = irsa(Case::plain().showing("sts.amazonaws.com"));
    let call = json!({"outcome": "asked", "call": "sts:AssumeRoleWithWebIdentity"});
    assert_eq!(first(&shown), call);
    let requested = irsa(Case::injected()).run("--request-tokens");
    assert_eq!(first(&requested), call);
}

#[test]
fn who_the_agent_would_not_know_is_told_so() {
    let mut host = Case::injected().declared("it", "cart", ROLE);
    host.pod["spec"]["hostNetwork"] = true.into();
    host.pod["status"]["hostIPs"] = json!([{"ip": "192.0.2.1"}]);
    assert_eq!(first(&host)["outcome"], "asked");
    host.pod["spec"]["containers"][0]["env"][1]["name"] = "OTHER".into();
    is_refused(&host, 403, "NodeAddress");
    host.pod["spec"]["hostNetwork"] = false.into();
    assert_eq!(first(&host)["outcome"], "asked");
    is_refused(&host.run("--identity token"), 403, "NoToken");
    let mut over = Case::injected().declared("it", "cart", ROLE);
    over.pod["status"]["phase"] = "Succeeded".into();
    is_refused(&over, 403, "GonePod");
}

#[test]
fn a_node_without_a_ready_agent_answers_nobody() {
    let unready = Here::Unready("credlet-1".to_owned());
    for here in [Here::None, Here::Nowhere, unready] {
        let mut case = Case::injected().declared("it", "cart", ROLE);
        case.here = here;
        assert_eq!(first(&case)["outcome"], "nobody");
        assert_eq!(case.said().2, Verdict::Amiss);
    }
}

#[test]
fn a_pod_whose_environment_does_not_lead_to_credlet_never_asks() {
    let (text, said, answer) = Case::plain().declared("it", "cart", ROLE).said();
    assert_eq!(said["firstRequest"]["outcome"], "not-asked");
    let lacks = "lacks AWS_CONTAINER_CREDENTIALS_FULL_URI";
    assert!(text.contains(lacks), "{text}");
    assert_eq!(answer, Verdict::Amiss);
}

#[test]
fn what_may_not_be_seen_is_said_to_be_unclear_and_never_to_be_none() {
    let case = Case::injected().annotated("eks.amazonaws.com/role-arn", ROLE);
    let mut facts = case.facts();
    facts.local = Err("403: you may not".to_owned());
    let of = super::explain(&facts).expect("the pod can be one");
    let said = super::report::json(&of);
    assert_eq!(said["associations"][0]["verdict"], "unseen");
    assert_eq!(said["associations"][1]["verdict"], "hidden");
    assert_eq!(said["firstRequest"]["outcome"], "unclear");
}

#[test]
fn what_the_agent_answers_is_told_with_what_to_do_and_decides() {
    let mut case = Case::injected().declared("it", "cart", ROLE);
    let mut asked = |answer: Value| {
        case.asked = Some(Ok(serde_json::from_value(answer).expect("an answer")));
        case.said()
    };
    let session = "arn:aws:sts::111122223333:assumed-role/cart/shop.cart";
    let end = "2026-11-25T12:00:00Z";
    let good = json!({"status": 200, "session": session, "expiresAt": end});
    let (text, _, verdict) = asked(good);
    assert_eq!(verdict, Verdict::Well);
    assert!(text.contains(session) && text.contains(end), "{text}");
    let message = "AWS refuses the role: AccessDenied";
    let denied = json!({"status": 403, "code": "Denied", "message": message});
    let (text, said, verdict) = asked(denied);
    assert_eq!(verdict, Verdict::Amiss);
    assert!(text.contains("403 Denied: AWS refuses the role"), "{text}");
    assert!(text.contains("trust policy"), "{text}");
    assert_eq!(said["agentAnswers"]["code"], "Denied");
}

#[test]
fn an_agent_that_cannot_be_asked_is_no_answer() {
    let mut case = Case::injected().declared("it", "cart", ROLE);
    case.asked = Some(Err("no agent runs on the node".to_owned()));
    let (text, _, verdict) = case.said();
    assert!(text.contains("no agent runs on the node"), "{text}");
    assert_eq!(verdict, Verdict::Amiss);
}
