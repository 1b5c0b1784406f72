//! What gives pods their environment: the webhook and its certificate, the policy.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::Rig;

const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1beta1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1beta1/mutatingadmissionpolicybindings";
const SECRET: &str = "/api/v1/namespaces/credlet/secrets/credlet-webhook";
const NAME: &str = "credlet-webhook.credlet.svc";

/// A CA and a certificate of it for the name, in base64 of their PEM, from the
/// first day of one year to that of another.
fn issued(name: &str, from: i32, to: i32) -> (String, String) {
    let key = || KeyPair::generate().expect("randomness");
    let (ca_key, own_key) = (key(), key());
    let params = |names: Vec<String>| {
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        params
    };
    let mut ca = params(Vec::new());
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).expect("a key signs for itself");
    let issuer = Issuer::from_params(&ca, &ca_key);
    let own = params(vec![name.to_owned()]).signed_by(&own_key, &issuer);
    let own = own.expect("a CA signs");
    let encode = |der: &[u8]| {
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", der));
        BASE64_STANDARD.encode(pem)
    };
    (encode(root.der()), encode(own.der()))
}

fn configuration(bundle: &str) -> Value {
    json!({
        "metadata": {"name": "credlet-webhook"},
        "webhooks": [{
            "name": "pods.credlet.dev",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
            "clientConfig": {
                "caBundle": bundle,
                "service": {"namespace": "credlet", "name": "credlet-webhook"},
            },
            "rules": [{
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "operations": ["CREATE"],
            }],
            // Nothing answers it.
            "objectSelector": {"matchLabels": {"credlet.dev/none": "none"}},
        }],
    })
}

pub(super) async fn webhook(rig: &Rig) {
    let check = "injection";
    rig.look("")
        .await
        .has(check, "warning", "nothing gives pods the environment");
    rig.create(HOOKS, configuration("")).await;
    let report = rig.look("").await;
    report.has(
        check,
        "failure",
        "has no Service credlet/credlet-webhook: pods that are made now go without",
    );

    let services = "/api/v1/namespaces/credlet/services";
    let ports = json!([{"port": 443}]);
    let service = json!({"metadata": {"name": "credlet-webhook"}, "spec": {"ports": ports}});
    rig.create(services, service).await;
    let report = rig.look("").await;
    report.has(
        check,
        "failure",
        "no replica of the webhook credlet-webhook is ready",
    );
    report.has(check, "failure", "cannot be judged: caBundle is empty");

    let slices = "/apis/discovery.k8s.io/v1/namespaces/credlet/endpointslices";
    let labels = json!({"kubernetes.io/service-name": "credlet-webhook"});
    let endpoint = |address: &str, ready: bool| json!({"addresses": [address], "conditions": {"ready": ready}});
    let slice = json!({
        "metadata": {"name": "credlet-webhook-0", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [endpoint("10.0.0.1", false), endpoint("10.0.0.2", true)],
    });
    rig.create(slices, slice).await;
    let secret = json!({"metadata": {"name": "credlet-webhook"}});
    rig.create("/api/v1/namespaces/credlet/secrets", secret)
        .await;

    let (ca, own) = issued(NAME, 2020, 4000);
    let (other, _) = issued(NAME, 2020, 4000);
    let (misnamed_ca, misnamed) = issued("other.credlet.svc", 2020, 4000);
    let (old_ca, old) = issued(NAME, 2019, 2020);
    let (early_ca, early) = issued(NAME, 3999, 4000);
    for (bundle, chain, words) in [
        (&other, &own, "is not signed by a CA of its caBundle"),
        (
            &misnamed_ca,
            &misnamed,
            "is for other names than the Service's",
        ),
        (
            &old_ca,
            &old,
            "has expired: pods that are made now go without",
        ),
        (&early_ca, &early, "is not valid yet"),
    ] {
        certify(rig, bundle, chain).await;
        let report = rig.look("").await;
        report.has(check, "failure", words);
        report.has(
            check,
            "failure",
            "the certificate of the webhook credlet-webhook",
        );
    }
    certify(rig, &ca, &own).await;
    let report = rig.look("").await;
    report.has(
        check,
        "ok",
        "1 of its replicas are ready, and its certificate is good",
    );
    report.has_no(check, "failure");
    rig.delete(&format!("{HOOKS}/credlet-webhook")).await;
}

async fn certify(rig: &Rig, bundle: &str, chain: &str) {
    let data = json!({"tls.crt": chain, "tls.key": ""});
    rig.change(SECRET, json!({"data": data})).await;
    let path = format!("{HOOKS}/credlet-webhook");
    rig.change(
        &path,
        json!({"webhooks": configuration(bundle)["webhooks"]}),
    )
    .await;
}

pub(super) async fn policy(rig: &Rig) {
    let check = "injection";
    // It changes nothing.
    let test = "[JSONPatch{op: \"test\", path: \"/kind\", value: \"Pod\"}]";
    let policy = json!({
        "metadata": {"name": "credlet-pods"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "operations": ["CREATE"],
            }]},
            "reinvocationPolicy": "IfNeeded",
            "mutations": [{
                "patchType": "JSONPatch",
                "jsonPatch": {"expression": test},
            }],
        },
    });
    rig.create(POLICIES, policy).await;
    let report = rig.look("").await;
    report.has(
        check,
        "failure",
        "the MutatingAdmissionPolicy credlet-pods has no binding",
    );
    let binding = json!({
        "metadata": {"name": "credlet-pods"},
        "spec": {"policyName": "credlet-pods"},
    });
    rig.create(BINDINGS, binding).await;
    let report = rig.look("").await;
    report.has(check, "ok", "credlet-pods gives pods their environment");
}
