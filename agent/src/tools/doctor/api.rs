//! The API server, asked once for each thing, with its answers as they come.

use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams, PostParams, WatchParams};
use serde_json::Value;
use tokio::time::timeout;

use crate::causes::causes;

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of one answer.
const LARGEST: usize = 32 * 1024 * 1024;

/// Objects in one answer, and answers for one list.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 20;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// It is another check's to say why.
    Unasked,
    /// No connection, or it broke.
    Unreachable(String),
    /// Nothing within [`PATIENCE`].
    Silent,
    /// 401: the server does not know who this is.
    Unknown(String),
    /// 403.
    Forbidden(String),
    /// 404.
    Absent,
    /// Another status that is no success.
    Failing(u16, String),
    /// What came is not JSON, or too much of it.
    Garbled,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) value: Value,
    /// The server's clock, to the second.
    pub(super) date: Option<SystemTime>,
}

/// A list, cut after the first ten thousand or so.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) version: String,
}

pub(super) type Answer<T> = Result<T, Lack>;

/// Where the server is asked. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api(Client);

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    /// The object or document of this name.
    pub(super) async fn get(&self, folder: &str, name: &str) -> Answer<Said> {
        let request = Request::new(folder).get(name, &GetParams::default());
        self.ask(request.map_err(|_| Lack::Garbled)?).await
    }

    /// Creates an object, such as a review, whose answer is what counts.
    pub(super) async fn create(&self, path: &str, object: &Value) -> Answer<Said> {
        let request = Request::new(path);
        let request = request.create(&PostParams::default(), object.to_string().into_bytes());
        self.ask(request.map_err(|_| Lack::Garbled)?).await
    }

    /// All objects there, by a field selector or a label selector if given.
    pub(super) async fn list(
        &self,
        path: &str,
        fields: Option<&str>,
        labels: Option<&str>,
    ) -> Answer<List> {
        let mut params = ListParams::default().limit(PAGE);
        params.field_selector = fields.map(str::to_owned);
        params.label_selector = labels.map(str::to_owned);
        let mut all = List::default();
        for _ in 0..MOST_PAGES {
            let request = Request::new(path).list(&params);
            let mut said = self.ask(request.map_err(|_| Lack::Garbled)?).await?;
            let Value::Array(items) = said.value["items"].take() else {
                return Err(Lack::Garbled);
            };
            all.items.extend(items);
            text(&said.value, "/metadata/resourceVersion").clone_into(&mut all.version);
            let more = text(&said.value, "/metadata/continue");
            if more.is_empty() {
                break;
            }
            params.continue_token = Some(more.to_owned());
        }
        Ok(all)
    }

    /// Opens a watch that the server ends after a second, and hears it end.
    pub(super) async fn watch(&self, path: &str, fields: &str, version: &str) -> Answer<()> {
        let params = WatchParams::default().timeout(1).fields(fields);
        let request = Request::new(path).watch(&params, version);
        let request = request.map_err(|_| Lack::Garbled)?.map(Body::from);
        self.whole(request).await.map(drop)
    }

    async fn ask(&self, request: hyper::Request<Vec<u8>>) -> Answer<Said> {
        let (body, date) = self.whole(request.map(Body::from)).await?;
        let value = serde_json::from_slice(&body).map_err(|_| Lack::Garbled)?;
        Ok(Said { value, date })
    }

    async fn whole(&self, request: hyper::Request<Body>) -> Answer<(Vec<u8>, Option<SystemTime>)> {
        let answer = async {
            let response = self.0.send(request).await;
            let response = response.map_err(|error| Lack::Unreachable(causes(&error)))?;
            let status = response.status().as_u16();
            let date = response.headers().get("date");
            let date = date.and_then(|value| self::date(value.to_str().ok()?));
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| Lack::Unreachable(causes(&*error)))?;
            let body = body.to_bytes().to_vec();
            let message = || {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                let words = text(&said, "/message").chars().take(300);
                words.collect()
            };
            match status {
                200..=299 => Ok((body, date)),
                401 => Err(Lack::Unknown(message())),
                403 => Err(Lack::Forbidden(message())),
                404 => Err(Lack::Absent),
                status => Err(Lack::Failing(status, message())),
            }
        };
        let answer = timeout(PATIENCE, answer).await;
        answer.unwrap_or(Err(Lack::Silent))
    }
}

impl Lack {
    /// In words.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Unasked => "the API server does not answer".to_owned(),
            Self::Unreachable(why) => format!("the API server cannot be reached: {why}"),
            Self::Silent => format!("the API server said nothing for {PATIENCE:?}"),
            Self::Unknown(why) => format!("the API server does not know who this is: {why}"),
            Self::Forbidden(why) => format!("the API server forbids it: {why}"),
            Self::Absent => "the API server has no such thing".to_owned(),
            Self::Failing(status, why) => format!("the API server answers {status}: {why}"),
            Self::Garbled => "the API server's answer cannot be read".to_owned(),
        }
    }
}

/// What an HTTP date says (RFC 9110, 5.6.7).
pub(super) fn date(text: &str) -> Option<SystemTime> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    Some(parser.parse_timestamp(text).ok()?.into())
}

/// The text at a JSON pointer; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// The members of a list at a JSON pointer; none where there is no list.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}
