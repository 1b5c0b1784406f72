//! What EKS's webhook is documented to do, and what we add to it, as a table: an
//! account, what is declared for it, a pod, and what the pod must be given.

use serde_json::{Value, json};

pub(super) const ROLE: &str = "arn:aws:iam::111122223333:role/pods/cart";
const OTHER: &str = "arn:aws:iam::111122223333:role/pods/other";
const PODS: &str = "pods.eks.amazonaws.com";
const STS: &str = "sts.amazonaws.com";

const ARN: (&str, &str) = ("eks.amazonaws.com/role-arn", ROLE);
const URI: &str = "http://169.254.170.23/v1/credentials";

/// Where the token of Pod Identity is mounted.
pub(super) const AGENT_MOUNT: &str = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount";
/// As [`AGENT_MOUNT`], of IRSA.
pub(super) const STS_MOUNT: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";

/// `ACCOUNT` and `NAMESPACE` in it are the case's own; `PART` is the account's name
/// without its last letter, `DOTTED` with a dot for a dash.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// The annotations of the account.
    pub(super) annotations: Vec<(&'static str, &'static str)>,
    /// Kind and `spec` of each; the first is the oldest.
    pub(super) associations: Vec<(&'static str, Value)>,
    /// `metadata` and `spec`, whose containers need no image.
    pub(super) pod: Value,
    pub(super) wanted: Wanted,
    /// The containers that are given it.
    pub(super) given: &'static [&'static str],
    /// What else is to be found in the pod: a pointer, and the value there.
    pub(super) also: Vec<(&'static str, Value)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// The pod is left as it is.
    Nothing,
    /// The pod asks the agent, with a token for this audience.
    Agent(&'static str, Life),
    /// The pod asks STS for this role, with a token for this audience.
    Sts(&'static str, &'static str, Life),
}

/// How long the token lives, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    /// Two hours less than a day, up to a day.
    Spread,
    Of(u64),
}

impl Case {
    fn of(name: &'static str, wanted: Wanted) -> Self {
        Self {
            name,
            annotations: vec![],
            associations: vec![],
            pod: json!({"metadata": {}, "spec": {"containers": [{"name": "it"}]}}),
            wanted,
            given: &["it"],
            also: vec![],
        }
    }

    fn annotated<const N: usize>(self, annotations: [(&'static str, &'static str); N]) -> Self {
        Self {
            annotations: annotations.to_vec(),
            ..self
        }
    }

    fn declared(mut self, spec: Value) -> Self {
        self.associations.push(("PodIdentityAssociation", spec));
        self
    }

    fn declared_in_cluster(mut self, spec: Value) -> Self {
        let kind = "ClusterPodIdentityAssociation";
        self.associations.push((kind, spec));
        self
    }

    fn pod(self, metadata: Value, spec: Value) -> Self {
        let fields = [("metadata", metadata), ("spec", spec)].into_iter();
        let fields = fields.map(|(field, value)| (field.to_owned(), value));
        Self {
            pod: Value::Object(fields.collect()),
            ..self
        }
    }

    fn container(self, mut container: Value) -> Self {
        container["name"] = "it".into();
        self.pod(json!({}), json!({"containers": [container]}))
    }

    fn given(self, given: &'static [&'static str]) -> Self {
        Self { given, ..self }
    }

    fn also(mut self, pointer: &'static str, value: Value) -> Self {
        self.also.push((pointer, value));
        self
    }
}

fn role(account: &str) -> Value {
    json!({"serviceAccount": account, "roleArn": ROLE})
}

fn by(exchange: &str, mut spec: Value) -> Value {
    spec["exchange"] = exchange.into();
    spec
}

fn irsa(name: &'static str) -> Case {
    Case::of(name, Wanted::Sts(ROLE, STS, Life::Of(86400))).annotated([ARN])
}

fn agent(name: &'static str) -> Case {
    let wanted = Wanted::Agent(PODS, Life::Spread);
    Case::of(name, wanted).declared(role("ACCOUNT"))
}

fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

pub(super) fn all() -> Vec<Case> {
    let mut all = whether();
    all.extend(tokens());
    all.extend(containers());
    all
}

