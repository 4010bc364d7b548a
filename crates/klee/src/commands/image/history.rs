//! `klee image history`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::HistoryEntry;
use kleene_types::Timestamp;

use crate::age;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::options::ListOptions;
use crate::suggest::Noun;
use crate::table::{Cell, Column, Yielding};
use crate::ui::style;

const IMAGE: Column = Column::new("IMAGE", style::CYAN);
const SNAPSHOT: Column = Column::new("SNAPSHOT", style::AQUAMARINE);
const CREATED: Column = Column::new("CREATED", style::BRIGHT_WHITE).yielding(Yielding::Narrows(1));
const CREATED_BY: Column = Column::new("CREATED BY", style::BRIGHT_WHITE);
const COMMENT: Column = Column::new("COMMENT", style::WHITE).yielding(Yielding::Leaves(0));

/// Widest instruction, unless they are wanted in full.
const SHORT: usize = 50;

/// Show the steps that an image was made by, the newest first
#[derive(Debug, Args)]
#[command(
    after_help = "IMAGE and SNAPSHOT of a step name the tree after it: `klee run IMAGE@SNAPSHOT`. --quiet prints that
of the steps that have a snapshot.

Examples:
  klee image history nginx
  klee image history --no-trunc --format '{{.created_by}}' nginx:1.26"
)]
pub struct Options {
    /// Show instructions in full
    #[arg(long)]
    no_trunc: bool,

    #[command(flatten)]
    list: ListOptions,

    /// The image
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    image: String,
}

/// Prints the steps.
///
/// # Errors
/// When there is no such image.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let steps = match client.image_history(&options.image).await {
        Ok(steps) => steps,
        Err(error) => return Err(Noun::Image.failed(&client, &options.image, error).await),
    };
    if options.list.quiet {
        let with_snapshot = steps.iter().filter(|step| !step.snapshot.is_empty());
        let names: Vec<String> = with_snapshot
            .map(|step| format!("{}{}", step.image, step.snapshot))
            .collect();
        session.ui.ids(names.iter().map(String::as_str))?;
        return Ok(Exit::Success);
    }
    let created_by = match options.no_trunc {
        true => CREATED_BY,
        false => CREATED_BY.at_most(SHORT),
    };
    let columns = [IMAGE, SNAPSHOT, CREATED, created_by, COMMENT];
    let now = Timestamp::now();
    let row = |step: &HistoryEntry| {
        let created = age::ago(&step.created, now);
        let cells = [&step.image, &step.snapshot, &created, &step.created_by];
        let mut cells = cells.map(Cell::from).to_vec();
        cells.push(Cell::from(&step.comment));
        cells
    };
    options
        .list
        .format
        .list(session.ui, &steps, &columns, row)?;
    Ok(Exit::Success)
}
