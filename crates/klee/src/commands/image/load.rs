//! `klee image load`.

use std::path::PathBuf;

use clap::Args;

use crate::archive::Source;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::interrupt::unless_interrupted;
use crate::progress::Shown;

/// Take in the images of a tar archive
#[derive(Debug, Args)]
#[command(
    after_help = "The archive is one of `klee image save` or `docker save`, or any other OCI image layout; it may be
compressed by gzip.

Examples:
  klee image load -i app.tar
  docker save app | klee image load"
)]
pub struct Options {
    /// File to read [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Print only the images' ids, and no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Loads the images and prints what they are.
///
/// # Errors
/// When the archive can't be read, or is bad.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let source = Source::open(options.input.as_deref())?;
    let archive = source.tar(Shown::bars(options.quiet))?;
    let client = session.client().await?;
    let images = unless_interrupted(async { Ok(client.image_load(archive).await?) }).await?;
    for image in images {
        match (options.quiet, image.name.as_str()) {
            (true, _) => session.ui.line(&image.id)?,
            (false, "") => session.ui.line(&format!("Loaded image ID: {}", image.id))?,
            (false, name) => session.ui.line(&format!("Loaded image: {name}"))?,
        }
    }
    Ok(Exit::Success)
}
