//! `klee container rm`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_client::Client;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Remove containers; volumes stay
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee container rm devtest\n  klee rmc -f devtest")]
pub struct Options {
    /// Stop containers that run
    #[arg(short, long)]
    force: bool,

    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// Removes each container and prints its id.
///
/// # Errors
/// When the daemon can't be reached; a failure with one container doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let remove = async |name: String| {
        let stopped = match options.force {
            true => stop(client, &name).await?,
            false => None,
        };
        match (client.container_remove(&name).await, stopped) {
            (Ok(id), _) => session.ui.line(&id),
            // It was one that is removed as soon as it stops.
            (Err(error), Some(id)) if error.status() == Some(404) => session.ui.line(&id),
            (Err(error), _) => {
                let running = error.status() == Some(409) && !options.force;
                let error = Noun::Container.failed(client, &name, error).await;
                Err(match running {
                    true => error.hint("stop it first, or use --force"),
                    false => error,
                })
            }
        }
    };
    Ok(session.for_each(&options.containers, remove).await)
}

/// Stops a container that may not run. The answer is its id if it did.
async fn stop(client: &Client, name: &str) -> CommandResult<Option<String>> {
    match client.container_stop(name, None).await {
        Ok(id) => Ok(Some(id)),
        // It doesn't run, or doesn't exist: the removal tells.
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(Noun::Container.failed(client, name, error).await),
    }
}
