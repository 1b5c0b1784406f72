//! The sidecar, from the pod's request to STS and back, in this process.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use credlet::clock::Clock;
use credlet::config::sidecar::Command;
use credlet::sidecar::{Error, Outside, Sidecar};
use credlet_tests::client::{self, Answer};
use credlet_tests::fake_aws::{self, Api, Call, FakeAws, REGION};
use credlet_tests::fake_kube::{FakeKube, Pod};
use hyper::StatusCode;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const ROLE: &str = "arn:aws:iam::111122223333:role/checkout";

const PATIENCE: Duration = Duration::from_secs(10);

/// Where the pod is that asks.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A sidecar between stand-ins, on free ports of loopback.
struct Rig {
    aws: FakeAws,
    kube: FakeKube,
    folder: TempDir,
    door: SocketAddr,
    probes: SocketAddr,
    stop: oneshot::Sender<()>,
    sidecar: JoinHandle<Result<(), Error>>,
}

fn token(kube: &FakeKube, hours: u64) -> String {
    let pod = Pod::new("shop", "checkout-1").account("checkout");
    kube.apply(pod.clone());
    kube.token(&pod, "sts.amazonaws.com", Duration::from_hours(hours))
}

impl Rig {
    async fn start() -> Self {
        Self::with(&format!("--role-arn {ROLE}"), |_| {}).await
    }

