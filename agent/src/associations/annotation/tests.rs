//! What annotations say.

use std::collections::BTreeMap;

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/cart";

fn read(annotations: &[(&str, &str)]) -> Result<Option<Association>, String> {
    let changes: Changes = Arc::default();
    let shelf = Shelf::new("service accounts", Arc::clone(&changes), Losses::default());
    let source = Annotations {
        accounts: shelf,
        namespaces: Namespaces::new(changes, Losses::default()),
        prefix: "eks.amazonaws.com".to_owned(),
        defaults: Defaults::default(),
        presence: Presence::Optional,
    };
    let annotations: BTreeMap<_, _> = annotations
        .iter()
        .map(|(key, value)| {
            let key = if key.contains('/') {
                (*key).to_owned()
            } else {
                format!("eks.amazonaws.com/{key}")
            };
            (key, *value)
        })
        .collect();
    let meta = json!({"metadata": {"name": "cart", "annotations": annotations}});
    source.read(&serde_json::from_value(meta).expect("metadata"))
}

fn grant(annotations: &[(&str, &str)]) -> Grant {
    let association = read(annotations).expect("good").expect("one");
    association.grant().expect("a role").clone()
}

#[test]
fn a_role_is_had_by_web_identity_unless_the_annotation_says_otherwise() {
    let plain = grant(&[("role-arn", ROLE)]);
    let audience = |text: &str| Means::WebIdentity {
        audience: text.into(),
    };
    assert_eq!(plain.role.as_str(), ROLE);
    assert_eq!(plain.means, audience("sts.amazonaws.com"));
    assert_eq!(plain.endpoints, None);
    let own = grant(&[("role-arn", ROLE), ("audience", "own")]);
    assert_eq!(own.means, audience("own"));
    let agent = grant(&[("role-arn", ROLE), (EXCHANGE, "assume-role")]);
    assert_eq!(agent.means, Means::Agent);
    let eks = read(&[(EXCHANGE, "eks-auth")]);
    assert_eq!(eks, Ok(Some(Association::EksAuth)));
}

#[test]
fn endpoints_and_token_expiration_are_as_eks_has_them() {
    for (value, endpoints) in [
        ("true", StsEndpoints::Regional),
        ("false", StsEndpoints::Legacy),
    ] {
        let grant = grant(&[("role-arn", ROLE), ("sts-regional-endpoints", value)]);
        assert_eq!(grant.endpoints, Some(endpoints));
    }
    for good in ["600", "86400"] {
        grant(&[("role-arn", ROLE), ("token-expiration", good)]);
    }
}

#[test]
fn an_account_without_a_role_has_no_association() {
    assert_eq!(read(&[]), Ok(None));
    assert_eq!(read(&[("role-arn", " ")]), Ok(None));
    assert_eq!(read(&[("audience", "own")]), Ok(None));
}

#[test]
fn a_bad_value_is_an_error_and_never_silence() {
    for annotations in [
        &[("role-arn", "cart")][..],
        &[("role-arn", ROLE), ("sts-regional-endpoints", "yes")],
        &[("role-arn", ROLE), ("token-expiration", "599")],
        &[("role-arn", ROLE), ("token-expiration", "86401")],
        &[("role-arn", ROLE), ("token-expiration", "1h")],
        &[("role-arn", ROLE), ("audience", "")],
        &[("role-arn", ROLE), (EXCHANGE, "barter")],
        &[("role-arn", ROLE), (EXCHANGE, "eks-auth")],
    ] {
        assert!(read(annotations).is_err(), "{annotations:?}");
    }
}
