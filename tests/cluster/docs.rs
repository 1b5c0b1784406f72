//! Every command on a page of `docs/` works: against a real API server, with the
//! programs that a person would use. What needs AWS says so, and of that the AWS
//! CLI's own command lines are checked as far as the CLI can without AWS.
//!
//! There is no controller and no node here: workloads are said to be well as
//! soon as they are there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use credlet::identity::watch::Client;
use credlet_tests::process::binary;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use crate::chart::{helm, root};
use crate::control_plane::{ControlPlane, Settings};

/// Stands at the head of a block that needs it.
const NEEDS_AWS: &str = "# needs AWS";
/// The same for what only a kubelet answers.
const NEEDS_A_NODE: &str = "# needs a node";

/// Whose command lines stand in blocks that are run, and in no others.
const PROGRAMS: [&str; 4] = ["kubectl ", "helm ", "aws ", "credlet "];

/// What a block that needs AWS may begin its lines with.
const OF_AWS: [&str; 3] = ["aws ", "credlet trust-policy ", "kubectl -n shop "];

/// Has the AWS CLI check a command line to the point where it would ask AWS.
const CHECKING_AWS: &str = r#"#!/bin/sh
export AWS_MAX_ATTEMPTS=1 AWS_ACCESS_KEY_ID=AKIAEXAMPLE AWS_SECRET_ACCESS_KEY=none
answer=$("$AWS_CLI" "$@" --region eu-central-1 --endpoint-url http://127.0.0.1:1 2>&1)
case $answer in
*'Could not connect to the endpoint URL'*) ;;
*) echo "$answer" >&2; exit 1 ;;
esac
"#;

/// The commands of a page, in their order, as a script.
fn script(page: &str) -> String {
    let mut script = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        // A block may belong to an item of a list.
        let Some(margin) = line.strip_suffix("```console") else {
            continue;
        };
        let (mut needs_aws, mut needs_a_node) = (false, false);
        while let Some(line) = lines.next() {
            let line = line.strip_prefix(margin).unwrap_or(line);
            if line == "```" {
                break;
            }
            needs_aws |= line == NEEDS_AWS;
            needs_a_node |= line == NEEDS_A_NODE;
            // All else is what a command prints.
            let Some(command) = line.strip_prefix("$ ") else {
                continue;
            };
            let may = !needs_aws || OF_AWS.iter().any(|start| command.starts_with(start));
            assert!(may, "{command}");
            assert!(
                !needs_a_node || command.starts_with("kubectl "),
                "{command}"
            );
            let here: Vec<&str> = if command.contains("<<'END'") {
                let inside = lines.by_ref();
                inside.take_while(|line| line.trim() != "END").collect()
            } else {
                Vec::new()
            };
            if !needs_a_node && (!needs_aws || command.starts_with("aws ")) {
                script.push_str(&mended(command));
                for line in here {
                    script.push_str(line.strip_prefix(margin).unwrap_or(line));
                    script.push('\n');
                }
                if command.contains("<<'END'") {
                    script.push_str("END\n");
                }
            }
        }
    }
    script
}

/// A command that leaves nothing behind, and may find what it looks for: 1 says so.
fn mended(command: &str) -> String {
    let command = command.replace("/usr/local/bin", "../bin");
    let looks = [
        "credlet explain",
        "kubectl credlet explain",
        "credlet doctor",
    ];
    let looks = looks.iter().any(|look| command.starts_with(look));
    let end = if looks { " || test $? = 1" } else { "" };
    format!("{command}{end}\n")
}

/// Ends never: says of what is there that it is as it should be.
async fn report_all_well(admin: Client) {
    let sets = Api::<DaemonSet>::all(admin.clone());
    let deployments = Api::<Deployment>::all(admin.clone());
    loop {
        for set in sets.list(&ListParams::default()).await.expect("readable") {
            let status = json!({"status": {
                "observedGeneration": set.metadata.generation,
                "currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0,
                "numberReady": 1, "updatedNumberScheduled": 1, "numberAvailable": 1,
            }});
            let namespace = set.namespace().expect("it has one");
            let of_its = Api::<DaemonSet>::namespaced(admin.clone(), &namespace);
            let patch = Patch::Merge(&status);
            // It may have gone.
            let _ = of_its
                .patch_status(&set.name_any(), &PatchParams::default(), &patch)
                .await;
        }
        for deployment in deployments
            .list(&ListParams::default())
            .await
            .expect("readable")
        {
            let status = json!({"status": {
                "observedGeneration": deployment.metadata.generation,
                "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
            }});
            let namespace = deployment.namespace().expect("it has one");
            let of_its = Api::<Deployment>::namespaced(admin.clone(), &namespace);
            let patch = Patch::Merge(&status);
            let _ = of_its
                .patch_status(&deployment.name_any(), &PatchParams::default(), &patch)
                .await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What others run in `kube-system` before the page's first command.
async fn run_before(admin: &Client, names: &[&str]) {
    for name in names {
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "main", "image": name}]},
                },
            },
        }))
        .expect("a DaemonSet");
        let sets = Api::<DaemonSet>::namespaced(admin.clone(), "kube-system");
        sets.create(&kube::api::PostParams::default(), &set)
            .await
            .expect("it is new");
    }
}

