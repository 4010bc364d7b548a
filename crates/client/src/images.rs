//! Images.

use kleene_api::{
    IdResponse, Image, ImageBuildConfig, ImageCreateConfig, MessageType, PROGRESS_PROTOCOL,
    ProgressInfo,
};

use crate::HostAddress;
use crate::client::{Client, segment};
use crate::error::ClientError;
use crate::websocket::{Closing, Frame, Socket, next_frame, opening};

impl Client {
    /// All images, the newest first.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn image_list(&self) -> Result<Vec<Image>, ClientError> {
        self.get("/images/list").await
    }

    /// An image.
    ///
    /// # Errors
    /// When there is no such image.
    pub async fn image_inspect(&self, image: &str) -> Result<Image, ClientError> {
        self.get(&format!("/images/{}/inspect", segment(image)))
            .await
    }

    /// Removes an image. The answer is its id.
    ///
    /// # Errors
    /// When there is no such image, or containers or images need it.
    pub async fn image_remove(&self, image: &str) -> Result<String, ClientError> {
        let answer: IdResponse = self.delete(&format!("/images/{}", segment(image))).await?;
        Ok(answer.id)
    }

    /// Gives an image another name and tag, `NAME[:TAG]`. The answer is its id.
    ///
    /// # Errors
    /// When there is no such image, or the name is bad.
    pub async fn image_tag(&self, image: &str, nametag: &str) -> Result<String, ClientError> {
        let path = format!(
            "/images/{}/tag?nametag={}",
            segment(image),
            segment(nametag)
        );
        let answer: IdResponse = self.post(&path).await?;
        Ok(answer.id)
    }

    /// Removes the images without a name that nothing needs, or `all` that nothing needs. The
    /// answer is their ids, children before parents.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn image_prune(&self, all: bool) -> Result<Vec<String>, ClientError> {
        self.post(&format!("/images/prune?all={all}")).await
    }

    /// Makes a base image; the session tells how far that has come.
    ///
    /// # Errors
    /// When the session can't be opened; failures are events of the session.
    pub async fn image_create(
        &self,
        config: &ImageCreateConfig,
    ) -> Result<CreateSession, ClientError> {
        Ok(CreateSession {
            socket: self
                .session("/images/create", Some(PROGRESS_PROTOCOL), config)
                .await?,
            address: self.address().clone(),
        })
    }

    /// Builds an image; the session carries the build's output.
    ///
    /// # Errors
    /// When the session can't be opened; failures are events of the session.
    pub async fn image_build(
        &self,
        config: &ImageBuildConfig,
    ) -> Result<BuildSession, ClientError> {
        Ok(BuildSession {
            socket: self.session("/images/build", None, config).await?,
            address: self.address().clone(),
            opened: false,
        })
    }
}

/// What happens while a base image is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateEvent {
    /// The work begins.
    Started,
    /// How far it has come.
    Progress(ProgressInfo),
    /// What the daemon says beside that.
    Message(String),
    /// The session has ended: the closing's data is the image's id.
    Closed(Closing),
}

/// The making of a base image.
pub struct CreateSession {
    socket: Socket,
    address: HostAddress,
}

impl CreateSession {
    /// Waits for the next event.
    ///
    /// # Errors
    /// When the connection breaks before [`CreateEvent::Closed`].
    pub async fn next(&mut self) -> Result<CreateEvent, ClientError> {
        match next_frame(&mut self.socket, &self.address).await? {
            Frame::Text(text) => Ok(create_event(text)),
            Frame::Binary(_) => Err(ClientError::protocol("binary data instead of progress")),
            Frame::Closed(closing) => Ok(CreateEvent::Closed(closing)),
        }
    }
}

fn create_event(text: String) -> CreateEvent {
    if let Ok(progress) = serde_json::from_str(&text) {
        return CreateEvent::Progress(progress);
    }
    match opening(&text) {
        Some(message) if message.msg_type == MessageType::Starting => CreateEvent::Started,
        Some(message) => CreateEvent::Message(message.message),
        None => CreateEvent::Message(text),
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

/// The building of an image.
pub struct BuildSession {
    socket: Socket,
    address: HostAddress,
    opened: bool,
}

impl BuildSession {
    /// Waits for the next event.
    ///
    /// # Errors
    /// When the connection breaks before [`BuildEvent::Closed`].
    pub async fn next(&mut self) -> Result<BuildEvent, ClientError> {
        let first = !std::mem::replace(&mut self.opened, true);
        match next_frame(&mut self.socket, &self.address).await? {
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
}
