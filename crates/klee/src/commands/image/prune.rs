//! `klee image prune`.

use clap::Args;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::prompt;

/// Remove images without a name that neither containers nor other images need
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee image prune\n  klee image prune --all --force")]
pub struct Options {
    /// Remove images with a name as well
    #[arg(short, long)]
    all: bool,

    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

/// Asks, removes, and prints what was removed.
///
/// # Errors
/// When the answer is no, or the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    if !options.force {
        prompt::confirm(session.ui, "WARNING! This will remove all unused images.")?;
    }
    let removed = session.client().await?.image_prune(options.all).await?;
    session.print_ids(&removed)?;
    Ok(Exit::Success)
}
