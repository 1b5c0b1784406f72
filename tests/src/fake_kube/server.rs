//! The HTTP side of the stand-in.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, http};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::objects::{Of, Scope};
use super::{Call, Event, Fault, Interruption, Shared, Verb};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Accepts until dropped, which drops the connections too.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        let (stream, _) = accepted.expect("a bound listener accepts");
        connections.spawn(connection(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let answer = service_fn(|request| answer(request, Arc::clone(&shared)));
    let http = hyper::server::conn::http1::Builder::new();
    // A client that goes away, or a scripted cut: neither is the server's error.
    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, io::Error> {
    let path = request.uri().path().to_owned();
    let Some(route) = Route::of(request.method(), &path) else {
        return Ok(failure(404));
    };
    if let Route::Objects(scope) = &route
        && !shared.state().objects.offered.contains(&scope.kind)
    {
        return Ok(failure(404));
    }
    let call = call(&route, &path, request.uri().query().unwrap_or_default());
    let query = call.query.clone();
    let verb = call.verb;
    match shared.record(call) {
        None => {}
        Some(Fault::Slow(late)) => sleep(late).await,
        Some(Fault::Status(code)) => return Ok(failure(code)),
        Some(Fault::Stall) => pending::<()>().await,
        Some(Fault::Cut) => return Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Garbage) => return Ok(Response::new(whole("{\"kind\": \"PodL".into()))),
    }
    Ok(match route {
        Route::Pods => pods(shared, verb, &query),
        Route::Objects(scope) => objects(shared, verb, &query, scope.narrowed(&query)),
        Route::Pod(namespace, name) => match shared.pod(namespace, name) {
            Some(pod) => json_response(StatusCode::OK, &pod),
            None => failure(404),
        },
        Route::Version => {
            let mut headers = http::HeaderMap::new();
            let mut response = json_response(StatusCode::OK, &shared.version(&mut headers));
            response.headers_mut().extend(headers);
            response
        }
        Route::Discovery => json_response(StatusCode::OK, &Shared::discovery()),
        Route::Keys => json_response(StatusCode::OK, &shared.key_set()),
        Route::Reviews => {
            let body = request.into_body().collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            match serde_json::from_slice(&body) {
                Ok(review) => json_response(StatusCode::CREATED, &shared.review(review)),
                Err(_) => failure(400),
            }
        }
        Route::Events(namespace) => {
            let namespace = namespace.to_owned();
            let body = request.into_body().collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            written(shared.create_event(&namespace, &body))
        }
        Route::Event(namespace, name) => {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let body = request.into_body().collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            written(shared.patch_event(&namespace, &name, &body))
        }
        Route::Node(name) => {
            let name = name.to_owned();
            let body = request.into_body().collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            written(shared.patch_node(&name, &body))
        }
        Route::Token(namespace, account) => {
            let body = request.into_body().collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            let request = serde_json::from_slice(&body).unwrap_or_default();
            match shared.grant(namespace, account, request) {
                Ok(granted) => json_response(StatusCode::CREATED, &granted),
                Err(code) => failure(code),
            }
        }
    })
}

fn written(status: StatusCode) -> Response<Body> {
    if status.is_success() {
        json_response(
            status,
            &json!({"apiVersion": "events.k8s.io/v1", "kind": "Event"}),
        )
    } else {
        failure(status.as_u16())
    }
}

/// What a path names.
enum Route<'a> {
    Pods,
    Objects(Scope),
    /// Namespace and name.
    Pod(&'a str, &'a str),
    Version,
    Discovery,
    Keys,
    Reviews,
    /// Namespace.
    Events(&'a str),
    /// Namespace and name.
    Event(&'a str, &'a str),
    /// Namespace and service account.
    Token(&'a str, &'a str),
    /// Name.
    Node(&'a str),
}

impl<'a> Route<'a> {
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (route, its_method) = match parts[..] {
            ["api", "v1", "pods"] => (Self::Pods, Method::GET),
            ["api", "v1", "namespaces", namespace, "pods", name] => {
                (Self::Pod(namespace, name), Method::GET)
            }
            ["version"] => (Self::Version, Method::GET),
            [".well-known", "openid-configuration"] => (Self::Discovery, Method::GET),
            ["openid", "v1", "jwks"] => (Self::Keys, Method::GET),
            ["apis", "authentication.k8s.io", "v1", "tokenreviews"] => {
                (Self::Reviews, Method::POST)
            }
            [
                "apis",
                "events.k8s.io",
                "v1",
                "namespaces",
                namespace,
                "events",
            ] => (Self::Events(namespace), Method::POST),
            [
                "apis",
                "events.k8s.io",
                "v1",
                "namespaces",
                namespace,
                "events",
                name,
            ] => (Self::Event(namespace, name), Method::PATCH),
            [
                "api",
                "v1",
                "namespaces",
                namespace,
                "serviceaccounts",
                account,
                "token",
            ] => (Self::Token(namespace, account), Method::POST),
            ["api", "v1", "nodes", name] => (Self::Node(name), Method::PATCH),
            _ => (Self::Objects(Scope::of(&parts)?), Method::GET),
        };
        (method == its_method).then_some(route)
    }
}

fn call(route: &Route<'_>, path: &str, query: &str) -> Call {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    // The only characters that the API's own clients escape in these values.
    let decoded = |text: &str| text.replace("%3D", "=").replace("%2F", "/");
    let query: HashMap<_, _> = pairs
        .map(|(key, value)| (key.to_owned(), decoded(value)))
        .collect();
    let verb = match route {
        Route::Pods => match query.get("watch").map(String::as_str) {
            Some("true" | "1") => Verb::Watch,
            Some(_) | None => Verb::List,
        },
        Route::Objects(_) => match query.get("watch").map(String::as_str) {
            Some("true" | "1") => Verb::WatchOther,
            Some(_) | None => Verb::ListOther,
        },
        Route::Pod(..) => Verb::Get,
        Route::Version => Verb::Version,
        Route::Discovery => Verb::Discovery,
        Route::Keys => Verb::Keys,
        Route::Reviews => Verb::Review,
        Route::Events(_) => Verb::CreateEvent,
        Route::Event(..) => Verb::PatchEvent,
        Route::Token(..) => Verb::Token,
        Route::Node(_) => Verb::PatchNode,
    };
    let path = path.to_owned();
    Call { verb, path, query }
}

fn pods(shared: Arc<Shared>, verb: Verb, query: &HashMap<String, String>) -> Response<Body> {
    let node = match query.get("fieldSelector").map(|it| it.split_once('=')) {
        None => None,
        Some(Some(("spec.nodeName", node))) => Some(node.to_owned()),
        Some(_) => return failure(400),
    };
    if verb == Verb::List {
        return json_response(StatusCode::OK, &shared.list(node.as_deref()));
    }
    match query.get("resourceVersion").map(|it| it.parse()) {
        Some(Ok(from)) => watch(shared, Of::Node(node), from),
        Some(Err(_)) | None => failure(400),
    }
}

fn objects(
    shared: Arc<Shared>,
    verb: Verb,
    query: &HashMap<String, String>,
    scope: Scope,
) -> Response<Body> {
    if verb == Verb::ListOther {
        let state = shared.state();
        return json_response(StatusCode::OK, &state.objects.list(&scope, state.version));
    }
    match query.get("resourceVersion").map(|it| it.parse()) {
        Some(Ok(from)) => watch(shared, Of::Objects(scope), from),
        Some(Err(_)) | None => failure(400),
    }
}

fn watch(shared: Arc<Shared>, of: Of, from: u64) -> Response<Body> {
    let state = shared.state();
    let too_old = from < state.compacted;
    let opened_at = state.events.len();
    let next = state
        .events
        .partition_point(|(version, _)| *version <= from);
    drop(state);
    let body = if too_old {
        whole(line(&json!({"type": "ERROR", "object": status(410)})))
    } else {
        let reader = Reader {
            changes: shared.changes.subscribe(),
            shared,
            of,
            opened_at,
            next,
            is_silent: false,
            closed: false,
        };
        StreamBody::new(reader.frames()).boxed_unsync()
    };
    Response::new(body)
}

/// One open watch.
struct Reader {
    shared: Arc<Shared>,
    changes: tokio::sync::watch::Receiver<()>,
    of: Of,
    /// Interruptions from before are not this watch's.
    opened_at: usize,
    next: usize,
    is_silent: bool,
    closed: bool,
}

impl Reader {
    fn frames(self) -> impl Stream<Item = Result<Frame<Bytes>, io::Error>> {
        stream::unfold(self, |mut reader| async move {
            if reader.closed {
                return None;
            }
            let item = reader.item().await?;
            reader.closed = item.is_err();
            Some((item.map(Frame::data), reader))
        })
    }

    /// `None` ends the watch well; an error cuts the connection.
    async fn item(&mut self) -> Option<Result<Bytes, io::Error>> {
        loop {
            let at = self.next;
            let event = self.shared.state().events.get(at).cloned();
            let Some((version, event)) = event else {
                self.changes.changed().await.ok()?;
                continue;
            };
            self.next += 1;
            match event {
                Event::Pod(..) | Event::Object(..) => {
                    if let Some(line) = self.of.line(&event)
                        && !self.is_silent
                    {
                        return Some(Ok(line));
                    }
                }
                Event::Interruption(_) if at < self.opened_at => {}
                Event::Interruption(Interruption::Silence) => self.is_silent = true,
                Event::Interruption(Interruption::Bookmark) => return Some(Ok(bookmark(version))),
                Event::Interruption(Interruption::Error(code)) => {
                    let error = json!({"type": "ERROR", "object": status(code)});
                    return Some(Ok(line(&error)));
                }
                Event::Interruption(Interruption::End) => return None,
                Event::Interruption(Interruption::Cut) => {
                    return Some(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Event::Interruption(Interruption::Garbage) => {
                    return Some(Ok("{\"type\": nonsense}\n".into()));
                }
            }
        }
    }
}

fn bookmark(version: u64) -> Bytes {
    let metadata = json!({"resourceVersion": version.to_string()});
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
    line(&json!({"type": "BOOKMARK", "object": object}))
}

pub(super) fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn status(code: u16) -> Value {
    let status = StatusCode::from_u16(code).expect("a test scripts real codes");
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        500 => "InternalError",
        _ => "Unknown",
    };
    json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": status.canonical_reason(),
        "reason": reason,
        "code": code,
    })
}

fn failure(code: u16) -> Response<Body> {
    let status_code = StatusCode::from_u16(code).expect("a test scripts real codes");
    json_response(status_code, &status(code))
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(whole(value.to_string().into()));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}
