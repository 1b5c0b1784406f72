//! What may be declared.

use super::*;

const ROLE: &str = "roleArn: arn:aws:iam::123456789012:role/pods/checkout\n";
const TARGET: &str = "targetRoleArn: arn:aws:iam::210987654321:role/warehouse\n";

fn accept(text: &str) -> Result<Association, Fault> {
    let spec: Spec = serde_saphyr::from_str(text).expect("the form is right");
    spec.accept(&Defaults::default())
}

fn grant(text: &str) -> Grant {
    let association = accept(text).expect("good");
    association.grant().expect("a role").clone()
}

#[test]
fn a_role_alone_is_assumed_as_the_agent_assumes_all() {
    let role = "arn:aws:iam::123456789012:role/pods/checkout";
    assert_eq!(grant(ROLE), Grant::of(role.parse().unwrap()));
}

#[test]
fn everything_that_may_be_said_of_a_session_is_taken() {
    let text = "exchange: web-identity\nexternalId: us/them\nsessionName: 'x-{namespace}'\n\
                sessionTags: {team: shop}\nsessionDuration: 45m\n";
    let grant = grant(&format!("{ROLE}{TARGET}{text}"));
    assert_eq!(
        grant.means,
        Means::WebIdentity {
            audience: "sts.amazonaws.com".into()
        }
    );
    assert_eq!(grant.duration, Some(Duration::from_mins(45)));
    assert_eq!(grant.name, Some("x-{namespace}".parse().unwrap()));
    let extra = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
    assert_eq!(
        grant.session,
        Session::Tagged {
            cluster_arn: None,
            extra
        }
    );
}

#[test]
fn eks_alone_knows_the_role_of_its_own_exchange() {
    assert_eq!(accept("exchange: eks-auth"), Ok(Association::EksAuth));
    assert_eq!(
        accept(&format!("{ROLE}exchange: eks-auth")),
        Err(Fault::EksAuth)
    );
}

#[test]
fn what_an_exchange_could_not_send_is_refused_and_not_dropped() {
    let web = format!("{ROLE}exchange: web-identity\n");
    for text in ["externalId: us/them", "sessionTags: {team: shop}"] {
        assert_eq!(
            accept(&format!("{web}{text}")),
            Err(Fault::WebIdentity),
            "{text}"
        );
        assert!(accept(&format!("{web}{TARGET}{text}")).is_ok(), "{text}");
    }
}

#[test]
fn what_sts_would_refuse_is_refused_by_its_name() {
    let cases = [
        ("sessionDuration: 29m", Fault::Duration),
        ("sessionDuration: 13h", Fault::Duration),
        ("sessionDuration: -1h", Fault::Duration),
        ("externalId: x", Fault::ExternalId),
        ("policy: '{}'", Fault::PolicyWithTags),
        ("policy: '{'\ndisableSessionTags: true", Fault::Policy),
        (
            "sessionTags: {team: shop}\ndisableSessionTags: true",
            Fault::TagsDisabled,
        ),
        (
            "sessionTags: {kubernetes-namespace: x}",
            Fault::Invalid(Invalid::SessionTag),
        ),
        (
            "sessionName: '{user}'",
            Fault::Invalid(Invalid::SessionName),
        ),
        ("targetRoleArn: role/x", Fault::Invalid(Invalid::RoleArn)),
    ];
    for (text, fault) in cases {
        assert_eq!(accept(&format!("{ROLE}{text}")), Err(fault), "{text}");
    }
    let chained = format!("{ROLE}{TARGET}sessionDuration: 2h");
    assert_eq!(accept(&chained), Err(Fault::Duration));
    assert_eq!(accept(""), Err(Fault::NoRole));
}

#[test]
fn where_eks_answers_by_default_a_role_must_say_how_it_is_had() {
    let defaults = Defaults {
        means: None,
        ..Defaults::default()
    };
    let spec: Spec = serde_saphyr::from_str(ROLE).expect("the form is right");
    assert_eq!(spec.accept(&defaults), Err(Fault::NoExchange));
}

#[test]
fn a_session_that_pods_share_is_not_named_after_one() {
    let spec = || Spec {
        role_arn: Some("arn:aws:iam::123456789012:role/checkout".to_owned()),
        session_name: Some("{namespace}-{pod}".to_owned()),
        ..Spec::default()
    };
    let shared = Defaults::default();
    assert_eq!(spec().accept(&shared), Err(Fault::SharedName));
    let scope = SessionScope::Pod;
    assert!(spec().accept(&Defaults { scope, ..shared }).is_ok());
}
