//! Where the node is, for programs that take their region from instance metadata.

use std::sync::{Arc, Mutex};

use credlet::aws::{self, Whereabouts};
use credlet::config::{Passthrough, Place, Placement};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

const AT: &str = "/latest/meta-data/placement/";

fn set() -> Placement {
    Placement::default()
        .with(Place::Region, "eu-central-1")
        .with(Place::Zone, "eu-central-1b")
}

fn passing(placement: Placement) -> Imds {
    Imds {
        passthrough: Passthrough::Region(placement),
        ..Imds::default()
    }
}

#[tokio::test]
async fn what_is_set_is_answered_and_the_rest_is_nowhere() {
    apart(async || {
        let front = with(passing(set())).await;
        for (place, name) in [
            ("region", "eu-central-1"),
            ("region/", "eu-central-1"),
            ("availability-zone", "eu-central-1b"),
            // As botocore asks.
            ("availability-zone/", "eu-central-1b"),
        ] {
            let answer = get(WEB, &front, &format!("{AT}{place}"), &[]).await;
            assert_eq!((answer.status, &*answer.body), (200, name), "{place}");
        }
        for place in [
            "",
            "availability-zone-id",
            "group-name",
            "host-id",
            "partition-number",
            "region//",
            "Region",
        ] {
            let answer = get(WEB, &front, &format!("{AT}{place}"), &[]).await;
            assert_eq!(answer.status, 404, "{place}");
        }
        let document = "/latest/dynamic/instance-identity/document";
        assert_eq!(get(WEB, &front, document, &[]).await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn it_is_for_the_same_pods_and_takes_the_same_sessions() {
    apart(async || {
        let settings = Imds {
            versions: ImdsVersions::V2,
            ..passing(set())
        };
        let front = with(settings).await;
        let path = format!("{AT}region");
        assert_eq!(get(PLAIN, &front, &path, &[]).await.status, 403);
        assert_eq!(get(WEB, &front, &path, &[]).await.status, 401);
        let token = token(WEB, &front, "60").await;
        assert_eq!(
            get(WEB, &front, &path, &[(TOKEN, &token)]).await.status,
            200
        );
        // A place is no matter of a role.
        let token = self::token(WITHOUT_ROLE, &front, "60").await;
        let answer = get(WITHOUT_ROLE, &front, &path, &[(TOKEN, &token)]).await;
        assert_eq!(answer.status, 200);
    })
    .await;
}

async fn asking(node: Option<SocketAddr>, placement: Placement) -> Front {
    let endpoint = node.map_or("http://127.0.0.1:9".into(), |node| format!("http://{node}"));
    let sdk = aws::settings().load().await;
    let node = Whereabouts::new(&sdk, Some(endpoint));
    let metadata = Metadata::new(passing(placement)).asking(node);
    Front::with(Some(metadata), 0, &pods(), limits()).await
}

#[tokio::test]
async fn what_is_not_set_is_asked_of_the_nodes_own_service_once() {
    apart(async || {
        let node = Node::start().await;
        let front = asking(Some(node.address), Placement::default()).await;
        for _ in 0..3 {
            for (place, name) in [
                ("region", "us-west-2"),
                ("availability-zone", "us-west-2a"),
                ("availability-zone/", "us-west-2a"),
            ] {
                let answer = get(WEB, &front, &format!("{AT}{place}"), &[]).await;
                assert_eq!((answer.status, &*answer.body), (200, name), "{place}");
            }
            let answer = get(WEB, &front, &format!("{AT}availability-zone-id"), &[]).await;
            assert_eq!(answer.status, 404);
        }
        let asked = node.asked();
        let gets = asked.iter().filter(|line| line.starts_with("GET ")).count();
        assert_eq!(gets, 3, "{asked:?}");
        // Pods are told nothing else of the node.
        for path in [
            "hostname",
            "iam/security-credentials/node",
            "placement/group-name",
        ] {
            let answer = get(WEB, &front, &format!("/latest/meta-data/{path}"), &[]).await;
            assert_eq!(answer.status, 404, "{path}");
        }
        assert_eq!(node.asked().len(), asked.len());
    })
    .await;
}

#[tokio::test]
async fn what_is_set_is_not_asked_for() {
    apart(async || {
        let front = asking(None, set()).await;
        let answer = get(WEB, &front, &format!("{AT}region"), &[]).await;
        assert_eq!((answer.status, &*answer.body), (200, "eu-central-1"));
    })
    .await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_a_503_and_asked_again() {
    apart(async || {
        let front = asking(None, Placement::default()).await;
        let answer = get(WEB, &front, &format!("{AT}region"), &[]).await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.starts_with("PlaceUnknown: "), "{}", answer.body);
    })
    .await;
}

/// A node's own service, as much of it as the SDK asks for.
struct Node {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answer(stream, &lines).await;
            }
        });
        Self {
            address,
            asked,
            _task: task,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(stream: TcpStream, asked: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    stream.read_line(&mut first).await.unwrap();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    let (status, body) = match first.split(' ').nth(1).unwrap() {
        "/latest/api/token" => ("200 OK", "session"),
        "/latest/meta-data/placement/region" => ("200 OK", "us-west-2"),
        "/latest/meta-data/placement/availability-zone" => ("200 OK", "us-west-2a"),
        _ => ("404 Not Found", ""),
    };
    asked.lock().unwrap().push(first);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\n{LIFE}: 60\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}
