//! `klee container diff`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::format::Format;
use crate::suggest::Noun;
use crate::table::printable;

/// Show what differs between a container and its image
#[derive(Debug, Args)]
#[command(
    after_help = "Each line is a letter and a path: A what was added, C what was changed, D what was deleted.

Examples:
  klee diff web
  klee diff --format json web"
)]
pub struct Options {
    /// What to print: table (lines as below), json, or a template such as '{{.kind}} {{.path}}'
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::parse)]
    format: Format,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,
}

/// Prints the differences by path.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let changes = match client.container_changes(&options.container).await {
        Ok(changes) => changes,
        Err(error) => {
            return Err(Noun::Container
                .failed(&client, &options.container, error)
                .await);
        }
    };
    if options.format != Format::Table {
        options
            .format
            .list(session.ui, &changes, &[], |_| Vec::new())?;
        return Ok(Exit::Success);
    }
    let mut text = String::new();
    for change in &changes {
        let letter = match change.kind.as_str() {
            "added" => 'A',
            "changed" => 'C',
            "deleted" => 'D',
            _ => '?',
        };
        let path = printable(&change.path);
        text.push_str(&format!("{letter} {path}\n"));
    }
    session.ui.raw(text.as_bytes())?;
    Ok(Exit::Success)
}
