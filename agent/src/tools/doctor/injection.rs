//! What gives pods the environment of AWS's SDKs, and whether it works.

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::api::{Answer, Api, Lack, items, text};
use super::certificate::{self, Belief};
use super::finding::{Check, Finding};

const GROUP: &str = "/apis/admissionregistration.k8s.io";

/// What the webhook's configuration and its Secret are called by `manifests/`.
const OURS: &str = "credlet-webhook";

/// What EKS's is called, on EKS and where it is installed by hand.
const OF_EKS: &str = "pod-identity-webhook";

/// A mutating webhook that may be for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Webhook {
    pub(super) name: String,
    /// What becomes of pods while it does not answer.
    pub(super) failure_policy: String,
    /// The PEM by which the API server believes it.
    pub(super) bundle: Vec<u8>,
    /// `None`: it is asked by a URL, as on EKS.
    pub(super) service: Option<Service>,
}

/// The Service by which it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) is_there: bool,
    /// Ready endpoints.
    pub(super) ready: usize,
    /// What is served, from the Secret; `None` where another keeps it.
    pub(super) chain: Result<Option<Vec<u8>>, Lack>,
}

/// A `MutatingAdmissionPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) is_bound: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) webhooks: Vec<Webhook>,
    pub(super) policies: Vec<Policy>,
}

pub(super) async fn observe(api: &Api) -> Answer<Seen> {
    let path = format!("{GROUP}/v1/mutatingwebhookconfigurations");
    let mut webhooks = Vec::new();
    for configuration in api.list(&path, None, None).await?.items {
        let name = text(&configuration, "/metadata/name");
        if name != OURS && !name.contains(OF_EKS) {
            continue;
        }
        for webhook in items(&configuration, "/webhooks") {
            webhooks.push(of(api, name, webhook).await?);
        }
    }
    Ok(Seen {
        webhooks,
        policies: policies(api).await?,
    })
}

async fn of(api: &Api, name: &str, webhook: &Value) -> Answer<Webhook> {
    let bundle = text(webhook, "/clientConfig/caBundle");
    let bundle = BASE64_STANDARD.decode(bundle).unwrap_or_default();
    let reference = "/clientConfig/service";
    let service = match webhook.pointer(reference) {
        Some(reference) => Some(service(api, reference).await?),
        None => None,
    };
    Ok(Webhook {
        name: name.to_owned(),
        failure_policy: text(webhook, "/failurePolicy").to_owned(),
        bundle,
        service,
    })
}

