//! Stand-ins for STS and EKS that record what they are asked.
//!
//! ```no_run
//! # use credlet_tests::fake_aws::{Answer, Api, Entry, FakeAws};
//! # async fn example() {
//! let aws = FakeAws::start().await; // AWS_ENDPOINT_URL_STS = AWS_ENDPOINT_URL_EKS = aws.url()
//! aws.associate("payments", "api", Entry::of("arn:aws:iam::111122223333:role/payments"));
//! aws.script(Api::AssumeRole, Answer::Throttled);
//! aws.wait_for(Api::AssumeRole, 1).await;
//! assert_eq!(aws.assume_roles()[0].tags["kubernetes-namespace"], "payments");
//! # }
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

mod eks;
mod limit;
mod pod_identity;
mod request;
mod sts;

pub(crate) use request::http_date;
use request::{signer, wait};

pub use eks::{Describe, Entry, List};
pub use pod_identity::PodIdentity;
pub use sts::{AssumeRole, issued_to};

/// The one cluster that the stand-in for EKS knows.
pub const CLUSTER: &str = "blue";

/// What [`CLUSTER`]'s ARN is.
pub const CLUSTER_ARN: &str = "arn:aws:eks:eu-central-1:111122223333:cluster/blue";

/// The region that the stand-ins are in. They accept any.
pub const REGION: &str = "eu-central-1";

/// How long [`FakeAws::wait_for`] waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `sts:AssumeRole`; its subject for [`FakeAws::script_for`] is the role's ARN.
    AssumeRole,
    /// `sts:AssumeRoleWithWebIdentity`; likewise.
    WebIdentity,
    /// `eks-auth:AssumeRoleForPodIdentity`; its subject is `namespace/name`.
    PodIdentity,
    /// `eks:ListPodIdentityAssociations`; its subject is `namespace/name`.
    List,
    /// `eks:DescribePodIdentityAssociation`; its subject is `namespace/name`.
    Describe,
}

/// How a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As AWS would when all is well.
    Well,
    /// The same, this much later.
    After(Duration),
    /// AWS's throttling error.
    Throttled,
    /// AWS's refusal.
    Denied,
    /// As well as AWS does for a role whose sessions last so many seconds at most.
    Longest(u64),
    /// A refusal with this code and status 400.
    Refused(&'static str),
    /// A 404 of the service's own: the cluster or the association has gone.
    Gone,
    /// A 500.
    Broken,
    /// This status, code and message.
    Error(u16, &'static str, &'static str),
    /// Never.
    Hang,
    /// A 200 with half a document.
    Malformed,
    /// A 200 with a document in which everything that matters is missing.
    Empty,
    /// A 200 with credentials that expire this many seconds from now. Only for STS.
    Expires(i64),
}

/// One recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `sts:AssumeRole`.
    AssumeRole(AssumeRole),
    /// `sts:AssumeRoleWithWebIdentity`.
    WebIdentity(AssumeRole),
    /// `eks-auth:AssumeRoleForPodIdentity`.
    PodIdentity(PodIdentity),
    /// `eks:ListPodIdentityAssociations`.
    List(List),
    /// `eks:DescribePodIdentityAssociation`.
    Describe(Describe),
}

impl Call {
    fn api(&self) -> Api {
        match self {
            Self::AssumeRole(_) => Api::AssumeRole,
            Self::WebIdentity(_) => Api::WebIdentity,
            Self::PodIdentity(_) => Api::PodIdentity,
            Self::List(_) => Api::List,
            Self::Describe(_) => Api::Describe,
        }
    }
}

/// STS and EKS on one address. Ends when dropped.
pub struct FakeAws {
    url: String,
    state: Arc<State>,
    server: AbortHandle,
}

struct State {
    inner: Mutex<Inner>,
    recorded: watch::Sender<usize>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    scripts: HashMap<(Api, Option<String>), Answer>,
    table: eks::Table,
    sessions: sts::Sessions,
    /// Whom `GetCallerIdentity` names, whoever signed.
    identity: Option<String>,
    /// What every answer's `Date` says.
    date: Option<String>,
    limit: Option<limit::Bucket>,
}

