//! The SDK's settings for an agent inside a pod, which must not ask itself.
//!
//! The instance metadata service is none of its sources: where the agent stands
//! in for it, it would wait for itself, and elsewhere it would be the node.

use aws_config::SdkConfig;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;

use super::{NoRegion, http_client, settings};

/// What signs the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// Nothing: a web identity needs no signature.
    Nobody,
    /// The environment's variables, profile, web identity, or the container
    /// credentials endpoint that it names.
    Environment,
    /// The same without that endpoint.
    EnvironmentAlone,
}

/// The SDK's settings from the environment and the profile files alone. No
/// credentials are asked for yet.
pub async fn load(signer: Signer) -> Result<SdkConfig, NoRegion> {
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    // The SDK takes an empty variable for a name.
    let region = region.region().await;
    let region = region.filter(|region| !region.as_ref().is_empty());
    let region = region.ok_or(NoRegion)?;
    let settings = settings().region(region.clone());
    let chain = || {
        let config = ProviderConfig::without_region()
            .with_region(Some(region))
            .with_http_client(http_client());
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&config);
        let profile = ProfileFileCredentialsProvider::builder().configure(&config);
        let environment = EnvironmentVariableCredentialsProvider::new();
        let chain = CredentialsProviderChain::first_try("Environment", environment)
            .or_else("Profile", profile.build())
            .or_else("WebIdentityToken", web_identity.build());
        (chain, config)
    };
    let settings = match signer {
        Signer::Nobody => settings.no_credentials(),
        Signer::EnvironmentAlone => settings.credentials_provider(chain().0),
        Signer::Environment => {
            let (chain, config) = chain();
            let container = EcsCredentialsProvider::builder().configure(&config);
            settings.credentials_provider(chain.or_else("EcsContainer", container.build()))
        }
    };
    Ok(settings.load().await)
}
