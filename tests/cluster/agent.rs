//! The whole agent in this process, on free ports of loopback, under its own
//! service account.

use std::ffi::OsString;
use std::net::SocketAddr;

use aws_credential_types::Credentials;
use bytes::Bytes;
use credlet::clock::Clock;
use credlet::config::Command;
use credlet::identity::watch::Client;
use credlet::node::{self, Agent, Outside};
use credlet_tests::client::{self, Answer};
use credlet_tests::fake_aws::{CLUSTER, Entry, FakeAws, REGION};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::follower::PATIENCE;
use crate::place::Place;

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";

/// Serves the pods of a place's node.
pub(crate) struct Rig {
    /// Knows a role for the account `cart` of the place.
    aws: FakeAws,
    door: SocketAddr,
    stop: oneshot::Sender<()>,
    agent: JoinHandle<Result<(), node::Error>>,
}

impl Rig {
    pub(crate) async fn serve(place: &Place) -> Self {
        Self::serve_with(place, "").await
    }

    pub(crate) async fn serve_with(place: &Place, flags: &str) -> Self {
        Self::serve_as(place, place.agent().await, flags).await
    }

    /// By a client of the caller's.
    pub(crate) async fn serve_as(place: &Place, client: Client, flags: &str) -> Self {
        let aws = FakeAws::start().await;
        aws.associate(&place.namespace, "cart", Entry::of(ROLE));
        let line = format!(
            "credlet run --node-name {} --cluster-name {CLUSTER} --bind-hosts 127.0.0.1 --port 0 \
             --probe-port 0 --metrics-address 127.0.0.1:0 --no-setup-network {flags}",
            place.node
        );
        let Ok(Command::Run(config)) = Command::parse(line.split_whitespace().map(OsString::from))
        else {
            panic!("the command line is good: {line}");
        };
        let sdk = credlet::aws::settings()
            .region(aws_config::Region::from_static(REGION))
            .endpoint_url(aws.url())
            .credentials_provider(Credentials::for_tests());
        let outside = Outside {
            api_server: client,
            aws: sdk.load().await,
            clock: Clock::system(),
        };
        let agent = Agent::start(*config, outside).await;
        let agent = agent.expect("everything is there");
        let door = agent.addresses().doors[0];
        let (stop, stopped) = oneshot::channel();
        let agent = tokio::spawn(agent.run(async move {
            // A rig that was dropped stops its agent as well.
            let _ = stopped.await;
        }));
        Self {
            aws,
            door,
            stop,
            agent,
        }
    }

    /// Asks for credentials from an address, with a token or without.
    pub(crate) async fn get(&self, from: &str, token: Option<&str>) -> Answer {
        let from = from.parse().expect("an address");
        let mut request = Request::get("/v1/credentials").header("host", self.door.to_string());
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let stream = client::connect(from, self.door)
            .await
            .expect("a connection");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer { status, body })
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer.expect("an answer")
    }

    /// The role of an answer's credentials.
    pub(crate) fn role_of(&self, answer: &Answer) -> String {
        let role = self.aws.role_of(&answer.field("AccessKeyId"));
        role.expect("issued by the rig's AWS")
    }

    /// Ends the agent, which must go well.
    pub(crate) async fn leave(self) {
        self.stop.send(()).expect("the agent runs still");
        let ended = timeout(PATIENCE, self.agent).await;
        let ended = ended.expect("draining has an end");
        ended.expect("it did not panic").expect("it leaves well");
    }
}
