//! What pods are to be given, as the webhook and `credlet inject` take it from
//! the command line.

use clap::Args;

use super::{Annotated, Error, Exchange, prefix, usage};
use crate::model::StsEndpoints;

/// The lifetimes of tokens that Kubernetes takes, in seconds: from ten minutes on.
const SHORTEST_TOKEN: u32 = 600;

/// What pods are to be given. Valid once built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The agent's door.
    pub uri: String,
    /// The audience of the tokens that the agent is shown.
    pub audience: String,
    /// The audience of the tokens that STS is shown.
    pub web_identity_audience: String,
    /// The region, if it is to be said.
    pub region: Option<String>,
    /// Which STS endpoint the SDKs are to ask.
    pub endpoints: StsEndpoints,
    /// How long tokens live, in seconds.
    pub token_seconds: u32,
    /// What the annotations of accounts and pods begin with, without the slash.
    pub prefix: String,
    /// Who serves annotated accounts.
    pub annotated: Annotated,
    /// How the agents have a role whose association does not say it.
    pub exchange: Exchange,
}

#[derive(Debug, Args)]
pub(super) struct InjectionArgs {
    /// Where SDKs are to ask the agent for credentials
    #[arg(
        long,
        env = "CREDLET_CREDENTIALS_URI",
        default_value = "http://169.254.170.23/v1/credentials"
    )]
    credentials_uri: String,
    /// The audience of the tokens that pods show the agent
    #[arg(
        long,
        env = "CREDLET_POD_IDENTITY_AUDIENCE",
        default_value = "pods.eks.amazonaws.com"
    )]
    pod_identity_audience: String,
    /// The audience of tokens for web identities, where nothing else is said
    #[arg(
        long,
        env = "CREDLET_WEB_IDENTITY_AUDIENCE",
        default_value = "sts.amazonaws.com"
    )]
    web_identity_audience: String,
    /// The region to tell SDKs; empty: none
    #[arg(long, env = "AWS_REGION")]
    region: Option<String>,
    /// Which STS endpoint SDKs are told, where the account does not say it
    #[arg(long, env = "AWS_STS_REGIONAL_ENDPOINTS", value_enum, default_value_t = StsEndpoints::Regional)]
    sts_regional_endpoints: StsEndpoints,
    /// How long tokens live, in seconds; those of 86400 are spread over two hours
    #[arg(long, env = "CREDLET_TOKEN_EXPIRATION", default_value_t = 86400)]
    token_expiration: u32,
    /// What the annotations of accounts and pods begin with, without the slash
    #[arg(
        long,
        env = "CREDLET_ANNOTATION_PREFIX",
        default_value = "eks.amazonaws.com"
    )]
    annotation_prefix: String,
    /// Whom pods of annotated accounts ask for credentials: STS themselves, as with IRSA, or the agent
    #[arg(long, env = "CREDLET_ANNOTATED", value_enum, default_value_t = Annotated::Sts)]
    annotated: Annotated,
    /// How the agents have a role whose association does not say it
    #[arg(long, env = "CREDLET_EXCHANGE", value_enum, default_value_t = Exchange::AssumeRole)]
    exchange: Exchange,
}

impl TryFrom<InjectionArgs> for Injection {
    type Error = Error;

    fn try_from(args: InjectionArgs) -> Result<Self, Error> {
        // Without `..`, so that a flag that nobody reads does not compile.
        let InjectionArgs {
            credentials_uri,
            pod_identity_audience,
            web_identity_audience,
            region,
            sts_regional_endpoints,
            token_expiration,
            annotation_prefix,
            annotated,
            exchange,
        } = args;
        if !credentials_uri.starts_with("http://") && !credentials_uri.starts_with("https://") {
            return Err(usage("--credentials-uri", "is no http:// or https:// URL"));
        }
        for (flag, audience) in [
            ("--pod-identity-audience", &pod_identity_audience),
            ("--web-identity-audience", &web_identity_audience),
        ] {
            if audience.is_empty() {
                return Err(usage(flag, "is empty"));
            }
        }
        if token_expiration < SHORTEST_TOKEN {
            return Err(usage("--token-expiration", "is less than 600 seconds"));
        }
        Ok(Self {
            uri: credentials_uri,
            audience: pod_identity_audience,
            web_identity_audience,
            region: region.filter(|region| !region.is_empty()),
            endpoints: sts_regional_endpoints,
            token_seconds: token_expiration,
            prefix: prefix(annotation_prefix)?,
            annotated,
            exchange,
        })
    }
}
