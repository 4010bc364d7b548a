//! `klee image push`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::ImagePushConfig;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::follow;
use crate::interrupt::unless_interrupted;
use crate::progress::Shown;
use crate::registries;

/// Push an image to a registry
#[derive(Debug, Args)]
#[command(
    after_help = "Without REFERENCE the image's own name tells where to. Layers that the registry has already aren't
sent. The output is the digest of the image's manifest.

Examples:
  klee push quay.io/team/app:1.0
  klee push app:1.0 registry.example.org:5000/team/app:1.0"
)]
pub struct Options {
    /// Print only the digest, and no progress
    #[arg(short, long)]
    quiet: bool,

    /// The image
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    image: String,

    /// Where to, [REGISTRY/]REPOSITORY[:TAG]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    reference: Option<String>,
}

/// Pushes the image, shows how far that has come, and prints the digest.
///
/// # Errors
/// When it can't be pushed.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let target = options.reference.as_deref().unwrap_or(&options.image);
    let credentials = registries::credentials(session.ui, registries::of(target));
    let anonymous = credentials.is_none();
    let target = target.to_owned();
    let config = ImagePushConfig {
        image: options.image,
        reference: options.reference,
        credentials,
    };
    let client = session.client().await?;
    let work = async {
        let work = client.image_push(&config).await?;
        follow::to_the_end(work, Shown::bars_or_lines(options.quiet)).await
    };
    let closing = unless_interrupted(work)
        .await
        .map_err(|error| registries::failed("push", &target, anonymous, error))?;
    if !options.quiet && !closing.message.message.is_empty() {
        session.ui.line(&closing.message.message)?;
    }
    session.ui.line(&closing.message.data)?;
    Ok(Exit::Success)
}
