//! `klee volume ls`.

use clap::Args;
use kleene_api::Volume;
use kleene_types::Timestamp;

use crate::age;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::options::ListOptions;
use crate::table::{Cell, Column};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("VOLUME NAME", style::BOLD_AQUAMARINE),
    Column::new("CREATED", style::BRIGHT_WHITE),
];

/// List volumes, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee volume ls\n  klee lsv --format json")]
pub struct Options {
    #[command(flatten)]
    list: ListOptions,
}

/// Prints the volumes.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let volumes = session.client().await?.volume_list().await?;
    if options.list.quiet {
        let names = volumes.iter().map(|volume| volume.name.as_str());
        session.ui.ids(names)?;
    } else {
        let now = Timestamp::now();
        let row = |volume: &Volume| {
            vec![
                Cell::from(&volume.name),
                age::ago(&volume.created, now).into(),
            ]
        };
        options
            .list
            .format
            .list(session.ui, &volumes, COLUMNS, row)?;
    }
    Ok(Exit::Success)
}
