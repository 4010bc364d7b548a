//! `klee container restart`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_client::{Client, ClientError};

use crate::attach;
use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Stop containers and start them again, in the background; one that doesn't run is started
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee container restart devtest")]
pub struct Options {
    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// Restarts each container; prints its id and that of the execution instance.
///
/// # Errors
/// When the daemon can't be reached; a failure with one container doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let restart = async |name: String| match stopped(client, &name).await {
        Ok(id) => {
            session.ui.line(&id)?;
            attach::start_detached(session.ui, client, attach::own_process(&id, false), false).await
        }
        Err(error) => Err(Noun::Container.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.containers, restart).await)
}

/// Sees to it that the container doesn't run. The answer is its id.
async fn stopped(client: &Client, name: &str) -> Result<String, ClientError> {
    match client.container_stop(name, None).await {
        Err(error) if error.status() == Some(404) => {
            let inspected = client.container_inspect(name).await?;
            if inspected.container.running {
                return Err(error);
            }
            Ok(inspected.container.id)
        }
        other => other,
    }
}
