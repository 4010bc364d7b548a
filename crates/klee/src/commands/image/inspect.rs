//! `klee image inspect`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::format::InspectOptions;
use crate::suggest::Noun;

/// Show everything about images
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  klee image inspect nginx:latest\n  klee isi --format '{{join .cmd \" \"}}' nginx"
)]
pub struct Options {
    #[command(flatten)]
    inspect: InspectOptions,

    /// Images
    #[arg(required = true, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new())]
    images: Vec<String>,
}

/// Prints each image.
///
/// # Errors
/// When the daemon can't be reached; a failure with one image doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let inspect = async |name: String| match client.image_inspect(&name).await {
        Ok(image) => options.inspect.format.object(session.ui, &image, None),
        Err(error) => Err(Noun::Image.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.images, inspect).await)
}
