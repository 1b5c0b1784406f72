//! Events on pods, as a real API server takes and shows them.

use std::time::Duration;

use credlet::clock::Clock;
use credlet::events::{Limits, Metrics, Notices, Reason};
use credlet::model::{PodName, PodUid};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::control_plane::ControlPlane;
use crate::follower::PATIENCE;
use crate::place::Place;

const NOTE: &str = "AWS refuses the role: AccessDenied: not you";

/// The agent's notices about the pods of a place.
pub(crate) struct Desk {
    notices: Notices,
    pod: PodName,
    namespace: String,
    events: Api<Event>,
    _writer: JoinSet<()>,
}

impl Desk {
    /// About one pod, with counts written as soon as may be.
    pub(crate) async fn about(place: &Place, name: &str, uid: &str) -> Self {
        let limits = Limits {
            window: Duration::from_millis(100),
            ..Limits::default()
        };
        let (client, metrics) = (place.agent().await, Metrics::default());
        let clock = Clock::system();
        let (notices, task) = Notices::open(client, &place.node, limits, metrics, clock);
        let mut writer = JoinSet::new();
        writer.spawn(async move { panic!("the writer ended: {}", task.await) });
        Self {
            notices,
            pod: PodName {
                uid: PodUid::new(uid).expect("a UID"),
                name: name.into(),
            },
            namespace: place.namespace.clone(),
            events: Api::namespaced(place.admin.clone(), &place.namespace),
            _writer: writer,
        }
    }

    pub(crate) fn tell(&self) {
        let (namespace, reason) = (&self.namespace, Reason::RoleRefused);
        self.notices.tell(namespace, &self.pod, reason, NOTE);
    }

    /// The pod's events as `kubectl describe pod` asks for them, once there are
    /// as many, and the last has a count of this.
    pub(crate) async fn until(&self, events: usize, count: Option<i32>) -> Vec<Event> {
        let selector = format!(
            "involvedObject.name={},involvedObject.namespace={},involvedObject.uid={}",
            self.pod.name, self.namespace, self.pod.uid
        );
        let params = ListParams::default().fields(&selector);
        let mut seen = Vec::new();
        let comes = async {
            loop {
                seen = self.events.list(&params).await.expect("a list").items;
                let last = seen.last().and_then(|event| event.series.as_ref()?.count);
                if seen.len() == events && last >= count {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await.is_ok();
        assert!(came, "{seen:#?}");
        seen
    }
}

#[tokio::test]
async fn an_event_is_shown_with_its_pod_and_counts_its_repeats() {
    let place = Place::on(ControlPlane::shared().await).await;
    let uid = place.add_pod("cart-0").await;
    let desk = Desk::about(&place, "cart-0", &uid).await;
    desk.tell();
    let events = desk.until(1, None).await;
    let event = &events[0];
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert_eq!(event.reason.as_deref(), Some("RoleRefused"));
    assert_eq!(event.message.as_deref(), Some(NOTE));
    assert_eq!(event.reporting_component.as_deref(), Some("credlet"));
    assert_eq!(event.reporting_instance.as_ref(), Some(&place.node));
    let name = event.metadata.name.clone().expect("a name");

    // Until a window has ended in which it was told.
    let repeats = async {
        loop {
            desk.tell();
            sleep(Duration::from_millis(10)).await;
        }
    };
    let events = tokio::select! {
        events = desk.until(1, Some(2)) => events,
        () = repeats => unreachable!("it has no end"),
    };
    assert_eq!(events[0].metadata.name.as_ref(), Some(&name));

    // The API server forgets events after an hour.
    desk.tell();
    let delete = desk.events.delete(&name, &DeleteParams::default()).await;
    delete.expect("deleted");
    let repeats = async {
        loop {
            desk.tell();
            sleep(Duration::from_millis(10)).await;
        }
    };
    let events = tokio::select! {
        events = desk.until(1, None) => events,
        () = repeats => unreachable!("it has no end"),
    };
    assert_ne!(events[0].metadata.name.as_ref(), Some(&name));
}
