//! `klee network disconnect`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};

/// Disconnect a container from a network, also while it runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee network disconnect testnet devtest")]
pub struct Options {
    /// The network
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    network: String,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,
}

/// Disconnects the container.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let result = client.network_disconnect(&options.network, &options.container);
    match result.await {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(CommandError::about("network", &options.network, error)),
    }
}
