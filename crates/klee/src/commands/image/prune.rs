//! `klee image prune`.

use clap::Args;
use kleene_client::PruneOptions;
use kleene_types::Span;

use crate::bytes;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::prompt;
use crate::when;

/// Remove images without a name that neither containers nor other images need
#[derive(Debug, Args)]
#[command(
    after_help = "The ids of the images go to standard output, the space that came free to standard error.

Filters: until=TIME (older than a span of time, as in 24h, or a point in time), label=NAME[=VALUE].
All that are given must fit.

Examples:
  klee image prune
  klee image prune --all --force
  klee image prune --build-cache --filter until=7d
  klee image prune -a --dry-run"
)]
pub struct Options {
    /// Remove images with a name as well
    #[arg(short, long)]
    all: bool,

    /// Don't ask
    #[arg(short, long)]
    force: bool,

    /// Remove what is kept for the next build as well
    #[arg(long)]
    build_cache: bool,

    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Remove only what fits
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter)]
    filter: Vec<String>,
}

/// Asks, removes, and prints what was removed.
///
/// # Errors
/// When the answer is no, or the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    if !options.force && !options.dry_run {
        let warning = match options.build_cache {
            false => "WARNING! This will remove all unused images.",
            true => "WARNING! This will remove all unused images and the build cache.",
        };
        prompt::confirm(session.ui, warning)?;
    }
    let wanted = PruneOptions {
        all: options.all,
        build_cache: options.build_cache,
        dry_run: options.dry_run,
        filters: options.filter,
    };
    let removed = session.client().await?.image_prune(&wanted).await?;
    session.print_ids(&removed.images)?;
    if !removed.images.is_empty() || removed.bytes > 0 {
        let what = match options.dry_run {
            true => "Reclaimable space",
            false => "Total reclaimed space",
        };
        let space = bytes::human(removed.bytes);
        session.ui.note(&format!("{what}: {space}"));
    }
    Ok(Exit::Success)
}

/// A filter; the daemon gets spans of time as they were typed.
fn filter(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("until", span)) if span.parse::<Span>().is_ok() => Ok(text.to_owned()),
        Some(("until", time)) => when::parse(time).map(|time| format!("until={time}")),
        Some(("label", "")) => Err("'label' needs a value".to_owned()),
        Some(("label", _)) => Ok(text.to_owned()),
        Some((key, _)) => Err(format!("unknown key '{key}': use one of until, label")),
        None => Err("the form is KEY=VALUE".to_owned()),
    }
}
