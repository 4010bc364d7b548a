//! Commands for containers.

pub mod create;
pub mod exec;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod run;
pub mod start;
pub mod stop;
pub mod update;

use clap::Subcommand;

use crate::commands::Session;
use crate::error::CommandResult;

/// A command for containers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a container
    Create(create::Options),
    /// Run a command in a new container
    Run(run::Options),
    /// Start containers
    Start(start::Options),
    /// Run a command in a container that exists
    Exec(exec::Options),
    /// Stop containers
    Stop(stop::Options),
    /// Restart containers
    Restart(restart::Options),
    /// List containers
    Ls(ls::Options),
    /// Show everything about containers
    Inspect(inspect::Options),
    /// Change settings of a container
    Update(update::Options),
    /// Rename a container
    Rename(rename::Options),
    /// Remove containers
    Rm(rm::Options),
    /// Remove all stopped containers
    Prune(prune::Options),
}

/// Runs a command.
///
/// # Errors
/// When it fails.
pub async fn run(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Create(options) => create::run(session, options).await,
        Command::Run(options) => run::run(session, options).await,
        Command::Start(options) => start::run(session, options).await,
        Command::Exec(options) => exec::run(session, options).await,
        Command::Stop(options) => stop::run(session, options).await,
        Command::Restart(options) => restart::run(session, options).await,
        Command::Ls(options) => ls::run(session, options).await,
        Command::Inspect(options) => inspect::run(session, options).await,
        Command::Update(options) => update::run(session, options).await,
        Command::Rename(options) => rename::run(session, options).await,
        Command::Rm(options) => rm::run(session, options).await,
        Command::Prune(options) => prune::run(session, options).await,
    }
}
