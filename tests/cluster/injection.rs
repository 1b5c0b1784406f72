//! One table of what pods are to be given, held by whatever gives it: the API
//! server by the policies, the webhook, and `credlet inject`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use credlet::associations::crd::{CLUSTER, GROUP, NAMESPACED, VERSION};
use credlet::cluster::webhook::Pace;
use credlet_tests::process::binary;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::control_plane::{ControlPlane, Settings};
use crate::place::Place;
use crate::webhook::rig::{Policy, Stage, plane};

mod cases;
mod judge;

use cases::{Case, Life, Wanted};
use judge::judge;

/// How long the API server may take to know of its policies, and of what they ask.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the API server of 1.34 leaves off unless it is told.
const POLICIES: Settings = Settings {
    keys: &[crate::control_plane::Key::Rsa],
    flags: &[
        "--feature-gates=MutatingAdmissionPolicy=true",
        "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
    ],
};

/// The case of that number, in the words of its namespace.
struct Staged {
    case: Case,
    account: String,
    annotations: Value,
    associations: Vec<Value>,
    pod: Value,
}

fn staged(namespace: &str) -> Vec<Staged> {
    let stage = |(number, case): (usize, Case)| {
        let account = format!("of-case-{number}-end");
        let own = |value: &Value| {
            let text = value.to_string().replace("NAMESPACE", namespace);
            let text = text.replace("ACCOUNT", &account);
            let text = text.replace("PART", &account[..account.len() - 1]);
            let text = text.replace("DOTTED", &account.replacen('-', ".", 1));
            serde_json::from_str::<Value>(&text).expect("JSON still")
        };
        let associations = case.associations.iter().zip(0..);
        let associations = associations.map(|((kind, spec), at)| {
            let mut metadata = json!({"name": format!("{namespace}-case-{number}-{at}")});
            if *kind == "PodIdentityAssociation" {
                metadata["namespace"] = namespace.into();
            }
            json!({
                "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
                "metadata": metadata, "spec": own(spec),
            })
        });
        let associations = associations.collect();
        let mut pod = own(&case.pod);
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = "it".into();
        pod["metadata"]["namespace"] = namespace.into();
        pod["spec"]["serviceAccountName"] = account.as_str().into();
        for kind in ["initContainers", "containers"] {
            let containers = pod["spec"].get_mut(kind).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                container["image"] = "localhost/it".into();
            }
        }
        let annotations = case.annotations.iter();
        let annotations = annotations.map(|(key, value)| ((*key).to_owned(), json!(value)));
        Staged {
            annotations: Value::Object(annotations.collect()),
            account,
            associations,
            pod,
            case,
        }
    };
    cases::all().into_iter().enumerate().map(stage).collect()
}

/// What is declared, in a place where it counts.
async fn declare(place: &Place, staged: &[Staged]) {
    let accounts = Api::<ServiceAccount>::namespaced(place.admin.clone(), &place.namespace);
    for it in staged {
        let metadata = json!({"name": it.account, "annotations": it.annotations});
        let account = serde_json::from_value(json!({"metadata": metadata}));
        let account: ServiceAccount = account.expect("an account");
        let made = accounts.create(&PostParams::default(), &account).await;
        made.expect("a service account");
        for association in &it.associations {
            apply(place, association.clone()).await;
        }
    }
}

async fn apply(place: &Place, document: Value) {
    let object: DynamicObject = serde_json::from_value(document).expect("an object");
    let types = object.types.as_ref().expect("it has a kind");
    let kind = GroupVersionKind::try_from(types).expect("a version");
    let resource = match &*kind.kind {
        "PodIdentityAssociation" => ApiResource::from_gvk_with_plural(&kind, NAMESPACED),
        "ClusterPodIdentityAssociation" => ApiResource::from_gvk_with_plural(&kind, CLUSTER),
        "MutatingAdmissionPolicy" => {
            ApiResource::from_gvk_with_plural(&kind, "mutatingadmissionpolicies")
        }
        _ => ApiResource::from_gvk(&kind),
    };
    let client = place.admin.clone();
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let name = object.metadata.name.as_ref().expect("it has a name");
    let applied = api
        .patch(name, &PatchParams::apply("tests"), &Patch::Apply(&object))
        .await;
    applied.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// The pod as the API server would store it.
async fn admitted(place: &Place, pod: &Value) -> Value {
    try_admitted(place, pod).await.expect("a pod that may be")
}

async fn try_admitted(place: &Place, pod: &Value) -> kube::Result<Value> {
    let pods = Api::<Pod>::namespaced(place.admin.clone(), &place.namespace);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod: Pod = serde_json::from_value(pod.clone()).expect("a pod");
    let pod = pods.create(&dry, &pod).await?;
    Ok(serde_json::to_value(pod).expect("plain data"))
}

/// All that is wrong, by case.
fn told(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

async fn hold(place: &Place, staged: &[Staged]) {
    let mut wrong = Vec::new();
    for it in staged {
        let pod = admitted(place, &it.pod).await;
        if let Err(why) = judge(&it.case, &it.pod, &pod) {
            wrong.push(format!(
                "{}: {why}\n  {}\n  {}",
                it.case.name, pod["metadata"], pod["spec"]
            ));
        }
        let again = admitted(place, &stripped(pod.clone())).await;
        if again["spec"] != pod["spec"] || again["metadata"]["labels"] != pod["metadata"]["labels"]
        {
            wrong.push(format!(
                "{}: a second time: {}",
                it.case.name, again["spec"]
            ));
        }
    }
    told(&wrong);
}

/// A pod that was read, to be made anew.
fn stripped(mut pod: Value) -> Value {
    let metadata = pod["metadata"].as_object_mut().expect("fields");
    metadata.retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&&**field));
    pod["status"] = Value::Null;
    pod
}

