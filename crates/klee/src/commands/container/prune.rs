//! `klee container prune`.

use clap::Args;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::prompt;

/// Remove all stopped containers, but those that were created with --persist
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee container prune\n  klee container prune --force")]
pub struct Options {
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
        prompt::confirm(
            session.ui,
            "WARNING! This will remove all stopped containers.",
        )?;
    }
    let removed = session.client().await?.container_prune().await?;
    session.print_ids(&removed)?;
    Ok(Exit::Success)
}
