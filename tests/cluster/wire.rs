//! Clients whose watches fare otherwise than their other requests.

use hyper::Request;
use kube::Client;
use kube::client::Body;
use tokio::sync::{mpsc, watch};

/// A client whose watches the server ends after seconds and not minutes, and
/// bookmarks two seconds before. Tells of each which version it began at.
pub(crate) fn hurried(client: Client) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (opened, openings) = mpsc::unbounded_channel();
    let hurried = tower::service_fn(move |mut request: Request<Body>| {
        if is_watch(&request) {
            let mut query = query(&request);
            for (name, value) in &mut query {
                match name.as_str() {
                    "timeoutSeconds" => "4".clone_into(value),
                    // The test may have ended.
                    "resourceVersion" => drop(opened.send(value.clone())),
                    _ => {}
                }
            }
            let mut text = form_urlencoded::Serializer::new(String::new());
            let text = text.extend_pairs(query).finish();
            let uri = format!("{}?{text}", request.uri().path());
            *request.uri_mut() = uri.parse().expect("a URI as before");
        }
        let client = client.clone();
        async move { client.send(request).await }
    });
    (Client::new(hurried, "default"), openings)
}

/// A client whose watches are told nothing until the sender says `true`.
pub(crate) fn deaf(client: Client) -> (Client, watch::Sender<bool>) {
    let (hear, hears) = watch::channel(false);
    let deaf = tower::service_fn(move |request: Request<Body>| {
        let (client, mut hears) = (client.clone(), hears.clone());
        async move {
            if is_watch(&request) && hears.wait_for(|hears| *hears).await.is_err() {
                std::future::pending::<()>().await;
            }
            client.send(request).await
        }
    });
    (Client::new(deaf, "default"), hear)
}

fn is_watch(request: &Request<Body>) -> bool {
    query(request).iter().any(|(name, _)| name == "watch")
}

fn query(request: &Request<Body>) -> Vec<(String, String)> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}
