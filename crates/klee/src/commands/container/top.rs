//! `klee container top`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::ProcessInfo;

use crate::bytes;
use crate::commands::Session;
use crate::error::{CommandResult, Exit};
use crate::format::Format;
use crate::suggest::Noun;
use crate::table::{Align, Cell, Column};
use crate::ui::style;

const COLUMNS: &[Column] = &[
    Column::new("PID", style::CYAN).aligned(Align::Right),
    Column::new("USER", style::BOLD_AQUAMARINE),
    Column::new("STATE", style::BRIGHT_WHITE).aligned(Align::Center),
    Column::new("CPU", style::BRIGHT_WHITE).aligned(Align::Right),
    Column::new("RSS", style::BRIGHT_WHITE).aligned(Align::Right),
    Column::new("STARTED", style::BRIGHT_WHITE),
    Column::new("COMMAND", style::BOLD).at_most(usize::MAX),
];

/// Show the processes of a container
#[derive(Debug, Args)]
#[command(
    after_help = "PID is the process's id on the host, CPU the processor time it has used in minutes and seconds,
RSS its resident memory.

Examples:
  klee top web
  klee top --format '{{.inside_pid}} {{.command}}' web"
)]
pub struct Options {
    /// How to print them: table, json, or a template for each line such as '{{.pid}} {{.user}}'
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::parse)]
    format: Format,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,
}

/// Prints the processes.
///
/// # Errors
/// When the request fails.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let processes = match client.container_top(&options.container).await {
        Ok(processes) => processes,
        Err(error) => {
            return Err(Noun::Container
                .failed(&client, &options.container, error)
                .await);
        }
    };
    options.format.list(session.ui, &processes, COLUMNS, row)?;
    Ok(Exit::Success)
}

fn row(process: &ProcessInfo) -> Vec<Cell> {
    vec![
        process.pid.to_string().into(),
        Cell::from(&process.user),
        Cell::from(&process.state),
        time(process.cpu_us).into(),
        bytes::human(process.resident).into(),
        started(&process.started).into(),
        Cell::from(&process.command),
    ]
}

/// Processor time as `MINUTES:SECONDS`, with hundredths as ps(1) has them.
fn time(microseconds: u64) -> String {
    let hundredths = microseconds / 10_000;
    let (minutes, rest) = (hundredths / 6000, hundredths % 6000);
    format!("{minutes}:{:02}.{:02}", rest / 100, rest % 100)
}

/// A time to the second.
fn started(time: &str) -> String {
    match time.split_once('T') {
        Some((day, time)) => format!("{day} {}", time.get(..8).unwrap_or(time)),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(0), "0:00.00");
        assert_eq!(time(61_239_999), "1:01.23");
        assert_eq!(time(3_600_000_000), "60:00.00");
        assert_eq!(
            started("2024-02-29T14:54:05.317207Z"),
            "2024-02-29 14:54:05"
        );
        assert_eq!(started("?"), "?");
    }
}
