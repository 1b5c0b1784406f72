//! The front doors: what they refuse, how long they wait, and how they close.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use credlet::model::ServiceAccount;
use credlet::serve::{BindError, Limit, Limits, Listeners, Prefer, RefusedLabels};
use credlet_tests::client::{connect, get, try_get};
use credlet_tests::front::{Front, Pods, limits, namespace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 2);
const API: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 3);
const WITHOUT_ROLE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 4);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 9);
const PATH: &str = "/v1/credentials";
const SHORT: Duration = Duration::from_millis(300);
/// Within which anything that is to happen has happened.
const SOON: Duration = Duration::from_secs(5);

/// Runs a test in a network of its own.
async fn apart(test: impl AsyncFnOnce() + Send + 'static) {
    let namespace = namespace().await.expect("network namespaces");
    namespace.run(test).await;
}

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

#[tokio::test]
async fn each_pod_gets_the_credentials_of_its_own_account() {
    apart(async || {
        let front = front().await;
        for (pod, account) in [(WEB, "shop/web:"), (API, "shop/api:")] {
            let answer = get(pod.into(), front.address, PATH).await;
            assert_eq!(answer.status, 200);
            assert!(answer.field("Token").starts_with(account));
        }
    })
    .await;
}

#[tokio::test]
async fn pods_without_a_role_and_addresses_without_a_pod_are_told_apart() {
    apart(async || {
        let front = front().await;
        let answer = get(WITHOUT_ROLE.into(), front.address, PATH).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("code")),
            (404, "NoAssociation".into())
        );
        let answer = get(NOBODY.into(), front.address, PATH).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("code")),
            (503, "UnknownAddress".into())
        );
    })
    .await;
}

#[tokio::test]
async fn only_the_one_path_is_answered() {
    apart(async || {
        let front = front().await;
        let host = format!("host: {}\r\n", front.address);
        for path in [
            "/",
            "/v1",
            "/v1/credentials/",
            "/V1/credentials",
            "//v1/credentials",
            "/latest/meta-data/",
        ] {
            let answer = answer_to(front.address, &format!("GET {path}"), &host).await;
            assert_refused(&answer, 404, "WrongPath");
        }
    })
    .await;
}

