//! A pod's view of the agent: plain HTTP requests from a source address of choice.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::request::Builder;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// One field of a JSON body; empty if there is none.
    pub fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Connects to `to` from the address `from`, any port.
pub async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// `GET path` on a connection of its own.
///
/// # Panics
/// If there is no answer: a test that expects none does not use this.
pub async fn get(from: IpAddr, to: SocketAddr, path: &str) -> Answer {
    try_get(from, to, path)
        .await
        .unwrap_or_else(|error| panic!("GET {path} from {from}: {error}"))
}

/// As [`get`], for tests in which the agent may be away.
pub async fn try_get(from: IpAddr, to: SocketAddr, path: &str) -> Result<Answer, Error> {
    Kept::open(from, to).await?.get(path, None).await
}

/// Why there is no answer.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A connection that is kept for one request after the other. It lives in the
/// runtime that it was opened in, and ends when dropped.
pub struct Kept {
    to: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
    _connection: JoinSet<hyper::Result<()>>,
}

impl Kept {
    /// Connects to `to` from the address `from`, any port.
    pub async fn open(from: IpAddr, to: SocketAddr) -> Result<Self, Error> {
        let stream = connect(from, to).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        let mut connection = JoinSet::new();
        connection.spawn(driver);
        Ok(Self {
            to,
            sender,
            _connection: connection,
        })
    }

    /// `GET path`, with a token or without.
    pub async fn get(&mut self, path: &str, token: Option<&str>) -> Result<Answer, Error> {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        self.send(request).await
    }

    /// Any request, to which `Host` is added, without a body.
    pub async fn send(&mut self, request: Builder) -> Result<Answer, Error> {
        self.sender.ready().await?;
        let request = request.header(HOST, self.to.to_string());
        let request = request.body(Empty::<Bytes>::new())?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body })
    }
}
