//! How long the doors wait, and how many they let in.

use std::time::{Duration, Instant};

use credlet::serve::{Limit, Limits, RefusedLabels};
use credlet_tests::client::{connect, get, try_get};
use credlet_tests::front::{Front, limits};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::*;

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
