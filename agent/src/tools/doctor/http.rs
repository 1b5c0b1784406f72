//! One request of HTTP on a connection that its caller made, and no more.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Of an answer: what is longer is cut.
const LARGEST: u64 = 64 * 1024;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Connects, within `patience`.
pub(super) async fn connect(to: SocketAddr, patience: Duration) -> Result<TcpStream, String> {
    match timeout(patience, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection in {patience:?}")),
    }
}

/// Sends a request with these header lines, and reads the answer within `patience`.
pub(super) async fn ask(
    mut stream: TcpStream,
    request: &str,
    lines: &[String],
    patience: Duration,
) -> Result<Answer, String> {
    let host = stream.peer_addr().map_err(|error| error.to_string())?;
    let mut head = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let exchange = async {
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match timeout(patience, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer in {patience:?}")),
    };
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| "no answer in HTTP".to_owned())
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Answer {
        status: status.get(..3)?.parse().ok()?,
        body: body.to_owned(),
    })
}

/// `GET path` on a connection of its own.
pub(super) async fn get(to: SocketAddr, path: &str, patience: Duration) -> Result<Answer, String> {
    let stream = connect(to, patience).await?;
    ask(stream, &format!("GET {path}"), &[], patience).await
}
