//! `klee container inspect`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::CommandResult;
use crate::format::InspectOptions;
use crate::suggest::Noun;

/// Show everything about containers
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  klee container inspect devtest\n  klee isc --format '{{.status}} {{.exit_code}}' devtest"
)]
pub struct Options {
    #[command(flatten)]
    inspect: InspectOptions,

    /// Containers
    #[arg(required = true, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// Prints each container.
///
/// # Errors
/// When the daemon can't be reached; a failure with one container doesn't stop the others.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = &session.client().await?;
    let inspect = async |name: String| match client.container_inspect(&name).await {
        Ok(container) => options
            .inspect
            .format
            .object(session.ui, &container, Some("container")),
        Err(error) => Err(Noun::Container.failed(client, &name, error).await),
    };
    Ok(session.for_each(&options.containers, inspect).await)
}
