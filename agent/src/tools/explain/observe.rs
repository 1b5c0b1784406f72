//! Looking: at the pod, at what is declared for its account, and at its agent.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::Error;
use super::facts::{Facts, Here, Seen};
use crate::apiserver::ask::{Unanswered, all, one};
use crate::apiserver::{Client, Meta};
use crate::associations::crd::{CLUSTER, GROUP, NAMESPACED, VERSION};
use crate::associations::eks::Eks;
use crate::associations::file::{Table, parse};
use crate::associations::spec::Defaults;
use crate::associations::{self, Source};
use crate::aws;
use crate::clock::Clock;
use crate::config::{Ask, AssociationSource, Config, Explain};
use crate::identity::pods::Report;
use crate::model::{Association, ServiceAccount};
use crate::status::Asked;
use crate::tools::reach::Way;

/// The label of the agents' pods, as in `manifests/`.
const AGENTS: &str = "app.kubernetes.io/name=credlet";

/// How long EKS may take, credentials and all.
const PATIENCE: Duration = Duration::from_secs(10);

/// All about one pod.
pub(super) async fn observe(client: &Client, config: &Explain) -> Result<Facts, Error> {
    let (namespace, name) = (&*config.namespace, &*config.name);
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let pod = one(client, &pods, name).await.map_err(|why| Error::Pod {
        pod: format!("{namespace}/{name}"),
        why,
    })?;
    let report = Report::deserialize(&pod).map_err(|_| Error::Odd("no pod".to_owned()))?;
    let account = ServiceAccount::new(&report.namespace, &report.account);
    let account = account.map_err(|why| Error::Odd(why.to_string()))?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let (agent, here) = agent(client, &config.agent_namespace, node).await;
    let (settings, assumed) = match settings(client, agent.as_ref(), node).await {
        Ok(settings) => (settings, None),
        Err(why) => {
            let default = Config::of_agent(&[], &BTreeMap::new(), &named(node));
            (
                default.map_err(|why| Error::Odd(why.to_string()))?,
                Some(why),
            )
        }
    };
    let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    let group = format!("/apis/{GROUP}/{VERSION}");
    let local = format!("{group}/namespaces/{namespace}/{NAMESPACED}");
    let cluster = format!("{group}/{CLUSTER}");
    let (of_account, of_namespace, local, cluster) = tokio::join!(
        there::<Meta>(client, &accounts, account.name()),
        there::<Meta>(client, "/api/v1/namespaces", namespace),
        listed(client, &local),
        listed(client, &cluster),
    );
    let asked = match config.ask {
        Ask::Cluster => None,
        Ask::Agent => Some(asked(client, config, &settings, node).await),
    };
    Ok(Facts {
        asked,
        file: file(client, agent.as_ref(), &settings).await,
        eks: eks(&settings, &account).await,
        pod,
        report,
        account: of_account,
        namespace: of_namespace,
        local,
        cluster,
        here,
        config: settings,
        assumed,
        annotated: config.annotated,
    })
}

/// An agent would not start without a node's name.
fn named(node: &str) -> String {
    if node.is_empty() { "no-node" } else { node }.to_owned()
}

