//! A program in a pod: the SDK for Rust finds its credentials and says whose they are.

use std::error::Error;

use aws_config::BehaviorVersion;
use aws_sdk_sts::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let identity = Client::new(&config).get_caller_identity().send().await?;
    println!("{}", identity.arn().unwrap_or_default());
    Ok(())
}
