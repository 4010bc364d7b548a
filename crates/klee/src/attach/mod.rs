//! Starting a process in a container, and standing between it and the user's terminal.
//!
//! Three things go on at once while klee is attached, as futures of one task: output is written
//! ([`output`]), input is sent ([`input`]), and signals are watched ([`signals`]). None of them
//! blocks the others: a reader that is slow to take output can't keep an interrupt from being
//! noticed.

mod input;
mod keys;
mod output;
mod signals;
mod stdio;

use std::future::Future;
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use kleene_api::{ExecConfig, ExecStartConfig, ExitInfo};
use kleene_client::{Client, ClientError, Closing, ExecEvent, ExecSession};

use crate::error::{CommandError, CommandResult, Exit};
use crate::options::StartOptions;
use crate::suggest::Noun;
use crate::terminal::{self, RawMode};
use crate::ui::Ui;
pub use keys::DetachKeys;
pub use signals::HangUp;
use signals::Signals;
pub use stdio::Reader;

/// How long the daemon may take to end a session that klee has left.
const FAREWELL: Duration = Duration::from_secs(1);

/// A container's own process: its command, environment and user.
pub fn own_process(container: &str, tty: bool) -> ExecConfig {
    ExecConfig {
        container_id: container.to_owned(),
        cmd: Vec::new(),
        env: Vec::new(),
        user: String::new(),
        tty,
        working_dir: None,
    }
}

/// Whether klee leaves the process to itself.
pub fn detaches(options: &StartOptions) -> bool {
    options.detach && !options.interactive
}

/// A terminal in the container needs one here to send its input.
///
/// # Errors
/// When there is none.
pub fn check_input(options: &StartOptions) -> Result<(), CommandError> {
    if options.tty && options.interactive && !io::stdin().is_terminal() {
        return Err(CommandError::usage("the input device is not a terminal")
            .hint("leave out --tty when the input comes from a file or a pipe"));
    }
    Ok(())
}

/// Records the execution instance. The answer is its id.
async fn create(client: &Client, process: &ExecConfig) -> CommandResult<String> {
    match client.exec_create(process).await {
        Ok(id) => Ok(id),
        Err(error) => Err(Noun::Container
            .failed(client, &process.container_id, error)
            .await),
    }
}

/// What is said about an execution instance whose process has been started.
fn created(id: &str) -> String {
    format!("created execution instance {id}")
}

/// Starts a process, leaves it to itself, and says so unless told to be quiet. The answer is the
/// execution instance's id.
///
/// # Errors
/// When it can't be started.
pub async fn start_detached(
    ui: Ui,
    client: &Client,
    process: ExecConfig,
    quiet: bool,
) -> CommandResult<String> {
    let id = create(client, &process).await?;
    let config = ExecStartConfig {
        exec_id: id.clone(),
        attach: false,
        start_container: true,
        stdin: false,
        window: None,
    };
    let mut session = client.exec_start(&config).await?;
    let mut ending = Ending::default();
    loop {
        match session.events.next().await? {
            ExecEvent::Exit(exit) => ending.exit = Some(exit),
            ExecEvent::Message(message) => ending.messages.push(message),
            ExecEvent::Started | ExecEvent::Stdout(_) | ExecEvent::Stderr(_) => {}
            ExecEvent::Closed(closing) if closing.failed() => {
                ending.closing = Some(closing);
                return ending.result().map(|_| id);
            }
            ExecEvent::Closed(_) => {
                if !quiet {
                    ui.line(&created(&id))?;
                }
                return Ok(id);
            }
        }
    }
}

/// How klee stands between a process and the user.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// Whether klee's input is the process's.
    pub stdin: bool,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Whether klee's signals are the process's.
    pub forward_signals: bool,
    /// What a hang-up of klee's terminal comes to.
    pub hang_up: HangUp,
    /// Keys by which the user leaves, on a terminal.
    pub keys: &'a DetachKeys,
}

/// What an attachment comes to.
pub enum Outcome {
    /// The session has ended.
    Ended(Ending),
    /// The user has left the process to itself.
    Left,
}

