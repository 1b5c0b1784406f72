//! Roles that pods name for themselves, through the whole agent.

use std::net::IpAddr;
use std::time::Duration;

use credlet::model::OwnRole;
use credlet_tests::client::Kept;
use credlet_tests::fake_aws::{Api, Entry};
use credlet_tests::fake_kube::{FakeKube, Kind, Pod, Verb};
use hyper::StatusCode;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{PATIENCE, account, namespace, offer_all, role, seat};
use crate::agent::rig::Rig;

const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

/// The pod that `offer_all` adds, as it is from now on.
fn pod() -> Pod {
    let pod = Pod::new("shop", "cart-1").account("cart");
    pod.addresses([seat().to_string().as_str()])
}

fn other_seat() -> IpAddr {
    [127, 0, 1, 2].into()
}

/// Another pod of the account.
fn other() -> Pod {
    let pod = Pod::new("shop", "cart-2").account("cart");
    pod.addresses([other_seat().to_string().as_str()])
}

fn naming(name: &str) -> Pod {
    pod().opted_in().names(&role(name))
}

/// An agent that requests tokens, and an account with a role of its own.
async fn rig(flags: &str) -> Rig {
    let rig = Rig::prepared(&format!("--request-tokens {flags}"), offer_all).await;
    let annotated = account(&[("role-arn", &role("account"))]);
    rig.kube.put(Kind::ServiceAccount, annotated);
    rig
}

impl Rig {
    async fn role_at(&self, seat: IpAddr) -> Option<String> {
        let answer = self.get(seat).await;
        let is_given = answer.status == StatusCode::OK;
        is_given.then(|| {
            let id = answer.field("AccessKeyId");
            self.aws.role_of(&id).expect("issued by this one")
        })
    }
}

#[tokio::test]
async fn a_pod_that_has_opted_in_has_the_role_that_it_names_and_others_of_its_account_theirs() {
    let rig = rig("").await;
    rig.until("account").await;
    rig.kube.apply(other());
    rig.kube.apply(naming("one"));
    rig.until("one").await;
    rig.kube.apply(naming("two"));
    rig.until("two").await;
    assert_eq!(rig.role_at(other_seat()).await, Some(role("account")));
    // What it names counts as long as it has opted in.
    rig.kube.apply(pod().names(&role("two")));
    rig.until("account").await;
    rig.kube.apply(naming("two"));
    rig.until("two").await;
    rig.kube.apply(pod().opted_in().names(" "));
    rig.until("account").await;
    rig.leave().await;
}

#[tokio::test]
async fn it_is_had_for_a_token_of_the_account_and_ready_before_the_pod_asks() {
    let rig = rig("").await;
    rig.kube.apply(naming("own"));
    rig.kube.apply(other().opted_in().names(&role("own")));
    rig.aws.wait_for(Api::WebIdentity, 1).await;
    rig.metric("credlet_credentials{state=\"Fresh\"} 1").await;
    for seat in [seat(), other_seat()] {
        assert_eq!(rig.role_at(seat).await, Some(role("own")));
    }
    assert_eq!(rig.aws.count(Api::WebIdentity), 1, "they share it");
    assert_eq!(rig.kube.count(Verb::Token), 1);
    rig.kube.delete("shop", "cart-2");
    rig.kube.apply(pod());
    rig.until("account").await;
    rig.metric("credlet_credentials{state=\"Fresh\"} 1").await;
    rig.leave().await;
}

#[tokio::test]
async fn a_role_that_a_pod_names_counts_before_every_source_of_its_accounts() {
    let rig = rig("").await;
    rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
    rig.until("eks").await;
    rig.kube.apply(naming("own"));
    rig.until("own").await;
    rig.leave().await;
}

