//! Work of the daemon that tells how far it has come.

use kleene_client::{Closing, ProgressEvent, ProgressSession};

use crate::error::{CommandError, CommandResult};
use crate::progress::{Several, Shown};

/// Follows the work to its end. Who drops this breaks it off.
///
/// # Errors
/// When the work fails, or the daemon goes away.
pub async fn to_the_end(mut work: ProgressSession, shown: Shown) -> CommandResult<Closing> {
    let mut progress = Several::new(shown);
    let mut error = None;
    loop {
        match work.next().await? {
            ProgressEvent::Started => {}
            ProgressEvent::Progress(info) if info.error.is_some() => error = info.error,
            ProgressEvent::Progress(info) => progress.show(&info),
            ProgressEvent::Message(message) => error = Some(message),
            ProgressEvent::Closed(closing) if closing.failed() => {
                drop(progress);
                // The whole message, where the close reason had no room for it.
                let message = error.unwrap_or(closing.message.message);
                return Err(CommandError::failure(message.trim()));
            }
            ProgressEvent::Closed(closing) => return Ok(closing),
        }
    }
}
