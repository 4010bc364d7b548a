//! `klee container rename`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::ContainerConfig;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::suggest::Noun;

/// Rename a container
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee container rename devtest webserver")]
pub struct Options {
    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,

    /// Its new name
    new_name: String,
}

/// Renames the container and prints its id.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let config = ContainerConfig {
        name: Some(options.new_name),
        ..ContainerConfig::default()
    };
    let client = session.client().await?;
    match client.container_update(&options.container, &config).await {
        Ok(done) => session.ui.line(&done.id)?,
        Err(error) => {
            return Err(Noun::Container
                .failed(&client, &options.container, error)
                .await);
        }
    }
    Ok(Exit::Success)
}
