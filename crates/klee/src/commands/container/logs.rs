//! `klee container logs`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_client::{ClientError, LogOptions, LogRecord, LogStream, Output};
use kleene_types::Timestamp;

use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::gather::Gather;
use crate::suggest::Noun;
use crate::when;

/// Show the output of a container: what its first process has written, in the last runs too
#[derive(Debug, Args)]
#[command(
    after_help = "Standard output and standard error come out as such. Old output is thrown away when the log has
grown to its limit (--log-limit of the container).
Times are given as how long ago (10m, 2h30m), as seconds since 1970, or as 2024-02-29T14:54:05Z.

Examples:
  klee logs web
  klee logs -f --since 10m web
  klee logs -n 100 -t web 2>&1 | less
  klee logs --exec bd16b0b23a25"
)]
pub struct Options {
    /// Go on with what is written from now on, until the container ends
    #[arg(short, long)]
    follow: bool,

    /// Show only this many lines at the end, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = tail)]
    tail: Tail,

    /// Show only what was written at this time or later
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<String>,

    /// Show only what was written before this time
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<String>,

    /// Begin each line with the time at which it was written
    #[arg(short, long)]
    timestamps: bool,

    /// CONTAINER is the id of an execution instance, whose output is shown
    #[arg(long)]
    exec: bool,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,
}

/// A number of lines; `None`: all.
type Tail = Option<u64>;

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(None),
        _ => text
            .parse()
            .map(Some)
            .map_err(|_| "give a number of lines, or all".to_owned()),
    }
}

/// Writes the output.
///
/// # Errors
/// When the request fails, the connection is lost, or the output can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let wanted = LogOptions {
        follow: options.follow,
        since: options.since,
        until: options.until,
        tail: options.tail,
        ..LogOptions::default()
    };
    let client = session.client().await?;
    let name = &options.container;
    let follow = options.follow;
    let stream = if options.exec {
        let stream = client.exec_logs(name, &wanted).await;
        stream.map_err(|error| CommandError::about("execution instance", name, error))?
    } else {
        match client.container_logs(name, &wanted).await {
            Ok(stream) => stream,
            Err(error) => return Err(Noun::Container.failed(&client, name, error).await),
        }
    };
    let stream = Source { stream, follow };
    match options.timestamps {
        true => timed(stream).await?,
        false => plain(stream).await?,
    }
    Ok(Exit::Success)
}

/// Where records come from.
struct Source {
    stream: LogStream,
    follow: bool,
}

impl Source {
    /// The next record; `None` at the end.
    async fn next(&mut self) -> Result<Option<LogRecord>, CommandError> {
        let record = self.stream.next().await;
        record.map_err(|error| self.failed(error))
    }

    /// The next record if it has arrived.
    fn ready(&mut self) -> Result<Option<LogRecord>, CommandError> {
        let record = self.stream.ready();
        record.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ClientError) -> CommandError {
        match error {
            ClientError::Lost { .. } if self.follow => {
                CommandError::daemon_stopped("the container goes on")
            }
            error => error.into(),
        }
    }
}

/// Writes records as they are, as many at once as have arrived.
async fn plain(mut stream: Source) -> Result<(), CommandError> {
    let mut gather = Gather::default();
    while let Some(record) = stream.next().await? {
        gather.add(record.output, record.data)?;
        while let Some(record) = stream.ready()? {
            gather.add(record.output, record.data)?;
        }
        gather.flush()?;
    }
    Ok(())
}

/// Writes records with the time before each line.
async fn timed(mut stream: Source) -> Result<(), CommandError> {
    let mut gather = Gather::default();
    let (mut stdout, mut stderr) = (Lines::default(), Lines::default());
    let mut add = |gather: &mut Gather, record: LogRecord| {
        let lines = match record.output {
            Output::Stdout => &mut stdout,
            Output::Stderr => &mut stderr,
        };
        gather.add(record.output, lines.with_times(&record).into())
    };
    while let Some(record) = stream.next().await? {
        add(&mut gather, record)?;
        while let Some(record) = stream.ready()? {
            add(&mut gather, record)?;
        }
        gather.flush()?;
    }
    Ok(())
}

/// Where one stream's lines begin.
#[derive(Default)]
struct Lines {
    /// Whether a line has begun that hasn't ended yet.
    within: bool,
}

impl Lines {
    /// The data of a record with its time before each line that begins in it.
    fn with_times(&mut self, record: &LogRecord) -> Vec<u8> {
        let time = Timestamp::from_microseconds(record.time)
            .map_or_else(|| record.time.to_string(), |time| time.to_string());
        let mut text = Vec::with_capacity(record.data.len() + time.len() + 1);
        for line in record.data.split_inclusive(|byte| *byte == b'\n') {
            if !self.within {
                text.extend_from_slice(time.as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(line);
            self.within = !line.ends_with(b"\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_one_time_each() {
        let mut lines = Lines::default();
        let mut text = Vec::new();
        for (time, data) in [(0, "a\nb"), (1_000_000, "c\n\nd"), (2_000_000, "\n")] {
            text.extend(lines.with_times(&LogRecord {
                time,
                output: Output::Stdout,
                data: data.as_bytes().to_vec().into(),
            }));
        }
        let expected = "1970-01-01T00:00:00.000000Z a\n\
                        1970-01-01T00:00:00.000000Z bc\n\
                        1970-01-01T00:00:01.000000Z \n\
                        1970-01-01T00:00:01.000000Z d\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
