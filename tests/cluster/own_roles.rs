//! A pod of a real API server that opts in to instance metadata and names its role.

use credlet::model::OwnRole;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::agent::Rig;
use crate::control_plane::ControlPlane;
use crate::follower::PATIENCE;
use crate::place::Place;

const LABEL: &str = "gkemulticloud.googleapis.com/aws-imds-emulator-enabled";

/// The rig's AWS has the first for the account.
const OF_ACCOUNT: &str = "arn:aws:iam::111122223333:role/pods/cart";
const OWN: &str = "arn:aws:iam::111122223333:role/own";

#[tokio::test]
async fn a_pod_s_label_and_annotation_of_gke_are_seen_as_they_are_written() {
    let place = Place::on(ControlPlane::shared().await).await;
    place.add_pod("cart-0").await;
    let address = "127.0.1.11";
    place.runs_at("cart-0", &[address]).await;
    let token = place.token_for("sts.amazonaws.com", Some("cart-0")).await;
    let rig = Rig::serve(&place).await;
    let until = async |wanted: Result<&str, StatusCode>| {
        let comes = async {
            loop {
                let answer = rig.get(address, Some(&token)).await;
                let given = match answer.status {
                    StatusCode::OK => Ok(rig.role_of(&answer)),
                    status => Err(status),
                };
                if given == wanted.map(str::to_owned) {
                    return answer;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await;
        came.unwrap_or_else(|_| panic!("{wanted:?} never came"))
    };
    let labelled = |value: Value| json!({"labels": {LABEL: value}});
    let naming = |role: &str| json!({"annotations": {OwnRole::ANNOTATION: role}});
    until(Ok(OF_ACCOUNT)).await;
    place.mark_pod("cart-0", naming(OWN)).await;
    place.mark_pod("cart-0", labelled("True".into())).await;
    until(Ok(OWN)).await;
    place.mark_pod("cart-0", naming("own")).await;
    let answer = until(Err(StatusCode::FORBIDDEN)).await;
    assert_eq!(answer.field("code"), "BadAssociation");
    // What GKE does not take for opted in is not.
    place.mark_pod("cart-0", labelled("true".into())).await;
    until(Ok(OF_ACCOUNT)).await;
    rig.leave().await;
}
