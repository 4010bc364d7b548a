//! Starting a process in a container, and standing between it and the user's terminal.
//!
//! Three things go on at once while klee is attached, as futures of one task: output is written
//! ([`output`]), input is sent ([`input`]), and signals are watched ([`signals`]). None of them
//! blocks the others: a reader that is slow to take output can't keep an interrupt from being
//! noticed.

mod input;
mod output;
mod signals;
mod stdio;

use std::io::{self, IsTerminal};

use kleene_api::{ExecConfig, ExecStartConfig, ExitInfo};
use kleene_client::{Client, Closing, ExecEvent};

use crate::error::{CommandError, CommandResult, Exit};
use crate::options::StartOptions;
use crate::suggest::Noun;
use crate::terminal::{self, RawMode};
use crate::ui::Ui;
use signals::Signals;

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
pub fn detaches(options: StartOptions) -> bool {
    options.detach && !options.interactive
}

/// A terminal in the container needs one here to send its input.
///
/// # Errors
/// When there is none.
pub fn check_input(options: StartOptions) -> Result<(), CommandError> {
    if options.tty && options.interactive && !io::stdin().is_terminal() {
        return Err(CommandError::usage("the input device is not a terminal")
            .hint("leave out --tty when the input comes from a file or a pipe"));
    }
    Ok(())
}

/// Records the execution instance and says so unless told to be quiet. The answer is its id.
async fn create(
    ui: Ui,
    client: &Client,
    process: &ExecConfig,
    quiet: bool,
) -> CommandResult<String> {
    match client.exec_create(process).await {
        Ok(id) => {
            if !quiet {
                ui.line(&format!("created execution instance {id}"))?;
            }
            Ok(id)
        }
        Err(error) => Err(Noun::Container
            .failed(client, &process.container_id, error)
            .await),
    }
}

/// Starts a process and leaves it to itself.
///
/// # Errors
/// When it can't be started.
pub async fn start_detached(
    ui: Ui,
    client: &Client,
    process: ExecConfig,
    quiet: bool,
) -> CommandResult<()> {
    let config = ExecStartConfig {
        exec_id: create(ui, client, &process, quiet).await?,
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
                return ending.result().map(drop);
            }
            ExecEvent::Closed(_) => return Ok(()),
        }
    }
}

/// Starts a process, carries its streams, and returns what it returned.
///
/// # Errors
/// When it can't be started, the connection is lost, or the output can't be written.
pub async fn start_attached(
    ui: Ui,
    client: &Client,
    process: ExecConfig,
    options: StartOptions,
) -> CommandResult {
    let id = create(ui, client, &process, options.quiet).await?;
    let ending = carry(client, id, options).await?;
    let exit = ending.result()?;
    if !options.quiet {
        ui.line(&format!("\n{}", ending.sentence()))?;
    }
    Ok(exit)
}

/// Carries the streams until the process has ended.
async fn carry(client: &Client, exec_id: String, options: StartOptions) -> CommandResult<Ending> {
    let window = terminal::size().filter(|_| options.tty);
    let mut signals = Signals::listen(options.tty)
        .map_err(|error| CommandError::failure(format!("can't watch for signals: {error}")))?;
    let config = ExecStartConfig {
        exec_id,
        attach: true,
        start_container: true,
        stdin: options.interactive,
        window,
    };
    let session = client.exec_start(&config).await?;
    let _raw = if options.tty && options.interactive {
        let raw = RawMode::enter().map_err(|error| {
            CommandError::failure(format!("can't set up the terminal: {error}"))
        })?;
        Some(raw)
    } else {
        None
    };
    let (requests, requested) = signals::queue();
    tokio::select! {
        ending = output::carry(session.events) => ending,
        never = input::carry(session.input, options.interactive, requested) => match never {},
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
    fn result(&self) -> CommandResult {
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
