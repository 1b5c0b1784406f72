//! The image as a node runs it: from its own root file system, with the
//! capabilities that the `DaemonSet` grants and as a user that has no others.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use credlet_tests::client;
use credlet_tests::fake_aws::{Entry, FakeAws};
use credlet_tests::fake_kube::{self, FakeKube};
use credlet_tests::node::Node;
use credlet_tests::process::{self, Agent, DOOR};
use hyper::StatusCode;
use k8s_openapi::api::apps::v1::DaemonSet;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

/// The agent's, and those that it becomes by their verbs.
const PROGRAMS: [&str; 3] = ["credlet", "credlet-sidecar", "credlet-tools"];

/// Neither root nor a user of any Debian machine.
const USER: &str = "65532:65532";

const ROLE: &str = "arn:aws:iam::111122223333:role/checkout";
const POD: Ipv4Addr = Ipv4Addr::new(10, 250, 1, 2);

#[test]
fn it_holds_the_programs_their_libraries_and_certificates_and_nothing_else() {
    let image = Image::unpack();
    let mut files = Vec::new();
    collect(&image.root(), &mut files);
    files.retain(|file| {
        let name = file
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let is_library = name.contains(".so.")
            && fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
        let is_known = PROGRAMS.contains(&name.as_str());
        !is_library && !is_known && name != "ca-certificates.crt"
    });
    assert_eq!(files, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn each_of_its_programs_answers_by_the_name_of_the_agents() {
    let image = Image::unpack();
    let version = concat!("credlet ", env!("CARGO_PKG_VERSION"));
    let answers = [
        ("version", version),
        ("sidecar --help", "sidecar [OPTIONS]"),
        ("trust-policy --help", "trust-policy <COMMAND>"),
    ];
    for (program, (arguments, answer)) in PROGRAMS.into_iter().zip(answers) {
        let output = image
            .command(program)
            .args(arguments.split(' '))
            .output()
            .await;
        let output = output.expect("setpriv and chroot start");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(answer), "{arguments}: {said}{error}");
    }
}

#[tokio::test]
async fn it_serves_its_node_with_no_more_than_the_daemonset_grants() {
    let image = Image::unpack();
    let node = Node::new().await.expect("a node");
    let pod = node.add_pod(POD, None).await.expect("a pod");
    let free = || TcpListener::bind("127.0.0.1:0");
    let kube = FakeKube::on(node.ns.run(free).await.expect("a free port"));
    let aws = FakeAws::serve(node.ns.run(free).await.expect("a free port"));
    aws.associate("shop", "checkout", Entry::of(ROLE));
    let object = fake_kube::Pod::new("shop", "checkout-1").account("checkout");
    kube.apply(object.addresses([POD.to_string().as_str()]));
    fs::write(image.root().join("kubeconfig"), kube.kubeconfig()).expect("writable");

    let mut command = process::settings(image.command("credlet"), aws.url());
    command
        .args(["--kubeconfig", "/kubeconfig"])
        .env("PATH", path());
    let agent = Agent::start(&node, &kube, command).await;
    let mut agent = agent.expect("setpriv and chroot start");
    agent
        .ready(&node)
        .await
        .unwrap_or_else(|error| panic!("{error}"));

    let door: SocketAddr = DOOR.parse().expect("an address");
    let from = IpAddr::V4(POD);
    let answer = pod
        .ns
        .run(move || client::get(from, door, "/v1/credentials"))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(
        aws.role_of(&answer.field("AccessKeyId")).as_deref(),
        Some(ROLE)
    );

    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect(name);
        line.trim_start_matches(':')
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(field("Uid"), ["65532"; 4]);
    assert_eq!(field("NoNewPrivs"), ["1"]);
    // The kernel gives root what a process that may not be dumped has in /proc.
    let environ = fs::metadata(format!("/proc/{}/environ", agent.pid())).expect("it runs");
    assert_eq!(
        environ.uid(),
        0,
        "its memory, and the secrets in it, can be dumped"
    );
    let granted = granted()
        .iter()
        .map(|name| 1_u64 << number(name))
        .sum::<u64>();
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(field(set), [format!("{granted:016x}")], "{set}");
    }
}

/// What `make image` built, unpacked. Vanishes when dropped.
struct Image {
    folder: TempDir,
}

impl Image {
    fn unpack() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "chroot needs root: run the tests as root"
        );
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image/credlet.oci.tar");
        assert!(
            archive.exists(),
            "{} is missing: run make image",
            archive.display()
        );
        let image = Self {
            folder: TempDir::new().expect("a folder"),
        };
        let at = |name: &str| {
            image
                .folder
                .path()
                .join(name)
                .to_string_lossy()
                .into_owned()
        };
        fs::create_dir(at("layout")).expect("writable");
        shell(
            "tar",
            &[
                "--extract",
                "--file",
                &archive.to_string_lossy(),
                "--directory",
                &at("layout"),
            ],
        );
        let reference = format!("{}:{}", at("layout"), env!("CARGO_PKG_VERSION"));
        shell("umoci", &["unpack", "--image", &reference, &at("bundle")]);
        // Another user has to get there.
        shell("chmod", &["755", &at(""), &at("bundle")]);
        image
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("bundle/rootfs")
    }

    /// A program in the image. Ambient capabilities are how a user other than
    /// root can have some; `no_setuid_fixup` lets them survive the change of
    /// user, and executing as that user leaves the ambient ones only.
    fn command(&self, program: &str) -> Command {
        let capabilities = format!("-all,+{}", granted().join(",+").to_lowercase());
        let mut command = Command::new("setpriv");
        command
            .arg("--securebits=+no_setuid_fixup")
            .arg("--no-new-privs")
            .arg(format!("--inh-caps={capabilities}"))
            .arg(format!("--ambient-caps={capabilities}"))
            .args(["chroot", "--groups=", &format!("--userspec={USER}")])
            .arg(self.root())
            .arg(format!("/{program}"));
        command
    }
}

/// Where setpriv finds chroot.
fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The capabilities that the `DaemonSet` adds.
fn granted() -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/daemonset.yaml");
    let text = fs::read_to_string(manifest).expect("readable");
    let daemon_set: DaemonSet = serde_saphyr::from_str(&text).expect("a DaemonSet");
    let pod = daemon_set.spec.template.spec.expect("a pod");
    let context = pod
        .containers
        .into_iter()
        .next()
        .and_then(|container| container.security_context);
    let capabilities = context
        .and_then(|context| context.capabilities)
        .expect("capabilities");
    capabilities.add.expect("some are added")
}

/// `linux/capability.h`.
fn number(capability: &str) -> u32 {
    match capability {
        "NET_BIND_SERVICE" => 10,
        "NET_ADMIN" => 12,
        other => panic!("which number has CAP_{other}?"),
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn shell(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} is missing ({error}): install it"));
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
