//! The way to an agent: on the node that this process is on, or through the API server from anywhere.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::apiserver::{self, Client, ConnectError};
use crate::causes::causes;
use crate::config::Reach;

/// How long all of it may take: the API server, the kubelet and the agent.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the kubelet's words may come after the end of the connection.
const WORDS: Duration = Duration::from_secs(1);

/// More than an agent tells of a node with a thousand pods.
const LARGEST: usize = 8 << 20;

/// Why an agent cannot be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no agent answers at {0}: run this on a node, or name one by --node ({1})")]
    NotHere(SocketAddr, String),
    /// Where the API server is, is not known.
    #[error("{0}")]
    Connect(String),
    /// It does not say which pods there are.
    #[error("the API server does not tell of the agents in the namespace {0}: {1}")]
    Pods(String, String),
    /// The node has no agent.
    #[error("no agent runs on the node {node}, of those in the namespace {namespace}")]
    NoAgent {
        /// As it was given.
        node: String,
        /// Where agents are looked for.
        namespace: String,
    },
    /// The API server does not lead to the pod.
    #[error("the API server does not forward to the agent's pod {0}: {1}")]
    Forward(String, String),
    /// The connection broke.
    #[error("the agent does not answer: {0}")]
    Silent(String),
    /// The agent refuses.
    #[error("the agent refuses: {0} ({1})")]
    Refused(String, StatusCode),
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::Connect(causes(&error))
    }
}

/// A way to one agent's metrics address.
#[derive(Clone)]
pub struct Way(Leg);

#[derive(Clone)]
enum Leg {
    Here(SocketAddr),
    Through(Box<Through>),
}

#[derive(Clone)]
struct Through {
    client: Client,
    namespace: String,
    pod: String,
    port: u16,
}

impl Way {
    /// To the agent that the command line means. Through the API server that
    /// takes the rights to list pods, and to `create` on `pods/portforward`.
    pub async fn open(reach: &Reach) -> Result<Self, Error> {
        match &reach.node {
            None => Ok(Self::here(reach.address)),
            Some(node) => {
                let client = apiserver::connect(reach.kubeconfig.as_deref()).await?;
                Self::to_node(client, &reach.namespace, node, reach.address.port()).await
            }
        }
    }

    /// To the agent of this node.
    pub fn here(address: SocketAddr) -> Self {
        Self(Leg::Here(address))
    }

    /// To the agent of that node, whose pods are in that namespace.
    pub async fn to_node(
        client: Client,
        namespace: &str,
        node: &str,
        port: u16,
    ) -> Result<Self, Error> {
        let pods = format!(
            "/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io/name%3Dcredlet\
             &fieldSelector=spec.nodeName%3D{node}"
        );
        let failed = |why: String| Error::Pods(namespace.to_owned(), why);
        let request = Request::get(pods).body(Vec::new());
        let request = request.map_err(|error| failed(error.to_string()))?;
        let listed = timeout(PATIENCE, client.request::<Value>(request)).await;
        let listed = listed.map_err(|_| failed("it does not answer".to_owned()))?;
        let listed = listed.map_err(|error| failed(causes(&error)))?;
        let pod = newest(&listed).ok_or_else(|| Error::NoAgent {
            node: node.to_owned(),
            namespace: namespace.to_owned(),
        })?;
        Ok(Self(Leg::Through(Box::new(Through {
            client,
            namespace: namespace.to_owned(),
            pod,
            port,
        }))))
    }

    /// What the agent answers to `GET path`, if that is 200.
    pub async fn get(&self, path: &str) -> Result<Bytes, Error> {
        let answered = async {
            match &self.0 {
                Leg::Here(address) => {
                    let stream = TcpStream::connect(address).await;
                    let stream =
                        stream.map_err(|error| Error::NotHere(*address, error.to_string()))?;
                    ask(stream, path).await
                }
                Leg::Through(through) => through.ask(path).await,
            }
        };
        let answered = timeout(PATIENCE, answered).await;
        answered.unwrap_or_else(|_| Err(Error::Silent(format!("nothing in {PATIENCE:?}"))))
    }
}

impl Through {
    async fn ask(&self, path: &str) -> Result<Bytes, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let opened = pods.portforward(&self.pod, &[self.port]).await;
        let failed = |why| Error::Forward(self.pod.clone(), why);
        let mut ports = opened.map_err(|error| failed(causes(&error)))?;
        let stream = ports.take_stream(self.port);
        let refused = ports.take_error(self.port);
        let (Some(stream), Some(refused)) = (stream, refused) else {
            return Err(failed("the port is not there".to_owned()));
        };
        let answer = ask(stream, path).await;
        // The kubelet's own words, where it could not connect, say more.
        let Err(Error::Silent(_)) = &answer else {
            return answer;
        };
        match timeout(WORDS, refused).await {
            Ok(Some(why)) if !why.is_empty() => Err(failed(why)),
            Ok(Some(_) | None) | Err(_) => answer,
        }
    }
}

/// Of an update's two agents the one that stays.
fn newest(list: &Value) -> Option<String> {
    let pods = list["items"].as_array()?.iter();
    let runs = |pod: &&Value| {
        pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
    };
    // Times of the API server's are in one form, and sort as text.
    let newest = pods.filter(runs).max_by_key(|pod| {
        pod["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default()
    });
    newest?["metadata"]["name"].as_str().map(str::to_owned)
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    path: &str,
) -> Result<Bytes, Error> {
    let silent = |error: hyper::Error| Error::Silent(causes(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(silent)?;
    let request = Request::get(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::Silent(error.to_string()))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(silent)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|error| Error::Silent(error.to_string()))?;
        Ok::<_, Error>((head.status, body.to_bytes()))
    };
    // The connection moves only while somebody polls it.
    let (status, body) = tokio::select! {
        asked = asked => asked?,
        Err(error) = connection => return Err(silent(error)),
    };
    if status == StatusCode::OK {
        return Ok(body);
    }
    let said = String::from_utf8_lossy(&body);
    let line = said.lines().next().unwrap_or_default().trim();
    Err(Error::Refused(line.to_owned(), status))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, since: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": since}, "status": {"phase": phase}})
    }

    #[test]
    fn of_two_agents_the_one_that_stays_is_asked() {
        let mut leaving = pod("credlet-2", "Running", "2026-11-25T12:00:00Z");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-25T13:00:00Z");
        let list = json!({"items": [
            pod("credlet-0", "Running", "2026-11-24T12:00:00Z"),
            pod("credlet-1", "Running", "2026-11-25T11:00:00Z"),
            leaving,
            pod("credlet-3", "Pending", "2026-11-25T13:00:00Z"),
        ]});
        assert_eq!(newest(&list).as_deref(), Some("credlet-1"));
        assert_eq!(newest(&json!({"items": []})), None);
    }
}
