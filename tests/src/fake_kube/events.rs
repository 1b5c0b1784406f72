//! Events on pods, as `events.k8s.io/v1` takes them.

use hyper::StatusCode;
use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use super::{FakeKube, Shared};

impl FakeKube {
    /// The events so far, oldest first.
    pub fn events(&self) -> Vec<Value> {
        self.shared.state().written.clone()
    }
}

impl Shared {
    /// Takes a new event, or refuses it as the API server does.
    pub(super) fn create_event(&self, namespace: &str, body: &[u8]) -> StatusCode {
        let Ok(event) = serde_json::from_slice::<Value>(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let Ok(typed) = serde_json::from_value::<Event>(event.clone()) else {
            return StatusCode::BAD_REQUEST;
        };
        let is_there = |text: &Option<String>| text.as_ref().is_some_and(|it| !it.is_empty());
        let is_whole = typed.event_time.is_some()
            && is_there(&typed.type_)
            && is_there(&typed.reason)
            && is_there(&typed.action)
            && is_there(&typed.reporting_controller)
            && is_there(&typed.reporting_instance)
            && typed.metadata.namespace.as_deref() == Some(namespace)
            && typed.regarding.and_then(|pod| pod.namespace).as_deref() == Some(namespace);
        if !is_whole {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        let mut state = self.state();
        let name = &event["metadata"]["name"];
        if state
            .written
            .iter()
            .any(|it| it["metadata"]["name"] == *name)
        {
            return StatusCode::CONFLICT;
        }
        state.written.push(event);
        StatusCode::CREATED
    }

    /// Takes a merge patch, of the series alone.
    pub(super) fn patch_event(&self, namespace: &str, name: &str, body: &[u8]) -> StatusCode {
        let Ok(patch) = serde_json::from_slice::<Value>(body) else {
            return StatusCode::BAD_REQUEST;
        };
        if patch.as_object().is_none_or(|it| it.len() != 1) || patch["series"]["count"].is_null() {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        let mut state = self.state();
        let found = state
            .written
            .iter_mut()
            .find(|it| it["metadata"]["namespace"] == namespace && it["metadata"]["name"] == name);
        match found {
            None => StatusCode::NOT_FOUND,
            Some(event) => {
                event["series"] = patch["series"].clone();
                StatusCode::OK
            }
        }
    }
}
