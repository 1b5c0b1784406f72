//! Service account tokens, verified against the stand-in's keys and by its reviews.

use std::path::Path;
use std::time::{Duration, SystemTime};

use credlet::clock::Clock;
use credlet::identity::tokens::{
    Claims, Error, Flaw, Metrics, Outcome, Settings, Tokens, VerificationLabels, Way,
};
use credlet::identity::watch::connect;
use credlet_tests::fake_kube::{FakeKube, NODE, Pod};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, pause, resume, sleep, timeout};

mod forged;
mod held;
mod keys;
mod requested;
mod review;
mod saved;

const AUDIENCE: &str = "pods.eks.amazonaws.com";
const HOUR: Duration = Duration::from_hours(1);
/// Longer than any of these tests takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a caller waits who is to wait in vain.
const BRIEFLY: Duration = Duration::from_millis(200);

struct Rig {
    kube: FakeKube,
    tokens: Tokens,
    metrics: Metrics,
    _keeper: JoinSet<()>,
}

impl Rig {
    /// Against a new stand-in that has the pod [`pod`], without a state directory.
    async fn start() -> Self {
        let kube = FakeKube::start().await;
        kube.apply(pod());
        Self::with(kube, None, SystemTime::now()).await
    }

    async fn with(kube: FakeKube, state_dir: Option<&Path>, now: SystemTime) -> Self {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kube.kubeconfig()).unwrap();
        let client = connect(Some(file.path())).await.unwrap();
        let metrics = Metrics::default();
        let settings = Settings {
            audiences: vec!["sts.amazonaws.com".to_owned(), AUDIENCE.to_owned()],
            state_dir: state_dir.map(Path::to_owned),
        };
        let (tokens, keeper) = Tokens::new(client, settings, metrics.clone(), Clock::paused(now));
        let mut running = JoinSet::new();
        running.spawn(async { match keeper.await {} });
        Self {
            kube,
            tokens,
            metrics,
            _keeper: running,
        }
    }

    async fn verify(&self, token: &str) -> Result<Claims, Error> {
        self.verify_within(token, PATIENCE).await
    }

    /// The claims, or what went wrong, which in no case tells the token.
    async fn verify_within(&self, token: &str, patience: Duration) -> Result<Claims, Error> {
        let result = self.tokens.verify(token, Instant::now() + patience).await;
        let told = format!("{result:?}");
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!told.contains(part), "{told}");
        }
        result.map(|claims| Claims::clone(&claims))
    }

    fn token(&self) -> String {
        self.kube.token(&pod(), AUDIENCE, HOUR)
    }

    fn counted(&self, way: Way, outcome: Outcome) -> u64 {
        let labels = VerificationLabels { way, outcome };
        self.metrics.verifications.get_or_create(&labels).get()
    }
}

fn pod() -> Pod {
    Pod::new("shop", "cart-0").account("cart")
}

fn says_the_pod(claims: &Claims) {
    assert_eq!(claims.pod.to_string(), "uid-of-shop-cart-0");
    assert_eq!(claims.pod_name, "cart-0");
    assert_eq!(claims.account.to_string(), "shop/cart");
    assert_eq!(claims.node.as_deref(), Some(NODE));
}

/// Lets time pass, for which nobody has to wait.
async fn later(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

/// For what tells nobody that it happens.
async fn until(what: &str, happens: impl Fn() -> bool) {
    let happened = async {
        while !happens() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, happened).await.is_ok(), "{what}");
}

fn refused(flaw: Flaw) -> Result<Claims, Error> {
    Err(Error::Refused(flaw))
}

fn is_unavailable(result: &Result<Claims, Error>) -> bool {
    matches!(result, Err(Error::Unavailable(_)))
}
