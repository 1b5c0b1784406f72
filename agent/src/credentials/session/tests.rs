//! Session names that STS accepts, and tags.

use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::model::{Association, PodName, PodUid, ServiceAccount};

fn account(namespace: &str, name: &str) -> ServiceAccount {
    ServiceAccount::new(namespace, name).expect("valid")
}

fn grant() -> Grant {
    Grant::of("arn:aws:iam::123456789012:role/app".parse().expect("valid"))
}

fn key(account: ServiceAccount) -> Key {
    Key {
        account,
        pod: None,
        association: Association::Role(grant()).into(),
    }
}

fn of_pod(account: ServiceAccount, pod: &str) -> Key {
    let uid = PodUid::new("8d6e4a1c").expect("valid");
    let name = pod.into();
    Key {
        pod: Some(PodName { uid, name }),
        ..key(account)
    }
}

fn sessions(name: Option<&str>) -> Sessions {
    Sessions {
        cluster_name: Some("blue".into()),
        cluster_arn: None,
        node: "node-1".into(),
        duration: Duration::from_hours(1),
        name: name.map(|name| name.parse().expect("a template")),
        source_identity: None,
        tags: BTreeMap::new(),
    }
}

fn named(account: &ServiceAccount) -> String {
    sessions(None).name(&key(account.clone()), &grant())
}

fn fits(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (2..=64).contains(&name.len()) && name.bytes().all(allowed)
}

#[test]
fn a_session_is_named_after_its_service_account() {
    assert_eq!(named(&account("shop", "checkout")), "shop.checkout");
}

#[test]
fn long_accounts_that_differ_at_the_end_have_different_names() {
    let long = "a".repeat(252);
    let one = named(&account("shop", &format!("{long}1")));
    let two = named(&account("shop", &format!("{long}2")));
    assert_ne!(one, two);
}

/// Policies and trails name sessions, so a name that changed would break them.
#[test]
fn a_long_account_keeps_its_name_from_release_to_release() {
    let name = named(&account("shop", &"a".repeat(253)));
    let start = format!("shop.{}=", "a".repeat(42));
    assert_eq!(name.strip_prefix(&start), Some("5a5bb605ebe6c5fe"));
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
}

proptest! {
    #[test]
    fn every_legal_account_has_a_name_that_sts_accepts_by_every_template(
        namespace in label(),
        name in label(),
        pod in label(),
        cluster in ".{0,100}",
        template in "[A-Za-z0-9_=,.@-]{0,70}(\\{(cluster|namespace|serviceAccount|pod|node)\\}){1,5}",
    ) {
        let mut sessions = sessions(Some(&template));
        sessions.cluster_name = Some(cluster.into());
        let key = of_pod(account(&namespace, &name), &pod);
        let name = sessions.name(&key, &grant());
        prop_assert!(fits(&name), "{}", name);
        prop_assert_eq!(name, sessions.name(&key, &grant()), "it is stable");
    }

    #[test]
    fn two_accounts_share_no_name(
        one in (label(), label()),
        other in (label(), label()),
    ) {
        let (one, other) = (account(&one.0, &one.1), account(&other.0, &other.1));
        prop_assert_eq!(one == other, named(&one) == named(&other));
    }
}

#[test]
fn a_template_names_what_it_says_and_a_grant_s_own_wins() {
    let sessions = sessions(Some("{cluster}@{node}-{pod}"));
    let key = of_pod(account("shop", "checkout"), "checkout-0");
    assert_eq!(sessions.name(&key, &grant()), "blue@node-1-checkout-0");
    let own = Grant {
        name: Some("{serviceAccount}".parse().expect("a template")),
        ..grant()
    };
    assert_eq!(sessions.name(&key, &own), "checkout");
}

#[test]
fn a_session_of_one_pod_is_tagged_with_it_and_nobody_declares_another_s() {
    let mut sessions = sessions(None);
    sessions.tags = BTreeMap::from([
        ("team".to_owned(), "all".to_owned()),
        ("kubernetes-pod-name".to_owned(), "forged".to_owned()),
    ]);
    let own = Grant {
        session: Session::Tagged {
            cluster_arn: None,
            extra: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        },
        ..grant()
    };
    let key = of_pod(account("shop", "checkout"), "checkout-0");
    let tags = sessions.tags(&key, &own).expect("few");
    let wanted = [
        ("eks-cluster-name", "blue"),
        ("kubernetes-namespace", "shop"),
        ("kubernetes-pod-name", "checkout-0"),
        ("kubernetes-pod-uid", "8d6e4a1c"),
        ("kubernetes-service-account", "checkout"),
        ("team", "shop"),
    ];
    let wanted = wanted.map(|(key, value)| (key, value.to_owned()));
    assert_eq!(tags, BTreeMap::from(wanted));
}

#[test]
fn the_agents_own_cluster_is_a_tag_where_the_association_brings_none() {
    let mut sessions = sessions(None);
    sessions.cluster_arn = Some("of the agent".into());
    let key = of_pod(account("shop", "checkout"), "checkout-0");
    let tag = |grant: &Grant| {
        let tags = sessions.tags(&key, grant).expect("few");
        tags["eks-cluster-arn"].clone()
    };
    assert_eq!(tag(&grant()), "of the agent");
    assert!(tag(&with_tags(BTreeMap::new())).ends_with(":cluster/blue"));
}

fn numbered(count: usize) -> BTreeMap<String, String> {
    let tag = |number| (format!("Tag{number}"), String::new());
    (0..count).map(tag).collect()
}

fn with_tags(extra: BTreeMap<String, String>) -> Grant {
    let cluster_arn = Some("arn:aws:eks:eu-central-1:123456789012:cluster/blue".into());
    Grant {
        session: Session::Tagged { cluster_arn, extra },
        ..grant()
    }
}

#[test]
fn more_tags_than_sts_takes_are_refused_and_not_cut() {
    let mut sessions = sessions(None);
    let key = of_pod(account("shop", "checkout"), "checkout-0");
    let grant = with_tags(numbered(44));
    assert_eq!(sessions.tags(&key, &grant).map(|tags| tags.len()), Ok(50));
    sessions.tags = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
    let refused = sessions.tags(&key, &grant).expect_err("51 tags");
    assert_eq!(refused.fault, Fault::TooLarge);
}

#[test]
fn a_grant_s_tag_replaces_the_agent_s_whatever_the_case_of_its_key() {
    let mut sessions = sessions(None);
    sessions.tags = BTreeMap::from([("tag0".to_owned(), "agent".to_owned())]);
    let grant = with_tags(numbered(1));
    let key = key(account("shop", "checkout"));
    let tags = sessions.tags(&key, &grant).expect("few");
    assert_eq!(tags.get("Tag0").map(String::as_str), Some(""));
    assert!(!tags.contains_key("tag0"));
}

#[test]
fn what_to_drop_is_what_somebody_added() {
    let mut sessions = sessions(None);
    let bare = with_tags(BTreeMap::new());
    assert!(sessions.advice(&bare).starts_with("disable"));
    sessions.tags = numbered(1);
    assert_eq!(sessions.advice(&bare), "drop some of --session-tag");
    let own = with_tags(numbered(1));
    assert!(sessions.advice(&own).contains("association's session tags"));
}
