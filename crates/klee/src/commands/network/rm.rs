//! `klee network rm`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Remove networks
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee network rm testnet")]
pub struct Options {
    /// Networks
    #[arg(required = true, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new())]
    networks: Vec<String>,
}

/// Removes each network and prints its id.
///
/// # Errors
/// When the daemon can't be reached; a failure with one network doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let remove = async |name: String| match client.network_remove(&name).await {
        Ok(id) => session.ui.line(&id),
        Err(error) => Err(Noun::Network.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.networks, remove).await)
}
