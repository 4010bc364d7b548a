//! `klee container kill`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_types::Signal;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::options::checked;
use crate::suggest::Noun;

/// Send a signal to the first process of containers
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee kill web\n  klee kill -s HUP web")]
pub struct Options {
    /// The signal: its name or number
    #[arg(short, long, default_value = "KILL", value_parser = checked::<Signal>)]
    signal: String,

    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// Sends the signal to each container and prints its id.
///
/// # Errors
/// When the daemon can't be reached; a failure with one container doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let signal = Some(options.signal.as_str());
    let kill = async |name: String| match client.container_kill(&name, signal).await {
        Ok(id) => session.ui.line(&id),
        Err(error) => Err(Noun::Container.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.containers, kill).await)
}
