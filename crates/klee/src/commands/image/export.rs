//! `klee image export`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::archive::Destination;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::interrupt::unless_interrupted;
use crate::suggest::Noun;

/// Write the files of an image to a tar archive
#[derive(Debug, Args)]
#[command(
    after_help = "The archive has the files alone, without layers and settings: those are what `klee image save`
keeps.

Examples:
  klee image export -o rootfs.tar base
  klee image export base | tar t"
)]
pub struct Options {
    /// File to write [default: standard output, unless that is a terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The image
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    image: String,
}

/// Exports the image.
///
/// # Errors
/// When there is no such image, or the archive can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let destination = Destination::open(options.output.as_deref())?;
    let client = session.client().await?;
    unless_interrupted(async {
        match client.image_export(&options.image).await {
            Ok(archive) => destination.write(archive).await,
            Err(error) => Err(Noun::Image.failed(&client, &options.image, error).await),
        }
    })
    .await?;
    Ok(Exit::Success)
}
