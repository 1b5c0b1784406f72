//! The way to an agent through the API server: by its pod's port, as `kubectl port-forward` goes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use credlet::apiserver;
use credlet::tools::reach::{Error, Way};
use credlet_tests::fake_kube::NODE;
use futures::{SinkExt, StreamExt};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::agent::rig::Rig;

/// The port that the agent believes to have.
const PORT: u16 = 2705;

/// What the kubelet does with a connection to the pod's port.
#[derive(Clone, Copy)]
enum Kubelet {
    Connects(SocketAddr),
    Refuses(&'static str),
}

/// An API server that lists these pods, and forwards to what they have at the port.
struct Server {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(pods: Value, kubelet: Kubelet) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (pods, mut task) = (Arc::new(pods), JoinSet::new());
        task.spawn(async move {
            let mut visits = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                visits.spawn(visit(stream, Arc::clone(&pods), kubelet));
            }
        });
        Self {
            address,
            _task: task,
        }
    }

    async fn way(&self, node: &str) -> Result<Way, Error> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        std::fs::write(&path, config.to_string()).expect("writable");
        let client = apiserver::connect(Some(&path)).await.expect("a kubeconfig");
        Way::to_node(client, "credlet", node, PORT).await
    }
}

async fn visit(mut stream: TcpStream, pods: Arc<Value>, kubelet: Kubelet) {
    let mut head = [0; 2048];
    let seen = stream.peek(&mut head).await.expect("a request");
    let head = String::from_utf8_lossy(&head[..seen]).into_owned();
    if head.contains("/portforward") {
        return forward(stream, kubelet).await;
    }
    let line = head.lines().next().unwrap_or_default();
    let asks = line
        .contains("/api/v1/namespaces/credlet/pods?labelSelector=app.kubernetes.io/name%3Dcredlet");
    assert!(asks, "{line}");
    let nobody = json!({"items": []});
    let list = if line.contains(&format!("spec.nodeName%3D{NODE} ")) {
        &pods
    } else {
        &nobody
    };
    let body = list.to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut read = vec![0; seen];
    stream.read_exact(&mut read).await.expect("it was seen");
    stream
        .write_all(answer.as_bytes())
        .await
        .expect("it is read");
}

/// Channel 0 is the connection and 1 what goes wrong; each begins with the port.
async fn forward(stream: TcpStream, kubelet: Kubelet) {
    #[expect(clippy::result_large_err, reason = "the library's type")]
    let accept = |request: &Request, mut response: Response| {
        let path = request.uri().to_string();
        assert!(
            path.contains("/pods/credlet-1/portforward?") && path.contains("ports=2705"),
            "{path}"
        );
        let protocol = "v4.channel.k8s.io".parse().expect("a header");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let socket = accept_hdr_async(stream, accept).await.expect("a handshake");
    let (mut to, mut from) = socket.split();
    let frame = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [0, 1] {
        let begin = frame(channel, &PORT.to_le_bytes());
        to.send(begin).await.expect("it is read");
    }
    let agent = match kubelet {
        Kubelet::Connects(agent) => agent,
        Kubelet::Refuses(why) => {
            to.send(frame(1, why.as_bytes())).await.expect("it is read");
            to.send(Message::Close(None)).await.expect("it is read");
            return;
        }
    };
    let (mut reader, mut writer) = TcpStream::connect(agent)
        .await
        .expect("an agent")
        .into_split();
    let up = async {
        while let Some(Ok(message)) = from.next().await {
            if let Message::Binary(bytes) = message {
                assert_eq!(bytes[0], 0);
                writer.write_all(&bytes[1..]).await.expect("it is read");
            }
        }
    };
    let down = async {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut bytes).await {
            let sent = to.send(frame(0, &bytes[..read])).await;
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

fn pods() -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [{
        "metadata": {"name": "credlet-1", "creationTimestamp": "2026-11-25T12:00:00Z"},
        "status": {"phase": "Running"},
    }]})
}

#[tokio::test]
async fn an_agent_is_asked_on_its_own_node_and_from_anywhere_through_the_api_server() {
    let rig = Rig::start().await;
    rig.synced().await;
    let server = Server::start(pods(), Kubelet::Connects(rig.metrics)).await;
    let there = server.way(NODE).await.expect("it has an agent");
    for way in [Way::here(rig.metrics), there] {
        let told = way.get("/status").await.expect("an answer");
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        assert_eq!(told["node"], NODE);
        // A page is larger than a frame of the connection.
        let page = way.get("/").await.expect("an answer");
        assert!(page.ends_with(b"</html>\n"));
        let refused = way.get("/nothing").await;
        assert!(matches!(
            refused,
            Err(Error::Refused(_, StatusCode::NOT_FOUND))
        ));
    }
    rig.leave().await;
}

#[tokio::test]
async fn what_is_in_the_way_is_told() {
    let refuses = Kubelet::Refuses("connection refused inside the pod");
    let server = Server::start(pods(), refuses).await;
    let way = server.way(NODE).await.expect("it has an agent");
    let error = way
        .get("/status")
        .await
        .expect_err("nobody listens")
        .to_string();
    assert!(
        error.contains("credlet-1") && error.contains("inside the pod"),
        "{error}"
    );

    let error = server
        .way("elsewhere")
        .await
        .err()
        .expect("no agent")
        .to_string();
    assert!(
        error.contains("no agent runs on the node elsewhere"),
        "{error}"
    );

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let error = Way::here(address)
        .get("/status")
        .await
        .expect_err("nobody listens");
    assert!(error.to_string().contains("--node"), "{error}");
}
