//! Exchanges that take a token of the pod's, whichever pod has shown one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use credlet::associations::Associations;
use credlet::associations::file::File;
use credlet::associations::spec::Defaults;
use credlet::broker::{Answers, Broker, Error, Lent};
use credlet::cache;
use credlet::clock::Clock;
use credlet::config::TokenRequests;
use credlet::credentials::{Exchange, Key, NoToken, Refusal, Tokens, Vault};
use credlet::identity::{Identity, Origin, Settings, lending};
use credlet::model::{AssumedRole, Credentials, Secret, SessionScope};
use credlet_tests::callers::{self, Callers};
use credlet_tests::fake_kube::{FakeKube, Pod, Verb};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, pause, resume, timeout};

use super::{HOUR, ROLE, pass};

const AWS: &str = "sts.amazonaws.com";
const PATIENCE: Duration = Duration::from_secs(10);

/// An AWS that takes any token, and writes down each.
struct ByToken {
    tokens: Lent,
    clock: Clock,
    taken: Arc<Mutex<Vec<String>>>,
    attempts: watch::Sender<usize>,
}

impl Exchange for ByToken {
    fn exchange(&self, key: Key) -> BoxFuture<'static, Result<Credentials, Refusal>> {
        let token = self.tokens.token(key.account, key.pod, AWS.into());
        let (shown, attempts) = (Arc::clone(&self.taken), self.attempts.clone());
        let expires = self.clock.now() + HOUR;
        async move {
            let token = token.await;
            attempts.send_modify(|count| *count += 1);
            let token = token?.expose().to_owned();
            shown.lock().unwrap().push(token.clone());
            let secret = || Secret::new(String::new());
            Ok(Credentials::new(
                token,
                secret(),
                secret(),
                expires,
                AssumedRole::new(
                    "arn:aws:sts::111122223333:assumed-role/app/session",
                    "AROAEXAMPLE:session",
                )
                .unwrap(),
            ))
        }
        .boxed()
    }
}

/// A node whose accounts `account-0` to `account-9` have their roles by a token.
struct Rig {
    kube: FakeKube,
    identity: Identity,
    broker: Arc<Broker>,
    taken: Arc<Mutex<Vec<String>>>,
    attempts: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
    _folder: TempDir,
}

impl Rig {
    /// With these pods, each of `account-` and its number's last digit, and when
    /// their credentials were tried for ahead of need.
    async fn start(pods: &[usize], requests: TokenRequests, scope: SessionScope) -> Self {
        let kube = FakeKube::start().await;
        for number in pods {
            kube.apply(pod(*number));
        }
        let mut settings = Settings {
            lending: lending::Settings {
                audiences: vec![AWS.into()],
                requests,
            },
            ..callers::settings()
        };
        settings.tokens.audiences.push(AWS.to_owned());
        let clock = Clock::paused(SystemTime::now());
        let client = kube::Client::try_from(kube::Config::new(kube.url().parse().unwrap()));
        let callers = Callers::of(client.unwrap(), clock, settings);
        let identity = callers.identity.clone();
        let mut tasks = callers.into_tasks();
        let (taken, (attempts, tried)) = (Arc::default(), watch::channel(0));
        let exchange = ByToken {
            tokens: Lent::new(identity.clone()),
            clock,
            taken: Arc::clone(&taken),
            attempts,
        };
        let (vault, scheduler) = Vault::new(Arc::new(exchange), clock);
        tasks.spawn(scheduler);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("associations");
        let lines = (0..10).map(|number| {
            format!("{{namespace: shop, serviceAccount: account-{number}, roleArn: \"{ROLE}\"}}")
        });
        let lines: Vec<String> = lines.collect();
        std::fs::write(&path, format!("associations: [{}]", lines.join(", "))).unwrap();
        let (file, reader) = File::load(&path, Defaults::default()).unwrap();
        tasks.spawn(reader);
        let associations = Associations::new(vec![Box::new(file)], None);
        let broker = Arc::new(Broker::new(identity.clone(), associations, vault, scope));
        let ready = Arc::clone(&broker);
        tasks.spawn(async move { panic!("{}", ready.keep_ready().await) });
        let mut rig = Self {
            kube,
            identity,
            broker,
            taken,
            attempts: tried,
            _tasks: tasks,
            _folder: folder,
        };
        let sessions = match scope {
            SessionScope::Pod => pods.len(),
            SessionScope::ServiceAccount => {
                let accounts = pods.iter().map(|number| number % 10);
                accounts.collect::<HashSet<_>>().len()
            }
        };
        rig.tried(sessions).await;
        rig
    }

    /// Returns once so many exchanges were tried, well or not.
    async fn tried(&mut self, count: usize) {
        let tried = self.attempts.wait_for(|attempts| *attempts >= count);
        timeout(PATIENCE, tried).await.expect("they are").unwrap();
    }

    fn token(&self, number: usize) -> String {
        self.kube.token(&pod(number), AWS, HOUR)
    }

    /// The token by which the pod's answer was got.
    async fn asks(&self, number: usize, token: Option<&str>) -> Result<String, Error> {
        let origin = Origin::new(address(number), "169.254.170.23".parse().unwrap(), None);
        let deadline = Instant::now() + PATIENCE;
        let caller = self.broker.caller(&origin, token, deadline).await?;
        let answer = self.broker.credentials(&caller, deadline).await?;
        Ok(answer.access_key_id.clone())
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }

