//! Sessions in which the daemon tells how far something has come.

use kleene_api::{MessageType, PROGRESS_PROTOCOL, ProgressInfo};
use serde::Serialize;

use crate::HostAddress;
use crate::client::Client;
use crate::error::ClientError;
use crate::websocket::{Closing, Frame, Socket, next_frame, opening};

impl Client {
    /// Opens a session over which the daemon tells how far it has come.
    pub(crate) async fn progress(
        &self,
        path: &str,
        config: &impl Serialize,
    ) -> Result<ProgressSession, ClientError> {
        Ok(ProgressSession {
            socket: self.session(path, Some(PROGRESS_PROTOCOL), config).await?,
            address: self.address().clone(),
        })
    }
}

/// What happens while the daemon makes, pulls or pushes an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// The work begins.
    Started,
    /// How far it has come.
    Progress(ProgressInfo),
    /// What the daemon says beside that.
    Message(String),
    /// The session has ended: the closing's data is the image's id, or the digest of what was pushed.
    Closed(Closing),
}

/// The making, pulling or pushing of an image. Dropping it breaks the work off.
pub struct ProgressSession {
    socket: Socket,
    address: HostAddress,
}

impl ProgressSession {
    /// Waits for the next event.
    ///
    /// # Errors
    /// When the connection breaks before [`ProgressEvent::Closed`].
    pub async fn next(&mut self) -> Result<ProgressEvent, ClientError> {
        match next_frame(&mut self.socket, &self.address).await? {
            Frame::Text(text) => Ok(progress_event(text)),
            Frame::Binary(_) => Err(ClientError::protocol("binary data instead of progress")),
            Frame::Closed(closing) => Ok(ProgressEvent::Closed(closing)),
        }
    }
}

fn progress_event(text: String) -> ProgressEvent {
    if let Ok(progress) = serde_json::from_str(&text) {
        return ProgressEvent::Progress(progress);
    }
    match opening(&text) {
        Some(message) if message.msg_type == MessageType::Starting => ProgressEvent::Started,
        Some(message) => ProgressEvent::Message(message.message),
        None => ProgressEvent::Message(text),
    }
}
