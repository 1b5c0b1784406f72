//! The custom resource definitions are what the agent's own types say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use credlet::associations::crd::Declaration;
use credlet::associations::spec::Spec;
use credlet_tests::crd::{definitions, properties};
use serde_json::{Value, json};

/// Set, it has the test write the file anew.
const REWRITE: &str = "CREDLET_TESTS_REWRITE";

const HEAD: &str = "\
# What may be declared for service accounts: by who owns their namespace
# (`PodIdentityAssociation`), and for many namespaces by who owns the cluster
# (`ClusterPodIdentityAssociation`). Generated from tests/src/crd.rs.
";

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crd.yaml")
}

#[test]
fn the_manifest_is_what_is_generated() {
    if std::env::var_os(REWRITE).is_some() {
        let documents = definitions().map(|it| serde_saphyr::to_string(&it).expect("plain data"));
        let text = format!("{HEAD}{}---\n{}", documents[0], documents[1]);
        fs::write(file(), text).expect("writable");
    }
    let text = fs::read_to_string(file()).expect("readable");
    let there: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    assert_eq!(there, definitions(), "{REWRITE}=1 writes the file anew");
}

#[test]
fn the_properties_are_the_fields_that_the_agent_reads() {
    let properties = properties();
    let mut named: BTreeSet<&str> = properties
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert!(named.remove("serviceAccount"));
    // serde lists the fields that it knows.
    let refused = serde_json::from_value::<Spec>(json!({"no such field": 1}));
    let refused = refused.expect_err("it is unknown").to_string();
    let fields: BTreeSet<&str> = refused.split('`').skip(3).step_by(2).collect();
    assert_eq!(named, fields, "{refused}");
}

#[test]
fn what_the_schema_takes_the_agent_can_read() {
    for definition in definitions() {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let fields = schema["properties"]["spec"]["properties"].as_object();
        let mut spec = json!({});
        for (name, property) in fields.expect("fields") {
            spec[name] = match (property["type"].as_str(), &**name) {
                (Some("boolean"), _) => true.into(),
                (Some("object"), _) => json!({}),
                (_, "exchange") => "eks-auth".into(),
                (_, "sessionDuration") => "30m".into(),
                (Some("string"), _) => "a".into(),
                other => panic!("{other:?}"),
            };
        }
        let object = json!({"metadata": {"name": "it"}, "spec": spec});
        let read: Declaration = serde_json::from_value(object).expect("any JSON is one");
        assert!(read.accounts.is_ok(), "{:?}", read.accounts);
        assert!(read.namespaces.is_ok(), "{:?}", read.namespaces);
        assert!(read.spec.is_ok(), "{:?}", read.spec);
    }
}
