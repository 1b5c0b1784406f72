//! One cluster with 1,000 associations, by the settings' defaults.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::super::board::Board;
use super::super::eks::{Asking, Cluster, Settings};
use super::super::mirrored::{Feed, Origin};
use super::super::pace::Pace;
use super::super::plan::Known;
use super::cloud::{CLUSTER, Cloud, arn, role};
use crate::aws::Metrics;
use crate::clock::Clock;

const ALL: usize = 1000;

/// The defaults of `config::sync`.
const SETTINGS: Settings = Settings {
    every: Duration::from_mins(1),
    refresh: Duration::from_mins(5),
    exchange: None,
};
const RATE: f64 = 5.0;

async fn follow(cloud: &Cloud, there: Vec<Origin>) -> Board {
    follow_at(cloud, there, RATE).await
}

async fn follow_at(cloud: &Cloud, there: Vec<Origin>, rate: f64) -> Board {
    let board = Board::new([Feed::Eks(CLUSTER.into())]);
    let clock = Clock::paused(SystemTime::UNIX_EPOCH + Duration::from_hours(500_000));
    let pace = Pace::new(rate);
    let sdk = cloud.sdk().await;
    let asking = Asking::new(&sdk, pace, SETTINGS, Metrics::default(), clock);
    let cluster = Cluster::new(asking, &CLUSTER.into(), 0, board.clone(), there);
    tokio::spawn(cluster.run());
    board
}

fn known(board: &Board, number: usize) -> Option<Known> {
    board.look(|state| state.known.get(&Origin::eks(&arn(number))).cloned())
}

/// How long it takes until an association is known to be so.
async fn until(board: &Board, number: usize, is_it: impl Fn(&Known) -> bool) -> Duration {
    let start = Instant::now();
    while !known(board, number).is_some_and(|known| is_it(&known)) {
        sleep(Duration::from_millis(250)).await;
        assert!(start.elapsed() < Duration::from_mins(10), "{number}");
    }
    start.elapsed()
}

fn has_role(name: &str) -> impl Fn(&Known) -> bool {
    move |known| match known {
        Known::Is(wanted) => wanted.spec["roleArn"] == name,
        Known::Gone => false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_associations_cost_two_thousand_calls_in_ten_minutes_whatever_the_nodes() {
    let cloud = Cloud::of(ALL);
    let start = Instant::now();
    let board = follow(&cloud, Vec::new()).await;
    until(&board, ALL - 1, |_| true).await;
    while board.look(|state| state.known.len()) < ALL {
        sleep(Duration::from_secs(1)).await;
    }
    let first = start.elapsed();
    assert!(first < Duration::from_secs(250), "{first:?}");

    sleep(Duration::from_mins(5)).await;
    let before = cloud.calls();
    sleep(Duration::from_mins(10)).await;
    let calls = cloud.calls() - before;
    println!("1000 associations are known after {first:?}, and cost {calls} calls in 10 minutes");
    // 10 lists of 10 pages, 2 descriptions of each.
    assert!((2000..=2200).contains(&calls), "{calls}");
    assert_eq!(cloud.state().throttled, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_new_or_gone_is_known_with_the_next_list_and_a_change_after_five_minutes() {
    let cloud = Cloud::of(ALL);
    let board = follow(&cloud, Vec::new()).await;
    sleep(Duration::from_mins(6)).await;

    let mut slowest = [Duration::ZERO; 3];
    for round in 0..2 {
        let (added, removed, changed) = (ALL + round, round, 500 + 337 * round);
        cloud.state().roles.insert(added, role(added));
        let took = until(&board, added, has_role(&role(added))).await;
        slowest[0] = slowest[0].max(took);
        cloud.state().roles.remove(&removed);
        let took = until(&board, removed, |known| *known == Known::Gone).await;
        slowest[1] = slowest[1].max(took);
        let other = role(7_000 + round);
        cloud.state().roles.insert(changed, other.clone());
        let took = until(&board, changed, has_role(&other)).await;
        slowest[2] = slowest[2].max(took);
    }
    let [added, removed, changed] = slowest;
    println!("slowest: added {added:?}, removed {removed:?}, changed {changed:?}");
    assert!(added < Duration::from_secs(66), "{added:?}");
    assert!(removed < Duration::from_secs(66), "{removed:?}");
    assert!(changed < Duration::from_secs(330), "{changed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_asks_no_more_than_the_one_before() {
    let cloud = Cloud::of(ALL);
    let there = (0..ALL).map(|number| Origin::eks(&arn(number))).collect();
    let _board = follow(&cloud, there).await;
    sleep(Duration::from_mins(5)).await;
    let calls = cloud.calls();
    assert!((900..=1100).contains(&calls), "{calls}");
    assert_eq!(cloud.state().throttled, 0);
}

#[tokio::test(start_paused = true)]
async fn where_eks_throttles_it_is_asked_more_slowly_and_all_is_known_all_the_same() {
    let cloud = Cloud::of(300);
    let start = Instant::now();
    let board = follow_at(&cloud, Vec::new(), 50.0).await;
    while board.look(|state| state.known.len()) < 300 {
        sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() < Duration::from_mins(3));
    }
    let throttled = cloud.state().throttled;
    let all = cloud.calls();
    assert!(throttled > 0 && throttled * 4 < all, "{throttled} of {all}");
    assert!(board.look(|state| state.feeds[0].1.unusable.is_empty()));
}