impl FakeAws {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        Self::serve(listener.expect("127.0.0.1 is there"))
    }

    /// Listens where the caller wants, perhaps in another network namespace.
    pub fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State {
            inner: Mutex::default(),
            recorded: watch::Sender::new(0),
        });
        let server = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Self {
            url: format!("http://{address}"),
            state,
            server,
        }
    }

    /// For `AWS_ENDPOINT_URL_STS` and `AWS_ENDPOINT_URL_EKS`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers every such call this way from now on, unless its subject has an answer of its own.
    pub fn script(&self, api: Api, answer: Answer) {
        self.state.lock().scripts.insert((api, None), answer);
    }

    /// Answers such calls about this subject this way from now on.
    pub fn script_for(&self, api: Api, subject: &str, answer: Answer) {
        let key = (api, Some(subject.to_owned()));
        self.state.lock().scripts.insert(key, answer);
    }

    /// Gives a service account this association in place of what it had.
    pub fn associate(&self, namespace: &str, name: &str, entry: Entry) {
        let table = &mut self.state.lock().table;
        table.remove(namespace, name);
        table.add(namespace, name, entry);
    }

    /// Adds a further association, which EKS itself would refuse.
    pub fn associate_also(&self, namespace: &str, name: &str, entry: Entry) {
        self.state.lock().table.add(namespace, name, entry);
    }

    /// Takes all associations from a service account.
    pub fn dissociate(&self, namespace: &str, name: &str) {
        self.state.lock().table.remove(namespace, name);
    }

    /// How many associations a page of a list holds; 100 at first. A page of
    /// none is empty and names a next one, as AWS's may.
    pub fn page_sizes(&self, sizes: &[usize]) {
        self.state.lock().table.page_sizes = sizes.to_vec();
    }

    /// Has STS take everybody for this ARN.
    pub fn identify(&self, arn: &str) {
        self.state.lock().identity = Some(arn.to_owned());
    }

    /// Has every answer be of this moment.
    pub fn date(&self, moment: SystemTime) {
        self.state.lock().date = Some(http_date(moment));
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    /// The calls after the first `seen`, as soon as there is one.
    pub async fn calls_after(&self, seen: usize) -> Vec<Call> {
        let mut recorded = self.state.recorded.subscribe();
        let more = recorded.wait_for(|count| *count > seen).await;
        drop(more.expect("the sender lives as long as this"));
        self.calls().split_off(seen)
    }

    /// How many calls of this kind have arrived.
    pub fn count(&self, api: Api) -> usize {
        self.state.count(api)
    }

    /// The role of the session that an access key id was issued for.
    pub fn role_of(&self, access_key_id: &str) -> Option<String> {
        self.state.lock().sessions.role(access_key_id)
    }

    /// Every `sts:AssumeRole` so far.
    pub fn assume_roles(&self) -> Vec<AssumeRole> {
        let only = |call| match call {
            Call::AssumeRole(call) => Some(call),
            Call::WebIdentity(_) | Call::PodIdentity(_) | Call::List(_) | Call::Describe(_) => None,
        };
        self.calls().into_iter().filter_map(only).collect()
    }

    /// Waits until `count` calls of this kind have arrived; panics with what did
    /// arrive when they do not come.
    pub async fn wait_for(&self, api: Api, count: usize) {
        let mut recorded = self.state.recorded.subscribe();
        let enough = recorded.wait_for(|_| self.state.count(api) >= count);
        let came = tokio::time::timeout(PATIENCE, enough).await.is_ok();
        assert!(
            came,
            "{count} calls of {api:?} never came: {:#?}",
            self.calls()
        );
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with the lock held")
    }

    fn count(&self, api: Api) -> usize {
        let inner = self.lock();
        inner.calls.iter().filter(|call| call.api() == api).count()
    }

    fn record(&self, call: &Call, subject: &str) -> Answer {
        let mut inner = self.lock();
        inner.calls.push(call.clone());
        let own = (call.api(), Some(subject.to_owned()));
        let answer = inner.scripts.get(&own);
        let answer = answer.or_else(|| inner.scripts.get(&(call.api(), None)));
        let answer = answer.copied().unwrap_or(Answer::Well);
        let calls = inner.calls.len();
        drop(inner);
        self.recorded.send_replace(calls);
        answer
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {}
    }
}

/// What a service says: a status and a document in its own format.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let signer = signer(&request);
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::default());
    };
    let body = body.to_bytes();
    let is_sts = head.method == Method::POST && head.uri.path() == "/";
    let reply = if is_sts && sts::asks_who(&body) {
        let inner = state.lock();
        sts::who(&signer, &inner.sessions, inner.identity.as_deref())
    } else if is_sts {
        let call = sts::parse(&body, signer);
        let recorded = match call.token {
            Some(_) => Call::WebIdentity(call.clone()),
            None => Call::AssumeRole(call.clone()),
        };
        let answer = state.record(&recorded, &call.role);
        let answer = wait(answer).await;
        sts::reply(&call, answer, &mut state.lock().sessions)
    } else if let Some(cluster) = pod_identity::cluster(head.uri.path()) {
        let call = pod_identity::parse(cluster, &body, signer);
        let subject = pod_identity::subject(&call);
        let answer = wait(state.record(&Call::PodIdentity(call.clone()), &subject)).await;
        let Inner {
            table, sessions, ..
        } = &mut *state.lock();
        pod_identity::reply(&call, answer, table, sessions)
    } else {
        eks_reply(&state, &head.uri, signer).await
    };
    let mut response = Response::builder()
        .status(reply.status)
        .header("content-type", reply.content_type);
    if let Some(date) = &state.lock().date {
        response = response.header("date", date);
    }
    let response = response.body(Full::from(reply.body));
    Ok(response.expect("the parts are valid"))
}

async fn eks_reply(state: &State, uri: &hyper::Uri, signer: String) -> Reply {
    let Some(call) = eks::parse(uri, signer) else {
        return eks::refuse(
            StatusCode::NOT_FOUND,
            "UnknownOperationException",
            uri.path(),
        );
    };
    let subject = match &call {
        Call::List(list) => format!("{}/{}", list.namespace, list.service_account),
        Call::Describe(describe) => state.lock().table.account_of(&describe.id),
        Call::AssumeRole(_) | Call::WebIdentity(_) | Call::PodIdentity(_) => {
            unreachable!("eks::parse makes none")
        }
    };
    let answer = wait(state.record(&call, &subject)).await;
    let is_over = |bucket: &mut limit::Bucket| !bucket.take();
    let is_throttled = state.lock().limit.as_mut().is_some_and(is_over);
    let answer = if is_throttled {
        Answer::Throttled
    } else {
        answer
    };
    eks::reply(&call, answer, &state.lock().table)
}
