//! What callers read.

use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::model::{AssumedRole, PodUid, Secret, ServiceAccount};

fn credentials_until(expires_at: SystemTime) -> Credentials {
    Credentials::new(
        "ASIAEXAMPLE".into(),
        Secret::new("se/cr+et".into()),
        Secret::new("to\"ken".into()),
        expires_at,
        AssumedRole::new(
            "arn:aws:sts::123456789012:assumed-role/app/session",
            "AROAEXAMPLE:session",
        )
        .unwrap(),
    )
}

#[test]
fn credentials_are_written_as_botocore_parses_them() {
    let expires = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_900);
    let body = render(&credentials_until(expires));
    assert_eq!(body.capacity(), body.len(), "the buffer grew");
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "AccessKeyId": "ASIAEXAMPLE",
            "SecretAccessKey": "se/cr+et",
            "Token": "to\"ken",
            "Expiration": "2026-01-02T03:04:05Z",
            "AccountId": "123456789012",
        })
    );
}

#[test]
fn one_rendering_serves_all_who_ask() {
    let shared = credentials_until(SystemTime::UNIX_EPOCH);
    let (first, second) = (
        shared.body(Form::Container, render),
        shared.body(Form::Container, render),
    );
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[tokio::test]
async fn a_refusal_is_written_in_the_spelling_of_every_sdk() {
    let account = ServiceAccount::new("shop", "web").unwrap();
    let error = broker::Error::Association(associations::Error::None(account));
    let response = refusal(&Refusal::Broker(error));
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let message = "no association for the service account shop/web";
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({
            "code": "NoAssociation",
            "message": message,
            "Code": "NoAssociation",
            "Message": message,
        })
    );
}

#[test]
fn what_passes_by_itself_is_never_a_4xx() {
    let address = "10.0.0.1".parse().unwrap();
    let fetch = |refusal| broker::Error::Credentials(cache::Error::Fetch(refusal));
    let passing = [
        identity::Error::NotSynced.into(),
        identity::Error::Unknown(address).into(),
        associations::Error::Source {
            origin: "eks",
            why: "throttled".into(),
        }
        .into(),
        associations::Error::Deadline { origin: "eks" }.into(),
        identity::Error::Ambiguous(address).into(),
        identity::Error::Unconfirmed(address).into(),
        identity::Error::Outdated(Duration::from_mins(6)).into(),
        identity::Error::UnknownPod(uid()).into(),
        identity::Error::Token(tokens::Error::Unavailable("no route".into())).into(),
        fetch(credentials::Refusal::Throttled),
        fetch(credentials::Refusal::Unavailable("no route".into())),
        fetch(credentials::Refusal::Malformed("no token")),
        broker::Error::Credentials(cache::Error::Broken("panicked")),
        broker::Error::Credentials(cache::Error::Deadline),
    ];
    for error in passing {
        let (status, reason) = Refusal::Broker(error).verdict();
        assert_eq!(status, 503, "{reason:?}");
    }
}

fn uid() -> PodUid {
    PodUid::new("uid").unwrap()
}

#[test]
fn what_an_operator_must_end_is_a_403() {
    let address = "10.0.0.1".parse().unwrap();
    let lasting = [
        identity::Error::Node(address).into(),
        identity::Error::Unusable(address, "no account".into()).into(),
        identity::Error::NoToken.into(),
        identity::Error::Token(tokens::Error::Refused(tokens::Flaw::Expired)).into(),
        identity::Error::GonePod(uid()).into(),
        identity::Error::Elsewhere(address).into(),
        broker::Error::Credentials(cache::Error::Fetch(credentials::Refusal::Denied(
            "not authorized".into(),
        ))),
        broker::Error::Credentials(cache::Error::Fetch(credentials::Refusal::TooLarge(
            "drop tags".into(),
        ))),
    ];
    for error in lasting {
        let (status, reason) = Refusal::Broker(error).verdict();
        assert_eq!(status, 403, "{reason:?}");
    }
}

#[tokio::test]
async fn a_pod_on_the_host_network_is_told_what_to_do() {
    let node = identity::Error::Node("10.0.0.1".parse().unwrap());
    for error in [node, identity::Error::NoToken] {
        let response = refusal(&Refusal::Broker(error.into()));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(
            body.contains("mount a projected service account token"),
            "{body}"
        );
    }
}