/// Which pods get which.
fn whether() -> Vec<Case> {
    let nothing = |name| Case::of(name, Wanted::Nothing);
    let by_web_identity = Wanted::Agent(STS, Life::Spread);
    let skip = json!({"labels": {"eks.amazonaws.com/skip-pod-identity-webhook": "false"}});
    let plain = json!({"containers": [{"name": "it"}]});
    let exchange = |how| ("credlet.dev/exchange", how);
    let named = |spec: Value| with(spec, "namespace", "NAMESPACE".into());
    let selected = |selector: Value| with(role("ACCOUNT"), "namespaceSelector", selector);
    let label = "kubernetes.io/metadata.name";
    vec![
        nothing("an account of which nothing is said"),
        nothing("an annotation without a role").annotated([("eks.amazonaws.com/audience", STS)]),
        nothing("an empty role").annotated([("eks.amazonaws.com/role-arn", "")]),
        irsa("a role in an annotation"),
        agent("an association"),
        agent("an association goes before an annotation").annotated([ARN]),
        agent("a pattern of accounts").declared(role("PART*")),
        nothing("an association of another account").declared(role("ACCOUNT.other")),
        nothing("a dot is no letter").declared(role("DOTTED")),
        Case::of("an association for a token of STS's", by_web_identity)
            .declared(by("web-identity", role("ACCOUNT"))),
        Case::of(
            "the exact association goes before an older pattern",
            by_web_identity,
        )
        .declared(role("ACCOUNT*"))
        .declared(by("web-identity", role("ACCOUNT"))),
        Case::of(
            "the longer pattern goes before the shorter",
            by_web_identity,
        )
        .declared(role("PART*"))
        .declared(by("web-identity", role("*ACCOUNT"))),
        Case::of("a namespace's goes before the cluster's", by_web_identity)
            .declared_in_cluster(named(role("ACCOUNT")))
            .declared(by("web-identity", role("PART*"))),
        Case::of("EKS knows the role", Wanted::Agent(PODS, Life::Spread))
            .declared(json!({"serviceAccount": "ACCOUNT", "exchange": "eks-auth"})),
        Case::of("the cluster's by name", Wanted::Agent(PODS, Life::Spread))
            .declared_in_cluster(named(role("ACCOUNT"))),
        nothing("the cluster's for another namespace").declared_in_cluster(with(
            role("ACCOUNT"),
            "namespace",
            "other-NAMESPACE".into(),
        )),
        Case::of("the cluster's by label", Wanted::Agent(PODS, Life::Spread))
            .declared_in_cluster(selected(json!({"matchLabels": {label: "NAMESPACE"}}))),
        nothing("the cluster's by another label")
            .declared_in_cluster(selected(json!({"matchLabels": {label: "other"}}))),
        Case::of(
            "the cluster's by an expression",
            Wanted::Agent(PODS, Life::Spread),
        )
        .declared_in_cluster(selected(json!({"matchExpressions": [
            {"key": label, "operator": "In", "values": ["a", "NAMESPACE"]},
            {"key": label, "operator": "Exists"},
            {"key": "team", "operator": "DoesNotExist"},
            {"key": "team", "operator": "NotIn", "values": ["a"]},
        ]}))),
        nothing("the cluster's by an expression that does not fit").declared_in_cluster(selected(
            json!({"matchExpressions": [
                {"key": label, "operator": "NotIn", "values": ["NAMESPACE"]},
            ]}),
        )),
        nothing("a pod with the label")
            .declared(role("ACCOUNT"))
            .annotated([ARN])
            .pod(skip, plain),
        Case::of(
            "the agent serves the annotated",
            Wanted::Agent(STS, Life::Spread),
        )
        .annotated([ARN, exchange("web-identity")]),
        Case::of(
            "for an audience of the account's",
            Wanted::Agent("vault", Life::Spread),
        )
        .annotated([
            ARN,
            exchange("web-identity"),
            ("eks.amazonaws.com/audience", "vault"),
        ]),
        Case::of(
            "the agent assumes the annotated role",
            Wanted::Agent(PODS, Life::Spread),
        )
        .annotated([ARN, exchange("assume-role")]),
        Case::of(
            "the annotation of EKS's own",
            Wanted::Agent(PODS, Life::Spread),
        )
        .annotated([exchange("eks-auth")]),
    ]
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

/// How long tokens live, for whom, and what is said of STS.
fn tokens() -> Vec<Case> {
    let expiration = |seconds| ("eks.amazonaws.com/token-expiration", seconds);
    let pod = |case: Case, seconds: &str| {
        let annotations = json!({"annotations": {"eks.amazonaws.com/token-expiration": seconds}});
        case.pod(annotations, json!({"containers": [{"name": "it"}]}))
    };
    let sts = |name, seconds| Case::of(name, Wanted::Sts(ROLE, STS, Life::Of(seconds)));
    let env = "/spec/containers/0/env/0/name";
    let endpoints = |said| ("eks.amazonaws.com/sts-regional-endpoints", said);
    vec![
        sts("the account's lifetime", 3600).annotated([ARN, expiration("3600")]),
        sts("a lifetime that is too short", 600).annotated([ARN, expiration("1")]),
        sts("a lifetime that is no number", 86400).annotated([ARN, expiration("soon")]),
        pod(sts("the pod's lifetime", 7200), "7200").annotated([ARN, expiration("3600")]),
        pod(sts("the pod's lifetime is no number", 3600), "1h")
            .annotated([ARN, expiration("3600")]),
        pod(sts("the pod's lifetime is negative", 600), "-5").annotated([ARN]),
        Case::of(
            "the account's lifetime, for the agent",
            Wanted::Agent(PODS, Life::Of(3600)),
        )
        .declared(role("ACCOUNT"))
        .annotated([expiration("3600")]),
        pod(
            Case::of(
                "the pod's lifetime, for the agent",
                Wanted::Agent(PODS, Life::Of(80000)),
            ),
            "80000",
        )
        .declared(role("ACCOUNT")),
        pod(agent("a day is spread, whoever says it"), "86400"),
        Case::of(
            "the account's audience",
            Wanted::Sts(ROLE, "vault", Life::Of(86400)),
        )
        .annotated([ARN, ("eks.amazonaws.com/audience", "vault")]),
        irsa("the region's STS").also(env, json!("AWS_STS_REGIONAL_ENDPOINTS")),
        irsa("not the region's STS")
            .annotated([ARN, endpoints("false")])
            .also(env, json!("AWS_ROLE_ARN")),
        irsa("neither true nor false")
            .annotated([ARN, endpoints("no")])
            .also(env, json!("AWS_STS_REGIONAL_ENDPOINTS")),
        agent("not the region's STS, for the agent")
            .annotated([endpoints("F")])
            .also(env, json!("AWS_CONTAINER_CREDENTIALS_FULL_URI")),
    ]
}

/// Which containers get what, beside what they have.
fn containers() -> Vec<Case> {
    let env = |name: &str, value: &str| json!({"env": [variable(name, value)]});
    let mine = json!([{"name": "mine", "mountPath": AGENT_MOUNT}]);
    let skipping =
        json!({"annotations": {"eks.amazonaws.com/skip-containers": "first, \"proxy\""}});
    let named = |name: &str| json!({"name": name});
    let own_volume = json!({"name": "eks-pod-identity-token", "emptyDir": {}});
    let windows = json!({
        "nodeSelector": {"kubernetes.io/os": "windows"},
        "containers": [named("it")],
    });
    vec![
        irsa("a variable of the container's own stays, and its pair is not completed")
            .container(env("AWS_ROLE_ARN", OTHER))
            .given(&[])
            .also("/spec/containers/0/env/0/value", json!(OTHER))
            .also("/spec/volumes/1/name", json!("aws-iam-token")),
        agent("a URI of the container's own stays")
            .container(env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/mine"))
            .given(&[])
            .also("/spec/containers/0/env/0/value", json!("http://127.0.0.1/mine")),
        agent("another variable stays, and where it is from")
            .container(json!({"env": [{
                "name": "NAME",
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}},
            }]}))
            .also("/spec/containers/0/env/0/valueFrom/fieldRef/fieldPath", json!("metadata.name"))
            .also("/spec/containers/0/env/1/name", json!("AWS_STS_REGIONAL_ENDPOINTS"))
            .also("/spec/containers/0/env/2/value", json!(URI)),
        agent("a variable may be there twice")
            .container(json!({"env": [variable("A", "1"), variable("A", "2")]}))
            .also("/spec/containers/0/env/1/value", json!("2")),
        agent("STS as the container has it")
            .container(env("AWS_STS_REGIONAL_ENDPOINTS", "legacy"))
            .also("/spec/containers/0/env/0/value", json!("legacy"))
            .also("/spec/containers/0/env/1/name", json!("AWS_CONTAINER_CREDENTIALS_FULL_URI")),
        agent("another mount at the path is left alone")
            .pod(json!({}), json!({
                "volumes": [{"name": "mine", "emptyDir": {}}],
                "containers": [{"name": "it", "volumeMounts": mine}],
            }))
            .given(&[])
            .also("/spec/containers/0/volumeMounts/0/name", json!("mine")),
        agent("a volume of that name is taken as it is")
            .pod(json!({}), json!({"volumes": [own_volume], "containers": [named("it")]}))
            .also("/spec/volumes/0/emptyDir", json!({})),
        agent("init containers, and those that are to be skipped")
            .pod(skipping, json!({
                "initContainers": [named("first"), named("second")],
                "containers": [named("it"), named("proxy")],
            }))
            .given(&["second", "it"]),
        irsa("the same with IRSA")
            .pod(json!({}), json!({
                "initContainers": [named("first")],
                "containers": [named("it"), named("other")],
            }))
            .given(&["first", "it", "other"]),
        agent("labels stay, and one is added")
            .pod(json!({"labels": {"app": "cart"}}), json!({"containers": [named("it")]}))
            .also("/metadata/labels/app", json!("cart")),
        agent("the pod's own word on the label stays")
            .pod(
                json!({"labels": {"eks.amazonaws.com/pod-identity": "mine"}}),
                json!({"containers": [named("it")]}),
            )
            .also("/metadata/labels/eks.amazonaws.com~1pod-identity", json!("mine")),
        agent("paths of Windows")
            .pod(json!({}), windows)
            .also(
                "/spec/containers/0/env/2/value",
                json!("C:\\var\\run\\secrets\\pods.eks.amazonaws.com\\serviceaccount\\eks-pod-identity-token"),
            ),
    ]
}
