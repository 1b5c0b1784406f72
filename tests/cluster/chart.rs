//! The Helm chart: it says what the kustomization says, refuses what it does not
//! know, and the API server takes it, its upgrade and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

mod release;

/// The switches, each with its component's folder.
const COMPONENTS: [(&str, &str); 12] = [
    ("agentWrites", "agent-writes"),
    ("associationStatus", "association-status"),
    ("evictMissed", "evict-missed"),
    ("imds", "imds"),
    ("monitoring", "monitoring"),
    ("mutatingPolicy", "mutating-policy"),
    ("requestTokens", "request-tokens"),
    ("startupTaint", "startup-taint"),
    ("sync", "sync"),
    ("syncAck", "sync-ack"),
    ("tokenReview", "token-review"),
    ("webhook", "webhook"),
];

/// Those that change another, which comes first.
const CHANGES: [(&str, &str); 2] = [("evictMissed", "webhook"), ("syncAck", "sync")];

/// Those for pods of others' kustomizations.
const OF_OTHERS: [&str; 2] = ["sidecar-fargate", "sidecar-gke"];

/// By kind, namespace and name.
type Objects = BTreeMap<(String, String, String), Value>;

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("it is there")
}

/// The one that `scripts/chart-tools` has built.
pub(crate) fn helm() -> PathBuf {
    let path = root().join("target/chart/bin/helm");
    let missing = "is missing: run scripts/chart-tools, or make test";
    assert!(path.is_file(), "{} {missing}", path.display());
    path
}

/// Runs it to its end in the project's folder; what it has said, or what was wrong.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a text");
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// `helm template` with these values.
fn template(namespace: &str, values: &Value) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), values.to_string()).expect("writable");
    let mut helm = Command::new(helm());
    helm.args(["template", "credlet", "manifests/chart", "--namespace"]);
    run(helm.args([namespace, "--values"]).arg(file.path()))
}

fn charted(values: &Value) -> Objects {
    objects(&template("credlet", values).unwrap_or_else(|error| panic!("{error}")))
}

/// What `kubectl apply -k manifests` would apply with these components in its list.
fn kustomized(components: &[&str]) -> Objects {
    let folder = tempfile::tempdir().expect("a folder");
    let mut copy = Command::new("cp");
    let copied = run(copy.args(["-rd", "manifests"]).arg(folder.path()));
    copied.expect("cp is there");
    let file = folder.path().join("manifests/kustomization.yaml");
    let mut kustomization = fs::read_to_string(&file).expect("it is copied");
    let paths = components.iter();
    let paths = paths.map(|component| format!("components/{component}"));
    let paths = json!(paths.collect::<Vec<_>>());
    kustomization += &["components: ", &paths.to_string(), "\n"].concat();
    fs::write(file, kustomization).expect("writable");
    let folder = folder.path().join("manifests");
    let text = run(Command::new("kubectl").arg("kustomize").arg(folder));
    let text = text.expect("kubectl is there, and the kustomization is good");
    // kustomize adds a hash to its name, and Helm one to the pods.
    let name = text
        .lines()
        .filter_map(|line| line.strip_prefix("  name: "));
    let hashed = name.filter(|name| name.len() == "credlet-".len() + 10);
    let hashed = hashed
        .filter(|name| text.contains(&format!("kind: ConfigMap\nmetadata:\n  name: {name}\n")));
    let hashed: Vec<&str> = hashed.collect();
    let [hashed] = hashed[..] else {
        panic!("{hashed:?}");
    };
    objects(&text.replace(hashed, "credlet"))
}

fn objects(text: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|object| !object.is_null()) {
        let field = |at: &str| {
            object
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let key = ["/kind", "/metadata/namespace", "/metadata/name"].map(field);
        let key = key.map(str::to_owned).into();
        let before = objects.insert(key, object);
        assert_eq!(before, None, "twice");
    }
    objects
}

/// Without what one of the two cannot say, or says by other means.
fn comparable(objects: Objects) -> Objects {
    let objects = objects
        .into_iter()
        .filter(|((kind, ..), _)| kind != "Namespace");
    let compared = objects.map(|((kind, mut namespace, name), mut object)| {
        match kind.as_str() {
            "DaemonSet" | "Deployment" => {
                let template = &mut object["spec"]["template"];
                template["metadata"]["annotations"].take();
                let container = &mut template["spec"]["containers"][0];
                container["imagePullPolicy"].take();
                let env = container["env"].as_array_mut().expect("a list");
                env.sort_by_key(|setting| setting["name"].to_string());
            }
            // Those are the cluster's, which kustomize does not know of all of them.
            kind if kind.contains("AdmissionPolicy") => {
                namespace.clear();
                object["metadata"]
                    .as_object_mut()
                    .expect("an object")
                    .remove("namespace");
            }
            // They outlive a release.
            "CustomResourceDefinition" => drop(object["metadata"]["annotations"].take()),
            _ => {}
        }
        ((kind, namespace, name), object)
    });
    compared.collect()
}