/// Starts a process, carries its streams, and returns what it returned. `again` is how to attach to
/// a process that the user leaves; `None`: by its id.
///
/// # Errors
/// When it can't be started, the connection is lost, or the output can't be written.
pub async fn start_attached(
    ui: Ui,
    client: &Client,
    process: ExecConfig,
    options: &StartOptions,
    again: Option<&str>,
) -> CommandResult {
    let id = create(client, &process).await?;
    let attachment = Attachment {
        stdin: options.interactive,
        tty: options.tty,
        forward_signals: true,
        hang_up: HangUp::Tells,
        keys: &options.keys.detach_keys,
    };
    let config = ExecStartConfig {
        exec_id: id.clone(),
        attach: true,
        start_container: true,
        stdin: options.interactive,
        window: terminal::size().filter(|_| options.tty),
    };
    // In raw mode the terminal doesn't go back to the beginning of the line by itself.
    let raw = options.tty && options.interactive && io::stdout().is_terminal();
    let back = if raw { "\r" } else { "" };
    let started = || match options.quiet {
        true => Ok(()),
        false => ui.line(&format!("{}{back}", created(&id))),
    };
    match carry(attachment, client.exec_start(&config), started).await? {
        Outcome::Ended(ending) => {
            let exit = ending.result()?;
            if !options.quiet {
                ui.line(&format!("\n{}", ending.sentence()))?;
            }
            Ok(exit)
        }
        Outcome::Left => {
            let again = again.map_or_else(|| format!("--exec {id}"), str::to_owned);
            left(ui, &again);
            Ok(Exit::Success)
        }
    }
}

/// Says how to attach again.
pub fn left(ui: Ui, again: &str) {
    ui.note(&format!(
        "\nThe process goes on; attach to it again with `klee attach {again}`"
    ));
}

/// Opens a session and carries its streams until the process has ended or the user has left.
/// `started` is done when the process has been started; the terminal may be in raw mode then.
///
/// # Errors
/// When the session can't be opened or is lost, or the output can't be written.
pub async fn carry(
    attachment: Attachment<'_>,
    open: impl Future<Output = Result<ExecSession, ClientError>>,
    started: impl Fn() -> CommandResult<()>,
) -> CommandResult<Outcome> {
    let Attachment {
        stdin,
        tty,
        hang_up,
        ..
    } = attachment;
    let mut signals = Signals::listen(attachment.forward_signals, hang_up, tty)
        .map_err(|error| CommandError::failure(format!("can't watch for signals: {error}")))?;
    let session = tokio::select! {
        session = open => session?,
        interrupted = signals.ended() => return Err(interrupted),
    };
    let raw = if tty && stdin && io::stdin().is_terminal() {
        let raw = RawMode::enter().map_err(|error| {
            CommandError::failure(format!("can't set up the terminal: {error}"))
        })?;
        Some(raw)
    } else {
        None
    };
    // What comes from elsewhere may be anything, also what looks like keys.
    let none = DetachKeys::none();
    let keys = if raw.is_some() {
        attachment.keys
    } else {
        &none
    };
    let (requests, requested) = signals::queue();
    let mut output = pin!(output::carry(session.events, started));
    let stdin = stdin.then_some(input::Stdin { keys, hang_up });
    tokio::select! {
        ending = &mut output => ending.map(Outcome::Ended),
        () = input::carry(session.input, stdin, requested) => {
            // Keeps the connection until the daemon has noticed.
            let _ = tokio::time::timeout(FAREWELL, output).await;
            Ok(Outcome::Left)
        }
        forced = signals.watch(requests) => Err(forced),
    }
}

/// What is known about a session that has ended.
#[derive(Debug, Default)]
pub struct Ending {
    exit: Option<ExitInfo>,
    messages: Vec<String>,
    closing: Option<Closing>,
}

impl Ending {
    /// The exit code of the process, or why there is none.
    ///
    /// # Errors
    /// When it wasn't started.
    pub fn result(&self) -> CommandResult {
        match &self.exit {
            Some(ExitInfo {
                error: None,
                exit_code,
                ..
            }) => {
                // Exit codes have eight bits on every system that Kleene runs on.
                Ok(Exit::Process(u8::try_from(*exit_code).unwrap_or(u8::MAX)))
            }
            Some(ExitInfo {
                error: Some(message),
                exit_code,
                ..
            }) => Err(CommandError {
                exit: match u8::try_from(*exit_code) {
                    Ok(code @ 126..=127) => Exit::Process(code),
                    _ => Exit::OwnFailure,
                },
                ..CommandError::failure(message)
            }),
            None => Err(CommandError::failure(self.failure()).own()),
        }
    }

    /// What the daemon says when it has no exit code to tell; a close reason may be cut short.
    fn failure(&self) -> String {
        let message = self.messages.join("\n");
        let message = message.trim().trim_start_matches("error:").trim();
        match &self.closing {
            _ if !message.is_empty() => message.to_owned(),
            Some(closing) if closing.failed() && !closing.message.message.is_empty() => {
                closing.message.message.clone()
            }
            _ => "the daemon didn't tell how the process ended".to_owned(),
        }
    }

    /// The closing message.
    fn sentence(&self) -> &str {
        self.closing
            .as_ref()
            .map_or("", |closing| closing.message.message.as_str())
    }
}
