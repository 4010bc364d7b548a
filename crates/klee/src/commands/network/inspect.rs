//! `klee network inspect`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Show everything about networks
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee network inspect testnet")]
pub struct Options {
    /// Networks
    #[arg(required = true, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new())]
    networks: Vec<String>,
}

/// Prints one JSON object for each network.
///
/// # Errors
/// When the daemon can't be reached; a failure with one network doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let inspect = async |name: String| match client.network_inspect(&name).await {
        Ok(network) => session.ui.json(&network),
        Err(error) => Err(Noun::Network.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.networks, inspect).await)
}
