//! What `make test-node` puts beside the agent in a cluster: STS and EKS, and a
//! pod that never stops asking.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use credlet_tests::fake_aws::{Call, Entry, FakeAws};
use credlet_tests::process::DOOR;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
enum Arguments {
    /// STS and EKS; prints a line for each call.
    Aws {
        /// Where to listen.
        listen: SocketAddr,
        /// NAMESPACE/ACCOUNT=ROLE
        #[arg(required = true, value_parser = association)]
        associations: Vec<(String, String, String)>,
    },
    /// Asks for credentials all the time, and prints once a second how that goes.
    Load,
}

fn association(text: &str) -> Result<(String, String, String), &'static str> {
    let parts = text
        .split_once('=')
        .and_then(|(account, role)| Some((account.split_once('/')?, role)));
    let ((namespace, account), role) = parts.ok_or("not NAMESPACE/ACCOUNT=ROLE")?;
    Ok((namespace.to_owned(), account.to_owned(), role.to_owned()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    match Arguments::parse() {
        Arguments::Aws {
            listen,
            associations,
        } => aws(listen, associations).await,
        Arguments::Load => {
            load().await;
            Ok(())
        }
    }
}

async fn aws(listen: SocketAddr, associations: Vec<(String, String, String)>) -> Fallible<()> {
    let aws = FakeAws::serve(TcpListener::bind(listen).await?);
    for (namespace, account, role) in associations {
        aws.associate(&namespace, &account, Entry::of(&role));
    }
    let mut printed = 0;
    loop {
        for call in aws.calls_after(printed).await {
            printed += 1;
            match call {
                Call::AssumeRole(call) => println!("AssumeRole {}", call.role),
                Call::List(call) => println!("List {}/{}", call.namespace, call.service_account),
                Call::Describe(call) => println!("Describe {}", call.id),
            }
        }
    }
}

type Connection = http1::SendRequest<Empty<Bytes>>;

/// Between a client's requests.
const PACE: Duration = Duration::from_millis(2);

/// After a failure, so that an agent that is away costs no log.
const PAUSE: Duration = Duration::from_millis(50);

/// What any SDK would wait.
const PATIENCE: Duration = Duration::from_secs(2);

const REPORT: Duration = Duration::from_secs(1);

async fn load() {
    let mut kept = None;
    let anew = keep_asking("new", async || ask(connect().await?).await.map(drop));
    let again = keep_asking("kept", async || {
        let open = match kept.take() {
            Some(connection) => still_open(connection).await,
            None => None,
        };
        let connection = match open {
            Some(connection) => connection,
            None => connect().await?,
        };
        kept = Some(ask(connection).await?);
        Ok(())
    });
    tokio::join!(anew, again);
}

/// Prints each failure, and every second how many answers there were in it, how
/// many failures, and how many milliseconds it was without an answer at most.
async fn keep_asking(connections: &str, mut once: impl AsyncFnMut() -> Fallible<()>) {
    let mut answered = Instant::now();
    loop {
        let (mut answers, mut failures, mut longest) = (0_u64, 0_u64, Duration::ZERO);
        let begin = Instant::now();
        while begin.elapsed() < REPORT {
            let outcome = timeout(PATIENCE, once()).await;
            match outcome.unwrap_or_else(|late| Err(late.into())) {
                Ok(()) => {
                    answers += 1;
                    longest = longest.max(answered.elapsed());
                    answered = Instant::now();
                    sleep(PACE).await;
                }
                Err(error) => {
                    failures += 1;
                    println!("{connections} connection: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
        println!("{connections} {answers} {failures} {}", longest.as_millis());
    }
}

async fn connect() -> Fallible<Connection> {
    let stream = TcpStream::connect(DOOR).await?;
    let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its connection, whose requests say how.
    tokio::spawn(driver);
    Ok(connection)
}

async fn still_open(mut connection: Connection) -> Option<Connection> {
    connection.ready().await.is_ok().then_some(connection)
}

async fn ask(mut connection: Connection) -> Fallible<Connection> {
    let request = Request::get("/v1/credentials")
        .header("host", DOOR)
        .body(Empty::new())?;
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK {
        Ok(connection)
    } else {
        Err(format!("{status} {}", String::from_utf8_lossy(&body)).into())
    }
}
