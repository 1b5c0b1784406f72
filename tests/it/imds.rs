//! Instance metadata: what is answered, to whom, and what is refused.

use std::net::{Ipv4Addr, SocketAddr};

use credlet::config::{Imds, ImdsPods, ImdsVersions};
use credlet::model::ServiceAccount;
use credlet::serve::Metadata;
use credlet_tests::client::connect;
use credlet_tests::front::{Front, Pods, apart, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

mod answers;
mod place;
mod refusals;
mod sessions;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 2);
const API: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 3);
const WITHOUT_ROLE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 4);
/// Has not asked for instance metadata.
const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 5);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 9);

const ROLE: &str = "/latest/meta-data/iam/security-credentials/";
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/web";
const SESSION: &str = "/latest/api/token";
const LIFE: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aws-ec2-metadata-token";

fn pods() -> Pods {
    let account = |namespace, name| ServiceAccount::new(namespace, name).unwrap();
    vec![
        (WEB, account("shop", "web")),
        (API, account("shop", "api")),
        (WITHOUT_ROLE, account("none", "lost")),
        (PLAIN, account("plain", "web")),
    ]
}

async fn with(settings: Imds) -> Front {
    Front::with(Some(Metadata::new(settings)), 0, &pods(), limits()).await
}

async fn front() -> Front {
    with(Imds::default()).await
}

async fn v2_only() -> Front {
    with(Imds {
        versions: ImdsVersions::V2,
        ..Imds::default()
    })
    .await
}

/// An answer as it came.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// Sends the request line as it is, with a good `Host` and what else is given.
async fn ask(from: Ipv4Addr, to: SocketAddr, line: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: String = headers
        .iter()
        .flat_map(|(name, value)| [name, ": ", value, "\r\n"])
        .collect();
    let host = to.ip();
    let request = format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    let mut stream = connect(from.into(), to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

async fn get(from: Ipv4Addr, front: &Front, path: &str, headers: &[(&str, &str)]) -> Answer {
    let to = front.imds.expect("a door");
    ask(from, to, &format!("GET {path}"), headers).await
}

/// A session token for so many seconds.
async fn session(from: Ipv4Addr, front: &Front, seconds: &str) -> Answer {
    let to = front.imds.expect("a door");
    ask(from, to, &format!("PUT {SESSION}"), &[(LIFE, seconds)]).await
}

async fn token(from: Ipv4Addr, front: &Front, seconds: &str) -> String {
    let answer = session(from, front, seconds).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}
