//! `klee network ls`.

use clap::Args;
use kleene_api::Network;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::options::ListOptions;
use crate::table::{Cell, Column};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("ID", style::CYAN).at_least(12),
    Column::new("NAME", style::BOLD_AQUAMARINE),
    Column::new("TYPE", style::BRIGHT_WHITE),
    Column::new("SUBNET", style::BOLD_AQUAMARINE),
];

/// List networks by name
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee network ls\n  klee lsn --format json")]
pub struct Options {
    #[command(flatten)]
    list: ListOptions,
}

/// Prints the networks.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let networks = session.client().await?.network_list().await?;
    if options.list.quiet {
        session
            .ui
            .ids(networks.iter().map(|network| network.id.as_str()))?;
    } else {
        let row = |network: &Network| {
            let config = &network.config;
            let cells = [&network.id, &config.name, &config.kind, &config.subnet];
            cells.map(Cell::from).to_vec()
        };
        options
            .list
            .format
            .list(session.ui, &networks, COLUMNS, row)?;
    }
    Ok(Exit::Success)
}
