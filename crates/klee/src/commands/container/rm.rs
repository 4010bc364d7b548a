//! `klee container rm`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

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
        if options.force {
            match client.container_stop(&name).await {
                Ok(_) => {}
                // It doesn't run, or doesn't exist: the removal tells.
                Err(error) if error.status() == Some(404) => {}
                Err(error) => return Err(Noun::Container.failed(client, &name, error).await),
            }
        }
        match client.container_remove(&name).await {
            Ok(id) => session.ui.line(&id),
            Err(error) if error.status() == Some(409) && !options.force => {
                let error = Noun::Container.failed(client, &name, error).await;
                Err(error.hint("stop it first, or use --force"))
            }
            Err(error) => Err(Noun::Container.failed(client, &name, error).await),
        }
    };
    Ok(session.for_each(&options.containers, remove).await)
}