fn documents(folder: &str) -> Vec<Value> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let texts = entries.map(|it| std::fs::read_to_string(it.expect("readable").path()));
    let parse = |text: String| serde_saphyr::from_multiple::<Value>(&text).expect("YAML");
    texts.flat_map(|text| parse(text.expect("text"))).collect()
}

#[tokio::test]
async fn the_api_server_gives_pods_by_its_policies_what_they_lack() {
    let cluster = Arc::new(ControlPlane::start(POLICIES).await);
    let place = Place::on(cluster).await;
    let staged = staged(&place.namespace);
    declare(&place, &staged).await;
    for document in documents("manifests/components/mutating-policy") {
        if document["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("Mutating"))
        {
            apply(&place, document).await;
        }
    }
    // Whoever knows the youngest of each kind knows all.
    let youngest = |kind: &str| {
        let of_kind = |it: &&Staged| match it.case.associations.as_slice() {
            [] => kind == "ServiceAccount",
            [(one, _), ..] => *one == kind,
        };
        let given = staged
            .iter()
            .rev()
            .filter(|it| !matches!(it.case.wanted, Wanted::Nothing));
        given.clone().find(of_kind).expect("one of the kind")
    };
    let deadline = Instant::now() + PATIENCE;
    for kind in [
        "ServiceAccount",
        "PodIdentityAssociation",
        "ClusterPodIdentityAssociation",
    ] {
        let it = youngest(kind);
        while let Err(why) = judge(&it.case, &it.pod, &admitted(&place, &it.pod).await) {
            assert!(Instant::now() < deadline, "{}: {why}", it.case.name);
            sleep(Duration::from_millis(50)).await;
        }
    }
    hold(&place, &staged).await;
}

#[tokio::test]
async fn the_webhook_gives_pods_what_they_lack() {
    let stage = Stage::on(plane().await, Policy::Fail).await;
    let staged = staged(&stage.place.namespace);
    declare(&stage.place, &staged).await;
    let replica = stage.replica("", Pace::default()).await;
    stage.serve_by(&[&replica]).await;
    replica.ready().await;
    let given = |it: &&Staged| !matches!(it.case.wanted, Wanted::Nothing);
    let first = staged.iter().find(given).expect("a case");
    let deadline = Instant::now() + PATIENCE;
    let held = async || {
        let pod = try_admitted(&stage.place, &first.pod).await;
        let pod = pod.map_err(|error| error.to_string())?;
        judge(&first.case, &first.pod, &pod)
    };
    // Until the API server knows of it, and whom to trust.
    while let Err(why) = held().await {
        assert!(Instant::now() < deadline, "{why}");
        sleep(Duration::from_millis(50)).await;
    }
    hold(&stage.place, &staged).await;
    replica.leave().await;
}

#[test]
fn a_file_is_given_what_its_pods_lack() {
    let namespace = "shop";
    let mut wrong = Vec::new();
    for it in staged(namespace) {
        let labels = json!({"kubernetes.io/metadata.name": namespace});
        let metadata =
            json!({"name": it.account, "namespace": namespace, "annotations": it.annotations});
        let mut known = vec![
            json!({"kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}),
            json!({"kind": "ServiceAccount", "metadata": metadata}),
        ];
        known.extend(it.associations.clone());
        let known = json!({"kind": "List", "items": known});
        let pod = injected(&known, &it.pod);
        let spread = match it.case.wanted {
            Wanted::Agent(audience, Life::Spread) => Wanted::Agent(audience, Life::Of(86400)),
            other => other,
        };
        let case = Case {
            wanted: spread,
            ..it.case
        };
        // Which the API server adds.
        let also = case
            .also
            .into_iter()
            .filter(|(pointer, _)| !pointer.starts_with("/spec/volumes/1"));
        let case = Case {
            also: also.collect(),
            ..case
        };
        if let Err(why) = judge(&case, &it.pod, &pod) {
            wrong.push(format!("{}: {why}\n  {pod}", case.name));
        }
    }
    told(&wrong);
}

/// What `credlet inject` makes of it.
fn injected(known: &Value, pod: &Value) -> Value {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(known.to_string().as_bytes())
        .expect("writable");
    let mut command = Command::new(binary());
    command
        .args(["inject", "-f", "-", "-o", "json", "--known"])
        .arg(file.path());
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("credlet is built");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(pod.to_string().as_bytes())
        .expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.starts_with("credlet: Pod shop/it: "), "{told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
