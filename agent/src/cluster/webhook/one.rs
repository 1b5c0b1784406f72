//! One object of the API server's, kept up to date.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::apiserver::{
    Again, Client, Follow, Keep, Limits, Losses, Lost, LostLabels, Object, Place, Reason, View,
};

/// What is known of it.
#[derive(Clone, Default)]
pub(super) enum Seen<O> {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is not there.
    Absent,
    /// This, when last heard.
    Is(O),
}

struct Writer<O> {
    what: &'static str,
    seen: watch::Sender<Seen<O>>,
    losses: Losses,
    lost: bool,
}

/// Follows the object of this name in a collection, for as long as the future runs.
pub(super) fn follow<O: Object + Sync>(
    client: Client,
    what: &'static str,
    collection: &str,
    name: &str,
    losses: Losses,
) -> (watch::Receiver<Seen<O>>, BoxFuture<'static, &'static str>) {
    let (seen, known) = watch::channel(Seen::Unknown);
    let place = Place {
        path: collection.to_owned(),
        // By which RBAC knows that only this one is read (`resourceNames`).
        fields: Some(format!("metadata.name={name}")),
        labels: None,
        view: View::Whole,
    };
    let writer = Writer {
        what,
        seen,
        losses,
        lost: false,
    };
    let follow = Follow::new(client, place, Limits::default(), writer);
    let task = follow.run().map(|never| match never {});
    (known, task.boxed())
}

impl<O: Object + Sync> Writer<O> {
    fn recovered(&mut self) {
        if std::mem::take(&mut self.lost) {
            info!(what = self.what, "a watch is back");
        }
    }
}

impl<O: Object + Sync> Keep for Writer<O> {
    type Object = O;

    fn replace(&mut self, objects: Vec<O>) {
        let seen = objects.into_iter().next().map_or(Seen::Absent, Seen::Is);
        self.seen.send_replace(seen);
        self.recovered();
    }

    fn apply(&mut self, object: O) {
        self.seen.send_replace(Seen::Is(object));
    }

    fn remove(&mut self, _object: O) {
        self.seen.send_replace(Seen::Absent);
    }

    fn heard(&mut self) {
        self.recovered();
    }

    fn lost(&mut self, lost: &Lost) -> Again {
        let reason = lost.reason;
        self.losses.get_or_create(&LostLabels { reason }).inc();
        if reason != Reason::Ended && !std::mem::replace(&mut self.lost, true) {
            warn!(what = self.what, ?reason, why = lost.why, "a watch is lost");
        }
        Again::Soon
    }
}
