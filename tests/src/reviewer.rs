//! `credlet webhook` in this process, between stand-ins, and an API server's view of it.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_credential_types::Credentials;
use bytes::Bytes;
use credlet::apiserver::connect;
use credlet::clock::Clock;
use credlet::cluster::webhook::certificate::{Issued, provider};
use credlet::cluster::webhook::{Addresses, Error, Outside, Pace, Webhook};
use credlet::config::tools::Command;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::{self, Answer};
use crate::fake_aws::{FakeAws, REGION};
use crate::fake_kube::FakeKube;

/// Of the certificate.
const NAME: &str = "credlet-webhook.credlet.svc";

/// The webhook, with a certificate of a folder's.
pub struct Reviewer {
    addresses: Addresses,
    issued: Issued,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

/// A connection that is kept.
pub struct Line {
    sender: SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Reviewer {
    /// On free ports of this machine, with further flags.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(kube: &FakeKube, aws: Option<&FakeAws>, flags: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let issued = issue(&folder);
        let line = format!(
            "credlet webhook --port 0 --probe-port 0 --metrics-address 127.0.0.1:0 \
             --namespace credlet --certificate-dir {} {flags}",
            folder.path().display()
        );
        let parsed = Command::parse(line.split_whitespace().map(OsString::from));
        let Ok(Command::Webhook(config)) = parsed else {
            panic!("the command line is good: {line}");
        };
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, kube.kubeconfig()).expect("writable");
        let api_server = connect(Some(&kubeconfig)).await.expect("a kubeconfig");
        let aws = match aws {
            Some(aws) => {
                let sdk = credlet::aws::settings()
                    .region(aws_config::Region::from_static(REGION))
                    .endpoint_url(aws.url())
                    .credentials_provider(Credentials::for_tests());
                Some(sdk.load().await)
            }
            None => None,
        };
        let outside = Outside {
            api_server,
            aws,
            clock: Clock::system(),
        };
        let webhook = Webhook::start(&config, outside, Pace::default());
        let webhook = webhook.expect("everything is there");
        let addresses = webhook.addresses().clone();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(webhook.run(async move {
            // One that was dropped ends as well.
            let _ = stopped.await;
        }));
        Self {
            addresses,
            issued,
            folder,
            stop,
            task,
        }
    }

    /// What `/readyz` says.
    pub async fn readiness(&self) -> String {
        self.get(&self.addresses.probes, "/readyz").await
    }

    /// Returns once it is ready.
    pub async fn ready(&self) {
        while self.readiness().await != "ok\n" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> String {
        self.get(&self.addresses.metrics, "/metrics").await
    }

    /// Puts another certificate into the folder, and trusts it from now on.
    pub fn renew(&mut self) {
        self.issued = issue(&self.folder);
    }

    /// A connection as an API server makes it; `Err` if it does not believe the
    /// certificate.
    pub async fn connect(&self) -> std::io::Result<Line> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.issued.ca.as_bytes());
        roots.add(ca.expect("a CA")).expect("a CA");
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(local(&self.addresses.reviews)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(NAME).expect("a DNS name");
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("HTTP");
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Its end is seen by who sends.
            let _ = connection.await;
        });
        Ok(Line {
            sender,
            _connection: task,
        })
    }

    /// Ends it, which must go well.
    pub async fn leave(self) {
        self.stop.send(()).expect("it runs still");
        let ended = self.task.await.expect("it did not panic");
        ended.expect("it leaves well");
    }

    async fn get(&self, addresses: &[SocketAddr], path: &str) -> String {
        let to = local(addresses);
        client::get(to.ip(), to, path).await.text()
    }
}

impl Line {
    /// Asks, and waits for the whole answer.
    ///
    /// # Panics
    /// If there is none.
    pub async fn post(&mut self, path: &str, body: Bytes) -> Answer {
        let request = Request::post(path)
            .header("host", NAME)
            .header("content-type", "application/json")
            .body(Full::new(body));
        self.sender.ready().await.expect("the connection is kept");
        let response = self.sender.send_request(request.expect("a request")).await;
        let response = response.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body");
        Answer {
            status,
            body: body.to_bytes(),
        }
    }
}

/// Puts a certificate and its key into the folder.
fn issue(folder: &TempDir) -> Issued {
    let issued = Issued::new(NAME, Clock::system().now());
    for (name, text) in [
        ("tls.crt", &*issued.certificate),
        ("tls.key", issued.key.as_str()),
    ] {
        fs::write(folder.path().join(name), text).expect("writable");
    }
    issued
}

fn local(addresses: &[SocketAddr]) -> SocketAddr {
    let mut addresses = addresses.iter().filter(|it| it.is_ipv4());
    let port = addresses.next().expect("an address").port();
    (IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()
}

/// What an API server asks about a pod of the account.
pub fn review(namespace: &str, account: &str, pod: &Value) -> Bytes {
    let mut pod = pod.clone();
    pod["spec"]["serviceAccountName"] = account.into();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "dryRun": false,
        },
    });
    review.to_string().into()
}