fn assert_same(switches: &[(&str, &str)]) {
    let on: serde_json::Map<String, Value> = switches
        .iter()
        .map(|(key, _)| ((*key).to_owned(), json!(true)))
        .collect();
    let folders: Vec<&str> = switches.iter().map(|(_, folder)| *folder).collect();
    // As the kustomization has it; else the cluster's own version counts.
    let version = json!({"apiVersion": "admissionregistration.k8s.io/v1beta1"});
    let values = json!({"components": on, "mutatingPolicy": version});
    let chart = comparable(charted(&values));
    let kustomization = comparable(kustomized(&folders));
    let keys = |objects: &Objects| objects.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&chart), keys(&kustomization), "{switches:?}");
    for (key, object) in &chart {
        assert_eq!(object, &kustomization[key], "{switches:?}: {key:?}");
    }
}

#[test]
fn the_chart_says_what_the_kustomization_says_with_each_component_and_with_all() {
    assert_same(&[]);
    for component in COMPONENTS {
        let changed = CHANGES.iter().find(|(key, _)| *key == component.0);
        let changed = changed.map(|(_, changed)| (*changed, *changed));
        assert_same(&[changed.as_slice(), &[component]].concat());
    }
    // A component that changes another comes after it in the list.
    let (changing, others): (Vec<_>, Vec<_>) = COMPONENTS
        .into_iter()
        .partition(|component| CHANGES.iter().any(|(key, _)| *key == component.0));
    assert_same(&[others, changing].concat());
}

#[test]
fn every_component_has_a_switch_that_is_off() {
    let read = |file: &str| fs::read_to_string(root().join(file)).expect("readable");
    let values: Value = serde_saphyr::from_str(&read("manifests/chart/values.yaml")).expect("YAML");
    let wanted: Value = COMPONENTS
        .iter()
        .map(|(key, _)| ((*key).to_owned(), json!(false)))
        .collect();
    assert_eq!(values["components"], wanted);
    let folders = fs::read_dir(root().join("manifests/components")).expect("readable");
    let folders = folders.map(|entry| entry.expect("readable").file_name());
    let folders: BTreeSet<_> = folders
        .map(|name| name.into_string().expect("a text"))
        .collect();
    let known = COMPONENTS
        .iter()
        .map(|(_, folder)| *folder)
        .chain(OF_OTHERS);
    assert_eq!(folders, known.map(str::to_owned).collect());
}

