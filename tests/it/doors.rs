//! The front doors: what they refuse, how long they wait, and how they close.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use credlet::model::ServiceAccount;
use credlet_tests::client::connect;
use credlet_tests::front::{Front, Pods, apart, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod handover;
mod limits;
mod requests;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 2);
const API: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 3);
const WITHOUT_ROLE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 4);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 9);
const PATH: &str = "/v1/credentials";
const SHORT: Duration = Duration::from_millis(300);
/// Within which anything that is to happen has happened.
const SOON: Duration = Duration::from_secs(5);

fn pods() -> Pods {
    let account = |namespace, name| ServiceAccount::new(namespace, name).unwrap();
    vec![
        (WEB, account("shop", "web")),
        (API, account("shop", "api")),
        (WITHOUT_ROLE, account("none", "lost")),
    ]
}

async fn front() -> Front {
    Front::open(0, &pods(), limits()).await
}

/// Sends the bytes and returns all that comes until the connection is closed,
/// which must be soon.
async fn until_closed(to: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(WEB.into(), to).await.unwrap();
    // The door may close before it has read all.
    let _ = stream.write_all(request).await;
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(to: SocketAddr, extra: &str) -> String {
    format!("GET {PATH} HTTP/1.1\r\nhost: {to}\r\n{extra}\r\n")
}

/// What the door answers to a head of our own, with `Connection: close` added.
async fn answer_to(to: SocketAddr, line: &str, headers: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    until_closed(to, request.as_bytes()).await
}

#[track_caller]
fn assert_refused(answer: &str, status: u16, code: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(answer.contains(&format!("\"Code\":\"{code}\"")), "{answer}");
}

#[track_caller]
fn assert_granted(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(answer.contains("\"SecretAccessKey\":\""), "{answer}");
}
