//! What a pod would be answered, for who explains it: `/explain/pods/NAMESPACE/NAME`.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::serve::Told;
use crate::status::Asked;

/// Longer than a pod would wait, so that AWS's own words come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where it is asked.
pub(super) const FOLDER: &str = "/explain/pods/";

/// The JSON of an answer; `None` if no such pod lives here.
pub(super) type Answering = BoxFuture<'static, Option<Vec<u8>>>;

/// Begins an answer; `None` if the path asks for none.
pub(super) type Ask = Arc<dyn Fn(&str) -> Option<Answering> + Send + Sync>;

/// Asks in the name of a pod, as the path names it; `None` if the path is none of these.
pub(super) fn ask(broker: &Arc<Broker>, path: &str) -> Option<Answering> {
    let (namespace, name) = path.strip_prefix(FOLDER)?.split_once('/')?;
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let broker = Arc::clone(broker);
    let answering = async move {
        let deadline = Instant::now() + PATIENCE;
        let asked = match broker.answer_for(&namespace, &name, deadline).await? {
            Ok(credentials) => Asked {
                status: 200,
                code: None,
                message: None,
                session: Some(credentials.role.arn()),
                expires_at: Timestamp::try_from(credentials.expires_at).ok(),
            },
            Err(error) => {
                let told = Told::from(error);
                Asked {
                    status: told.status,
                    code: Some(told.code),
                    message: Some(told.message),
                    session: None,
                    expires_at: None,
                }
            }
        };
        Some(serde_json::to_vec(&asked).expect("plain data"))
    };
    Some(answering.boxed())
}