/// The agent's pod on the node or, for its settings, any other.
async fn agent(client: &Client, namespace: &str, node: &str) -> (Option<Value>, Here) {
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let agents = match all(client, &pods, Some(AGENTS), None).await {
        Ok(agents) => agents,
        Err(why) => return (None, Here::Unseen(why.to_string())),
    };
    let mut agents: Vec<Value> = agents.into_iter().filter(|it| run(it).is_some()).collect();
    if node.is_empty() {
        return (agents.pop(), Here::Nowhere);
    }
    let is_ready = |agent: &Value| {
        let conditions = agent["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    // Of two that overlap, the one that serves.
    let on_node = agents.iter().filter(|it| it["spec"]["nodeName"] == *node);
    match on_node.max_by_key(|it| is_ready(it)) {
        Some(agent) => {
            let name = agent["metadata"]["name"].as_str().unwrap_or_default();
            let here = if is_ready(agent) {
                Here::Ready
            } else {
                Here::Unready
            };
            (Some(agent.clone()), here(name.to_owned()))
        }
        None => (agents.pop(), Here::None),
    }
}

/// The container that is an agent.
fn run(pod: &Value) -> Option<&Value> {
    let mut containers = pod["spec"]["containers"].as_array()?.iter();
    containers.find(|it| it["args"][0] == "run")
}

/// The settings of an agent's pod, as it would read them itself on the node.
pub(in crate::tools) async fn settings(
    client: &Client,
    agent: Option<&Value>,
    node: &str,
) -> Result<Config, String> {
    let agent = agent.ok_or("no agent's pod is to be seen")?;
    let container = run(agent).ok_or("the agent's pod runs no agent")?;
    let arguments = container["args"].as_array().into_iter().flatten().skip(1);
    let arguments = arguments.filter_map(|it| it.as_str().map(str::to_owned));
    let arguments: Vec<String> = arguments.collect();
    let mut variables = BTreeMap::new();
    for from in container["envFrom"].as_array().into_iter().flatten() {
        if let Some(name) = from["configMapRef"]["name"].as_str() {
            let data = config_map(client, agent, name).await?;
            variables.extend(data);
        }
    }
    for set in container["env"].as_array().into_iter().flatten() {
        if let Some((name, value)) = set["name"].as_str().zip(set["value"].as_str()) {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    let config = Config::of_agent(&arguments, &variables, &named(node));
    config.map_err(|why| why.to_string())
}

async fn config_map(
    client: &Client,
    agent: &Value,
    name: &str,
) -> Result<BTreeMap<String, String>, String> {
    let namespace = agent["metadata"]["namespace"].as_str().unwrap_or_default();
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let map = one(client, &maps, name).await;
    let map = map.map_err(|why| format!("the ConfigMap {name}: {why}"))?;
    let data = map["data"].as_object().into_iter().flatten();
    let data = data.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    Ok(data.collect())
}

/// The association file, where it is mounted from a `ConfigMap`.
async fn file(client: &Client, agent: Option<&Value>, config: &Config) -> Option<Seen<Table>> {
    let mut sources = config.sources.iter();
    let path = sources.find_map(|source| match source {
        AssociationSource::File(path) => Some(path),
        AssociationSource::Crd(_)
        | AssociationSource::Eks { .. }
        | AssociationSource::EksAuth { .. }
        | AssociationSource::Annotation(_) => None,
    })?;
    let agent = agent.and_then(|agent| Some((agent, run(agent)?)));
    let Some((agent, container)) = agent else {
        return Some(Err("no agent's pod is to be seen".to_owned()));
    };
    let Some((name, key)) = mounted(agent, container, path) else {
        let why = format!("{} is not mounted from a ConfigMap", path.display());
        return Some(Err(why));
    };
    let read = async {
        let data = config_map(client, agent, &name).await?;
        let text = data.get(&key);
        let text = text.ok_or_else(|| format!("the ConfigMap {name} has no {key}"))?;
        parse(text, &Defaults::from(config)).map_err(|why| format!("the association file {why}"))
    };
    Some(read.await)
}

/// The name and the key of the `ConfigMap` that a file is from.
fn mounted(pod: &Value, container: &Value, path: &Path) -> Option<(String, String)> {
    let mounts = container["volumeMounts"].as_array()?.iter();
    let below = mounts.filter_map(|mount| {
        let at = PathBuf::from(mount["mountPath"].as_str()?);
        let rest = match mount["subPath"].as_str() {
            Some(sub) if path == at => PathBuf::from(sub),
            Some(_) => return None,
            None => path.strip_prefix(at).ok()?.to_owned(),
        };
        Some((&mount["name"], rest))
    });
    let (volume, rest) = below.min_by_key(|(_, rest)| rest.components().count())?;
    let mut volumes = pod["spec"]["volumes"].as_array()?.iter();
    let map = &volumes.find(|it| it["name"] == *volume)?["configMap"];
    let mut items = map["items"].as_array().into_iter().flatten();
    let item = items.find(|it| it["path"].as_str().is_some_and(|it| Path::new(it) == rest));
    let mut parts = rest.components();
    let key = match (item, parts.next(), parts.next()) {
        (Some(item), ..) => item["key"].as_str()?.to_owned(),
        (None, Some(Component::Normal(key)), None) => key.to_str()?.to_owned(),
        (None, ..) => return None,
    };
    Some((map["name"].as_str()?.to_owned(), key))
}

/// What the agent would answer the pod.
async fn asked(client: &Client, config: &Explain, agent: &Config, node: &str) -> Seen<Asked> {
    if node.is_empty() {
        return Err("the pod is on no node yet".to_owned());
    }
    let address = agent.metrics_address;
    let port = address.ok_or("the agent has no --metrics-address")?.port();
    let path = format!("/explain/pods/{}/{}", config.namespace, config.name);
    let way = Way::to_node(client.clone(), &config.agent_namespace, node, port);
    let told = way.await.map_err(|why| why.to_string())?.get(&path).await;
    let told = told.map_err(|why| why.to_string())?;
    serde_json::from_slice(&told).map_err(|_| "its answer cannot be read".to_owned())
}

/// What EKS says, as whoever explains.
async fn eks(config: &Config, account: &ServiceAccount) -> Option<Seen<Option<Arc<Association>>>> {
    let mut sources = config.sources.iter();
    let cluster = sources.find_map(|source| match source {
        AssociationSource::Eks { cluster } => Some(cluster),
        AssociationSource::File(_)
        | AssociationSource::Crd(_)
        | AssociationSource::EksAuth { .. }
        | AssociationSource::Annotation(_) => None,
    })?;
    let means = Defaults::from(config).means?;
    let ask = async {
        let sdk = aws::load().await.map_err(|why| why.to_string())?;
        let metrics = aws::Metrics::default();
        let (eks, scheduler) = Eks::new(&sdk, cluster, means, metrics, Clock::system());
        let find = eks.find(account, Instant::now() + PATIENCE);
        tokio::select! {
            found = find => found.map_err(|why| why.to_string()),
            () = scheduler => Err("it is no longer asked".to_owned()),
        }
    };
    let late = || associations::Error::Deadline { origin: "eks" }.to_string();
    Some(timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(late())))
}

async fn there<T: DeserializeOwned>(
    client: &Client,
    collection: &str,
    name: &str,
) -> Seen<Option<T>> {
    match one(client, collection, name).await {
        Ok(object) => serde_json::from_value(object)
            .map(Some)
            .map_err(|_| "it cannot be read".to_owned()),
        Err(Unanswered::NotFound(_)) => Ok(None),
        Err(why @ (Unanswered::Forbidden(_) | Unanswered::Failed(_))) => Err(why.to_string()),
    }
}

async fn listed<T: DeserializeOwned>(client: &Client, collection: &str) -> Seen<Option<Vec<T>>> {
    match all(client, collection, None, None).await {
        Ok(objects) => {
            let objects = objects.into_iter().map(serde_json::from_value);
            let objects: Result<Vec<T>, _> = objects.collect();
            objects
                .map(Some)
                .map_err(|_| "it cannot be read".to_owned())
        }
        Err(Unanswered::NotFound(_)) => Ok(None),
        Err(why @ (Unanswered::Forbidden(_) | Unanswered::Failed(_))) => Err(why.to_string()),
    }
}
