//! `klee container export`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::archive::Destination;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::interrupt::unless_interrupted;
use crate::suggest::Noun;

/// Write the files of a container to a tar archive
#[derive(Debug, Args)]
#[command(
    after_help = "What is mounted into the container is not in the archive.

Examples:
  klee container export -o web.tar web
  klee container export web | klee image import -t web:flat -"
)]
pub struct Options {
    /// File to write [default: standard output, unless that is a terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,
}

/// Exports the container.
///
/// # Errors
/// When there is no such container, or the archive can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let destination = Destination::open(options.output.as_deref())?;
    let client = session.client().await?;
    unless_interrupted(async {
        match client.container_export(&options.container).await {
            Ok(archive) => destination.write(archive).await,
            Err(error) => Err(Noun::Container
                .failed(&client, &options.container, error)
                .await),
        }
    })
    .await?;
    Ok(Exit::Success)
}
