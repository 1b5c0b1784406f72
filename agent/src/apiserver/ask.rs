//! Single questions to the API server, as a person's tool asks them.

use std::time::Duration;

use kube::core::params::{GetParams, ListParams};
use kube::core::{ObjectList, Request};
use serde_json::Value;
use tokio::time::timeout;

use super::Client;
use crate::causes::causes;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most objects of one list that are looked at.
const MOST: u32 = 1000;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// There is no such object or, of a list, no such kind.
    #[error("{0}")]
    NotFound(String),
    /// Whoever asks may not.
    #[error("{0}")]
    Forbidden(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// One object of a collection, whose path names nothing illegal.
pub async fn one(client: &Client, collection: &str, name: &str) -> Result<Value, Unanswered> {
    let request = Request::new(collection).get(name, &GetParams::default());
    let request = request.map_err(|error| Unanswered::Failed(error.to_string()))?;
    answer(client.request(request)).await
}

/// The first thousand objects of a collection that its selectors choose.
pub async fn all(
    client: &Client,
    collection: &str,
    labels: Option<&str>,
    fields: Option<&str>,
) -> Result<Vec<Value>, Unanswered> {
    let params = ListParams {
        label_selector: labels.map(str::to_owned),
        field_selector: fields.map(str::to_owned),
        limit: Some(MOST),
        ..ListParams::default()
    };
    let request = Request::new(collection).list(&params);
    let request = request.map_err(|error| Unanswered::Failed(error.to_string()))?;
    let list: ObjectList<Value> = answer(client.request(request)).await?;
    Ok(list.items)
}

async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, Unanswered> {
    match timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => {
            let why = format!("{}: {}", status.code, status.message);
            Err(match status.code {
                404 => Unanswered::NotFound(why),
                403 => Unanswered::Forbidden(why),
                _ => Unanswered::Failed(why),
            })
        }
        Ok(Err(error)) => Err(Unanswered::Failed(causes(&error))),
        Err(_) => Err(Unanswered::Failed(format!("no answer for {PATIENCE:?}"))),
    }
}