async fn service(api: &Api, reference: &Value) -> Answer<Service> {
    let (namespace, name) = (text(reference, "/namespace"), text(reference, "/name"));
    let folder = format!("/api/v1/namespaces/{namespace}/services");
    let is_there = match api.get(&folder, name).await {
        Ok(_) => true,
        Err(Lack::Absent) => false,
        Err(lack) => return Err(lack),
    };
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let selector = format!("kubernetes.io/service-name={name}");
    let slices = api.list(&path, None, Some(&selector)).await?.items;
    let endpoints = slices.iter().flat_map(|slice| items(slice, "/endpoints"));
    // No condition is as good as ready, says the API.
    let is_ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != false;
    Ok(Service {
        is_there,
        ready: endpoints.filter(is_ready).count(),
        chain: chain(api, namespace).await,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// The certificate alone is kept of what the Secret has.
async fn chain(api: &Api, namespace: &str) -> Answer<Option<Vec<u8>>> {
    let folder = format!("/api/v1/namespaces/{namespace}/secrets");
    match api.get(&folder, OURS).await {
        Ok(said) => {
            let data = text(&said.value, "/data/tls.crt");
            Ok(BASE64_STANDARD.decode(data).ok())
        }
        Err(Lack::Absent) => Ok(None),
        Err(lack) => Err(lack),
    }
}

async fn policies(api: &Api) -> Answer<Vec<Policy>> {
    let list = async |plural: &str| {
        for version in ["v1", "v1beta1"] {
            match api
                .list(&format!("{GROUP}/{version}/{plural}"), None, None)
                .await
            {
                Ok(list) => return Ok(list.items),
                Err(Lack::Absent) => {}
                Err(lack) => return Err(lack),
            }
        }
        Ok(Vec::new())
    };
    let policies = list("mutatingadmissionpolicies").await?;
    let bindings = list("mutatingadmissionpolicybindings").await?;
    let names = policies.iter().map(|policy| text(policy, "/metadata/name"));
    let ours = names.filter(|name| name.starts_with("credlet"));
    Ok(ours
        .map(|name| Policy {
            name: name.to_owned(),
            is_bound: bindings
                .iter()
                .any(|it| text(it, "/spec/policyName") == name),
        })
        .collect())
}

pub(super) fn judge(seen: &Answer<Seen>, now: SystemTime) -> Vec<Finding> {
    let check = Check::Injection;
    let seen = match seen {
        Ok(seen) => seen,
        Err(lack) => {
            let says = format!(
                "what gives pods their environment was not looked at: {}",
                lack.why()
            );
            let remedy = "run this as somebody who may list admission webhooks, services, endpoints \
                and credlet's Secret";
            return vec![Finding::skipped(check, says, remedy)];
        }
    };
    let mut all = Vec::new();
    for webhook in &seen.webhooks {
        all.extend(of_webhook(webhook, now));
    }
    all.extend(seen.policies.iter().map(of_policy));
    if all.is_empty() {
        all.push(Finding::warning(
            check,
            "nothing gives pods the environment by which SDKs find credlet: neither credlet's webhook \
             or policy nor EKS's webhook is there",
            "add the component webhook or mutating-policy, run manifests through `credlet inject -f`, or \
             set it in each pod (README, Install, step 5)",
        ));
    }
    all
}

fn of_policy(policy: &Policy) -> Finding {
    let name = &policy.name;
    if policy.is_bound {
        let says = format!("the MutatingAdmissionPolicy {name} gives pods their environment");
        return Finding::ok(Check::Injection, says);
    }
    let says = format!("the MutatingAdmissionPolicy {name} has no binding: it changes no pod");
    let remedy =
        "apply the component mutating-policy whole, its MutatingAdmissionPolicyBinding, too";
    Finding::failure(Check::Injection, says, remedy)
}

fn of_webhook(webhook: &Webhook, now: SystemTime) -> Vec<Finding> {
    let check = Check::Injection;
    let name = &webhook.name;
    let then = match webhook.failure_policy.as_str() {
        "Fail" => "no pod can be made",
        _ => "pods that are made now go without",
    };
    let Some(service) = &webhook.service else {
        let says = format!("the webhook {name} is there; the API server asks it by a URL");
        return vec![Finding::ok(check, says)];
    };
    let Service {
        namespace,
        name: at,
        ..
    } = service;
    if !service.is_there {
        let says = format!("the webhook {name} has no Service {namespace}/{at}: {then}");
        let remedy = "apply its component whole, or delete the MutatingWebhookConfiguration";
        return vec![Finding::failure(check, says, remedy)];
    }
    let mut all = Vec::new();
    if service.ready == 0 {
        let says = format!("no replica of the webhook {name} is ready: {then}");
        let remedy = format!(
            "look at its pods and their log: `kubectl -n {namespace} get pods`, `kubectl -n {namespace} \
             logs deployment/{at}`"
        );
        all.push(Finding::failure(check, says, remedy));
    }
    match &service.chain {
        Ok(Some(chain)) => {
            let host = format!("{at}.{namespace}.svc");
            let belief = certificate::judge(&webhook.bundle, chain, &host, now);
            all.extend(of_belief(name, then, &belief));
        }
        Ok(None) if webhook.bundle.is_empty() => {
            all.extend(of_belief(name, then, &Belief::Unreadable("caBundle")));
        }
        Ok(None) => {}
        Err(lack) => {
            let says = format!(
                "the certificate of the webhook {name} was not looked at: {}",
                lack.why()
            );
            let remedy = format!("run this as somebody who may read the Secret {namespace}/{OURS}");
            all.push(Finding::skipped(check, says, remedy));
        }
    }
    if all.is_empty() {
        let says = format!(
            "the webhook {name} is there, {} of its replicas are ready, and its certificate is good",
            service.ready
        );
        all.push(Finding::ok(check, says));
    }
    all
}

/// What is wrong with its certificate, if anything.
fn of_belief(name: &str, then: &str, belief: &Belief) -> Option<Finding> {
    let renew = "see why it was not renewed: the log of the webhook's leader, and whether it may write \
        the Secret and the MutatingWebhookConfiguration; deleting the Secret's data has it make a new one";
    let (what, remedy) = match belief {
        Belief::Believed => return None,
        Belief::Until(days) => {
            let says = format!("the certificate of the webhook {name} ends in {days} days");
            return Some(Finding::warning(Check::Injection, says, renew));
        }
        Belief::Expired => ("has expired".to_owned(), renew),
        Belief::NotYet => (
            "is not valid yet".to_owned(),
            "set the clocks: this machine's, or that of the node where it was made",
        ),
        Belief::OtherName => (
            "is for other names than the Service's".to_owned(),
            "have it be for SERVICE.NAMESPACE.svc, in the Certificate of cert-manager if that makes it",
        ),
        Belief::OtherCa => (
            "is not signed by a CA of its caBundle".to_owned(),
            "see whether somebody else writes the MutatingWebhookConfiguration's caBundle back, a GitOps \
             controller perhaps: have it ignore that field",
        ),
        Belief::Unreadable(what) => (
            format!("cannot be judged: {what} is empty, or no PEM"),
            "see whether its leader runs and may write there, or cert-manager's CA injector does",
        ),
        Belief::Refused(why) => (format!("is refused: {why}"), renew),
    };
    let says = format!("the certificate of the webhook {name} {what}: {then}");
    Some(Finding::failure(Check::Injection, says, remedy))
}
