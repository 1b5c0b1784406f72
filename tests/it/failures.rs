//! What fails upstream, as the pod and the operator see it through the whole agent.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use credlet_tests::client::Kept;
use credlet_tests::fake_aws::{Answer, Api, Entry};
use credlet_tests::fake_kube::{Pod, Verb};
use futures::stream::{self, StreamExt};
use hyper::StatusCode;

use crate::agent::rig::Rig;

/// What AWS says that no pod may hear.
const SECRETS: [&str; 2] = ["ASIAIOSFODNN7EXAMPLE", "eyJhbGciOiJSUzI1NiJ9"];

const ROLE: &str = "arn:aws:iam::111122223333:role/cart";
const HOUR: Duration = Duration::from_hours(1);
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
const LATER: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// What is asked for the role.
#[derive(Clone, Copy, Debug)]
enum By {
    AssumeRole,
    WebIdentity,
    EksAuth,
}

impl By {
    /// As the association says it; the audience of the pod's token; what the
    /// stand-in and the metrics call the API.
    fn words(self) -> (&'static str, &'static str, Api, &'static str) {
        let (sts, eks) = ("sts.amazonaws.com", "pods.eks.amazonaws.com");
        match self {
            Self::AssumeRole => ("assume-role", eks, Api::AssumeRole, "AssumeRole"),
            Self::WebIdentity => {
                let name = "AssumeRoleWithWebIdentity";
                ("web-identity", sts, Api::WebIdentity, name)
            }
            Self::EksAuth => {
                let name = "AssumeRoleForPodIdentity";
                ("eks-auth", eks, Api::PodIdentity, name)
            }
        }
    }
}

/// One answer of AWS's, and what becomes of it.
struct Row {
    by: By,
    answer: Answer,
    /// What the pod gets.
    status: StatusCode,
    code: &'static str,
    /// What the pod's owner gets.
    event: Option<&'static str>,
    /// What the operator sees in the metrics.
    outcome: &'static str,
}

/// One that only the pod's owner can end.
const fn refused(by: By, status: u16, code: &'static str, message: &'static str) -> Row {
    Row {
        by,
        answer: Answer::Error(status, code, message),
        status: FORBIDDEN,
        code: "Denied",
        event: Some("RoleRefused"),
        outcome: "Denied",
    }
}

/// One that passes by itself, or by the node's operator.
const fn later(by: By, status: u16, code: &'static str, outcome: &'static str) -> Row {
    Row {
        by,
        answer: Answer::Error(status, code, "come back"),
        status: LATER,
        code: outcome,
        event: None,
        outcome,
    }
}

const fn too_large(by: By) -> Row {
    let message = "Packed size of session tags consumes 104% of allotted space.";
    Row {
        by,
        answer: Answer::Error(400, "PackedPolicyTooLarge", message),
        status: FORBIDDEN,
        code: "TooLarge",
        event: Some("SessionTooLarge"),
        outcome: "TooLarge",
    }
}

