//! `klee container wait`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use kleene_client::WaitCondition;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::suggest::Noun;

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, Args)]
#[command(
    after_help = "A container that is restarted by its restart policy has not ended.

Examples:
  klee wait job
  klee wait --condition removed job"
)]
pub struct Options {
    /// What to wait for
    #[arg(long, value_enum, default_value_t)]
    condition: Condition,

    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// What a container is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Condition {
    /// It doesn't run, which may be so already
    #[default]
    NotRunning,
    /// Its present run has ended, or the next one
    NextExit,
    /// It has been removed
    Removed,
}

/// Waits for all of the containers and prints their exit codes in the order of the command line.
///
/// # Errors
/// When the daemon can't be reached; a failure with one container doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let condition = match options.condition {
        Condition::NotRunning => WaitCondition::NotRunning,
        Condition::NextExit => WaitCondition::NextExit,
        Condition::Removed => WaitCondition::Removed,
    };
    // All at once: one of them could end, and run again, while another is waited for.
    let waits = options
        .containers
        .iter()
        .map(|name| client.container_wait(name, condition));
    let mut exit = Exit::Success;
    for (name, ended) in options.containers.iter().zip(join_all(waits).await) {
        match ended {
            Ok(ended) => session
                .ui
                .raw(format!("{}\n", ended.exit_code).as_bytes())?,
            Err(error) => {
                let error = Noun::Container.failed(client, name, error).await;
                session.ui.error(&error);
                exit = Exit::Failure;
            }
        }
    }
    Ok(exit)
}
