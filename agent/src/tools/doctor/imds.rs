//! The node's own instance metadata: whether pods reach it, and so the node's role.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use netsetup::take_with_hops;

use super::finding::{Check, Finding};
use super::http;
use crate::config::{IMDS_IPV4, ImdsOthers, Network};

/// The service is the machine's own.
const PATIENCE: Duration = Duration::from_secs(1);

const TOKEN: &str = "PUT /latest/api/token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds: 60";

/// What EC2 calls the hop limit of answers with a session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HopLimit {
    /// 1: an answer does not reach a pod with a network of its own.
    One,
    /// 2 or more: it does.
    More,
}

/// Whether requests are answered that have no session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version1 {
    Answered,
    Refused,
}

/// How the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// There is none, or it is turned off.
    Absent(String),
    /// It gives no session token: `IMDSv1` only, or not EC2's.
    NoTokens(u16),
    There {
        hops: HopLimit,
        version_1: Version1,
    },
}

pub(super) async fn observe() -> Service {
    observe_at((IMDS_IPV4, 80).into()).await
}

async fn observe_at(at: SocketAddr) -> Service {
    let tokens = async |least| {
        let stream = http::connect(at, PATIENCE).await?;
        // From here on, so that a limit shows in the answer and not in the handshake.
        take_with_hops(stream.as_fd(), least).map_err(|error| error.to_string())?;
        http::ask(stream, TOKEN, &[TTL.to_owned()], PATIENCE).await
    };
    match tokens(1).await {
        Err(why) => return Service::Absent(why),
        Ok(answer) if answer.status != 200 => return Service::NoTokens(answer.status),
        Ok(_) => {}
    }
    let hops = match tokens(2).await {
        Ok(_) => HopLimit::More,
        // It answered a moment ago.
        Err(_) => HopLimit::One,
    };
    let version_1 = match http::get(at, "/latest/meta-data/", PATIENCE).await {
        Ok(answer) if answer.status == 200 => Version1::Answered,
        Ok(_) | Err(_) => Version1::Refused,
    };
    Service::There { hops, version_1 }
}

/// What keeps pods from it, as an operator would.
const LIMIT: &str = "`aws ec2 modify-instance-metadata-options --instance-id INSTANCE --http-tokens \
    required --http-put-response-hop-limit 1`, best in the launch template, or run the agent with \
    --imds node";

pub(super) fn judge(network: &Network, service: &Service) -> Finding {
    let (hops, version_1) = match service {
        Service::Absent(why) => {
            let says = format!("no instance metadata answers here: {why}");
            return Finding::skipped(
                Check::Imds,
                says,
                "nothing, if this is no EC2 instance or instance metadata is turned off; the agent \
                 then needs credentials and a region of its own",
            );
        }
        Service::NoTokens(status) => {
            let says = format!("instance metadata gives no session token: status {status}");
            let remedy = "nothing, if this is no EC2 instance; else see what answers at \
                169.254.169.254, kube2iam or kiam perhaps";
            return Finding::warning(Check::Imds, says, remedy);
        }
        Service::There { hops, version_1 } => (*hops, *version_1),
    };
    let others = network.imds.as_ref().map(|capture| capture.others);
    match (others, hops, version_1) {
        (Some(ImdsOthers::Block), ..) => Finding::ok(
            Check::Imds,
            "pods meet the agent in place of the node's own instance metadata",
        ),
        (Some(ImdsOthers::Real), HopLimit::One, Version1::Refused) => Finding::warning(
            Check::Imds,
            "--imds-others real lets pods go to the node's instance metadata, whose hop limit of 1 \
             keeps its answers from them",
            "give --imds-others block, or a hop limit of 2 if those pods are to have the node's role",
        ),
        (Some(ImdsOthers::Real), ..) => Finding::ok(
            Check::Imds,
            "pods that have not opted in meet the node's own, as --imds-others real wants it",
        ),
        (None, _, Version1::Answered) => Finding::warning(
            Check::Imds,
            "instance metadata answers without a session token (IMDSv1), whatever the hop limit: a \
             pod can get the node's role",
            LIMIT,
        ),
        (None, HopLimit::More, Version1::Refused) => Finding::warning(
            Check::Imds,
            "the hop limit of instance metadata is 2 or more: a pod can get the node's role",
            LIMIT,
        ),
        (None, HopLimit::One, Version1::Refused) => Finding::ok(
            Check::Imds,
            "session tokens are required, and the hop limit of 1 keeps pods from the node's role",
        ),
    }
}
