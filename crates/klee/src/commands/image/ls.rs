//! `klee image ls`.

use std::str::FromStr;

use clap::Args;
use kleene_api::Image;
use kleene_types::Timestamp;

use crate::age;
use crate::bytes;
use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::image_filter::{self, Filter};
use crate::options::ListOptions;
use crate::table::{Align, Cell, Column, Yielding};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("ID", style::CYAN),
    Column::new("NAME", style::BOLD_AQUAMARINE),
    Column::new("TAG", style::AQUAMARINE),
    Column::new("CREATED", style::BRIGHT_WHITE).yielding(Yielding::Narrows(1)),
    Column::new("SIZE", style::BRIGHT_WHITE)
        .aligned(Align::Right)
        .yielding(Yielding::Leaves(1)),
    Column::new("SHARED", style::WHITE)
        .aligned(Align::Right)
        .yielding(Yielding::Leaves(0)),
];

const DIGEST: Column = Column::new("DIGEST", style::WHITE).yielding(Yielding::Narrows(0));

/// As much of a digest as tells it from others.
const SHORT_DIGEST: usize = "sha256:0123456789ab".len();

/// List images, the newest first
#[derive(Debug, Args)]
#[command(
    after_help = "SIZE is what an image occupies itself and what would come free with it, SHARED what the images
occupy that it was made of.

Filters: dangling=true|false (without a name), reference=PATTERN (with * and ?),
label=NAME[=VALUE], before=IMAGE, since=IMAGE, os, architecture. Several values of one key are
alternatives; all keys and all labels that are given must fit.

Examples:
  klee image ls
  klee lsi --format json
  klee lsi --filter 'reference=quay.io/*/*' --digests
  klee rmi $(klee lsi -q --filter dangling=true)"
)]
pub struct Options {
    /// List those too that only keep steps of builds
    #[arg(short, long)]
    all: bool,

    /// List only what fits
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = Filter::from_str)]
    filter: Vec<Filter>,

    /// Show the digests of the manifests that images were pulled by
    #[arg(long)]
    digests: bool,

    /// Show digests in full
    #[arg(long)]
    no_trunc: bool,

    #[command(flatten)]
    list: ListOptions,
}

/// Prints the images.
///
/// # Errors
/// When the request fails, or a filter is about an image that isn't there.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let mut images = session.client().await?.image_list(options.all).await?;
    image_filter::retain(&options.filter, &mut images)
        .map_err(|error| CommandError::failure(format!("--filter: {error}")))?;
    if options.list.quiet {
        session
            .ui
            .ids(images.iter().map(|image| image.id.as_str()))?;
        return Ok(Exit::Success);
    }
    let mut columns = COLUMNS.to_vec();
    if options.digests {
        columns.push(DIGEST);
    }
    let now = Timestamp::now();
    let row = |image: &Image| {
        let mut cells = row(image, now);
        if options.digests {
            cells.push(Cell::from(digest(&image.digest, options.no_trunc)));
        }
        cells
    };
    options
        .list
        .format
        .list(session.ui, &images, &columns, row)?;
    Ok(Exit::Success)
}

fn row(image: &Image, now: Timestamp) -> Vec<Cell> {
    let created = age::ago(&image.created, now);
    let (size, shared) = (bytes::human(image.size), bytes::human(image.shared_size));
    [&image.id, &image.name, &image.tag, &created, &size, &shared]
        .map(Cell::from)
        .to_vec()
}

fn digest(digest: &str, whole: bool) -> &str {
    match digest.get(..SHORT_DIGEST) {
        Some(short) if !whole => short,
        _ => digest,
    }
}
