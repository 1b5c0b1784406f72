//! The SDKs' programs, and what a pod's environment is.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use credlet_tests::fake_aws::REGION;
use credlet_tests::moto::installed;
use credlet_tests::node::Namespace;
use tokio::process::Command;
use tokio::time::timeout;

/// The folder of this package.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The slowest machine's start of Python or of an SDK.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What finds its credentials and says whose they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    Boto3,
    AwsCli,
    JavaScript,
    Rust,
}

impl Program {
    pub(crate) const ALL: [Self; 4] = [Self::Boto3, Self::AwsCli, Self::JavaScript, Self::Rust];

    /// Its command.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Boto3 => {
                let mut python = Command::new(installed("venv/bin/python"));
                python.arg(format!("{ROOT}/sdk/client.py"));
                python
            }
            Self::AwsCli => {
                let mut aws = Command::new(installed("venv/bin/aws"));
                aws.args(["sts", "get-caller-identity"]);
                aws.args(["--query", "Arn", "--output", "text"]);
                aws
            }
            Self::JavaScript => {
                installed("node/node_modules/@aws-sdk/client-sts");
                let mut node = Command::new("node");
                node.arg(format!("{ROOT}/sdk/client.cjs"));
                node
            }
            Self::Rust => Command::new(env!("CARGO_BIN_EXE_sdk-client")),
        }
    }
}

/// Runs a program in a namespace, with this home, STS and environment and nothing
/// else. Returns what it printed, and whether it ended well.
pub(crate) async fn run(
    mut command: Command,
    ns: &Namespace,
    home: &Path,
    sts: &str,
    environment: &[(&str, &str)],
) -> (String, bool) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env(
            "NODE_PATH",
            format!("{ROOT}/../target/sdk/node/node_modules"),
        )
        .env("AWS_REGION", REGION)
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_ENDPOINT_URL_STS", sts)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = ns.spawn(command).await.expect("the program starts");
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output
        .expect("the program ends")
        .expect("its output can be read");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (text.join("\n"), output.status.success())
}
