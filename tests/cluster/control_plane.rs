//! etcd and an API server of a test's own, which it may kill and start again.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use credlet::identity::watch::{Client, connect};
use nix::sys::signal::Signal;
use pem::Pem;
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::manifests;
use crate::process::{Folder, Nursery, Process};

/// How long a program may take to start or to end, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const API_PORT: u16 = 6443;
const ETCD_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// The administrator's bearer token.
const ADMIN: &str = "of-the-administrator";

/// A bearer token of the agent's that no key signed.
const LASTING: &str = "of-the-agent";

/// What the API server can sign service account tokens with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// Signs by RS256.
    Rsa,
    /// Signs by ES256.
    Ec,
    /// Signs by RS256, too.
    Next,
}

/// How an API server is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The first signs; all are published, and believed.
    pub(crate) keys: &'static [Key],
    /// Further flags.
    pub(crate) flags: &'static [&'static str],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: &[Key::Rsa],
            flags: &[],
        }
    }
}

/// A control plane without controllers. Ends when dropped.
pub(crate) struct ControlPlane {
    address: Ipv4Addr,
    nursery: Nursery,
    api_server: Mutex<Option<Process>>,
    etcd: Mutex<Process>,
    folder: Folder,
}

impl ControlPlane {
    /// The one that tests share which leave it running.
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: OnceCell<Arc<ControlPlane>> = OnceCell::const_new();
        let start = async || Arc::new(Self::start(Settings::default()).await);
        Arc::clone(SHARED.get_or_init(start).await)
    }

    /// With the agent's namespace, account and RBAC in its store.
    pub(crate) async fn start(settings: Settings) -> Self {
        let cluster = Self::bare(settings).await;
        manifests::apply(&cluster.admin().await, manifests::PLAIN).await;
        manifests::until_established(&cluster.admin().await).await;
        cluster
    }

    /// With an empty store.
    pub(crate) async fn bare(settings: Settings) -> Self {
        let address = own_address();
        let folder = Folder::new();
        write_files(folder.path());
        let nursery = Nursery::new();
        let etcd = nursery.spawn(etcd(address, folder.path()), folder.path().join("etcd.log"));
        let cluster = Self {
            address,
            nursery,
            api_server: Mutex::new(None),
            etcd: Mutex::new(etcd),
            folder,
        };
        cluster.start_api_server(settings).await;
        cluster
    }

    /// Starts an API server on the address and the store of the one before.
    /// Returns when it is ready.
    ///
    /// # Panics
    /// If there is one.
    pub(crate) async fn start_api_server(&self, settings: Settings) {
        let command = self.api_server(settings);
        let log = self.folder.path().join("kube-apiserver.log");
        let process = self.nursery.spawn(command, log);
        let before = self.lock().replace(process);
        assert!(before.is_none(), "one API server at a time");
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready().await {
            let ended = self.lock().as_mut().expect("just put there").ended();
            assert!(!ended && Instant::now() < deadline, "{}", self.last_words());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// As `kill -9`.
    pub(crate) fn kill_api_server(&self) {
        self.lock().take().expect("it runs");
    }

    /// As an upgrade stops it: in good order.
    pub(crate) async fn stop_api_server(&self) {
        let mut process = self.lock().take().expect("it runs");
        process.signal(Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while !process.ended() {
            assert!(Instant::now() < deadline, "{}", process.last_words());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where the API server listens.
    pub(crate) fn api_server_at(&self) -> SocketAddr {
        (self.address, API_PORT).into()
    }

    /// Where etcd listens, for its JSON gateway.
    pub(crate) fn etcd_at(&self) -> SocketAddr {
        (self.address, ETCD_PORT).into()
    }

    /// A client that may do anything.
    pub(crate) async fn admin(&self) -> Client {
        self.client(ADMIN, self.api_server_at()).await
    }

    /// The text of the administrator's kubeconfig file.
    pub(crate) fn admins_kubeconfig(&self) -> String {
        self.kubeconfig(ADMIN, self.api_server_at())
    }

    /// A client that is the agent.
    pub(crate) async fn agent(&self) -> Client {
        self.agent_by(self.api_server_at()).await
    }

    /// A client that is the agent, whatever key the API server signs with.
    pub(crate) async fn lasting_agent(&self) -> Client {
        self.client(LASTING, self.api_server_at()).await
    }

    /// A client that is the agent, by way of `server`.
    pub(crate) async fn agent_by(&self, server: SocketAddr) -> Client {
        let token = manifests::agent_token(&self.admin().await).await;
        self.client(&token, server).await
    }

    /// A client that presents `token`, by way of `server`.
    pub(crate) async fn client(&self, token: &str, server: SocketAddr) -> Client {
        let kubeconfig = self.kubeconfig(token, server);
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).expect("a file");
        fs::write(file.path(), kubeconfig).expect("the file is there");
        connect(Some(file.path())).await.expect("a good kubeconfig")
    }

    /// The text of a kubeconfig file of the administrator's.
    pub(crate) fn admin_kubeconfig(&self) -> String {
        self.kubeconfig(ADMIN, self.api_server_at())
    }

    /// What the audit log says, a JSON object a line.
    pub(crate) fn audit_log(&self) -> String {
        fs::read_to_string(audit_log(self.folder.path())).expect("the API server writes one")
    }

    /// The text of a kubeconfig file that presents `token`, by way of `server`.
    pub(crate) fn kubeconfig(&self, token: &str, server: SocketAddr) -> String {
        // JSON is YAML. The server's self-made certificate has its own CA with it.
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": format!("https://{server}"),
                "certificate-authority": self.folder.path().join("certificates/apiserver.crt"),
            }}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        })
        .to_string()
    }

    async fn is_ready(&self) -> bool {
        let certificate = self.folder.path().join("certificates/apiserver.crt");
        // Written before the key; the server listens after both.
        if !certificate.with_extension("key").is_file() {
            return false;
        }
        let request = hyper::Request::get("/readyz").body(Vec::new());
        let request = request.expect("a path");
        let answer = self.admin().await.request_text(request).await;
        answer.is_ok_and(|text| text == "ok")
    }

    fn last_words(&self) -> String {
        let etcd = self
            .etcd
            .lock()
            .expect("nobody panics with it")
            .last_words();
        let api_server = self.lock();
        let api_server = api_server.as_ref().map(Process::last_words);
        format!(
            "the API server is not ready; it said:\n{}\n\netcd said:\n{etcd}",
            api_server.unwrap_or_default()
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.api_server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn api_server(&self, settings: Settings) -> Command {
        let Settings { keys, flags } = settings;
        let folder = self.folder.path();
        let mut command = Command::new(program("kube-apiserver"));
        let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
        command
            .arg(format!("--bind-address={}", self.address))
            .arg(format!("--advertise-address={}", self.address))
            .arg(format!("--secure-port={API_PORT}"))
            .arg(format!("--etcd-servers=http://{}", self.etcd_at()))
            .arg(flag("cert-dir", &folder.join("certificates")))
            .arg(flag("token-auth-file", &folder.join("tokens.csv")))
            .arg(flag("audit-policy-file", &folder.join("audit.json")))
            .arg(flag("audit-log-path", &audit_log(folder)))
            .arg(flag(
                "service-account-signing-key-file",
                &key_file(folder, keys[0]),
            ))
            .args(
                keys.iter()
                    .map(|key| flag("service-account-key-file", &key_file(folder, *key))),
            )
            .args([
                "--authorization-mode=RBAC",
                // Else SIGTERM waits a minute for each open watch.
                "--shutdown-watch-termination-grace-period=1s",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/16",
                // A loopback address is no endpoint of the Service `kubernetes`.
                "--endpoint-reconciler-type=none",
            ])
            .args(flags);
        command
    }
}

/// A loopback address that no other control plane has: its ports then need not
/// be free by luck, nor be lost while nobody listens.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 64 + count % 64, high, low)
}