    async fn until_pods(&self, count: usize) {
        let mut changes = self.identity.changes();
        let comes = async {
            while self.identity.pods() != Some(count) {
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, comes).await.expect("the watch tells");
    }
}

fn pod(number: usize) -> Pod {
    let pod = Pod::new("shop", &format!("pod-{number}"));
    pod.account(&format!("account-{}", number % 10))
        .addresses([address(number).to_string().as_str()])
}

fn address(number: usize) -> IpAddr {
    let number = u8::try_from(number).unwrap();
    IpAddr::from([10, 0, 0, number])
}

fn no_token(answer: &Result<String, Error>) -> Option<&NoToken> {
    match answer {
        Err(Error::Credentials(cache::Error::Fetch(Refusal::NoToken(none)))) => Some(none),
        Ok(_) | Err(_) => None,
    }
}

#[tokio::test]
async fn a_hundred_pods_of_ten_accounts_cost_ten_exchanges_whichever_showed_a_token_first() {
    let mut numbers: Vec<usize> = (0..100).collect();
    let rig = Rig::start(&numbers, TokenRequests::Off, SessionScope::ServiceAccount).await;
    assert!(rig.taken().is_empty());
    fastrand::shuffle(&mut numbers);
    let tokens: HashMap<usize, String> = numbers.iter().map(|it| (*it, rig.token(*it))).collect();
    let answers = numbers.iter().map(|it| rig.asks(*it, Some(&tokens[it])));
    for (number, by) in numbers.iter().zip(join_all(answers).await) {
        let by = by.expect("it has shown a token");
        let (whose, _) = tokens.iter().find(|(_, token)| **token == by).unwrap();
        assert_eq!(whose % 10, number % 10, "another account's token");
    }
    assert_eq!(rig.taken().len(), 10);
}

#[tokio::test]
async fn the_request_that_brings_a_token_is_answered_at_once_whatever_failed_before() {
    let rig = Rig::start(&[1, 11], TokenRequests::Off, SessionScope::ServiceAccount).await;
    let answer = rig.asks(1, None).await;
    let none = no_token(&answer);
    assert!(matches!(none, Some(NoToken::NoneShown(_))), "{answer:?}");
    // Has the keys fetched, by a token that is of no use here.
    let other = rig.kube.token(&pod(1), "pods.eks.amazonaws.com", HOUR);
    rig.asks(1, Some(&other))
        .await
        .expect_err("no token for AWS");
    pause();
    let (asked, token) = (Instant::now(), rig.token(11));
    let by = rig.asks(11, Some(&token)).await;
    assert_eq!(asked.elapsed(), Duration::ZERO);
    resume();
    assert_eq!(by.expect("it brings a token"), token);
    assert_eq!(rig.asks(1, None).await.expect("they share it"), token);
}

#[tokio::test]
async fn a_session_is_refreshed_by_a_token_of_any_live_pod_of_the_account() {
    let mut rig = Rig::start(&[1, 11], TokenRequests::Off, SessionScope::ServiceAccount).await;
    let tokens = [rig.token(1), rig.kube.token(&pod(11), AWS, 2 * HOUR)];
    for (number, token) in [1, 11].into_iter().zip(&tokens) {
        rig.asks(number, Some(token)).await.expect("a token");
    }
    rig.kube.delete("shop", "pod-11");
    rig.until_pods(1).await;
    let tried = *rig.attempts.borrow();
    pass(HOUR / 2).await;
    rig.tried(tried + 1).await;
    assert_eq!(rig.taken(), [&*tokens[0], &*tokens[0]]);
}

#[tokio::test]
async fn a_session_of_a_pod_s_own_is_got_by_its_own_token_alone() {
    let rig = Rig::start(&[1, 11], TokenRequests::Off, SessionScope::Pod).await;
    let token = rig.token(1);
    assert_eq!(rig.asks(1, Some(&token)).await.unwrap(), token);
    let answer = rig.asks(11, None).await;
    assert!(no_token(&answer).is_some(), "{answer:?}");
    let own = rig.token(11);
    assert_eq!(rig.asks(11, Some(&own)).await.unwrap(), own);
}

#[tokio::test]
async fn a_requested_token_has_credentials_ready_before_anybody_asks() {
    let rig = Rig::start(&[1, 11, 2], TokenRequests::On, SessionScope::ServiceAccount).await;
    assert_eq!(rig.taken().len(), 2);
    rig.asks(1, None).await.expect("they are ready");
    rig.asks(2, None).await.expect("they are ready");
    assert_eq!(rig.kube.count(Verb::Token), 2);
    assert_eq!(rig.taken().len(), 2);
}

#[tokio::test]
async fn a_shown_token_does_where_none_is_issued_and_callers_without_one_ask_the_server_rarely() {
    let rig = Rig::start(&[], TokenRequests::On, SessionScope::ServiceAccount).await;
    rig.kube.forbid(Verb::Token);
    rig.kube.apply(pod(1));
    rig.until_pods(1).await;
    for _ in 0..20 {
        let answer = rig.asks(1, None).await;
        let none = no_token(&answer);
        assert!(matches!(none, Some(NoToken::Refused(_))), "{answer:?}");
    }
    assert_eq!(rig.kube.count(Verb::Token), 1);
    let token = rig.token(1);
    assert_eq!(rig.asks(1, Some(&token)).await.unwrap(), token);
}
