//! `klee image pull`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::progress::Shown;
use crate::registries;

/// Pull an image from a registry
#[derive(Debug, Args)]
#[command(
    after_help = "A reference is [REGISTRY/]REPOSITORY[:TAG][@DIGEST]; without a registry it is the default one's
(Docker Hub, unless the daemon is configured otherwise). What was pulled before is taken from here.

Examples:
  klee pull nginx:1.26
  klee pull --platform linux/arm64 quay.io/team/app
  klee pull -t web ghcr.io/team/web@sha256:9b2e…"
)]
pub struct Options {
    /// Platform to pull the image for, OS[/ARCHITECTURE[/VARIANT]] [default: the daemon's host's]
    #[arg(long)]
    platform: Option<String>,

    /// Name of the image, NAME[:TAG] [default: that of the reference]
    #[arg(short, long)]
    tag: Option<String>,

    /// Print only the image's id, and no progress
    #[arg(short, long)]
    quiet: bool,

    /// What to pull
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    reference: String,
}

/// Pulls the image, shows how far that has come, and prints the image's id.
///
/// # Errors
/// When it can't be pulled.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let (message, id) = registries::pull(
        session.ui,
        &client,
        &options.reference,
        options.platform.as_deref(),
        options.tag.as_deref(),
        Shown::bars_or_lines(options.quiet),
    )
    .await?;
    if !options.quiet && !message.is_empty() {
        session.ui.line(&message)?;
    }
    session.ui.line(&id)?;
    Ok(Exit::Success)
}
