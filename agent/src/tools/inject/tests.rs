//! Files, and what is said of them.

use serde_json::{Value, json};

use super::manifest::{Manifest, documents};
use super::{Said, inject};
use crate::config::inject::{Form, Inject, Origin};
use crate::config::{Annotated, Exchange, Injection};
use crate::model::StsEndpoints;

const ACCOUNTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata:
  name: cart
  namespace: shop
  annotations:
    eks.amazonaws.com/role-arn: arn:aws:iam::111122223333:role/cart
---
apiVersion: credlet.dev/v1alpha1
kind: PodIdentityAssociation
metadata: {name: orders, namespace: shop}
spec: {serviceAccount: orders, roleArn: \"arn:aws:iam::111122223333:role/orders\", exchange: web-identity}
---
apiVersion: credlet.dev/v1alpha1
kind: ClusterPodIdentityAssociation
metadata: {name: teams}
spec:
  namespaceSelector: {matchLabels: {team: a}}
  serviceAccount: \"*\"
  roleArn: arn:aws:iam::111122223333:role/team
---
apiVersion: v1
kind: Namespace
metadata: {name: team-a, labels: {team: a}}
";

fn config(form: Form) -> Inject {
    Inject {
        files: vec![Origin::Stdin],
        known: vec![],
        association_file: None,
        associated: vec![("eks".parse().expect("a glob"), "*".parse().expect("a glob"))],
        namespace: "shop".to_owned(),
        injection: Injection {
            uri: "http://169.254.170.23/v1/credentials".to_owned(),
            audience: "pods.eks.amazonaws.com".to_owned(),
            web_identity_audience: "sts.amazonaws.com".to_owned(),
            region: None,
            endpoints: StsEndpoints::Legacy,
            token_seconds: 86400,
            prefix: "eks.amazonaws.com".to_owned(),
            annotated: Annotated::Sts,
            exchange: Exchange::AssumeRole,
        },
        form,
    }
}

fn said(form: Form, text: &str) -> Said {
    let parse = |text: &str| Manifest::parse("it".to_owned(), text.to_owned()).expect("YAML");
    inject(&config(form), &[parse(text)], &[parse(ACCOUNTS)]).expect("good files")
}

fn pod(namespace: &str, account: &str) -> Value {
    json!({
        "kind": "Pod",
        "metadata": {"name": "it", "namespace": namespace},
        "spec": {"serviceAccountName": account, "containers": [{"name": "it"}]},
    })
}

/// What the only pod of the text has been given, by its first container's last variable.
fn given(text: &str) -> String {
    let output = said(Form::Json, text).output;
    let documents = documents(&output).expect("JSON");
    let last = &documents[0]["spec"]["containers"][0]["env"][1]["value"];
    last.as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_is_missing_is_written_where_it_belongs_and_comments_stay() {
    let before = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart # the name
spec:
  template:
    metadata:
      labels:
        app: cart
    # Runs as this.
    spec:
      serviceAccountName: cart
      containers:
        # The first.
        - name: it
          image: it:1
          env:
            - name: MODE # which
              value: |
                first
                second
          # At its end.
        - name: other
          ports: [{containerPort: 80}]
      volumes:
      - name: files
        configMap: {name: files, defaultMode: 0644}

---
kind: Service # Not a pod.
spec: {ports: [{port: 80}]}
";
    let after = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart # the name
spec:
  template:
    metadata:
      labels:
        app: cart
    # Runs as this.
    spec:
      serviceAccountName: cart
      containers:
        # The first.
        - name: it
          image: it:1
          env:
            - name: MODE # which
              value: |
                first
                second
            - name: AWS_ROLE_ARN
              value: arn:aws:iam::111122223333:role/cart
            - name: AWS_WEB_IDENTITY_TOKEN_FILE
              value: /var/run/secrets/eks.amazonaws.com/serviceaccount/token
          volumeMounts:
          - mountPath: /var/run/secrets/eks.amazonaws.com/serviceaccount
            name: aws-iam-token
            readOnly: true
          # At its end.
        - name: other
          ports: [{containerPort: 80}]
          env:
          - name: AWS_ROLE_ARN
            value: arn:aws:iam::111122223333:role/cart
          - name: AWS_WEB_IDENTITY_TOKEN_FILE
            value: /var/run/secrets/eks.amazonaws.com/serviceaccount/token
          volumeMounts:
          - mountPath: /var/run/secrets/eks.amazonaws.com/serviceaccount
            name: aws-iam-token
            readOnly: true
      volumes:
      - name: files
        configMap: {name: files, defaultMode: 0644}
      - name: aws-iam-token
        projected:
          sources:
          - serviceAccountToken:
              audience: sts.amazonaws.com
              expirationSeconds: 86400
              path: token

---
kind: Service # Not a pod.
spec: {ports: [{port: 80}]}
";
    let first = said(Form::Yaml, before);
    assert_eq!(first.output, after);
    let role = "the environment of IRSA, for arn:aws:iam::111122223333:role/cart";
    assert_eq!(first.notes, [format!("Deployment shop/cart: gets {role}")]);
    let second = said(Form::Yaml, after);
    assert_eq!(second.output, after, "a second time adds nothing");
    assert_eq!(
        second.notes,
        [format!("Deployment shop/cart: has {role} already")]
    );
}

#[test]
fn what_lacks_nothing_stays_as_it_is_to_the_byte() {
    let text = "# Odd.\nkind:   Pod\nmetadata: {name: it}\nspec: {containers: [{name: it}]}";
    let said = said(Form::Yaml, text);
    assert_eq!(said.output, format!("{text}\n"));
    let why = "its service account has neither an association nor a role in an annotation";
    assert_eq!(said.notes, [format!("Pod shop/it: gets nothing: {why}")]);
}

#[test]
fn what_is_not_written_in_blocks_is_written_anew_and_it_is_said() {
    let text = "kind: Pod # it\nmetadata: {name: it}\nspec: {serviceAccountName: cart, containers: [{name: it}]}\n";
    let said = said(Form::Yaml, text);
    assert!(!said.output.contains('#'));
    assert!(said.output.contains("AWS_ROLE_ARN"));
    assert_eq!(
        said.notes.last().map(String::as_str),
        Some("it: is written anew, without its comments")
    );
}

#[test]
fn a_file_mode_keeps_its_value_when_it_is_written_anew() {
    let volume = "volumes: [{name: files, configMap: {name: files, defaultMode: 0644}}]";
    let text = format!(
        "kind: Pod\nspec: {{serviceAccountName: cart, containers: [{{name: it}}], {volume}}}\n"
    );
    assert!(said(Form::Yaml, &text).output.contains("defaultMode: 420"));
}

#[test]
fn pods_are_found_in_all_that_makes_them() {
    let template = json!({"spec": {"serviceAccountName": "cart", "containers": [{"name": "it"}]}});
    let list = json!({"kind": "List", "items": [
        {"kind": "CronJob", "metadata": {"name": "a"}, "spec": {"jobTemplate": {"spec": {"template": template}}}},
        {"kind": "PodTemplate", "metadata": {"name": "b"}, "template": template},
        {"kind": "List", "items": [{"kind": "Job", "metadata": {"name": "c"}, "spec": {"template": template}}]},
        {"kind": "ConfigMap", "metadata": {"name": "d"}},
    ]});
    let patches = said(Form::Patch, &list.to_string()).output;
    let patches: Vec<Value> = serde_json::from_str(&patches).expect("JSON");
    let of = |at: usize| {
        (
            patches[at]["kind"].as_str(),
            patches[at]["patch"][0]["path"].as_str(),
        )
    };
    assert_eq!(
        of(0),
        (
            Some("CronJob"),
            Some("/items/0/spec/jobTemplate/spec/template/spec/volumes")
        )
    );
    assert_eq!(
        of(1),
        (Some("PodTemplate"), Some("/items/1/template/spec/volumes"))
    );
    assert_eq!(
        of(2),
        (
            Some("Job"),
            Some("/items/2/items/0/spec/template/spec/volumes")
        )
    );
    assert_eq!(patches.len(), 3);
}

#[test]
fn associations_are_known_from_manifests_and_flags() {
    let agent = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token";
    for (namespace, account, wanted) in [
        ("shop", "orders", agent),
        ("team-a", "any", agent),
        ("team-b", "any", ""),
        ("eks", "any", agent),
    ] {
        let given = given(&pod(namespace, account).to_string());
        assert_eq!(given, wanted, "{namespace}/{account}");
    }
}

#[test]
fn several_files_become_one_stream() {
    let parse = |text: &str| Manifest::parse("it".to_owned(), text.to_owned()).expect("YAML");
    let files = ["kind: A\n", "kind: B"].map(parse);
    let said = inject(&config(Form::Yaml), &files, &[]).expect("good files");
    assert_eq!(said.output, "kind: A\n---\nkind: B\n");
}

#[test]
fn what_is_no_yaml_is_told_without_its_lines() {
    let text = "kind: Secret\ndata: {password: [x\n";
    let error = Manifest::parse("it".to_owned(), text.to_owned())
        .map(|_| ())
        .expect_err("no YAML");
    let told = error.to_string();
    assert!(told.starts_with("it cannot be understood: "), "{told}");
    assert!(!told.contains("password"), "{told}");
}
