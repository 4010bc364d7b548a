//! `klee info`.

use clap::Args;

use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::format::Format;

/// Show what the daemon is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  klee info\n  klee info --format json")]
pub struct Options {
    /// How to print it: table, json, or a template such as '{{.version}}'
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::parse)]
    format: Format,
}

/// Prints what the daemon says about itself.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let info = client.info().await?;
    if options.format != Format::Table {
        options.format.object(session.ui, &info, None)?;
    } else {
        let text = format!(
            "Address:        {}\nVersion:        {}\nSystem:         {}\nStorage driver: {}\n\
             Kleene root:    {}\n",
            client.address(),
            info.version,
            info.os,
            info.storage_driver,
            info.kleene_root
        );
        session.ui.raw(text.as_bytes())?;
    }
    Ok(Exit::Success)
}
