//! Commands for networks.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

use clap::Subcommand;

use crate::commands::Session;
use crate::error::CommandResult;

/// A command for networks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a network
    Create(create::Options),
    /// List networks
    Ls(ls::Options),
    /// Show everything about networks
    Inspect(inspect::Options),
    /// Remove networks
    Rm(rm::Options),
    /// Remove all networks without containers
    Prune(prune::Options),
    /// Connect a container to a network
    Connect(connect::Options),
    /// Disconnect a container from a network
    Disconnect(disconnect::Options),
}

/// Runs a command.
///
/// # Errors
/// When it fails.
pub async fn run(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Create(options) => create::run(session, options).await,
        Command::Ls(options) => ls::run(session, options).await,
        Command::Inspect(options) => inspect::run(session, options).await,
        Command::Rm(options) => rm::run(session, options).await,
        Command::Prune(options) => prune::run(session, options).await,
        Command::Connect(options) => connect::run(session, options).await,
        Command::Disconnect(options) => disconnect::run(session, options).await,
    }
}
