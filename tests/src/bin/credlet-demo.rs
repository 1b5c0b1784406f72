//! `make demo`: the real agent on a simulated node, seen by its pods.

use std::error::Error;
use std::io::{Write, stdout};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use aws_config::ecs::EcsCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials;
use credlet_tests::client;
use credlet_tests::fake_aws::{Api, Entry, FakeAws};
use credlet_tests::fake_kube::{FakeKube, Pod as PodObject};
use credlet_tests::node::{Namespace, Node, Pod};
use credlet_tests::process::{self, Agent, DOOR, PROBES};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const URL: &str = "http://169.254.170.23/v1/credentials";

/// Namespace, service account, role, and the role behind it if any.
const ACCOUNTS: [(&str, &str, &str, Option<&str>); 3] = [
    (
        "shop",
        "checkout",
        "arn:aws:iam::111122223333:role/pods/checkout",
        None,
    ),
    (
        "shop",
        "reports",
        "arn:aws:iam::111122223333:role/pods/reports",
        Some("arn:aws:iam::444455556666:role/warehouse"),
    ),
    (
        "batch",
        "nightly",
        "arn:aws:iam::111122223333:role/pods/nightly",
        None,
    ),
];

/// One for each account, and one more for the role behind a role.
const ASSUMPTIONS: usize = 4;

/// Namespace, pod, service account.
const PODS: [(&str, &str, &str); 6] = [
    ("shop", "checkout-1", "checkout"),
    ("shop", "checkout-2", "checkout"),
    ("shop", "checkout-3", "checkout"),
    ("shop", "reports-1", "reports"),
    ("batch", "nightly-1", "nightly"),
    ("shop", "stranger-1", "default"),
];

type Fallible<T> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("fetch") => {
            fetch().await;
            Ok(())
        }
        _ => demo().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A pod's process: asks as any program with the AWS SDK for Rust does, twice,
/// since the first time is mostly the SDK's start, and prints what it got.
async fn fetch() {
    let provider = EcsCredentialsProvider::builder().build();
    let _start = provider.provide_credentials().await;
    let asked = Instant::now();
    match provider.provide_credentials().await {
        Ok(credentials) => {
            let micros = asked.elapsed().as_micros();
            println!("{micros} {}", credentials.access_key_id());
        }
        Err(_) => println!("refused"),
    }
}

async fn demo() -> Fallible<()> {
    let demo = Demo::start().await?;
    println!(
        "A node with {} pods; credlet is ready at {URL}\n",
        PODS.len()
    );

    println!(
        "{:<18} {:<14} {:<12} {:<48} {:>8}",
        "pod", "address", "account", "role", "took"
    );
    for (seat, (namespace, name, account)) in demo.seats.iter().zip(PODS) {
        let Fetched::Credentials { key, micros } = demo.fetch(seat).await? else {
            continue;
        };
        println!(
            "{:<18} {:<14} {account:<12} {:<48} {:>5}.{} ms",
            format!("{namespace}/{name}"),
            seat.ipv4.to_string(),
            demo.aws.role_of(&key).unwrap_or_default(),
            micros / 1000,
            micros % 1000 / 100,
        );
    }
    println!(
        "\nCalls to AWS: {} AssumeRole, {} ListPodIdentityAssociations, {} DescribePodIdentityAssociation",
        demo.aws.count(Api::AssumeRole),
        demo.aws.count(Api::List),
        demo.aws.count(Api::Describe),
    );

    println!("\nRefused:");
    demo.refuse("a pod without an association", &demo.seats[5], 404)
        .await?;
    let nobody = demo
        .node
        .add_pod(Ipv4Addr::new(10, 250, 1, 99), None)
        .await?;
    demo.refuse("an address that no pod owns", &nobody, 503)
        .await?;

    if std::env::var_os("STAY").is_some_and(|stay| !stay.is_empty()) {
        demo.stay().await?;
    }
    Ok(())
}

/// Everything that runs. Ends when dropped.
struct Demo {
    node: Node,
    seats: Vec<Pod>,
    aws: FakeAws,
    _kube: FakeKube,
    agent: Agent,
}

enum Fetched {
    Credentials { key: String, micros: u64 },
    Refused,
}

