//! `klee network inspect`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::format::InspectOptions;
use crate::suggest::Noun;

/// Show everything about networks
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  klee network inspect testnet\n  klee isn --format '{{.subnet}}' testnet"
)]
pub struct Options {
    #[command(flatten)]
    inspect: InspectOptions,

    /// Networks
    #[arg(required = true, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new())]
    networks: Vec<String>,
}

/// Prints each network.
///
/// # Errors
/// When the daemon can't be reached; a failure with one network doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let inspect = async |name: String| match client.network_inspect(&name).await {
        Ok(network) => options
            .inspect
            .format
            .object(session.ui, &network, Some("network")),
        Err(error) => Err(Noun::Network.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.networks, inspect).await)
}