fn etcd(address: Ipv4Addr, folder: &Path) -> Command {
    let clients = format!("http://{address}:{ETCD_PORT}");
    let peers = format!("http://{address}:{PEER_PORT}");
    let mut command = Command::new(program("etcd"));
    command
        .args(["--name=it", "--log-level=warn", "--unsafe-no-fsync"])
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"))
        .arg(format!("--listen-peer-urls={peers}"))
        .arg(format!("--initial-advertise-peer-urls={peers}"))
        .arg(format!("--initial-cluster=it={peers}"));
    command
}

/// A program that `scripts/cluster-tools` has built or found.
fn program(name: &str) -> PathBuf {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster/bin");
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty());
    let path = folder.map_or_else(built, PathBuf::from).join(name);
    assert!(
        path.is_file(),
        "{} is missing: run scripts/cluster-tools, or make test",
        path.display()
    );
    path
}

fn write_files(folder: &Path) {
    let write = |path: &Path, text: String| {
        let written: io::Result<()> = fs::write(path, text);
        written.expect("a file in a temporary folder");
    };
    for key in [Key::Rsa, Key::Ec, Key::Next] {
        write(&key_file(folder, key), pem::encode(&new_key(key)));
    }
    let groups = "\"system:serviceaccounts,system:serviceaccounts:credlet\"";
    let agent = manifests::AGENT;
    let tokens = format!("{ADMIN},administrator,0,system:masters\n{LASTING},{agent},1,{groups}\n");
    write(&folder.join("tokens.csv"), tokens);
    // Of the agent alone, and of a watch when it opens: it need not end.
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "users": [manifests::AGENT]},
            {"level": "None"},
        ],
    });
    write(&folder.join("audit.json"), policy.to_string());
}

fn key_file(folder: &Path, key: Key) -> PathBuf {
    folder.join(format!("{key:?}.pem"))
}

fn audit_log(folder: &Path) -> PathBuf {
    folder.join("audit.log")
}

fn new_key(key: Key) -> Pem {
    match key {
        Key::Rsa | Key::Next => {
            let key = rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
            let der: Pkcs8V1Der<'_> = key.as_der().expect("a new key has a form");
            Pem::new("PRIVATE KEY", der.as_ref())
        }
        Key::Ec => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
            let der: EcPrivateKeyRfc5915Der<'_> =
                key.private_key().as_der().expect("a new key has a form");
            Pem::new("EC PRIVATE KEY", der.as_ref())
        }
    }
}