async fn works(page: &str, daemon_sets: &[&str], before: &str) {
    let text = fs::read_to_string(root().join("docs").join(page)).expect("a page");
    let commands = script(&text);
    assert!(!commands.is_empty(), "{page} has no command");
    let script = format!("{before}{commands}");

    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let cluster = ControlPlane::bare(Settings::default()).await;
    fs::write(at("kubeconfig"), cluster.admin_kubeconfig()).expect("writable");
    fs::create_dir(at("bin")).expect("a folder");
    symlink(helm(), at("bin/helm")).expect("a link");
    fs::write(at("bin/aws"), CHECKING_AWS).expect("writable");
    fs::set_permissions(at("bin/aws"), fs::Permissions::from_mode(0o755)).expect("its own");
    fs::create_dir(at("work")).expect("a folder");
    // A link would be followed out of the folder, which kustomize does not do.
    let copied = Command::new("cp")
        .arg("-rd")
        .arg(root().join("manifests"))
        .arg(at("work"))
        .status();
    assert!(copied.expect("cp is there").success());
    let path = std::env::var("PATH").expect("a path");
    let own = binary();
    let own = own.parent().expect("a folder").display();

    let admin = cluster.admin().await;
    run_before(&admin, daemon_sets).await;
    let mut command = tokio::process::Command::new("bash");
    command
        .args(["-euo", "pipefail", "-x", "-c", &script])
        .current_dir(at("work"))
        .env("PATH", format!("{}:{own}:{path}", at("bin").display()))
        .env("AWS_CLI", aws_cli())
        .env("KUBECONFIG", at("kubeconfig"))
        .env("HELM_CACHE_HOME", at("cache"))
        .env("HELM_CONFIG_HOME", at("config"))
        .env("HELM_DATA_HOME", at("data"))
        .kill_on_drop(true);
    let output = tokio::select! {
        output = command.output() => output.expect("bash is there"),
        () = report_all_well(admin) => unreachable!("it goes on"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{page}:\n{}{said}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// The one that `scripts/sdk-tools` has installed.
fn aws_cli() -> PathBuf {
    let path = root().join("target/sdk/venv/bin/aws");
    let missing = "is missing: run scripts/sdk-tools, or make test";
    assert!(path.is_file(), "{} {missing}", path.display());
    path
}

/// What a page takes for granted.
const NOTHING: &str = "";
const A_WORKLOAD: &str = "
kubectl apply -f manifests/crd.yaml
kubectl wait --for condition=Established crd --all
kubectl create namespace shop
kubectl create deployment cart --image=registry.example/cart
kubectl -n shop create deployment cart --image=registry.example/cart --dry-run=client -o yaml > cart.yaml
kubectl -n shop create serviceaccount cart
kubectl apply -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: cart-0, namespace: shop}
spec:
  serviceAccountName: cart
  nodeName: node-1
  containers: [{name: main, image: cart}]
END
";

macro_rules! pages {
    ($($test:ident: $page:literal with $daemon_sets:expr, $before:expr;)*) => {
        $(#[tokio::test]
        async fn $test() {
            works($page, &$daemon_sets, $before).await;
        })*

        /// Those whose commands are run here.
        const PAGES: &[&str] = &[$($page),*];
    };
}

pages! {
    one_gets_started_on_eks: "getting-started-eks.md" with [], NOTHING;
    one_gets_started_on_a_self_managed_cluster: "getting-started-self-managed.md" with [], NOTHING;
    one_gets_started_on_gke_on_aws: "getting-started-gke-on-aws.md" with [], NOTHING;
    one_gets_started_on_fargate: "getting-started-fargate.md" with [], NOTHING;
    one_moves_from_kiam: "moving-from-kiam.md" with ["kiam-agent", "kiam-server"], NOTHING;
    one_moves_from_kube2iam: "moving-from-kube2iam.md" with ["kube2iam"], NOTHING;
    one_moves_from_irsa: "moving-from-irsa.md" with [], NOTHING;
    one_moves_from_the_eks_agent: "moving-from-eks-agent.md" with ["eks-pod-identity-agent"], NOTHING;
    the_security_model_holds_as_far_as_commands_show_it: "security.md" with [], NOTHING;
    operations_are_done_as_described: "operations.md" with [], NOTHING;
    manifests_are_written_into: "inject.md" with [], A_WORKLOAD;
    a_pod_is_explained: "explain.md" with [], A_WORKLOAD;
}

#[test]
fn every_page_with_commands_is_run() {
    for entry in fs::read_dir(root().join("docs")).expect("readable") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name");
        let text = fs::read_to_string(&path).expect("a page");
        assert!(script(&text).is_empty() || PAGES.contains(&name), "{name}");
        let mut block = None;
        for line in text.lines().map(str::trim) {
            block = match (line.strip_prefix("```"), block) {
                (Some(kind), None) => Some(kind),
                (Some(_), Some(_)) => None,
                (None, block) => block,
            };
            let is_command = PROGRAMS.iter().any(|program| line.starts_with(program));
            assert!(
                !is_command || block.is_none() || block == Some("console"),
                "{name}: {line}"
            );
        }
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    for entry in fs::read_dir(root().join("docs")).expect("readable") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a page");
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.with_file_name(file)
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let headings = headings(&target);
                assert!(
                    headings.iter().any(|heading| heading == anchor),
                    "{}: {link}: {headings:?}",
                    path.display()
                );
            }
        }
    }
}

/// As links name them: GitHub's way.
fn headings(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page");
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |letter: char| letter.is_alphanumeric() || letter == ' ' || letter == '-';
            let words: String = words.chars().filter(|letter| kept(*letter)).collect();
            words.replace(' ', "-")
        })
        .collect()
}
