//! The API server's questions and our answers: `AdmissionReview` of
//! `admission.k8s.io/v1`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inject::{self, Add};
use crate::model::{Invalid, ServiceAccount};

const VERSION: &str = "admission.k8s.io/v1";

/// What the API server asks of one pod.
#[derive(Debug)]
pub(super) struct Request {
    /// Tells it from other questions.
    pub(super) uid: String,
    /// Whom the pod runs as.
    pub(super) account: ServiceAccount,
    /// The pod, which may have no name yet.
    pub(super) pod: Value,
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// No JSON of a review, or of another version.
    #[error("this is no AdmissionReview of {VERSION}")]
    Review,
    /// A review of something else.
    #[error("this is no review of a pod that is made")]
    Other,
    /// A name in it is none.
    #[error("{0}")]
    Name(#[from] Invalid),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Asked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    sub_resource: String,
    resource: Resource,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    resource: String,
}

impl Request {
    /// Reads a question. Never quotes it.
    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let review: Review = serde_json::from_slice(body).map_err(|_| Malformed::Review)?;
        let (VERSION, "AdmissionReview", Some(asked)) =
            (&*review.api_version, &*review.kind, review.request)
        else {
            return Err(Malformed::Review);
        };
        let Resource { group, resource } = &asked.resource;
        let is_pod = group.is_empty() && resource == "pods" && asked.sub_resource.is_empty();
        if !is_pod || asked.operation != "CREATE" {
            return Err(Malformed::Other);
        }
        Ok(Self {
            account: ServiceAccount::new(&asked.namespace, inject::account(&asked.object))?,
            uid: asked.uid,
            pod: asked.object,
        })
    }

    /// The answer: the pod may be made, with these additions. `note` is for the
    /// audit log.
    pub(super) fn answer(&self, adds: &[Add], note: &str) -> Vec<u8> {
        let mut response = json!({
            "uid": self.uid,
            "allowed": true,
            "auditAnnotations": {"environment": note},
        });
        if !adds.is_empty() {
            let patch = serde_json::to_vec(adds).expect("a patch is JSON");
            response["patchType"] = "JSONPatch".into();
            response["patch"] = BASE64_STANDARD.encode(patch).into();
        }
        let review = json!({
            "apiVersion": VERSION,
            "kind": "AdmissionReview",
            "response": response,
        });
        review.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(change: impl FnOnce(&mut Value)) -> Result<Request, Malformed> {
        let mut review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1-2-3",
                "namespace": "shop",
                "operation": "CREATE",
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "object": {"metadata": {"generateName": "cart-"}, "spec": {"serviceAccountName": "cart"}},
            },
        });
        change(&mut review);
        Request::read(review.to_string().as_bytes())
    }

    #[test]
    fn a_pod_is_of_the_request_s_namespace_and_its_own_account_or_the_default_one() {
        let request = review(|_| ()).expect("a good one");
        assert_eq!(request.account.to_string(), "shop/cart");
        let request = review(|it| it["request"]["object"]["spec"] = json!({}));
        assert_eq!(request.expect("good").account.to_string(), "shop/default");
    }

    #[test]
    fn what_is_no_review_of_a_new_pod_is_not_answered() {
        let refused = |change: fn(&mut Value)| review(change).expect_err("refused");
        let wrong = |it: &mut Value| it["apiVersion"] = "admission.k8s.io/v1beta1".into();
        assert_eq!(refused(wrong), Malformed::Review);
        assert_eq!(refused(|it| it["request"] = Value::Null), Malformed::Review);
        let wrong = |it: &mut Value| it["request"]["operation"] = "UPDATE".into();
        assert_eq!(refused(wrong), Malformed::Other);
        let wrong = |it: &mut Value| it["request"]["subResource"] = "status".into();
        assert_eq!(refused(wrong), Malformed::Other);
        let wrong = |it: &mut Value| it["request"]["resource"]["resource"] = "nodes".into();
        assert_eq!(refused(wrong), Malformed::Other);
        let wrong = |it: &mut Value| it["request"]["namespace"] = "../etc".into();
        assert!(matches!(refused(wrong), Malformed::Name(_)));
        assert_eq!(Request::read(b"{").expect_err("refused"), Malformed::Review);
    }

    #[test]
    fn a_pod_that_lacks_nothing_is_let_through_without_a_patch() {
        let request = review(|_| ()).expect("a good one");
        let answer: Value = serde_json::from_slice(&request.answer(&[], "none")).expect("JSON");
        assert_eq!(answer["response"]["uid"], "1-2-3");
        assert_eq!(answer["response"]["allowed"], true);
        assert!(answer["response"].get("patch").is_none());
    }

    #[test]
    fn additions_are_a_json_patch_in_base64() {
        let request = review(|_| ()).expect("a good one");
        let add = Add {
            path: "/spec/volumes".to_owned(),
            value: json!([]),
        };
        let answer: Value = serde_json::from_slice(&request.answer(&[add], "it")).expect("JSON");
        assert_eq!(answer["response"]["patchType"], "JSONPatch");
        let patch = answer["response"]["patch"].as_str().expect("text");
        let patch = BASE64_STANDARD.decode(patch).expect("base64");
        let patch: Value = serde_json::from_slice(&patch).expect("JSON");
        let wanted = json!([{"op": "add", "path": "/spec/volumes", "value": []}]);
        assert_eq!(patch, wanted);
    }
}