#[test]
fn the_chart_has_the_version_of_this_workspace() {
    let chart = fs::read_to_string(root().join("manifests/chart/Chart.yaml"));
    let chart: Value = serde_saphyr::from_str(&chart.expect("readable")).expect("YAML");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// A subject in a namespace that the release is not in would be a stranger's.
#[test]
fn in_another_namespace_everything_is_of_that_namespace() {
    let on: serde_json::Map<String, Value> = COMPONENTS
        .iter()
        .map(|(key, _)| ((*key).to_owned(), json!(true)))
        .collect();
    let text = template("elsewhere", &json!({"components": on})).expect("good values");
    for line in text.lines() {
        let named = line.contains("namespace: credlet") || line.contains("serviceaccount:credlet");
        assert!(!named, "{line}");
    }
    assert!(text.contains("namespace: elsewhere"), "{text}");
}

#[test]
fn values_reach_the_agent() {
    let values = json!({
        "image": {"repository": "registry.example/credlet", "tag": "2", "pullSecrets": [{"name": "pull"}]},
        "clusterName": "prod",
        "region": "eu-central-1",
        "settings": {"CREDLET_LOG_LEVEL": "debug", "CREDLET_DISABLE_IPV6": true},
        "associations": [{"namespace": "shop", "serviceAccount": "*", "roleArn": "arn:aws:iam::123456789012:role/shop"}],
        "components": {"startupTaint": true},
        "agent": {
            "maxSurge": 3,
            "podAnnotations": {"example.com/of": "theirs"},
            "startupTaint": "example.com/wait",
        },
        "serviceAccount": {"annotations": {"example.com/of": "theirs, too"}},
    });
    let objects = charted(&values);
    let find = |kind: &str, name: &str| {
        let key = [kind, "credlet", name].map(str::to_owned);
        objects
            .get(&key.into())
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let settings = json!({
        "AWS_REGION": "eu-central-1",
        "CREDLET_CLUSTER_NAME": "prod",
        "CREDLET_DISABLE_IPV6": "true",
        "CREDLET_LOG_LEVEL": "debug",
    });
    assert_eq!(find("ConfigMap", "credlet")["data"], settings);
    let file = find("ConfigMap", "credlet-associations")["data"]["associations.yaml"].as_str();
    let file: Value = serde_saphyr::from_str(file.expect("a text")).expect("YAML");
    assert_eq!(file, json!({"associations": values["associations"]}));
    let set = &find("DaemonSet", "credlet")["spec"];
    assert_eq!(
        set["updateStrategy"]["rollingUpdate"],
        json!({"maxSurge": 3, "maxUnavailable": 0})
    );
    assert_eq!(
        set["template"]["metadata"]["annotations"]["example.com/of"],
        "theirs"
    );
    let pod = &set["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(pod["containers"][0]["image"], "registry.example/credlet:2");
    let env = pod["containers"][0]["env"].as_array().expect("a list");
    let file =
        json!({"name": "CREDLET_ASSOCIATION_FILE", "value": "/etc/credlet/associations.yaml"});
    assert!(env.contains(&file), "{env:?}");
    let taint = json!({"name": "CREDLET_STARTUP_TAINT", "value": "example.com/wait"});
    assert!(env.contains(&taint), "{env:?}");
    let key = [
        "ValidatingAdmissionPolicy".to_owned(),
        String::new(),
        "credlet-startup-taint".to_owned(),
    ];
    let policy = objects[&key.into()].to_string();
    assert!(policy.contains("'example.com/wait'") && !policy.contains("agent-not-ready"));
    let account = find("ServiceAccount", "credlet");
    assert_eq!(
        account["metadata"]["annotations"]["example.com/of"],
        "theirs, too"
    );
}

/// With instance metadata its addresses, too; and Cilium's policy restricts nobody.
#[test]
fn network_policies_open_the_agents_addresses_and_no_others() {
    for (imds, cidrs) in [
        (false, &["169.254.170.23/32", "fd00:ec2::23/128"][..]),
        (
            true,
            &[
                "169.254.170.23/32",
                "fd00:ec2::23/128",
                "169.254.169.254/32",
                "fd00:ec2::254/128",
            ],
        ),
    ] {
        let objects = charted(&json!({
            "components": {"imds": imds},
            "networkPolicies": {"namespaces": ["shop"], "cilium": true},
        }));
        let find = |kind: &str, namespace: &str| {
            &objects[&[kind, namespace, "credlet"].map(str::to_owned).into()]["spec"]
        };
        let plain = find("NetworkPolicy", "shop");
        let blocks = cidrs.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
        let wanted = json!({
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [{
                "to": blocks.collect::<Vec<_>>(),
                "ports": [{"protocol": "TCP", "port": 80}],
            }],
        });
        assert_eq!(plain, &wanted);
        let cilium = find("CiliumClusterwideNetworkPolicy", "");
        let ports = json!([{"ports": [{"port": "80", "protocol": "TCP"}]}]);
        let wanted = json!({
            "endpointSelector": {},
            "enableDefaultDeny": {"ingress": false, "egress": false},
            "egress": [
                {"toEntities": ["host"], "toPorts": ports},
                {"toCIDR": cidrs, "toPorts": ports},
            ],
        });
        assert_eq!(cilium, &wanted);
    }
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    for (values, named) in [
        (json!({"clustername": "prod"}), "clustername"),
        (json!({"components": {"imdss": true}}), "imdss"),
        (json!({"components": {"imds": "yes"}}), "imds"),
        (json!({"components": {"syncAck": true}}), "components.sync,"),
        (
            json!({"components": {"evictMissed": true}}),
            "components.webhook,",
        ),
        (json!({"sync": {"replicas": 0}}), "replicas"),
        // Without a second agent on the node an update would drop requests.
        (json!({"agent": {"maxSurge": 0}}), "maxSurge"),
        (json!({"agent": {"maxSurge": "0%"}}), "maxSurge"),
        (json!({"settings": {"A-B": "c"}}), "A-B"),
        (json!({"settings": {"CREDLET_PORT": 80}}), "CREDLET_PORT"),
        (json!({"region": "Frankfurt"}), "region"),
        (
            json!({"associations": [{"namespace": "shop"}]}),
            "serviceAccount",
        ),
        (
            json!({"associations": [{"namespace": "shop", "serviceAccount": "a", "role": "b"}]}),
            "role",
        ),
        (
            json!({"networkPolicies": {"namespaces": ["A"]}}),
            "namespaces",
        ),
    ] {
        let refused = template("credlet", &values).expect_err("it cannot be meant");
        assert!(refused.contains(named), "{values}: {refused}");
    }
}
