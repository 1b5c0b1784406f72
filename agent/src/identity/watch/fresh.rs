//! One pod as it is now, past every cache of the API server.

use kube::Client;
use kube::core::params::GetParams;

use super::wire::PodObject;
use crate::apiserver::Lost;
use crate::identity::pods::Report;

/// Reads single pods. Cheap to clone.
#[derive(Clone)]
pub struct Reader(Client);

impl Reader {
    /// Reads through this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// The pod as etcd has it; `None` if there is no such pod. Fails with a line
    /// that says why the API server could not tell.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Option<Report>, String> {
        // Without a resource version a read is answered by the quorum.
        let request = super::wire::pods_of(namespace)
            .get(name, &GetParams::default())
            .map_err(|error| error.to_string())?;
        match self.0.request::<PodObject>(request).await {
            Ok(pod) => Ok(Some(pod.report)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(Lost::from(error).why),
        }
    }
}
