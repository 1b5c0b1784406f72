//! `credlet doctor`: what is wrong between pods and their roles, and what to do.
//!
//! Each check observes, at the edge, and then judges what it saw, which is pure.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use self::api::{Api, Lack};
use self::finding::worst;
use self::report::Paint;
use self::server::Skew;
use self::settings::Origin;
use crate::apiserver;
use crate::aws as sdk;
use crate::clock::Clock;
use crate::config::{AssociationSource, Colour, Doctor, Output, TaintKey, Vantage};
use crate::node::network;

mod agent;
mod api;
mod aws;
mod certificate;
mod cloud;
mod finding;
mod host;
mod http;
mod imds;
mod injection;
mod nodes;
mod others;
mod permissions;
mod pods;
mod policies;
mod ports;
mod procfs;
mod report;
mod server;
mod settings;
mod sources;

pub use self::finding::{Check, Finding, Verdict};

/// Looks at everything, and says on standard output what it found. Returns the
/// worst of it.
pub async fn run(settings: &Doctor) -> io::Result<Verdict> {
    let findings = look(settings).await;
    let text = match settings.output {
        Output::Json => format!("{:#}\n", report::json(&findings)),
        Output::Text => {
            let paint = match settings.colour {
                Colour::Auto if io::stdout().is_terminal() => Paint::Coloured,
                Colour::Auto | Colour::Never => Paint::Plain,
            };
            report::text(&findings, paint)
        }
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(worst(&findings))
}

/// Everything, in the order in which it is told.
async fn look(settings: &Doctor) -> Vec<Finding> {
    let inspected = netsetup::inspect(&network::spec(&settings.network)).await;
    let is_here = inspected.as_ref().is_ok_and(|seen| !seen.held.is_empty());
    let vantage = match settings.vantage {
        Some(vantage) => vantage,
        None if is_here => Vantage::Node,
        None => Vantage::Outside,
    };
    let processes = match vantage {
        Vantage::Node => procfs::processes(),
        Vantage::Outside => Vec::new(),
    };
    let clock = Clock::system();
    let here = async {
        match vantage {
            Vantage::Node => {
                let mut all = host::judge(&settings.network, inspected.as_ref());
                all.extend(on_node(settings, &processes).await);
                all
            }
            Vantage::Outside => vec![Finding::skipped(
                Check::Link,
                "link, ports, rules, the node's agent and instance metadata are looked at on a node",
                "`kubectl -n credlet exec ds/credlet -- /credlet doctor`, or --from node there",
            )],
        }
    };
    let client = apiserver::connect(settings.kubeconfig.as_deref()).await;
    let (adopted, origin, told) = match (vantage, &client) {
        (Vantage::Outside, Ok(client)) => {
            let (adopted, origin, finding) = settings::adopt(client, settings).await;
            (adopted, origin, Some(finding))
        }
        (Vantage::Node | Vantage::Outside, _) => (settings.clone(), Origin::Given, None),
    };
    let settings = &adopted;
    let api = client.map(Api::new).map_err(|error| error.to_string());
    let server = async {
        match &api {
            Ok(api) => Some(server::observe(api, || clock.now()).await),
            Err(_) => None,
        }
    };
    let (mut findings, server, cloud) =
        futures::future::join3(here, server, in_cloud(settings, vantage, clock)).await;

    let mut skews = cloud.skews;
    let api = match (&api, server) {
        (Ok(api), Some((version, skew))) => {
            findings.push(server::judge(&version));
            skews.splice(0..0, skew);
            version.is_ok().then_some(api)
        }
        (Err(why), _) => {
            let remedy =
                "name a kubeconfig by --kubeconfig or KUBECONFIG, or run this in the cluster";
            findings.push(Finding::failure(Check::ApiServer, why, remedy));
            None
        }
        (Ok(_), None) => None,
    };
    if let Some(api) = api {
        findings.extend(in_cluster(settings, api, &processes, clock).await);
    } else {
        let says = "the cluster was not looked at, since the API server does not answer";
        let remedy = "see what `api-server` says";
        findings.push(Finding::skipped(Check::Permissions, says, remedy));
        let others = others::Seen {
            on_node: others::of_processes(&processes),
            in_cluster: Err(Lack::Unasked),
        };
        findings.extend(others::judge(&settings.network, &others));
    }
    findings.extend(server::judge_clocks(&skews));
    findings.extend(cloud.findings);
    findings.extend(told);
    let sources = sources::observe(api, settings, origin, cloud.listed).await;
    findings.extend(sources::judge(&sources));
    findings.sort_by_key(|finding| finding.check);
    findings
}

async fn on_node(settings: &Doctor, processes: &[procfs::Process]) -> Vec<Finding> {
    let mut all = Vec::new();
    let wanted = wanted(settings);
    match procfs::listening() {
        Ok(listening) => {
            let taken = ports::taken(&wanted, &listening, processes);
            all.extend(ports::judge(&wanted, &taken));
        }
        Err(error) => {
            let says = format!("who listens cannot be read: {error}");
            all.push(Finding::skipped(Check::Ports, says, "mount /proc"));
        }
    }
    // Over IPv6 it is asked only where there is no other: whether the node has
    // that is another check's.
    let host = settings.network.addresses.iter().find(|it| it.is_ipv4());
    let host = host.or(settings.network.addresses.first());
    if let Some(host) = host {
        let probes = SocketAddr::new(*host, settings.probe_port);
        let readiness = agent::observe(probes).await;
        all.extend(agent::judge(&[(probes, readiness)]));
    }
    all.push(imds::judge(&settings.network, &imds::observe().await));
    all
}

/// Where the agent listens.
fn wanted(settings: &Doctor) -> Vec<SocketAddr> {
    let hosts = &settings.network.addresses;
    let doors = hosts.iter().map(|host| (*host, settings.port));
    let probes = hosts.iter().map(|host| (*host, settings.probe_port));
    let captured = settings.network.imds.iter().flat_map(|it| &it.hosts);
    let captured = captured.map(|host| (*host, 80));
    let all = doors.chain(probes).chain(captured).map(SocketAddr::from);
    all.chain(settings.metrics_address).collect()
}

/// What AWS told.
struct Cloud {
    findings: Vec<Finding>,
    skews: Vec<Skew>,
    /// Associations on EKS's first page.
    listed: Option<usize>,
}

async fn in_cloud(settings: &Doctor, vantage: Vantage, clock: Clock) -> Cloud {
    let mut cloud = Cloud {
        findings: Vec::new(),
        skews: Vec::new(),
        listed: None,
    };
    let config = match sdk::load().await {
        Ok(config) => config,
        Err(error) => {
            let remedy = "set AWS_REGION (manifests/settings.env for the agent)";
            let finding = Finding::failure(Check::AwsIdentity, error.to_string(), remedy);
            cloud.findings.push(finding);
            return cloud;
        }
    };
    let region = config.region().map(ToString::to_string).unwrap_or_default();
    let (identity, sts) = aws::sts(&config, &settings.proxy, clock).await;
    let skew = sts.date.map(|(there, here)| Skew::of("STS", here, there));
    cloud.skews.extend(skew);
    let exchange = settings.exchange;
    let finding = cloud::judge_identity(&identity, &region, exchange, vantage);
    cloud.findings.push(finding);
    cloud.findings.push(cloud::judge_way(&sts));
    for source in &settings.sources {
        match source {
            AssociationSource::Eks { cluster } => {
                let (way, listed) = aws::eks(&config, &settings.proxy, clock, cluster).await;
                cloud.listed = (way.met == aws::Met::Answered).then_some(listed);
                cloud.findings.push(cloud::judge_way(&way));
            }
            AssociationSource::EksAuth { cluster } => {
                let way = aws::eks_auth(&config, &settings.proxy, clock, cluster).await;
                cloud.findings.push(cloud::judge_way(&way));
            }
            AssociationSource::File(_)
            | AssociationSource::Crd(_)
            | AssociationSource::Annotation(_) => {}
        }
    }
    cloud
}

async fn in_cluster(
    settings: &Doctor,
    api: &Api,
    processes: &[procfs::Process],
    clock: Clock,
) -> Vec<Finding> {
    let mut all = permissions::judge(&permissions::observe(api, settings).await);
    match &settings.node_name {
        Some(node) => all.push(pods::judge(node, &pods::observe(api, node).await)),
        None => all.push(Finding::skipped(
            Check::PodWatch,
            "no node was named whose pods could be watched",
            "name one by --node-name",
        )),
    }
    let sets = api.list("/apis/apps/v1/daemonsets", None, None).await;
    let others = others::Seen {
        on_node: others::of_processes(processes),
        in_cluster: sets.map(|sets| others::of_daemon_sets(&sets.items)),
    };
    all.extend(others::judge(&settings.network, &others));
    let nodes = nodes::observe(api, &settings.namespace).await;
    all.extend(nodes::judge(
        &nodes,
        settings.startup_taint.as_ref().map(TaintKey::as_str),
    ));
    all.extend(injection::judge(
        &injection::observe(api).await,
        clock.now(),
    ));
    let addresses = &settings.network.addresses;
    let address = addresses
        .iter()
        .find(|it| it.is_ipv4())
        .or(addresses.first());
    if let Some(&address) = address {
        let door = policies::Door {
            address,
            port: settings.port,
        };
        all.extend(policies::judge(&policies::observe(api, door).await, door));
    }
    all
}
