//! `klee container exec-stop`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult};

/// Stop execution instances, whose ids `run`, `exec` and `start` print
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  klee container exec-stop bd16b0b23a25
  klee container exec-stop --force --stop-container bd16b0b23a25")]
pub struct Options {
    /// Kill the process at once instead of asking it to end
    #[arg(short, long)]
    force: bool,

    /// Stop its container too
    #[arg(long)]
    stop_container: bool,

    /// Ids of execution instances
    #[arg(required = true, value_name = "EXEC", value_parser = NonEmptyStringValueParser::new())]
    execs: Vec<String>,
}

/// Stops each execution instance and prints its id.
///
/// # Errors
/// When the daemon can't be reached; a failure with one instance doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let (force, container) = (options.force, options.stop_container);
    let stop = async |id: String| match client.exec_stop(&id, force, container).await {
        Ok(id) => session.ui.line(&id),
        Err(error) => Err(CommandError::about("execution instance", &id, error)),
    };
    Ok(session.for_each(&options.execs, stop).await)
}
