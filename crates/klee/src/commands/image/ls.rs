//! `klee image ls`.

use clap::Args;
use kleene_api::Image;
use kleene_types::Timestamp;

use crate::age;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::options::ListOptions;
use crate::table::{Cell, Column};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("ID", style::CYAN),
    Column::new("NAME", style::BOLD_AQUAMARINE),
    Column::new("TAG", style::AQUAMARINE),
    Column::new("CREATED", style::BRIGHT_WHITE),
];

/// List images, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee image ls\n  klee lsi --format json")]
pub struct Options {
    #[command(flatten)]
    list: ListOptions,
}

/// Prints the images.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let images = session.client().await?.image_list().await?;
    if options.list.quiet {
        session
            .ui
            .ids(images.iter().map(|image| image.id.as_str()))?;
    } else {
        let now = Timestamp::now();
        let row = |image: &Image| {
            let age = age::ago(&image.created, now);
            [&image.id, &image.name, &image.tag, &age]
                .map(Cell::from)
                .to_vec()
        };
        options
            .list
            .format
            .list(session.ui, &images, COLUMNS, row)?;
    }
    Ok(Exit::Success)
}
