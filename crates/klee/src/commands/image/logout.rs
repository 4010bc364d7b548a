//! `klee image logout`.

use clap::Args;

use crate::commands::Session;
use crate::credentials::Credentials;
use crate::error::{CommandResult, Exit};
use crate::registries;

/// Forget the credentials for a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee logout\n  klee logout quay.io")]
pub struct Options {
    /// The registry, HOST[:PORT]
    #[arg(default_value = registries::DEFAULT)]
    registry: String,
}

/// Forgets them.
///
/// # Errors
/// When they can't be removed.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let registry = registries::parse(&options.registry)?;
    match Credentials::of_user()?.erase(&registry)? {
        true => session.ui.line(&format!("Logged out of {registry}"))?,
        false => session.ui.line(&format!("Not logged in to {registry}"))?,
    }
    Ok(Exit::Success)
}
