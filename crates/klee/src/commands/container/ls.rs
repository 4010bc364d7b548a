//! `klee container ls`.

use clap::Args;
use kleene_api::ContainerSummary;
use kleene_types::Timestamp;

use crate::age;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::options::{Format, ListOptions};
use crate::table::{Align, Cell, Column};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("CONTAINER ID", style::CYAN).at_least(13),
    Column::new("NAME", style::BOLD_AQUAMARINE),
    Column::new("IMAGE", style::BLUE),
    Column::new("COMMAND", style::BRIGHT_WHITE).at_most(40),
    Column::new("CREATED", style::BRIGHT_WHITE),
    Column::new("AUTORUN", style::BRIGHT_WHITE).aligned(Align::Center),
    Column::new("STATUS", ""),
    Column::new("JID", style::WHITE),
];

/// List containers, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  klee container ls
  klee lsc -a
  klee lsc -a --format json")]
pub struct Options {
    /// List stopped containers too
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    list: ListOptions,
}

/// Prints the containers.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let containers = session.client().await?.container_list(options.all, false).await?;
    if options.list.quiet {
        let ids = containers
            .iter()
            .map(|summary| summary.container.id.as_str());
        session.ui.ids(ids)?;
    } else if options.list.format == Format::Json {
        session.ui.json(&containers)?;
    } else {
        let now = Timestamp::now();
        let rows = containers.iter().map(|summary| row(summary, now));
        session.ui.table(COLUMNS, rows.collect())?;
    }
    Ok(Exit::Success)
}

fn row(summary: &ContainerSummary, now: Timestamp) -> Vec<Cell> {
    let container = &summary.container;
    vec![
        Cell::from(&container.id),
        Cell::from(&container.name),
        image(summary),
        Cell::from(container.cmd.join(" ")),
        Cell::from(age::ago(&container.created, now)),
        match container.restart_policy.as_str() {
            "on-startup" => Cell::styled("yes", style::BOLD),
            _ => Cell::from("no"),
        },
        if container.running {
            Cell::styled("running", style::GREEN)
        } else {
            Cell::styled("stopped", style::RED)
        },
        Cell::from(summary.jid.map_or(String::new(), |jid| jid.to_string())),
    ]
}

/// Name and tag of the image, or its id when another image has taken its name.
fn image(summary: &ContainerSummary) -> Cell {
    if summary.image_name.is_empty() {
        return Cell::styled(&summary.container.image_id, style::BOLD_BRIGHT_MAGENTA);
    }
    Cell::styled(format!("{}:", summary.image_name), style::BOLD_BRIGHT_BLUE)
        .and(&summary.image_tag, style::BRIGHT_CYAN)
}
