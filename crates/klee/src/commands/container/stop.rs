//! `klee container stop`.

use std::str::FromStr;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_types::Span;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::suggest::Noun;

/// Stop containers; what doesn't end when it is asked to is killed after a while
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee container stop devtest\n  klee stop -t 1m database")]
pub struct Options {
    /// Time they have to end before they are killed, as in 30s [default: the container's own, or
    /// else 10s]
    #[arg(short, long, value_name = "TIME", value_parser = Span::from_str)]
    time: Option<Span>,

    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// Stops each container and prints its id.
///
/// # Errors
/// When the daemon can't be reached; a failure with one container doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let time = options.time.map(Span::duration);
    let stop = async |name: String| match client.container_stop(&name, time).await {
        Ok(id) => session.ui.line(&id),
        Err(error) => Err(Noun::Container.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.containers, stop).await)
}
