//! Building images.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use kleene_api::{ImageBuildConfig, MessageType};
use tokio_tungstenite::tungstenite::Message;

use crate::HostAddress;
use crate::client::Client;
use crate::error::ClientError;
use crate::websocket::{Closing, Frame, Socket, next_frame, opening};

/// An archive that is sent, in pieces of 256 KiB at most. An error of it breaks the transfer off.
pub type Upload = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Client {
    /// Builds an image; the session carries the build's output. A `context`, which goes with
    /// [`ImageBuildConfig::upload`], is sent while the session's events are waited for.
    ///
    /// # Errors
    /// When the session can't be opened; failures are events of the session.
    pub async fn image_build(
        &self,
        config: &ImageBuildConfig,
        context: Option<Upload>,
    ) -> Result<BuildSession, ClientError> {
        Ok(BuildSession {
            socket: self.session("/images/build", None, config).await?,
            address: self.address().clone(),
            opened: false,
            upload: context,
            unsent: false,
        })
    }
}

/// What happens while an image is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// The build begins; the id of its image, or an empty text when the Dockerfile is wrong.
    Started(String),
    /// Output of the build.
    Output(Vec<u8>),
    /// The session has ended: the closing's data is the image's id, or the last snapshot when the
    /// build failed.
    Closed(Closing),
}

/// The building of an image. Dropping it breaks the build off.
pub struct BuildSession {
    socket: Socket,
    address: HostAddress,
    opened: bool,
    upload: Option<Upload>,
    /// Whether something of the upload is still in the socket's buffer.
    unsent: bool,
}

impl BuildSession {
    /// Waits for the next event, and sends the context meanwhile.
    ///
    /// # Errors
    /// When the connection breaks before [`BuildEvent::Closed`], or the context can't be read.
    pub async fn next(&mut self) -> Result<BuildEvent, ClientError> {
        let first = !std::mem::replace(&mut self.opened, true);
        match poll_fn(|context| self.poll_frame(context)).await? {
            // Only the first frame is the daemon's own word; what follows is output, whatever it
            // looks like.
            Frame::Text(text) => Ok(match opening(&text).filter(|_| first) {
                Some(message) if message.msg_type == MessageType::Starting => {
                    BuildEvent::Started(message.data)
                }
                _ => BuildEvent::Output(text.into_bytes()),
            }),
            Frame::Binary(data) => Ok(BuildEvent::Output(data.to_vec())),
            Frame::Closed(closing) => Ok(BuildEvent::Closed(closing)),
        }
    }

    /// The next frame, if there is one; what can be sent is sent.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, ClientError>> {
        // What the daemon says comes first: it may want no more.
        if let Poll::Ready(frame) = self.poll_read(context) {
            return Poll::Ready(frame);
        }
        if let Err(source) = self.send(context) {
            return Poll::Ready(Err(ClientError::Upload { source }));
        }
        Poll::Pending
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, ClientError>> {
        pin!(next_frame(&mut self.socket, &self.address)).poll(context)
    }

    /// Sends as much of the context as the connection takes.
    fn send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while let Some(upload) = &mut self.upload {
            match Pin::new(&mut self.socket).poll_ready(context) {
                Poll::Ready(Ok(())) => {}
                // The next frame, or its lack, tells why nothing can be sent any more.
                Poll::Ready(Err(_)) => {
                    self.upload = None;
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
            let piece = match upload.as_mut().poll_next(context) {
                Poll::Ready(Some(piece)) => piece?,
                Poll::Ready(None) => {
                    self.upload = None;
                    Bytes::new()
                }
                Poll::Pending => break,
            };
            // An empty frame is the end.
            if piece.is_empty() && self.upload.is_some() {
                continue;
            }
            // A failure is told by the next frame here, too.
            let sent = Pin::new(&mut self.socket).start_send(Message::Binary(piece));
            self.unsent = sent.is_ok();
        }
        if self.unsent {
            let flushed = Pin::new(&mut self.socket).poll_flush(context);
            self.unsent = flushed.is_pending();
        }
        Ok(())
    }
}