impl Demo {
    async fn start() -> Fallible<Self> {
        let node = Node::new().await?;
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let kube = FakeKube::on(node.ns.run(free).await?);
        let aws = FakeAws::serve(node.ns.run(free).await?);
        for (namespace, account, role, target) in ACCOUNTS {
            let mut entry = Entry::of(role);
            entry.target_role_arn = target.map(str::to_owned);
            aws.associate(namespace, account, entry);
        }
        let mut seats = Vec::new();
        for (seat, (namespace, name, account)) in (10..).zip(PODS) {
            let address = Ipv4Addr::new(10, 250, 1, seat);
            seats.push(node.add_pod(address, None).await?);
            let pod = PodObject::new(namespace, name).account(account);
            kube.apply(pod.addresses([address.to_string().as_str()]));
        }
        let mut agent = Agent::start(&node, &kube, process::command(aws.url())).await?;
        agent.ready(&node).await?;
        // Prefetched, so that what follows shows what pods usually see.
        aws.wait_for(Api::AssumeRole, ASSUMPTIONS).await;
        Ok(Self {
            node,
            seats,
            aws,
            _kube: kube,
            agent,
        })
    }

    async fn fetch(&self, pod: &Pod) -> Fallible<Fetched> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("fetch")
            .env_clear()
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", URL)
            .stdout(Stdio::piped());
        let child = pod.ns.spawn(command).await?;
        let output = child.wait_with_output().await?;
        let line = String::from_utf8(output.stdout)?;
        match line.trim().split_once(' ') {
            Some((micros, key)) => Ok(Fetched::Credentials {
                key: key.to_owned(),
                micros: micros.parse()?,
            }),
            None if line.trim() == "refused" => Ok(Fetched::Refused),
            None => Err("a pod's process said nothing".into()),
        }
    }

    /// Shows a refusal as the SDK sees it and as it is on the wire.
    async fn refuse(&self, who: &str, pod: &Pod, status: u16) -> Fallible<()> {
        if let Fetched::Credentials { .. } = self.fetch(pod).await? {
            return Err(format!("{who} got credentials").into());
        }
        let (from, to) = (IpAddr::V4(pod.ipv4), DOOR.parse()?);
        let answer = pod
            .ns
            .run(move || client::get(from, to, "/v1/credentials"))
            .await;
        println!(
            "{who} ({}): {} {}",
            pod.ipv4,
            answer.status.as_u16(),
            answer.field("message")
        );
        if answer.status != status {
            return Err(format!("{who} should have got {status}").into());
        }
        Ok(())
    }

    async fn stay(mut self) -> Fallible<()> {
        let (pod, node) = (
            sleeper(&self.seats[0].ns).await?,
            sleeper(&self.node.ns).await?,
        );
        println!("\nThe node stays until Ctrl-C. In another terminal, as a pod and as the node:");
        println!("  {} curl -s {URL}", enter(&pod)?);
        println!("  {} curl -s http://{PROBES}/readyz", enter(&node)?);
        println!("  {} curl -s http://127.0.0.1:2705/metrics", enter(&node)?);
        let credlet = process::binary();
        println!("  {} {} status", enter(&node)?, credlet.display());
        stdout().flush()?;
        tokio::select! {
            stop = tokio::signal::ctrl_c() => Ok(stop?),
            () = self.agent.gone() => Err(format!("the agent has ended:\n{}", self.agent.log()).into()),
        }
    }
}

/// A process whose namespace others can enter: the agent's own cannot be, since
/// it forbids to be looked into.
async fn sleeper(namespace: &Namespace) -> Fallible<Child> {
    let mut sleep = Command::new("sleep");
    sleep.arg("infinity");
    Ok(namespace.spawn(sleep).await?)
}

/// The beginning of a command line that goes on in the process's namespace.
fn enter(process: &Child) -> Fallible<String> {
    let pid = process.id().ok_or("the process has ended")?;
    // A mapping of all users is that of the machine's own root.
    let is_own_root = std::fs::read_to_string("/proc/self/uid_map")?.contains("4294967295");
    let user = if is_own_root {
        ""
    } else {
        " --user --preserve-credentials"
    };
    Ok(format!("nsenter --target {pid}{user} --net"))
}
