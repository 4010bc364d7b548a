//! Output of an attached process.

use kleene_client::{ExecEvent, ExecEvents};

use super::Ending;
use super::stdio::Writer;
use crate::error::{CommandError, CommandResult};

/// Writes what the process writes until the session has ended. `started` is done when the process
/// has been started.
///
/// # Errors
/// When the connection is lost, or standard output can't be written to.
pub async fn carry(
    mut events: ExecEvents,
    started: impl Fn() -> CommandResult<()>,
) -> CommandResult<Ending> {
    let mut stdout = Writer::stdout();
    let mut stderr = Writer::stderr();
    let mut ending = Ending::default();
    loop {
        match events.next().await? {
            ExecEvent::Started => started()?,
            ExecEvent::Stdout(data) => stdout.write_all(&data).await.map_err(CommandError::from)?,
            // Messages that nobody wants to read don't end a process that is still useful.
            ExecEvent::Stderr(data) => drop(stderr.write_all(&data).await),
            ExecEvent::Message(message) => ending.messages.push(message),
            ExecEvent::Exit(exit) => ending.exit = Some(exit),
            ExecEvent::Closed(closing) => {
                ending.closing = Some(closing);
                return Ok(ending);
            }
        }
    }
}
