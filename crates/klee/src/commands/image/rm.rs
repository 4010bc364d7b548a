//! `klee image rm`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Remove images
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee image rm nginx:latest")]
pub struct Options {
    /// Images
    #[arg(required = true, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
    images: Vec<String>,
}

/// Removes each image and prints its id.
///
/// # Errors
/// When the daemon can't be reached; a failure with one image doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let remove = async |name: String| match client.image_remove(&name).await {
        Ok(id) => session.ui.line(&id),
        Err(error) => Err(Noun::Image.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.images, remove).await)
}