    /// With these flags, and a stand-in for STS that is prepared so.
    async fn with(flags: &str, prepare: impl FnOnce(&FakeAws)) -> Self {
        let (aws, kube) = (FakeAws::start().await, FakeKube::start().await);
        prepare(&aws);
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("token"), token(&kube, 1)).expect("writable");
        fs::write(folder.path().join("role"), ROLE).expect("writable");
        let line = format!(
            "credlet sidecar --bind 127.0.0.1:0 --probe-port 0 --token-file {0}/token {flags}",
            folder.path().display()
        );
        let line = line.replace("FOLDER", &folder.path().to_string_lossy());
        let Ok(Command::Serve(config)) =
            Command::parse(line.split_whitespace().map(OsString::from))
        else {
            panic!("the command line is good: {line}");
        };
        let sdk = credlet::aws::settings()
            .region(aws_config::Region::from_static(REGION))
            .endpoint_url(aws.url())
            .no_credentials();
        let outside = Outside {
            aws: sdk.load().await,
            clock: Clock::system(),
        };
        let sidecar = Sidecar::start(&config, outside).expect("everything is there");
        let (door, probes) = (sidecar.doors()[0], sidecar.probes()[0]);
        let (stop, stopped) = oneshot::channel();
        let sidecar = tokio::spawn(sidecar.run(async move {
            // A rig that was dropped stops its sidecar as well.
            let _ = stopped.await;
        }));
        Self {
            aws,
            kube,
            folder,
            door,
            probes: (HERE, probes.port()).into(),
            stop,
            sidecar,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn get(&self) -> Answer {
        client::get(HERE, self.door, "/v1/credentials").await
    }

    async fn probe(&self) -> Answer {
        client::get(HERE, self.probes, "/readyz").await
    }

    /// Waits until it is ready.
    async fn ready(&self) {
        let comes = async {
            while !self.probe().await.status.is_success() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await;
        came.expect("the sidecar becomes ready");
    }

    /// The web identities that STS was shown.
    fn shown(&self) -> Vec<String> {
        let shown = |call| match call {
            Call::WebIdentity(call) => call.token,
            Call::AssumeRole(_) | Call::PodIdentity(_) | Call::List(_) | Call::Describe(_) => None,
        };
        self.aws.calls().into_iter().filter_map(shown).collect()
    }

    /// Ends the sidecar, which must go well.
    async fn leave(self) {
        self.stop.send(()).expect("the sidecar runs still");
        let ended = timeout(PATIENCE, self.sidecar).await;
        let ended = ended.expect("draining has an end");
        ended.expect("it did not panic").expect("it leaves well");
    }
}

#[tokio::test]
async fn the_pod_gets_its_roles_credentials_for_its_own_token_and_without_tags() {
    let rig = Rig::start().await;
    rig.ready().await;
    let answer = rig.get().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let role = rig.aws.role_of(&answer.field("AccessKeyId"));
    assert_eq!(role.as_deref(), Some(ROLE));
    assert_eq!(rig.aws.count(Api::WebIdentity), 1, "asked for once, ahead");
    let [Call::WebIdentity(call)] = &rig.aws.calls()[..] else {
        panic!("one call: {:?}", rig.aws.calls());
    };
    assert_eq!(call.session_name, "shop.checkout");
    assert!(call.signer.is_empty() && call.tags.is_empty(), "{call:?}");
    rig.leave().await;
}

#[tokio::test]
async fn it_is_ready_with_the_first_credentials_and_not_before() {
    let broken = |aws: &FakeAws| aws.script(Api::WebIdentity, fake_aws::Answer::Broken);
    let rig = Rig::with(&format!("--role-arn {ROLE}"), broken).await;
    rig.aws.wait_for(Api::WebIdentity, 1).await;
    let (answer, probe) = (rig.get().await, rig.probe().await);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(probe.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(probe.text(), "closed: credentials\n");
    let health = client::get(HERE, rig.probes, "/healthz").await;
    assert_eq!(health.status, StatusCode::OK);

    rig.aws.script(Api::WebIdentity, fake_aws::Answer::Well);
    rig.ready().await;
    assert_eq!(rig.get().await.status, StatusCode::OK);
    // STS failing again is not noticed while there are credentials.
    rig.aws.script(Api::WebIdentity, fake_aws::Answer::Broken);
    assert_eq!(rig.get().await.status, StatusCode::OK);
    assert_eq!(rig.probe().await.status, StatusCode::OK);
    rig.leave().await;
}

#[tokio::test]
async fn a_token_that_was_rotated_is_the_one_that_the_next_exchange_shows() {
    let refused = |aws: &FakeAws| {
        let expired = fake_aws::Answer::Refused("ExpiredTokenException");
        aws.script(Api::WebIdentity, expired);
    };
    let rig = Rig::with(&format!("--role-arn {ROLE}"), refused).await;
    rig.aws.wait_for(Api::WebIdentity, 1).await;
    let fresh = token(&rig.kube, 2);
    // As the kubelet does it.
    fs::write(rig.path("next"), format!("{fresh}\n")).expect("writable");
    fs::rename(rig.path("next"), rig.path("token")).expect("one folder");
    rig.aws.script(Api::WebIdentity, fake_aws::Answer::Well);
    rig.ready().await;
    let shown = rig.shown();
    assert_ne!(shown.first(), Some(&fresh));
    assert_eq!(shown.last(), Some(&fresh));
    rig.leave().await;
}

#[tokio::test]
async fn a_token_that_is_gone_is_waited_for() {
    let rig = Rig::with(&format!("--role-arn {ROLE}"), |aws| {
        aws.script(Api::WebIdentity, fake_aws::Answer::Broken);
    })
    .await;
    rig.aws.wait_for(Api::WebIdentity, 1).await;
    fs::rename(rig.path("token"), rig.path("away")).expect("one folder");
    rig.aws.script(Api::WebIdentity, fake_aws::Answer::Well);
    let comes = async {
        while rig.get().await.field("code") != "NoTokenIssued" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let came = timeout(PATIENCE, comes).await;
    came.expect("its absence is told");
    fs::rename(rig.path("away"), rig.path("token")).expect("one folder");
    rig.ready().await;
    rig.leave().await;
}

#[tokio::test]
async fn a_role_that_a_file_names_is_had() {
    let rig = Rig::with("--role-arn-file FOLDER/role", |_| {}).await;
    rig.ready().await;
    let role = rig.aws.role_of(&rig.get().await.field("AccessKeyId"));
    assert_eq!(role.as_deref(), Some(ROLE));
    rig.leave().await;
}

#[tokio::test]
async fn a_leaving_sidecar_says_so_and_answers_what_it_has_accepted() {
    let rig = Rig::start().await;
    rig.ready().await;
    let mut kept = client::Kept::open(HERE, rig.door)
        .await
        .expect("a connection");
    let answer = kept.get("/v1/credentials", None).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::OK);
    let door = rig.door;
    rig.leave().await;
    assert!(kept.get("/v1/credentials", None).await.is_err());
    assert!(client::connect(HERE, door).await.is_err());
}
