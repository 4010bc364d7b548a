//! Commands for images.

pub mod build;
pub mod create;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;
pub mod tag;

use clap::Subcommand;

use crate::commands::Session;
use crate::error::CommandResult;

/// A command for images.
#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one in the whole process"
)]
pub enum Command {
    /// Make a base image
    Create(create::Options),
    /// Build an image from a Dockerfile
    Build(build::Options),
    /// List images
    Ls(ls::Options),
    /// Show everything about images
    Inspect(inspect::Options),
    /// Remove images
    Rm(rm::Options),
    /// Remove images that nothing needs
    Prune(prune::Options),
    /// Rename an image
    Tag(tag::Options),
}

/// Runs a command.
///
/// # Errors
/// When it fails.
pub async fn run(session: &Session, command: Command) -> CommandResult {
    match command {
        Command::Create(options) => create::run(session, options).await,
        Command::Build(options) => build::run(session, options).await,
        Command::Ls(options) => ls::run(session, options).await,
        Command::Inspect(options) => inspect::run(session, options).await,
        Command::Rm(options) => rm::run(session, options).await,
        Command::Prune(options) => prune::run(session, options).await,
        Command::Tag(options) => tag::run(session, options).await,
    }
}
