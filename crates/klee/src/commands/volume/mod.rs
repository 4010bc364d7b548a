//! Commands for volumes.

pub mod create;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

use clap::Subcommand;

use crate::commands::Session;
use crate::error::CommandResult;

/// A command for volumes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a volume
    Create(create::Options),
    /// List volumes
    Ls(ls::Options),
    /// Show everything about volumes
    Inspect(inspect::Options),
    /// Remove volumes
    Rm(rm::Options),
    /// Remove all volumes that no container mounts
    Prune(prune::Options),
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
    }
}
