//! `klee container stats`.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_api::ContainerStats;
use kleene_client::Client;
use kleene_types::{Span, Timestamp};
use serde::Serialize;

use crate::bytes::human;
use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::format::Format;
use crate::suggest::Noun;
use crate::table::{Align, Cell, Column, Yielding};
use crate::terminal;
use crate::ui::{Ui, style};

const COLUMNS: &[Column] = &[
    Column::new("CONTAINER ID", style::CYAN).at_least(13),
    Column::new("NAME", style::BOLD_AQUAMARINE),
    Column::new("CPU %", style::BOLD)
        .at_least(7)
        .aligned(Align::Right),
    Column::new("MEM USAGE / LIMIT", style::BRIGHT_WHITE).aligned(Align::Right),
    Column::new("MEM %", style::BOLD)
        .at_least(7)
        .aligned(Align::Right)
        .yielding(Yielding::Leaves(2)),
    Column::new("NET I/O", style::BRIGHT_WHITE)
        .aligned(Align::Right)
        .yielding(Yielding::Leaves(1)),
    Column::new("BLOCK I/O", style::BRIGHT_WHITE)
        .aligned(Align::Right)
        .yielding(Yielding::Leaves(0)),
    Column::new("PIDS", style::BRIGHT_WHITE).aligned(Align::Right),
];

/// Show what running containers use
#[derive(Debug, Args)]
#[command(
    after_help = "CPU % is measured between two readings; 100 % is one processor. MEM % is of the limit, or of the
machine's memory. NET I/O is what was received and sent, BLOCK I/O what was read and written, since
the container was started. What the host doesn't measure is shown as --. A terminal that is too
narrow shows fewer columns.

Examples:
  klee stats
  klee stats --no-stream web db
  klee stats --interval 5s --format '{{.time}} {{.name}} {{.cpu_percent}}'"
)]
pub struct Options {
    /// Show one measurement only
    #[arg(long)]
    no_stream: bool,

    /// Time between two readings
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Span,

    /// How to print them: table, json (an object for each container, one a line), or a template for
    /// each line
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::parse)]
    format: Format,

    /// Containers [default: all that run]
    #[arg(value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    containers: Vec<String>,
}

/// A time that is long enough to measure something in it.
fn interval(text: &str) -> Result<Span, String> {
    const LEAST: Duration = Duration::from_millis(100);
    match Span::from_str(text) {
        Ok(span) if span.duration() < LEAST => Err("the least is 100ms".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

/// A reading with what comes of it and the one before.
#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    stats: ContainerStats,
    /// Processor time a second since the reading before, in hundredths of a processor.
    cpu_percent: Option<f64>,
    /// Part of the limit.
    memory_percent: Option<f64>,
}

/// Prints measurements until klee is interrupted.
///
/// # Errors
/// When a request fails, or the output can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let mut before = read(&client, &options.containers).await?;
    let mut first = true;
    loop {
        tokio::time::sleep(options.interval.duration()).await;
        let now = read(&client, &options.containers).await?;
        let measured: Vec<Measured> = now
            .iter()
            .map(|stats| {
                let same = before.iter().find(|before| before.id == stats.id);
                measure(same, stats)
            })
            .collect();
        print(session.ui, &options, &measured, first)?;
        if options.no_stream {
            return Ok(Exit::Success);
        }
        before = now;
        first = false;
    }
}

async fn read(client: &Client, names: &[String]) -> CommandResult<Vec<ContainerStats>> {
    match client.container_stats(names).await {
        Ok(stats) => Ok(stats),
        Err(error) => match names {
            [name] => Err(Noun::Container.failed(client, name, error).await),
            _ => Err(CommandError::from(error)),
        },
    }
}

fn measure(before: Option<&ContainerStats>, now: &ContainerStats) -> Measured {
    let time = |stats: &ContainerStats| {
        let read: Timestamp = stats.read.parse().ok()?;
        Some((read.microseconds(), stats.cpu?.total_us))
    };
    let rate = before.and_then(time).zip(time(now)).and_then(|(a, b)| {
        let (wall, cpu) = (b.0.checked_sub(a.0)?, b.1.checked_sub(a.1)?);
        (wall > 0).then(|| 100.0 * cpu as f64 / wall as f64)
    });
    let memory = now.memory.filter(|memory| memory.limit > 0);
    let rounded = |percent: f64| (percent * 100.0).round() / 100.0;
    Measured {
        cpu_percent: rate.map(rounded),
        memory_percent: memory.map(|m| rounded(100.0 * m.used as f64 / m.limit as f64)),
        stats: now.clone(),
    }
}

fn print(ui: Ui, options: &Options, measured: &[Measured], first: bool) -> CommandResult<()> {
    let text = match &options.format {
        Format::Table => ui.drawn(COLUMNS, measured.iter().map(row).collect()),
        format => {
            let lines: Result<Vec<String>, _> =
                measured.iter().map(|one| format.line(one)).collect();
            lines?.iter().map(|line| format!("{line}\n")).collect()
        }
    };
    let text = match (&options.format, options.no_stream, ui.is_live()) {
        (Format::Table, false, true) => redrawn(&text, first),
        // Plain blocks, with an empty line between them.
        (Format::Table, false, false) if !first => format!("\n{text}"),
        _ => text,
    };
    ui.raw(text.as_bytes())
}

/// A table in place of the one that a terminal shows: line by line, so that nothing flickers, and as
/// many lines as there is room for.
fn redrawn(table: &str, first: bool) -> String {
    let rows = terminal::size().map_or(usize::MAX, |size| usize::from(size.rows));
    // Cursor to the top left; the first time everything is erased (ECMA-48: ED, CUP).
    let mut text = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    for line in table.lines().take(rows.saturating_sub(1)) {
        // Erases what is left of the line that was there (EL).
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    text
}

fn row(measured: &Measured) -> Vec<Cell> {
    let Measured { stats, .. } = measured;
    let none = || "--".to_owned();
    let percent = |percent: Option<f64>| percent.map_or_else(none, |p| format!("{p:.2}%"));
    let pair = |a: u64, b: u64| format!("{} / {}", human(a), human(b));
    let network = match stats.network.as_slice() {
        [] => none(),
        interfaces => pair(
            interfaces.iter().map(|i| i.rx_bytes).sum(),
            interfaces.iter().map(|i| i.tx_bytes).sum(),
        ),
    };
    vec![
        Cell::from(&stats.id),
        Cell::from(&stats.name),
        percent(measured.cpu_percent).into(),
        stats
            .memory
            .map_or_else(none, |memory| pair(memory.used, memory.limit))
            .into(),
        percent(measured.memory_percent).into(),
        network.into(),
        stats
            .io
            .map_or_else(none, |io| pair(io.read_bytes, io.write_bytes))
            .into(),
        stats
            .pids
            .map_or_else(none, |pids| pids.current.to_string())
            .into(),
    ]
}