#[tokio::test]
async fn what_is_no_role_is_refused_and_told_and_hides_the_accounts_association() {
    let rig = rig("").await;
    rig.until("account").await;
    for text in ["cart", "arn:aws:iam::111122223333:user/cart"] {
        rig.kube.apply(pod().opted_in().names(text));
        let answer = rig.until_refused(FORBIDDEN, "BadAssociation").await;
        let says = answer.text().contains(OwnRole::ANNOTATION);
        assert!(says, "{}", answer.text());
        rig.kube.apply(pod());
        rig.until("account").await;
    }
    rig.metric("credlet_events_total{outcome=\"Written\"} 1")
        .await;
    let event = &rig.kube.events()[0];
    assert_eq!(event["reason"], "BadAssociation");
    assert_eq!(event["regarding"]["name"], "cart-1");
    rig.leave().await;
}

#[tokio::test]
async fn the_namespace_and_the_flag_bound_what_pods_name() {
    let bounds = |text: &str| namespace(&json!({"credlet.dev/allowed-roles": text}));
    let rig = rig("--allowed-roles arn:*:role/shop/*").await;
    rig.kube.apply(naming("bank/own"));
    let answer = rig.until_refused(FORBIDDEN, "RoleNotAllowed").await;
    let says = answer.text().contains("--allowed-roles");
    assert!(says, "{}", answer.text());
    rig.kube.apply(naming("shop/own"));
    rig.until("shop/own").await;
    let given = rig.aws.count(Api::WebIdentity);
    rig.kube.put(Kind::Namespace, bounds(&role("shop/account")));
    let answer = rig.until_refused(FORBIDDEN, "RoleNotAllowed").await;
    let says = answer.text().contains("its namespace's annotation");
    assert!(says, "{}", answer.text());
    rig.kube.put(Kind::Namespace, bounds(&role("shop/o*")));
    rig.until("shop/own").await;
    assert_eq!(rig.aws.count(Api::WebIdentity), given + 1, "it was dropped");
    rig.leave().await;
}

#[tokio::test]
async fn where_the_source_is_off_what_pods_name_is_as_if_it_were_not_there() {
    let with = async |flags: &str, prepare: fn(&FakeKube)| {
        let rig = Rig::prepared(&format!("--request-tokens {flags}"), prepare).await;
        rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
        for name in ["arn", &role("own")] {
            rig.kube.apply(pod().opted_in().names(name));
            rig.until("eks").await;
        }
        assert_eq!(rig.aws.count(Api::WebIdentity), 0);
        rig.leave().await;
    };
    with("--association-sources crd,eks", offer_all).await;
    // The cluster does not let the agent read what the source reads.
    with("", |_| {}).await;
}

#[tokio::test]
async fn while_the_api_server_does_not_say_what_bounds_it_no_role_is_given_instead() {
    let prepare = |kube: &FakeKube| kube.offer(&[Kind::ServiceAccount]);
    let rig = Rig::prepared("--association-sources annotation,eks", prepare).await;
    rig.aws.associate("shop", "cart", Entry::of(&role("eks")));
    rig.kube.apply(pod());
    rig.until("eks").await;
    rig.kube.apply(naming("own"));
    rig.until_refused(StatusCode::SERVICE_UNAVAILABLE, "SourceFailed")
        .await;
    assert_eq!(rig.aws.count(Api::WebIdentity), 0);
    rig.leave().await;
}

#[tokio::test]
async fn a_token_that_any_pod_of_the_account_has_shown_will_do() {
    let rig = Rig::prepared("", offer_all).await;
    rig.kube.apply(naming("own"));
    rig.until_refused(FORBIDDEN, "NoToken").await;
    rig.kube.apply(other());
    let hour = Duration::from_hours(1);
    let token = rig.kube.token(&other(), "sts.amazonaws.com", hour);
    let comes = async {
        let mut door = Kept::open(other_seat(), rig.door).await.expect("a door");
        // It has no role itself; what counts is that it has shown its token.
        let answer = door.get("/v1/credentials", Some(&token)).await;
        answer.expect("an answer");
        while rig.role_at(seat()).await != Some(role("own")) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, comes).await.expect("the role is given");
    rig.leave().await;
}
