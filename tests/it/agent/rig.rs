//! An agent in this process, between stand-ins, on free ports of loopback.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use aws_credential_types::Credentials;
use credlet::clock::Clock;
use credlet::config::Command;
use credlet::identity::watch;
use credlet::node::{self, Agent, Outside};
use credlet::status::{Account, State, Status};
use credlet_tests::client::{self, Answer};
use credlet_tests::fake_aws::{CLUSTER, FakeAws, REGION};
use credlet_tests::fake_kube::{FakeKube, Fault, NODE, Verb};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent and what it talks to.
pub(crate) struct Rig {
    pub(crate) kube: FakeKube,
    pub(crate) aws: FakeAws,
    /// The front door.
    pub(crate) door: SocketAddr,
    probes: SocketAddr,
    /// Metrics, status and page.
    pub(crate) metrics: SocketAddr,
    stop: oneshot::Sender<()>,
    agent: JoinHandle<Result<(), node::Error>>,
    folder: TempDir,
}

impl Rig {
    /// With the source `eks`.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, None, "").await
    }

    /// With further flags, and an API server that is prepared so.
    pub(crate) async fn prepared(flags: &str, prepare: impl FnOnce(&FakeKube)) -> Self {
        Self::with(prepare, None, flags).await
    }

    /// With the source `eks` and further flags.
    pub(crate) async fn with_flags(flags: &str) -> Self {
        Self::with(|_| {}, None, flags).await
    }

    /// With the source `eks`, and an API server on which this goes wrong.
    pub(crate) async fn with_faults(faults: &[(Verb, Fault)]) -> Self {
        let prepare = |kube: &FakeKube| {
            for (verb, fault) in faults {
                kube.fail_next(*verb, *fault);
            }
        };
        Self::with(prepare, None, "").await
    }

    /// With the source `file`.
    pub(crate) async fn with_file(text: &str) -> Self {
        Self::with(|_| {}, Some(text), "").await
    }

    async fn with(prepare: impl FnOnce(&FakeKube), file: Option<&str>, flags: &str) -> Self {
        let (kube, aws) = (FakeKube::start().await, FakeAws::start().await);
        prepare(&kube);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kube.kubeconfig()).expect("a file in it");

        let mut line = format!(
            "credlet run --node-name {NODE} --cluster-name {CLUSTER} --bind-hosts 127.0.0.1 --port 0 \
             --probe-port 0 --metrics-address 127.0.0.1:0 --no-setup-network {flags}"
        );
        if let Some(text) = file {
            std::fs::write(association_file(&folder), text).expect("a file in it");
            let path = association_file(&folder);
            line += " --association-sources file --association-file ";
            line += &path.to_string_lossy();
        }
        let Ok(Command::Run(config)) = Command::parse(line.split_whitespace().map(OsString::from))
        else {
            panic!("the command line is good: {line}");
        };
        let sdk = credlet::aws::settings()
            .region(aws_config::Region::from_static(REGION))
            .endpoint_url(aws.url())
            .credentials_provider(Credentials::for_tests());
        let outside = Outside {
            api_server: watch::connect(Some(&kubeconfig))
                .await
                .expect("a kubeconfig"),
            aws: sdk.load().await,
            clock: Clock::system(),
        };
        let agent = Agent::start(*config, outside)
            .await
            .expect("everything is there");
        let addresses = agent.addresses().clone();
        let (stop, stopped) = oneshot::channel();
        let agent = tokio::spawn(agent.run(async move {
            // A rig that was dropped stops its agent as well.
            let _ = stopped.await;
        }));
        Self {
            kube,
            aws,
            door: addresses.doors[0],
            probes: addresses.probes[0],
            metrics: addresses.metrics[0],
            stop,
            agent,
            folder,
        }
    }

    /// Asks for credentials from an address.
    pub(crate) async fn get(&self, from: IpAddr) -> Answer {
        client::get(from, self.door, "/v1/credentials").await
    }

    pub(crate) async fn probe(&self, path: &str) -> Answer {
        client::get(Ipv4Addr::LOCALHOST.into(), self.probes, path).await
    }

    pub(crate) async fn metrics(&self) -> String {
        let answer = client::get(Ipv4Addr::LOCALHOST.into(), self.metrics, "/metrics").await;
        answer.text()
    }

    /// What the agent tells of itself to people.
    pub(crate) async fn status(&self) -> Status {
        let answer = client::get(Ipv4Addr::LOCALHOST.into(), self.metrics, "/status").await;
        serde_json::from_slice(&answer.body).expect("a status")
    }

    /// Waits until one account stands so.
    pub(crate) async fn stands(&self, account: &str, state: State) -> Account {
        let comes = async {
            loop {
                let all = self.status().await.accounts.into_iter();
                let mut found = all.filter(|it| it.service_account == account && it.state == state);
                if let Some(found) = found.next() {
                    return found;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let comes = timeout(PATIENCE, comes).await.ok();
        let Some(found) = comes else {
            let accounts = self.status().await.accounts;
            panic!("{account} never stood so: {accounts:?}");
        };
        found
    }

    /// Waits for a line of the metrics, with any value if it names none.
    pub(crate) async fn metric(&self, line: &str) {
        let with_value = format!("{line} ");
        let comes = async {
            while !self
                .metrics()
                .await
                .lines()
                .any(|it| it == line || it.starts_with(&with_value))
            {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await.is_ok();
        assert!(came, "`{line}` never came:\n{}", self.metrics().await);
    }

    /// Waits until the agent is ready, which it is with the first list of pods.
    pub(crate) async fn synced(&self) {
        let comes = async {
            while !self.probe("/readyz").await.status.is_success() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, comes)
            .await
            .expect("the agent becomes ready");
    }

    /// Replaces the association file, as an editor does.
    pub(crate) fn write_file(&self, text: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, text).expect("a file in the folder");
        std::fs::rename(next, association_file(&self.folder)).expect("likewise");
    }

    /// Ends the agent, which must go well.
    pub(crate) async fn leave(self) {
        self.stop.send(()).expect("the agent runs still");
        let ended = timeout(PATIENCE, self.agent)
            .await
            .expect("draining has an end");
        ended.expect("it did not panic").expect("it leaves well");
    }
}

fn association_file(folder: &TempDir) -> PathBuf {
    folder.path().join("associations.yaml")
}
