//! `klee version`.

use clap::Args;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};

/// Show the versions of client and daemon
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee version")]
pub struct Options {}

/// Prints both versions; klee's own also when the daemon can't be reached.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, _options: Options) -> CommandResult {
    let ui = session.ui;
    ui.raw(format!("klee:    {}\n", env!("CARGO_PKG_VERSION")).as_bytes())?;
    let info = session.client().await?.info().await?;
    ui.raw(format!("kleened: {} ({})\n", info.version, info.os).as_bytes())?;
    Ok(Exit::Success)
}
