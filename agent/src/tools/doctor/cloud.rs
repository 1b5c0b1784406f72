//! What AWS's answers mean.

use super::aws::{Identity, Met, Service, Way};
use super::finding::{Check, Finding};
use crate::aws::Fault;
use crate::config::{Exchange, Vantage};
use crate::model::Partition;

/// How the agent is to be somebody to AWS.
const GIVE: &str = "give the node an instance profile, or the agent credentials by any other way of \
    AWS's SDKs (AWS_PROFILE, AWS_ACCESS_KEY_ID, a web identity of its own)";

pub(super) fn judge_identity(
    identity: &Identity,
    region: &str,
    exchange: Exchange,
    vantage: Vantage,
) -> Finding {
    let check = Check::AwsIdentity;
    let arn = match (identity, exchange) {
        (Identity::Known(arn), _) => arn,
        (Identity::None(why), Exchange::WebIdentity | Exchange::EksAuth) => {
            let says =
                format!("no credentials of its own, which this exchange does not take: {why}");
            return Finding::ok(check, says);
        }
        (Identity::None(why), Exchange::AssumeRole) => {
            return Finding::failure(
                check,
                format!("there are no credentials to be AWS's: {why}"),
                GIVE,
            );
        }
        (Identity::Refused(why), _) => {
            return Finding::failure(
                check,
                format!("STS refuses the credentials: {why}"),
                refused(why.fault),
            );
        }
    };
    let named = arn
        .split(':')
        .nth(1)
        .and_then(|name| name.parse::<Partition>().ok());
    if let (Some(named), Some(wanted)) = (named, Partition::of_region(region))
        && named != wanted
    {
        let says = format!("{arn} is of the partition {named}, and {region} of {wanted}");
        let remedy = "set AWS_REGION to a region of that partition, or use credentials of this one";
        return Finding::failure(check, says, remedy);
    }
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    if resource == "root" || resource.starts_with("user/") {
        let says = format!("AWS takes this for {arn}, by a key that does not end");
        return match vantage {
            Vantage::Node => Finding::warning(check, says, GIVE),
            Vantage::Outside => Finding::ok(check, format!("{says}; the agent has its own")),
        };
    }
    match vantage {
        Vantage::Node => Finding::ok(check, format!("AWS takes this for {arn} in {region}")),
        Vantage::Outside => {
            let says =
                format!("AWS takes this for {arn} in {region}; the agent has its own identity");
            Finding::ok(check, says)
        }
    }
}

/// What to do about refused credentials.
fn refused(fault: Fault) -> &'static str {
    match fault {
        Fault::Unavailable => {
            "renew the credentials, or set the clock: see what `clock` says; a key of another \
             partition or a deleted one looks the same"
        }
        Fault::Throttled => "try again later, and see who else asks STS in this account",
        Fault::Denied | Fault::NotFound | Fault::TooLarge | Fault::TimedOut | Fault::Malformed => {
            "see which credentials are found: `aws sts get-caller-identity`"
        }
    }
}

pub(super) fn judge_way(way: &Way) -> Finding {
    let (check, name) = match way.service {
        Service::Sts => (Check::Sts, "STS"),
        Service::Eks => (Check::Eks, "EKS"),
        Service::EksAuth => (Check::Eks, "EKS Auth"),
    };
    let endpoint = way.endpoint.as_deref().unwrap_or("its endpoint");
    let by = way
        .proxy
        .as_ref()
        .map(|proxy| format!(" by the proxy {proxy}"));
    let by = by.unwrap_or_default();
    match &way.met {
        Met::Answered => Finding::ok(check, format!("{name} answers at {endpoint}{by}")),
        Met::Refused(why) => answered(check, way, &format!("{endpoint}{by}"), why),
        Met::NoName(why) => {
            let (what, remedy) = match &way.proxy {
                Some(proxy) => (
                    proxy.as_str(),
                    "mend HTTPS_PROXY, or the DNS that this machine asks",
                ),
                None => (
                    endpoint,
                    "see which DNS server this asks (the agent: the node's, dnsPolicy Default), \
                     whether the region is right, and whether a VPC endpoint has private DNS",
                ),
            };
            Finding::failure(
                check,
                format!("{name}: {what} has no address: {why}"),
                remedy,
            )
        }
        Met::NoConnection(why) => {
            let remedy = match &way.proxy {
                Some(_) => "mend HTTPS_PROXY, or the way to the proxy",
                None => {
                    "let this machine out to port 443 there: a NAT gateway or a VPC endpoint whose \
                    security group lets nodes in, network ACLs, or HTTPS_PROXY"
                }
            };
            Finding::failure(
                check,
                format!("{name}: no connection to {endpoint}{by}: {why}"),
                remedy,
            )
        }
        Met::NoAnswer(why) => {
            let remedy = match &way.proxy {
                Some(_) => "have the proxy let CONNECT through to it, and pass TLS on as it is",
                None => {
                    "see whether something on the way breaks TLS open with a certificate of its own \
                    (then its CA must be among the system's), and whether it is AWS that answers there"
                }
            };
            let says = format!("{name}: {endpoint}{by} is reached and does not answer: {why}");
            Finding::failure(check, says, remedy)
        }
        Met::NotSent(why) => {
            let says = format!("{name} was not asked: {why}");
            Finding::skipped(check, says, "see what `aws-identity` says")
        }
    }
}

/// What an answer means that is a refusal.
fn answered(check: Check, way: &Way, at: &str, why: &crate::aws::Failure) -> Finding {
    let remedy = match (way.service, why.fault) {
        // That it says so is all that was wanted.
        (Service::Sts, Fault::Denied | Fault::NotFound | Fault::TooLarge | Fault::Unavailable)
            if is_refusal(&why.message) =>
        {
            return Finding::ok(check, format!("STS answers at {at}"));
        }
        (Service::EksAuth, Fault::Denied | Fault::NotFound) => {
            return Finding::ok(check, format!("EKS Auth answers at {at}"));
        }
        (Service::Eks, Fault::Denied) => {
            "allow the node's role eks:ListPodIdentityAssociations and \
             eks:DescribePodIdentityAssociation (README, Install, step 1), or leave `eks` out of \
             --association-sources"
        }
        (Service::Eks, Fault::NotFound) => {
            "give the name that EKS has for the cluster by --cluster-name, and its region and \
             account's credentials; a cluster that is not EKS's has none"
        }
        (_, Fault::Throttled) => "ask for less: `credlet sync` asks EKS once for a whole cluster",
        (_, Fault::Denied | Fault::NotFound | Fault::TooLarge | Fault::Unavailable) => {
            "see what `aws-identity` and `clock` say; a VPC endpoint's policy may refuse, too"
        }
        (_, Fault::TimedOut | Fault::Malformed) => {
            "see whether it is AWS that answers there, and not a proxy or a captive portal"
        }
    };
    let name = match way.service {
        Service::Sts => "STS",
        Service::Eks => "EKS",
        Service::EksAuth => "EKS Auth",
    };
    Finding::failure(check, format!("{name} answers at {at}, but: {why}"), remedy)
}

/// Whether STS speaks of who asks, and not of itself.
fn is_refusal(message: &str) -> bool {
    let codes = [
        "AccessDenied",
        "ExpiredToken",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClient",
    ];
    codes.iter().any(|code| message.starts_with(code))
}
