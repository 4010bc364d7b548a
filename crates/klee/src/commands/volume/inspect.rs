//! `klee volume inspect`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::format::InspectOptions;
use crate::suggest::Noun;

/// Show everything about volumes
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  klee volume inspect my-vol\n  klee isv --format '{{.mountpoint}}' my-vol"
)]
pub struct Options {
    #[command(flatten)]
    inspect: InspectOptions,

    /// Volumes
    #[arg(required = true, value_name = "VOLUME", value_parser = NonEmptyStringValueParser::new())]
    volumes: Vec<String>,
}

/// Prints each volume.
///
/// # Errors
/// When the daemon can't be reached; a failure with one volume doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let inspect = async |name: String| match client.volume_inspect(&name).await {
        Ok(volume) => options
            .inspect
            .format
            .object(session.ui, &volume, Some("volume")),
        Err(error) => Err(Noun::Volume.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.volumes, inspect).await)
}
