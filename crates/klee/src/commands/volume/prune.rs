//! `klee volume prune`.

use std::io::{self, IsTerminal};

use clap::Args;
use kleene_client::{Client, ClientError};

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::prompt;
use crate::table;

/// Remove all volumes that no container mounts
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee volume prune\n  klee volume prune --force")]
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
    let client = session.client().await?;
    if !options.force {
        // Who is asked wants to know; scripts that answer have always got these lines alone.
        if io::stdin().is_terminal() {
            let unused = unused(&client).await?;
            if !unused.is_empty() {
                session.ui.note(&format!("Unused: {}", unused.join(", ")));
            }
        }
        prompt::confirm(session.ui, "WARNING! This will remove all unused volumes.")?;
    }
    let removed = client.volume_prune().await?;
    session.print_ids(&removed)?;
    Ok(Exit::Success)
}

/// Names of the volumes that no container mounts.
async fn unused(client: &Client) -> Result<Vec<String>, ClientError> {
    let containers = client.container_list(true, false).await?;
    let mounts: Vec<&str> = containers
        .iter()
        .flat_map(|summary| &summary.mounts)
        .filter_map(|mount| mount.split(':').next())
        .collect();
    let volumes = client.volume_list().await?.into_iter();
    let names = volumes.map(|volume| table::printable(&volume.name));
    Ok(names
        .filter(|name| !mounts.contains(&name.as_str()))
        .collect())
}
