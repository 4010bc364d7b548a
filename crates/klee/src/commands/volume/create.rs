//! `klee volume create`.

use clap::Args;
use kleene_api::VolumeConfig;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};

/// Create a volume; one that exists is left as it is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee volume create my-vol")]
pub struct Options {
    /// Its name: letters, digits, `_`, `.` and `-`
    #[arg(value_name = "NAME")]
    name: String,
}

/// Creates the volume and prints its name.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let name = options.name.clone();
    let config = VolumeConfig { name: options.name };
    match session.client().await?.volume_create(&config).await {
        Ok(id) => session.ui.line(&id)?,
        Err(error) => return Err(CommandError::about("volume", &name, error)),
    }
    Ok(Exit::Success)
}
