//! What is alike of all services: who signed, how long it takes, and of when it is.

use std::time::SystemTime;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;

use super::Answer;

/// As HTTP writes a date (RFC 9110, 5.6.7).
pub(crate) fn http_date(moment: SystemTime) -> String {
    let moment = jiff::Timestamp::try_from(moment).expect("a year of four digits");
    moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Lets the time pass that the answer takes.
pub(super) async fn wait(answer: Answer) -> Answer {
    match answer {
        Answer::After(latency) => tokio::time::sleep(latency).await,
        Answer::Hang => std::future::pending().await,
        Answer::Well
        | Answer::Throttled
        | Answer::Denied
        | Answer::Refused(_)
        | Answer::Longest(_)
        | Answer::Gone
        | Answer::Broken
        | Answer::Error(..)
        | Answer::Malformed
        | Answer::Empty
        | Answer::Expires(_) => {}
    }
    answer
}

/// The access key id in a Signature Version 4 header; empty without one.
pub(super) fn signer(request: &Request<Incoming>) -> String {
    let header = request.headers().get(AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok()).unwrap_or("");
    let scope = header.split("Credential=").nth(1).unwrap_or("");
    scope.split('/').next().unwrap_or("").to_owned()
}
