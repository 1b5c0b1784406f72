//! An account of moto's, what is run against it, and what the AWS CLI reads in it.

use std::process::Stdio;
use std::time::Duration;

use credlet_tests::moto::{Moto, installed};
use credlet_tests::node::Node;
use credlet_tests::process::binary;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// The account that moto takes every credentials' to be.
pub(super) const ACCOUNT: &str = "123456789012";

/// The slowest machine's start of Python.
const PATIENCE: Duration = Duration::from_mins(1);

/// Has a terminal of its own for a program, types what this process is given, and
/// ends as the program does.
const TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// An account with an IAM, and nothing in it.
pub(super) struct Account {
    node: Node,
    moto: Moto,
    folder: TempDir,
}

/// How a program ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    pub(super) fn json(&self) -> Value {
        let read = serde_json::from_str(&self.stdout);
        read.unwrap_or_else(|why| panic!("{why}:\n{}\n{}", self.stdout, self.stderr))
    }
}

impl Account {
    pub(super) async fn open() -> Self {
        let node = Node::new().await.expect("a node");
        let moto = Moto::start(&node).await;
        let folder = TempDir::new().expect("a folder");
        Self { node, moto, folder }
    }

    async fn run(&self, mut command: Command, typed: Option<&str>) -> Ended {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "of-an-operator")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", self.moto.url())
            .stdin(if typed.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.node.ns.spawn(command).await.expect("it starts");
        // Held open to the end, as a terminal is.
        let mut stdin = child.stdin.take();
        if let (Some(stdin), Some(typed)) = (&mut stdin, typed) {
            stdin.write_all(typed.as_bytes()).await.expect("it reads");
        }
        let output = timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.expect("it ends").expect("its output can be read");
        drop(stdin);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// `credlet trust-policy`, where there is no terminal.
    pub(super) async fn credlet(&self, arguments: &str) -> Ended {
        let mut command = Command::new(binary());
        command.arg("trust-policy").args(arguments.split(' '));
        self.run(command, None).await
    }

    /// The same at one, where this is typed.
    pub(super) async fn credlet_at_a_terminal(&self, arguments: &str, typed: &str) -> Ended {
        let mut command = Command::new(installed("venv/bin/python"));
        command.args(["-c", TERMINAL]).arg(binary());
        command.arg("trust-policy").args(arguments.split(' '));
        self.run(command, Some(typed)).await
    }

    /// `aws iam`, which must end well.
    pub(super) async fn aws(&self, arguments: &str, document: Option<&Value>) -> Value {
        let mut command = Command::new(installed("venv/bin/aws"));
        command
            .arg("iam")
            .args(arguments.split(' '))
            .args(["--output", "json"]);
        if let Some(document) = document {
            command
                .arg("--assume-role-policy-document")
                .arg(document.to_string());
        }
        let ended = self.run(command, None).await;
        assert_eq!(ended.code, Some(0), "{arguments}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_default()
    }

    /// The trust policy of a role, as the CLI reads it.
    pub(super) async fn policy(&self, role: &str) -> Value {
        let mut answer = self
            .aws(&format!("get-role --role-name {role}"), None)
            .await;
        answer["Role"]["AssumeRolePolicyDocument"].take()
    }

    /// The managed policies of a role, likewise.
    pub(super) async fn attached(&self, role: &str) -> Vec<String> {
        let call = format!("list-attached-role-policies --role-name {role}");
        let answer = self.aws(&call, None).await;
        let policies = answer["AttachedPolicies"]
            .as_array()
            .expect("a list")
            .iter();
        policies
            .map(|it| it["PolicyArn"].as_str().expect("an ARN").to_owned())
            .collect()
    }
}
