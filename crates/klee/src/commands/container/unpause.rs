//! `klee container unpause`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Let the processes of paused containers go on
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee unpause web")]
pub struct Options {
    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// Lets each container go on and prints its id.
///
/// # Errors
/// When the daemon can't be reached; a failure with one container doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let unpause = async |name: String| match client.container_unpause(&name).await {
        Ok(id) => session.ui.line(&id),
        Err(error) => Err(Noun::Container.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.containers, unpause).await)
}
