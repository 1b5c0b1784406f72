//! The way to the API server.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file that was named cannot be used.
    #[error("--kubeconfig {0}: {1}")]
    File(String, #[source] KubeconfigError),
    /// Neither a service account of the pod nor the usual file.
    #[error("the API server is not known, neither in-cluster nor by a kubeconfig file: {0}")]
    Nowhere(#[source] kube::config::InferConfigError),
    /// The certificates or keys cannot be used.
    #[error("the API server cannot be talked to: {0}")]
    Client(#[source] kube::Error),
}

/// A client for the API server of a kubeconfig file; without one, of the cluster
/// that this is a pod of, else of the usual file. Does not connect yet.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path)
            .await
            .map_err(|error| ConnectError::File(path.display().to_string(), error))?,
        None => Config::infer().await.map_err(ConnectError::Nowhere)?,
    };
    // The watch has a backoff of its own, and reports what the client would hide.
    config.default_retry = false;
    Client::try_from(config).map_err(ConnectError::Client)
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let file = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await
}
