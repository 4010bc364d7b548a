//! `klee network connect`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options;

/// Connect a container to a network
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee network connect --ip 10.13.37.7 testnet devtest")]
pub struct Options {
    /// IPv4 address of the container [default: a free one]
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,

    /// IPv6 address of the container [default: a free one]
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,

    /// The network
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    network: String,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,
}

/// Connects the container.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let config = options::connection(
        &options.network,
        &options.container,
        options.ip.as_deref(),
        options.ip6.as_deref(),
    );
    match session.client().await?.network_connect(&config).await {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(CommandError::about("network", &options.network, error)),
    }
}
