//! `klee image save`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::archive::Destination;
use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::interrupt::unless_interrupted;
use crate::suggest::Noun;

/// Write images with their layers and settings to a tar archive
#[derive(Debug, Args)]
#[command(
    after_help = "The archive is an OCI image layout, which `klee image load` and other tools (docker load, podman
load, skopeo) read. FILE is complete or isn't there.

Examples:
  klee image save -o app.tar app:1.0 app:1.1
  klee image save app | zstd > app.tar.zst"
)]
pub struct Options {
    /// File to write [default: standard output, unless that is a terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Images
    #[arg(required = true, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
    images: Vec<String>,
}

/// Saves the images.
///
/// # Errors
/// When there is no such image, or the archive can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let destination = Destination::open(options.output.as_deref())?;
    let client = session.client().await?;
    unless_interrupted(async {
        let images = &options.images;
        let archive = match (client.image_save(images).await, images.as_slice()) {
            (Ok(archive), _) => archive,
            (Err(error), [image]) => return Err(Noun::Image.failed(&client, image, error).await),
            (Err(error), _) => return Err(CommandError::from(error)),
        };
        destination.write(archive).await
    })
    .await?;
    Ok(Exit::Success)
}
