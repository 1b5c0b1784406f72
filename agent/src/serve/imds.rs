//! The instance metadata service: what pods ask that know of nothing else.
//!
//! Who calls, and what that pod gets, is known as at the other door. A session
//! token says nothing of either: it is the proof that the pod's own program asks,
//! since whoever makes it ask in their stead (a forged URL, an open proxy) can
//! seldom choose a method and headers.

use std::sync::OnceLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::HeaderName;
use hyper::{HeaderMap, Request, Response};
use tokio::time::{Instant, timeout_at};

use super::visit::{Visit, vet};
use super::wire::{self, Refusal};
use crate::aws::Whereabouts;
use crate::clock::Moment;
use crate::config::{Imds, ImdsPods, ImdsVersions, Passthrough, Place};
use crate::identity::{Caller, OptIn};
use path::{Item, OfRole, Wanted};
pub(super) use session::Session;
use session::{Life, SessionKey};

mod path;
mod session;

/// How long a session token is to live, in seconds.
pub(super) const LIFE: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
/// A session token.
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

/// The service, as all its doors share it.
pub struct Metadata {
    settings: Imds,
    key: SessionKey,
    node: Option<Whereabouts>,
}

impl Metadata {
    /// With a key of its own for session tokens.
    pub fn new(settings: Imds) -> Self {
        Self {
            settings,
            key: SessionKey::generate(),
            node: None,
        }
    }

    /// Asks the node's own service where the node is, as far as that is not set.
    #[must_use]
    pub fn asking(mut self, node: Whereabouts) -> Self {
        self.node = Some(node);
        self
    }

    fn admit(&self, caller: &Caller) -> Result<(), Refusal> {
        match (self.settings.pods, caller.imds()) {
            (ImdsPods::All, OptIn::In | OptIn::Out) | (ImdsPods::OptedIn, OptIn::In) => Ok(()),
            (ImdsPods::OptedIn, OptIn::Out) => Err(Refusal::NotOptedIn),
        }
    }

    /// Whether the request's session is one, where it shows or needs one. The
    /// connection's first is remembered, since to know it anew takes longer than
    /// all the rest of an answer.
    fn check(
        &self,
        headers: &HeaderMap,
        known: &OnceLock<Box<Session>>,
        caller: &Caller,
        now: Moment,
    ) -> Result<(), Refusal> {
        let mut tokens = headers.get_all(TOKEN).iter();
        let token = match (tokens.next(), tokens.next(), self.settings.versions) {
            (None, _, ImdsVersions::Both) => return Ok(()),
            (None, _, ImdsVersions::V2) => return Err(Refusal::NoSession),
            (Some(token), None, _) => token.as_bytes(),
            (Some(_), Some(_), _) => return Err(Refusal::Session),
        };
        let (pod, now) = (caller.pod(), now.wall);
        if known
            .get()
            .is_some_and(|session| session.opens_by(token, pod, now))
        {
            return Ok(());
        }
        let session = self.key.open(token, pod, now).ok_or(Refusal::Session)?;
        known.get_or_init(|| Box::new(session));
        Ok(())
    }

    async fn place(
        &self,
        place: Place,
        deadline: Instant,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let Passthrough::Region(set) = &self.settings.passthrough else {
            return Err(Refusal::Metadata);
        };
        let name = match (set.get(place), &self.node) {
            (Some(name), _) => Some(name),
            (None, Some(node)) => match timeout_at(deadline, node.ask(place)).await {
                Ok(answered) => answered.map_err(Refusal::Place)?,
                Err(_) => return Err(Refusal::Overdue),
            },
            (None, None) => None,
        };
        name.map(wire::imds::text).ok_or(Refusal::Metadata)
    }
}

pub(super) async fn answer<B: Body>(
    visit: &Visit,
    metadata: &Metadata,
    request: &Request<B>,
    arrived: Instant,
) -> Result<Response<Full<Bytes>>, Refusal> {
    vet(visit, request)?;
    let wanted = path::wanted(request.method(), request.uri()).ok_or(Refusal::Metadata)?;
    if let (Wanted::Item(Item::Place(_)), Passthrough::None) =
        (&wanted, &metadata.settings.passthrough)
    {
        return Err(Refusal::Metadata);
    }
    let now = visit.house.answers.moment(arrived);
    let caller = visit.caller(None, now).await?;
    metadata.admit(&caller)?;
    let item = match wanted {
        Wanted::Session => {
            let life = Life::of(&request.headers().get_all(LIFE)).ok_or(Refusal::Life)?;
            let token = metadata.key.token(life, caller.pod(), now.wall);
            return Ok(wire::imds::session(token, life.seconds()));
        }
        Wanted::Item(item) => item,
    };
    if !request.body().is_end_stream() {
        return Err(Refusal::Body);
    }
    metadata.check(request.headers(), &visit.session, &caller, now)?;
    let of_role = match item {
        // Boxed, so that other requests have no room for it.
        Item::Place(place) => {
            let deadline = arrived + visit.house.limits.answer;
            return Box::pin(metadata.place(place, deadline)).await;
        }
        Item::Role(of_role) => of_role,
    };
    let credentials = visit.credentials(&caller, now).await?;
    match of_role {
        OfRole::Name => Ok(wire::imds::role(&credentials)),
        OfRole::Credentials(role) if role == credentials.role.name() => {
            Ok(wire::imds::credentials(&credentials, now.wall))
        }
        OfRole::Credentials(_) => Err(Refusal::Role),
        OfRole::Info => Ok(wire::imds::info(&credentials, now.wall)),
    }
}