#[tokio::test]
async fn only_get_is_answered() {
    apart(async || {
        let front = front().await;
        let host = format!("host: {}\r\n", front.address);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"] {
            let answer = answer_to(front.address, &format!("{method} {PATH}"), &host).await;
            assert_refused(&answer, 405, "WrongMethod");
            assert!(answer.contains("\r\nallow: GET\r\n"), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_not_the_address_connected_to_is_refused() {
    apart(async || {
        let front = front().await;
        let address = front.address;
        let (ip, port) = (address.ip(), address.port());
        for host in [
            "host: evil.example\r\n".to_owned(),
            format!("host: localhost:{port}\r\n"),
            format!("host: {ip}:{}\r\n", port.wrapping_add(1)),
            format!("host: {ip}.evil.example\r\n"),
            format!("host: {address}\r\nhost: {address}\r\n"),
            "host:\r\n".to_owned(),
            String::new(),
        ] {
            let answer = answer_to(address, &format!("GET {PATH}"), &host).await;
            assert_refused(&answer, 400, "WrongHost");
        }
        let answer = answer_to(address, &format!("GET {PATH}"), &format!("host: {ip}\r\n")).await;
        assert_granted(&answer);
    })
    .await;
}

#[tokio::test]
async fn an_absolute_url_is_answered_if_it_is_ours() {
    apart(async || {
        let front = front().await;
        let address = front.address;
        let host = format!("host: {address}\r\n");
        let answer = answer_to(address, &format!("GET http://{address}{PATH}"), &host).await;
        assert_granted(&answer);
        for foreign in [
            "http://evil.example",
            "http://169.254.169.254",
            &format!("http://user@{address}"),
        ] {
            let answer = answer_to(address, &format!("GET {foreign}{PATH}"), &host).await;
            assert_refused(&answer, 400, "WrongHost");
        }
    })
    .await;
}

#[tokio::test]
async fn what_came_through_a_proxy_is_refused() {
    apart(async || {
        let front = front().await;
        for header in [
            "X-Forwarded-For: 10.0.0.1",
            "forwarded: for=10.0.0.1",
            "x-real-ip: 10.0.0.1",
            "Via: 1.1 proxy",
        ] {
            let headers = format!("host: {}\r\n{header}\r\n", front.address);
            let answer = answer_to(front.address, &format!("GET {PATH}"), &headers).await;
            assert_refused(&answer, 403, "Proxied");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_is_refused_and_the_connection_closed() {
    apart(async || {
        let front = front().await;
        let to = front.address;
        let sized = request(to, "content-length: 5\r\n") + "hello";
        assert_refused(&until_closed(to, sized.as_bytes()).await, 413, "Body");
        let chunked = request(to, "transfer-encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n";
        assert_refused(&until_closed(to, chunked.as_bytes()).await, 413, "Body");
        let promised = request(to, "content-length: 999999999\r\nexpect: 100-continue\r\n");
        assert_refused(&until_closed(to, promised.as_bytes()).await, 413, "Body");
    })
    .await;
}

#[tokio::test]
async fn an_authorization_header_changes_nothing() {
    apart(async || {
        let front = front().await;
        let headers = format!(
            "host: {}\r\nAuthorization: {}\r\n",
            front.address,
            "x".repeat(4096)
        );
        let answer = answer_to(front.address, &format!("GET {PATH}"), &headers).await;
        assert_granted(&answer);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_400_and_closed() {
    apart(async || {
        let front = front().await;
        let to = front.address;
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /v1/credentials HTTP/1.1\r\nho st: x\r\n\r\n",
            b"GET /v1/credentials HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ] {
            let answer = until_closed(to, garbage).await;
            assert!(
                answer.starts_with("HTTP/1.1 400 "),
                "{answer:?} to {garbage:?}"
            );
        }
        assert_eq!(get(WEB.into(), to, PATH).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn heads_beyond_the_limits_are_answered_431_and_closed() {
    apart(async || {
        let front = front().await;
        let to = front.address;
        let large = request(to, &format!("x: {}\r\n", "x".repeat(20_000)));
        let many = request(to, &"x: y\r\n".repeat(100));
        let endless = format!("GET /{}", "x".repeat(100_000));
        for request in [large, many, endless] {
            let answer = until_closed(to, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        }
        assert_eq!(get(WEB.into(), to, PATH).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn slow_clients_are_closed_at_the_deadline_and_others_are_served() {
    apart(async || {
        let head = SHORT;
        let front = Front::open(0, &pods(), Limits { head, ..limits() }).await;
        let to = front.address;
        let begun = Instant::now();
        let mut silent = connect(WEB.into(), to).await.unwrap();
        let mut slow = connect(WEB.into(), to).await.unwrap();
        slow.write_all(b"GET /v1/creden").await.unwrap();
        assert_eq!(get(API.into(), to, PATH).await.status, 200);
        assert_eq!(rest(&mut silent).await, "");
        assert_eq!(rest(&mut slow).await, "");
        assert!(begun.elapsed() >= head);
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_is_closed_when_it_says_nothing_for_long() {
    apart(async || {
        let front = Front::open(
            0,
            &pods(),
            Limits {
                head: SHORT,
                ..limits()
            },
        )
        .await;
        let mut kept = connect(WEB.into(), front.address).await.unwrap();
        kept.write_all(request(front.address, "").as_bytes())
            .await
            .unwrap();
        assert_granted(&rest(&mut kept).await);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    apart(async || {
        let stall = Duration::from_secs(1);
        let front = Front::open(0, &pods(), Limits { stall, ..limits() }).await;
        let to = front.address;
        let deaf = connect(WEB.into(), to).await.unwrap();
        let requests = request(to, "").repeat(100);
        let flood = async {
            loop {
                deaf.writable().await?;
                match deaf.try_write(requests.as_bytes()) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    written => drop(written?),
                }
            }
        };
        let ended: Result<std::io::Result<()>, _> = timeout(SOON * 4, flood).await;
        ended.expect("the connection is closed").unwrap_err();
        assert_eq!(get(API.into(), to, PATH).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_slow_upstream_is_a_503_within_a_second_and_a_200_later() {
    apart(async || {
        let front = front().await;
        front.upstream.delay(Duration::from_millis(1500));
        let begun = Instant::now();
        let answer = get(WEB.into(), front.address, PATH).await;
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(
            (answer.status.as_u16(), answer.field("Code")),
            (503, "Late".into())
        );
        let answer = get(WEB.into(), front.address, PATH).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(front.upstream.calls(), 1);
    })
    .await;
}

#[tokio::test]
async fn one_address_cannot_take_the_connections_of_another() {
    apart(async || {
        let limits = Limits {
            connections_per_peer: 3,
            connections: 5,
            ..limits()
        };
        let front = Front::open(0, &pods(), limits).await;
        let to = front.address;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(connect(WEB.into(), to).await.unwrap());
        }
        assert_eq!(until_closed(to, b"").await, "");
        let refused = |limit| {
            front
                .metrics
                .refused
                .get_or_create_owned(&RefusedLabels { limit })
                .get()
        };
        assert_eq!((refused(Limit::Peer), refused(Limit::Total)), (1, 0));

        assert_eq!(get(API.into(), to, PATH).await.status, 200);
        drop(held);
        let mut tries = 0;
        while try_get(WEB.into(), to, PATH).await.is_err() {
            tries += 1;
            assert!(tries < 1000, "connections that have ended still count");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn there_is_a_limit_to_all_connections_together() {
    apart(async || {
        let limits = Limits {
            connections: 2,
            ..limits()
        };
        let front = Front::open(0, &pods(), limits).await;
        let held = [
            connect(WEB.into(), front.address).await.unwrap(),
            connect(API.into(), front.address).await.unwrap(),
        ];
        assert_eq!(until_closed(front.address, b"").await, "");
        let total = RefusedLabels {
            limit: Limit::Total,
        };
        assert_eq!(front.metrics.refused.get_or_create_owned(&total).get(), 1);
        drop(held);
    })
    .await;
}

#[tokio::test]
async fn a_leaving_door_answers_what_it_has_accepted_and_closes_kept_connections() {
    apart(async || {
        let front = front().await;
        let to = front.address;
        let mut kept = connect(API.into(), to).await.unwrap();
        kept.write_all(request(to, "").as_bytes()).await.unwrap();
        kept.readable().await.unwrap();
        let mut idle = connect(API.into(), to).await.unwrap();
        front.upstream.delay(Duration::from_millis(600));
        let mut waiting = connect(WEB.into(), to).await.unwrap();
        waiting.write_all(request(to, "").as_bytes()).await.unwrap();
        while front.upstream.calls() < 2 {
            tokio::task::yield_now().await;
        }

        front.leave.cancel();
        let under_way = rest(&mut waiting).await;
        assert_granted(&under_way);
        assert!(
            under_way.contains("\r\nconnection: close\r\n"),
            "{under_way}"
        );
        kept.write_all(request(to, "").as_bytes()).await.unwrap();
        let both = rest(&mut kept).await;
        assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
        assert_eq!(rest(&mut idle).await, "");
        timeout(SOON, front.closed()).await.expect("it has left");
    })
    .await;
}

#[tokio::test]
async fn an_agent_takes_over_from_another_without_a_failed_request() {
    apart(async || {
        let mut agent = front().await;
        let to = agent.address;
        let asked = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let asked = Arc::clone(&asked);
            clients.spawn(async move {
                loop {
                    let answer = try_get(WEB.into(), to, PATH).await.expect("an answer");
                    assert_eq!(answer.status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for turn in 1..=5 {
            let successor = Front::open(to.port(), &pods(), limits()).await;
            agent.leave.cancel();
            timeout(SOON, agent.closed()).await.expect("it has left");
            agent = successor;
            while asked.load(Ordering::Relaxed) < turn * 500 {
                tokio::task::yield_now().await;
                assert!(clients.try_join_next().is_none(), "a client failed");
            }
        }
        assert_eq!(agent.upstream.calls(), 1, "the last agent served");
    })
    .await;
}

#[tokio::test]
async fn the_first_of_two_agents_is_asked_until_it_leaves() {
    apart(async || {
        let first = front().await;
        let to = first.address;
        let second = Front::open(to.port(), &pods(), limits()).await;
        for _ in 0..50 {
            assert_eq!(get(WEB.into(), to, PATH).await.status, 200);
        }
        assert_eq!((first.upstream.calls(), second.upstream.calls()), (1, 0));
        first.leave.cancel();
        timeout(SOON, first.closed()).await.expect("it has left");
        for _ in 0..50 {
            assert_eq!(get(WEB.into(), to, PATH).await.status, 200);
        }
        assert_eq!(second.upstream.calls(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_taken_and_an_absent_address_are_told_apart() {
    apart(async || {
    let selfish = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = selfish.local_addr().unwrap();
    let bind = |host, port| Listeners::bind(&[IpAddr::V4(host)], port, Prefer::Incumbent, SOON).map(|_| ());
    assert!(
        matches!(bind(Ipv4Addr::LOCALHOST, taken.port()), Err(BindError::Taken(address)) if address == taken)
    );
    let absent = Ipv4Addr::new(192, 0, 2, 1);
    assert!(matches!(bind(absent, 0), Err(BindError::Absent(_))));
    })
    .await;
}
