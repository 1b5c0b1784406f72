//! A list, and then a watch that resumes where it stopped.
//!
//! The list asks for no pages and for the latest state: since Kubernetes 1.31
//! that is served from the API server's cache and its indexes, whereas a `limit`
//! sends each agent's list to etcd, through the objects of the whole cluster
//! (`shouldDelegateList` in k8s.io/apiserver's cacher). Streaming lists would
//! need less memory still, but servers before 1.34 refuse them here and there.
//!
//! `kube::runtime::watcher` is not used: it keeps bookmarks to itself, asks for
//! the same version for ever when that is answered with the HTTP status 410,
//! and waits without limit for a list that stalls.

use std::convert::Infallible;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use kube::core::params::{ListParams, WatchParams};
use kube::core::{ObjectList, Request, WatchEvent};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::lost::Next;
use super::{Backoff, Client, Limits, Lost, Reason};

/// What a list is of.
pub trait Object: Clone + DeserializeOwned + Send + 'static {
    /// `metadata.resourceVersion`; empty where there is none.
    fn version(&self) -> &str;
}

/// Whoever is told. Nothing here may wait.
pub trait Keep: Send {
    /// Of what.
    type Object: Object;

    /// These are all that there are, or the last of them where a list has pages.
    fn replace(&mut self, objects: Vec<Self::Object>);

    /// These are some of them; only [`Follow::paged`] tells them. What follows them is
    /// more of them, the last ones by `replace`, or `lost`: then they are told anew.
    fn page(&mut self, objects: Vec<Self::Object>) {
        drop(objects);
    }

    /// This one is new, or has changed.
    fn apply(&mut self, object: Self::Object);

    /// This one has gone.
    fn remove(&mut self, object: Self::Object);

    /// The server has said something on the watch, if only that it is there.
    fn heard(&mut self);

    /// The list or the watch ended. What it said last holds.
    fn lost(&mut self, lost: &Lost) -> Again;
}

/// When to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// As soon as a server in trouble may be asked.
    Soon,
    /// After about this time.
    After(Duration),
}

/// Which objects.
#[derive(Clone, Debug)]
pub struct Place {
    /// The path of the collection; names in it are legal ones.
    pub path: String,
    /// The field selector, if it is not all of them.
    pub fields: Option<String>,
    /// The label selector, likewise.
    pub labels: Option<String>,
    /// How much of them.
    pub view: View,
}

/// How much of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All of it.
    Whole,
    /// Its metadata (`PartialObjectMetadata`).
    Metadata,
}

/// Follows one list.
pub struct Follow<K> {
    client: Client,
    place: Place,
    limits: Limits,
    keep: K,
    backoff: Backoff,
    page: Option<u32>,
}

impl<K: Keep> Follow<K> {
    /// Tells `keep` what there is at `place`.
    pub fn new(client: Client, place: Place, limits: Limits, keep: K) -> Self {
        Self {
            client,
            place,
            limits,
            keep,
            backoff: Backoff::default(),
            page: None,
        }
    }

    /// Lists so many at a time: for one who lists what is too much for its memory,
    /// and not for each node's agent.
    #[must_use]
    pub fn paged(self, page: u32) -> Self {
        Self {
            page: Some(page),
            ..self
        }
    }

    /// Follows the API server for the life of the process, whatever it does.
    pub async fn run(mut self) -> Infallible {
        let mut next = Next::List;
        loop {
            let lost = match next {
                Next::List => match self.list().await {
                    Ok(version) => self.follow(version).await,
                    Err(lost) => lost,
                },
                Next::Resume(version) => self.follow(version).await,
            };
            let pause = match self.keep.lost(&lost) {
                Again::Soon => self.backoff.next(),
                Again::After(pause) => pause.mul_f64(0.8 + 0.4 * fastrand::f64()),
            };
            sleep(pause).await;
            next = lost.next;
        }
    }

    /// Tells of a full list, as of the version that it returns.
    async fn list(&mut self) -> Result<String, Lost> {
        let mut rest = None;
        loop {
            let list = self.ask(rest).await?;
            let version = list.metadata.resource_version.unwrap_or_default();
            rest = list.metadata.continue_.filter(|rest| !rest.is_empty());
            if version.is_empty() || (rest.is_some() && self.page.is_none()) {
                let why = "the list has no version, or is only a part";
                return Err(Lost::new(Reason::Garbled, why));
            }
            if rest.is_none() {
                self.keep.replace(list.items);
                return Ok(version);
            }
            self.keep.page(list.items);
        }
    }

    /// One answer to a list, which may be a page of it.
    async fn ask(&self, rest: Option<String>) -> Result<ObjectList<K::Object>, Lost> {
        let request = Request::new(&*self.place.path);
        let params = ListParams {
            field_selector: self.place.fields.clone(),
            label_selector: self.place.labels.clone(),
            limit: self.page,
            continue_token: rest,
            ..ListParams::default()
        };
        let request = match self.place.view {
            View::Whole => request.list(&params),
            View::Metadata => request.list_metadata(&params),
        };
        let request = request.expect("legal names fit a query");
        let text = self.answer(self.client.request_text(request)).await?;
        serde_json::from_str(&text)
            .map_err(|_| Lost::new(Reason::Garbled, "the answer is no list of such objects"))
    }

    /// Tells of what happens after `version`, until the watch is lost.
    async fn follow(&mut self, mut version: String) -> Lost {
        loop {
            let from = version.clone();
            if let Err(lost) = self.follow_once(&mut version).await {
                return lost.resume_at(version);
            }
            // The server ends every watch after some minutes. One that said
            // nothing may be the first of many, so the next one is not hurried.
            if version == from {
                return Lost::new(Reason::Ended, "the watch ended early").resume_at(version);
            }
        }
    }

    /// One watch, which the server ended well, or not.
    async fn follow_once(&mut self, version: &mut String) -> Result<(), Lost> {
        let request = Request::new(&*self.place.path);
        let params = WatchParams {
            field_selector: self.place.fields.clone(),
            label_selector: self.place.labels.clone(),
            ..WatchParams::default()
        };
        let request = match self.place.view {
            View::Whole => request.watch(&params, version),
            View::Metadata => request.watch_metadata(&params, version),
        };
        let request = request.expect("legal names and a version fit a query");
        let opening = self.client.request_events::<K::Object>(request);
        let events = self.answer(opening).await?;
        pin_mut!(events);
        loop {
            let Ok(event) = timeout(self.limits.silence, events.next()).await else {
                return Err(Lost::silent(self.limits.silence));
            };
            let Some(event) = event else {
                return Ok(());
            };
            let at = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let at = object.version().to_owned();
                    self.keep.apply(object);
                    at
                }
                WatchEvent::Deleted(object) => {
                    let at = object.version().to_owned();
                    self.keep.remove(object);
                    at
                }
                WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(status.into()),
            };
            if at.is_empty() {
                return Err(Lost::new(Reason::Garbled, "an event without a version"));
            }
            *version = at;
            self.backoff = Backoff::default();
            self.keep.heard();
        }
    }

    /// The server's answer, in time.
    async fn answer<T>(&self, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Lost> {
        match timeout(self.limits.answer, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Lost::silent(self.limits.answer)),
        }
    }
}