const ROWS: [Row; 28] = [
    // Of a role that is there and one that is not STS says the same.
    refused(
        By::AssumeRole,
        403,
        "AccessDenied",
        "User: arn:aws:sts::111122223333:assumed-role/node/i-1 is not authorized to perform: \
         sts:AssumeRole on resource: arn:aws:iam::111122223333:role/deleted",
    ),
    refused(
        By::AssumeRole,
        400,
        "MalformedPolicyDocument",
        "Syntax errors in policy.",
    ),
    refused(
        By::AssumeRole,
        403,
        "RegionDisabledException",
        "STS is not activated in this region for account:111122223333",
    ),
    refused(
        By::AssumeRole,
        403,
        "AccessDenied",
        "ASIAIOSFODNN7EXAMPLE may not assume the role",
    ),
    too_large(By::AssumeRole),
    later(By::AssumeRole, 403, "ExpiredToken", "Unavailable"),
    later(By::AssumeRole, 403, "InvalidClientTokenId", "Unavailable"),
    later(By::AssumeRole, 400, "Throttling", "Throttled"),
    later(By::AssumeRole, 429, "TooManyRequestsException", "Throttled"),
    later(By::AssumeRole, 500, "InternalFailure", "Unavailable"),
    later(By::AssumeRole, 503, "ServiceUnavailable", "Unavailable"),
    Row {
        by: By::AssumeRole,
        answer: Answer::Malformed,
        status: LATER,
        code: "Malformed",
        event: None,
        outcome: "Malformed",
    },
    refused(
        By::WebIdentity,
        403,
        "AccessDenied",
        "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    ),
    refused(
        By::WebIdentity,
        400,
        "InvalidIdentityToken",
        "No OpenIDConnect provider found in your account",
    ),
    refused(
        By::WebIdentity,
        400,
        "InvalidIdentityToken",
        "eyJhbGciOiJSUzI1NiJ9.e30.c2ln is none",
    ),
    too_large(By::WebIdentity),
    later(By::WebIdentity, 400, "ExpiredTokenException", "Unavailable"),
    later(By::WebIdentity, 400, "IDPCommunicationError", "Unavailable"),
    later(By::WebIdentity, 400, "Throttling", "Throttled"),
    later(By::WebIdentity, 500, "InternalFailure", "Unavailable"),
    refused(
        By::EksAuth,
        400,
        "AccessDeniedException",
        "The node's role may not",
    ),
    refused(
        By::EksAuth,
        400,
        "InvalidTokenException",
        "OIDC token could not be verified",
    ),
    refused(
        By::EksAuth,
        400,
        "InvalidParameterException",
        "The trust policy does not fit",
    ),
    refused(
        By::EksAuth,
        400,
        "InvalidRequestException",
        "The request is not valid",
    ),
    Row {
        by: By::EksAuth,
        answer: Answer::Gone,
        status: StatusCode::NOT_FOUND,
        code: "NoAssociation",
        event: Some("NoAssociation"),
        outcome: "NotFound",
    },
    later(By::EksAuth, 400, "ExpiredTokenException", "Unavailable"),
    later(By::EksAuth, 429, "ThrottlingException", "Throttled"),
    later(
        By::EksAuth,
        503,
        "ServiceUnavailableException",
        "Unavailable",
    ),
];

fn address(seat: u8) -> IpAddr {
    [127, 0, 4, seat].into()
}

fn pod(account: &str, seat: u8) -> Pod {
    let address = address(seat).to_string();
    Pod::new("shop", &format!("{account}-1"))
        .account(account)
        .addresses([address.as_str()])
}

/// A role and a pod of an account that may use it, of which STS says this.
async fn script(rig: &Rig, account: &str, seat: u8, answer: Answer) {
    let role = format!("arn:aws:iam::111122223333:role/{account}");
    rig.aws.associate("shop", account, Entry::of(&role));
    rig.aws.script_for(Api::AssumeRole, &role, answer);
    rig.kube.apply(pod(account, seat));
    rig.metric(&format!("credlet_pods {seat}")).await;
}

#[tokio::test]
async fn each_failure_is_to_the_pod_its_owner_and_the_operator_what_the_readme_says() {
    // A few at a time: each is an agent that has to answer in its second.
    stream::iter(ROWS).for_each_concurrent(4, shows).await;
}

async fn shows(row: Row) {
    let (exchange, audience, api, name) = row.by.words();
    let subject = match row.by {
        By::AssumeRole | By::WebIdentity => ROLE,
        By::EksAuth => "shop/cart",
    };
    let role = match row.by {
        By::AssumeRole | By::WebIdentity => format!(", roleArn: \"{ROLE}\""),
        By::EksAuth => String::new(),
    };
    let entry = format!("{{namespace: shop, serviceAccount: cart, exchange: {exchange}{role}}}");
    let rig = Rig::with_file(&format!("associations: [{entry}]")).await;
    rig.aws.script_for(api, subject, row.answer);
    rig.kube.apply(pod("cart", 1));
    rig.metric("credlet_pods 1").await;
    let token = rig.kube.token(&pod("cart", 1), audience, HOUR);
    let mut door = Kept::open(address(1), rig.door).await.expect("a door");
    let told = door.get("/v1/credentials", Some(&token)).await;
    let told = told.expect("an answer");
    let what = format!("{exchange}, {:?}: {}", row.answer, told.text());
    let got = (told.status, &*told.field("code"));
    assert_eq!(got, (row.status, row.code), "{what}");
    for secret in SECRETS {
        assert!(!told.text().contains(secret), "{what}");
    }
    let labels = format!("api=\"{name}\",outcome=\"{}\"", row.outcome);
    rig.metric(&format!("credlet_upstream_calls_total{{{labels}}}"))
        .await;
    if let Some(reason) = row.event {
        rig.metric("credlet_events_total{outcome=\"Written\"} 1")
            .await;
        let events = rig.kube.events();
        assert_eq!(events[0]["reason"], reason, "{what}");
        let note = events[0]["note"].as_str().expect("a text");
        assert!(note.starts_with(&told.field("message")), "{what}: {note}");
    } else {
        assert_eq!(rig.kube.count(Verb::CreateEvent), 0, "{what}");
    }
    rig.leave().await;
}

#[tokio::test]
async fn a_refusal_is_remembered_and_a_failure_is_not() {
    let rig = Rig::start().await;
    script(&rig, "refused", 1, Answer::Denied).await;
    assert_eq!(rig.get(address(1)).await.status, FORBIDDEN);
    for _ in 0..20 {
        assert_eq!(rig.get(address(1)).await.status, FORBIDDEN);
    }
    assert_eq!(rig.aws.count(Api::AssumeRole), 1);

    let role = "arn:aws:iam::111122223333:role/throttled";
    script(&rig, "throttled", 2, Answer::Throttled).await;
    assert_eq!(rig.get(address(2)).await.status, LATER);
    rig.aws.script_for(Api::AssumeRole, role, Answer::Well);
    // Tried again after half a second, whether anybody asks or not.
    rig.aws.wait_for(Api::AssumeRole, 3).await;
    rig.metric("credlet_credentials{state=\"Fresh\"} 1").await;
    assert_eq!(rig.get(address(2)).await.status, StatusCode::OK);
    rig.leave().await;
}

#[tokio::test]
async fn an_sts_that_does_not_answer_costs_the_pod_a_second_and_no_event() {
    let rig = Rig::start().await;
    script(&rig, "cart", 1, Answer::Hang).await;
    let start = Instant::now();
    let told = rig.get(address(1)).await;
    assert_eq!((told.status, &*told.field("code")), (LATER, "Late"));
    assert!(start.elapsed() < Duration::from_secs(1));
    rig.metric("credlet_upstream_calls_total{api=\"AssumeRole\",outcome=\"TimedOut\"}")
        .await;
    let told = rig.get(address(1)).await;
    assert_eq!(told.status, LATER, "{}", told.text());
    assert_eq!(rig.kube.count(Verb::CreateEvent), 0);
    rig.leave().await;
}
