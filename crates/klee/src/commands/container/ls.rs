//! `klee container ls`.

use std::str::FromStr;

use clap::Args;
use kleene_api::{Container, ContainerSummary};
use kleene_types::Timestamp;

use crate::age;
use crate::bytes;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::filter::{self, Filter};
use crate::options::ListOptions;
use crate::table::{Align, Cell, Column, Yielding};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("CONTAINER ID", style::CYAN).at_least(13),
    Column::new("NAME", style::BOLD_AQUAMARINE),
    Column::new("IMAGE", style::BLUE).yielding(Yielding::Narrows(1)),
    Column::new("COMMAND", style::BRIGHT_WHITE).at_most(40),
    Column::new("CREATED", style::BRIGHT_WHITE).yielding(Yielding::Narrows(2)),
    Column::new("AUTORUN", style::BRIGHT_WHITE)
        .aligned(Align::Center)
        .yielding(Yielding::Leaves(0)),
    Column::new("STATUS", ""),
    Column::new("JID", style::WHITE).yielding(Yielding::Leaves(1)),
];

const SIZE: Column = Column::new("SIZE", style::BRIGHT_WHITE).aligned(Align::Right);

/// List containers, the newest first
#[derive(Debug, Args)]
#[command(
    after_help = "Filters: id, name, image, status, volume, exited=CODE, health, restart. An id may be its beginning,
a name any part of it. Several values of one key are alternatives; all keys that are given must fit.

Examples:
  klee container ls
  klee lsc -a --format json
  klee lsc --filter health=unhealthy
  klee rm $(klee ls -q --filter exited=0 --filter name=job-)
  klee ls --format '{{.name}}\t{{.status}}'"
)]
pub struct Options {
    /// List stopped containers too
    #[arg(short, long)]
    all: bool,

    /// List only what fits; implies --all where it is about stopped containers
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = Filter::from_str)]
    filter: Vec<Filter>,

    /// Show what the containers' own files occupy, which takes time to find out
    #[arg(short, long)]
    size: bool,

    #[command(flatten)]
    list: ListOptions,
}

/// Prints the containers.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let all = options.all || filter::want_stopped(&options.filter);
    let client = session.client().await?;
    let mut containers = client.container_list(all, options.size).await?;
    containers.retain(|summary| filter::fits(&options.filter, summary));
    if options.list.quiet {
        let ids = containers
            .iter()
            .map(|summary| summary.container.id.as_str());
        session.ui.ids(ids)?;
        return Ok(Exit::Success);
    }
    let mut columns = COLUMNS.to_vec();
    if options.size {
        columns.push(SIZE);
    }
    let now = Timestamp::now();
    let row = |summary: &ContainerSummary| {
        let mut cells = row(summary, now);
        if options.size {
            cells.push(summary.size.map(bytes::human).unwrap_or_default().into());
        }
        cells
    };
    options
        .list
        .format
        .list(session.ui, &containers, &columns, row)?;
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
            "no" | "" => Cell::from("no"),
            _ => Cell::styled("yes", style::BOLD),
        },
        status(container, now),
        Cell::from(summary.jid.map_or(String::new(), |jid| jid.to_string())),
    ]
}

/// What a container does; how it has ended only when that was not as it should be.
fn status(container: &Container, now: Timestamp) -> Cell {
    let code = container.exit_code.unwrap_or(0);
    match container.status.as_str() {
        "paused" => Cell::styled("paused", style::YELLOW),
        "restarting" => Cell::styled(format!("restarting ({code})"), style::YELLOW),
        "created" => Cell::styled("created", style::RED),
        _ if container.running => match container.health.as_ref().map(|h| h.status.as_str()) {
            None => Cell::styled("running", style::GREEN),
            Some("healthy") => Cell::styled("running (healthy)", style::GREEN),
            Some(health) => Cell::styled(format!("running ({health})"), style::YELLOW),
        },
        _ if code == 0 && !container.out_of_memory => Cell::styled("stopped", style::RED),
        _ => {
            let memory = match container.out_of_memory {
                true => ", out of memory",
                false => "",
            };
            let finished = container.finished.as_deref();
            let age = finished.map(|time| format!(" {}", age::ago(time, now)));
            let age = age.unwrap_or_default();
            Cell::styled(format!("exited ({code}{memory}){age}"), style::RED)
        }
    }
}

/// Name and tag of the image, or its id when another image has taken its name.
fn image(summary: &ContainerSummary) -> Cell {
    if summary.image_name.is_empty() {
        return Cell::styled(&summary.container.image_id, style::BOLD_BRIGHT_MAGENTA);
    }
    Cell::styled(format!("{}:", summary.image_name), style::BOLD_BRIGHT_BLUE)
        .and(&summary.image_tag, style::BRIGHT_CYAN)
}
