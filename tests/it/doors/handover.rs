//! How the doors listen, leave, and hand over.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use credlet::serve::{BindError, Limits, Listeners, Prefer};
use credlet_tests::client::{connect, get, try_get};
use credlet_tests::front::{Front, limits};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

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
async fn a_leaving_agent_gives_new_connections_to_its_successor_at_once() {
    apart(async || {
        let settle = SOON * 10;
        let first = Front::open(0, &pods(), Limits { settle, ..limits() }).await;
        let to = first.address;
        let second = Front::open(to.port(), &pods(), limits()).await;
        first.leave.cancel();
        let served = async {
            while second.upstream.calls() == 0 {
                assert_eq!(get(WEB.into(), to, PATH).await.status, 200);
            }
        };
        timeout(SOON, served).await.expect("the second is asked");
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_farewell_is_not_cut() {
    apart(async || {
        let farewell = Duration::from_millis(50);
        let front = Front::open(
            0,
            &pods(),
            Limits {
                settle: farewell,
                farewell,
                ..limits()
            },
        )
        .await;
        front.upstream.delay(Duration::from_millis(600));
        let mut waiting = connect(WEB.into(), front.address).await.unwrap();
        let request = request(front.address, "");
        waiting.write_all(request.as_bytes()).await.unwrap();
        while front.upstream.calls() == 0 {
            tokio::task::yield_now().await;
        }
        front.leave.cancel();
        assert_granted(&rest(&mut waiting).await);
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
