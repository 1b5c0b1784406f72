//! What `make test-node` puts beside the agent in a cluster: STS and EKS, and
//! pods that ask, once or all the time.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use credlet_tests::fake_aws::{Call, Entry, FakeAws, issued_to};
use credlet_tests::process::DOOR;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::http::request;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
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
    Load(Caller),
    /// Asks until there is an answer, as an SDK does, and prints each; fails if there is none.
    Ask {
        #[command(flatten)]
        caller: Caller,
        /// How often.
        #[arg(long, default_value_t = 3)]
        tries: u32,
    },
    /// Prints what `http://HOST:PORT/PATH` says.
    Get {
        /// `HOST:PORT`
        host: String,
        /// `/PATH`
        path: String,
    },
    /// Removes a directory and all in it.
    Remove {
        /// It may be missing.
        directory: PathBuf,
    },
    /// Does nothing.
    Rest,
}

/// Who asks.
#[derive(clap::Args, Clone)]
struct Caller {
    /// Ends at once if an answer has the credentials of another account than this NAMESPACE/ACCOUNT.
    #[arg(long = "as")]
    account: Option<String>,
    /// The door to ask at.
    #[arg(long, default_value = DOOR)]
    door: String,
    /// A token to show, read again for each request.
    #[arg(long, env = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")]
    token_file: Option<PathBuf>,
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
        Arguments::Load(caller) => {
            load(&caller).await;
            Ok(())
        }
        Arguments::Ask { caller, tries } => ask_until_answered(&caller, tries).await,
        Arguments::Get { host, path } => {
            let request = Request::get(path).header("host", &host);
            let connection = connect(&host).await?;
            let (_, _, body) = send(connection, request).await?;
            println!("{}", String::from_utf8_lossy(&body));
            Ok(())
        }
        Arguments::Remove { directory } => match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        },
        Arguments::Rest => std::future::pending().await,
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
                Call::WebIdentity(call) => println!("AssumeRoleWithWebIdentity {}", call.role),
                Call::PodIdentity(call) => println!("AssumeRoleForPodIdentity {}", call.cluster),
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

async fn load(caller: &Caller) {
    let mut kept = None;
    let anew = keep_asking("new", async || {
        let connection = connect(&caller.door).await?;
        ask(caller, connection).await.map(drop)
    });
    let again = keep_asking("kept", async || {
        let open = match kept.take() {
            Some(connection) => still_open(connection).await,
            None => None,
        };
        let connection = match open {
            Some(connection) => connection,
            None => connect(&caller.door).await?,
        };
        kept = Some(ask(caller, connection).await?.0);
        Ok(())
    });
    tokio::join!(anew, again);
}

/// As botocore: so many times, a second apart.
async fn ask_until_answered(caller: &Caller, tries: u32) -> Fallible<()> {
    let begin = Instant::now();
    for number in 1..=tries {
        let once = async { ask(caller, connect(&caller.door).await?).await };
        let outcome = timeout(PATIENCE, once).await;
        match outcome.unwrap_or_else(|late| Err(late.into())) {
            Ok((_, account)) => {
                let took = begin.elapsed().as_millis();
                println!("answered {account} request {number} after {took} ms");
                return Ok(());
            }
            Err(error) => println!("{error}"),
        }
        if number < tries {
            sleep(Duration::from_secs(1)).await;
        }
    }
    Err("no answer".into())
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

async fn connect(host: &str) -> Fallible<Connection> {
    let stream = TcpStream::connect(host).await?;
    let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its connection, whose requests say how.
    tokio::spawn(driver);
    Ok(connection)
}

async fn still_open(mut connection: Connection) -> Option<Connection> {
    connection.ready().await.is_ok().then_some(connection)
}

async fn send(
    mut connection: Connection,
    request: request::Builder,
) -> Fallible<(Connection, StatusCode, Bytes)> {
    let response = connection.send_request(request.body(Empty::new())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((connection, status, body))
}

/// Whose credentials the door gives.
async fn ask(caller: &Caller, connection: Connection) -> Fallible<(Connection, String)> {
    let mut request = Request::get("/v1/credentials").header("host", &caller.door);
    if let Some(file) = &caller.token_file {
        request = request.header("authorization", fs::read_to_string(file)?);
    }
    let (connection, status, body) = send(connection, request).await?;
    let said: Value = serde_json::from_slice(&body)?;
    if status != StatusCode::OK {
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        return Err(format!("{} {} {}", status.as_u16(), text("code"), text("message")).into());
    }
    let key = said["AccessKeyId"].as_str().unwrap_or_default();
    let account = issued_to(key).ok_or("credentials of nobody")?;
    if caller.account.as_ref().is_some_and(|own| *own != account) {
        println!("WRONG: the credentials of {account}");
        std::process::exit(2);
    }
    Ok((connection, account))
}
