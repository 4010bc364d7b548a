//! `klee image search`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::SearchResult;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::options::ListOptions;
use crate::table::{Align, Cell, Column};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("NAME", style::BOLD_AQUAMARINE),
    Column::new("DESCRIPTION", style::BRIGHT_WHITE).at_most(60),
    Column::new("STARS", style::CYAN).aligned(Align::Right),
    Column::new("OFFICIAL", style::BRIGHT_WHITE).aligned(Align::Center),
];

/// Search a registry for images
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  klee image search nginx\n  klee image search --limit 5 --format '{{.name}}' freebsd"
)]
pub struct Options {
    /// Repositories to show at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: Option<u32>,

    /// The registry [default: the daemon's]
    #[arg(long)]
    registry: Option<String>,

    #[command(flatten)]
    list: ListOptions,

    /// What to look for
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    term: String,
}

/// Prints what the registry has found.
///
/// # Errors
/// When the registry can't be reached, or can't be searched.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let registry = options.registry.as_deref();
    let found = client
        .image_search(&options.term, registry, options.limit)
        .await?;
    if options.list.quiet {
        let names = found.iter().map(|repository| repository.name.as_str());
        session.ui.ids(names)?;
        return Ok(Exit::Success);
    }
    let row = |found: &SearchResult| {
        vec![
            Cell::from(&found.name),
            Cell::from(&found.description),
            Cell::from(found.stars.to_string()),
            Cell::from(if found.official { "yes" } else { "" }),
        ]
    };
    options.list.format.list(session.ui, &found, COLUMNS, row)?;
    Ok(Exit::Success)
}
