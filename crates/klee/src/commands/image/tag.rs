//! `klee image tag`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::suggest::Noun;

/// Rename an image; an image that has the name already loses it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee image tag nginx:latest nginx:1.26")]
pub struct Options {
    /// The image
    #[arg(value_name = "SOURCE_IMAGE", value_parser = NonEmptyStringValueParser::new())]
    image: String,

    /// Its new name and tag, NAME[:TAG]
    nametag: String,
}

/// Renames the image and prints its id.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    match client.image_tag(&options.image, &options.nametag).await {
        Ok(id) => session.ui.line(&id)?,
        Err(error) => return Err(Noun::Image.failed(&client, &options.image, error).await),
    }
    Ok(Exit::Success)
}
