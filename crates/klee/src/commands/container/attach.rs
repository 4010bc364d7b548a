//! `klee container attach`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kleene_client::Client;

use crate::attach::{self, Attachment, HangUp, Outcome};
use crate::commands::Session;
use crate::error::{CommandError, CommandResult, Exit};
use crate::options::KeyOptions;
use crate::suggest::Noun;
use crate::terminal;

/// Attach to the first process of a running container: its output from now on, and its input
#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is that of the process. On a terminal the detach keys leave the process to itself,
and so does a terminal that is closed.

Examples:
  klee attach web
  klee attach --no-stdin web
  klee attach --exec bd16b0b23a25"
)]
pub struct Options {
    /// Don't send klee's standard input to the process
    #[arg(long)]
    no_stdin: bool,

    /// Send the signals INT, TERM and QUIT that klee gets to the process; =false: they end klee
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    sig_proxy: bool,

    #[command(flatten)]
    keys: KeyOptions,

    /// CONTAINER is the id of an execution instance, to whose process klee attaches
    #[arg(long)]
    exec: bool,

    /// The container
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    container: String,
}

/// Attaches, and carries the streams until the process has ended.
///
/// # Errors
/// When the container doesn't run, the connection is lost, or the output can't be written.
pub async fn run(session: &Session, options: Options) -> CommandResult {
    let client = session.client().await?;
    let name = &options.container;
    let tty = has_terminal(&client, &options).await?;
    let stdin = !options.no_stdin;
    let attachment = Attachment {
        stdin,
        tty,
        forward_signals: options.sig_proxy,
        hang_up: HangUp::Leaves,
        keys: &options.keys.detach_keys,
    };
    let window = terminal::size().filter(|_| tty);
    let started = || Ok(());
    let outcome = if options.exec {
        let open = client.exec_attach(name, stdin, window);
        attach::carry(attachment, open, started).await?
    } else {
        let open = client.container_attach(name, stdin, window);
        attach::carry(attachment, open, started).await?
    };
    match outcome {
        Outcome::Ended(ending) => ending.result(),
        Outcome::Left => {
            let exec = if options.exec { "--exec " } else { "" };
            attach::left(session.ui, &format!("{exec}{name}"));
            Ok(Exit::Success)
        }
    }
}

/// Whether the process has a terminal.
async fn has_terminal(client: &Client, options: &Options) -> CommandResult<bool> {
    let name = &options.container;
    if options.exec {
        let exec = client.exec_inspect(name).await;
        let exec = exec.map_err(|error| CommandError::about("execution instance", name, error))?;
        return Ok(exec.tty);
    }
    match client.container_inspect(name).await {
        // The newest come first; a container's own process is the oldest that runs.
        Ok(container) => {
            let mut oldest_first = container.container_execs.iter().rev();
            Ok(oldest_first
                .find(|exec| exec.running)
                .is_some_and(|exec| exec.tty))
        }
        Err(error) => Err(Noun::Container.failed(client, name, error).await),
    }
}
