//! `klee volume rm`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Remove volumes
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee volume rm my-vol")]
pub struct Options {
    /// Volumes
    #[arg(required = true, value_name = "VOLUME", value_parser = NonEmptyStringValueParser::new())]
    volumes: Vec<String>,
}

/// Removes each volume and prints its name.
///
/// # Errors
/// When the daemon can't be reached; a failure with one volume doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let remove = async |name: String| match client.volume_remove(&name).await {
        Ok(id) => session.ui.line(&id),
        Err(error) => Err(Noun::Volume.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.volumes, remove).await)
}
