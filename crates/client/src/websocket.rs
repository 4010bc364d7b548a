//! WebSockets to a daemon.
//!
//! The handshake goes over the client's kept HTTP connection (RFC 6455, section 4), which becomes
//! the WebSocket: no further connection is made, nor a further TLS handshake.

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, Stream, StreamExt};
use hyper::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kleene_api::{MessageType, WebSocketMessage, close_code};
use serde::Serialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::HostAddress;
use crate::client::{Client, refusal};
use crate::error::ClientError;
use crate::transport::BoxStream;

/// Bytes that are read at once. Tungstenite clears them for each read.
const READ: usize = 32 << 10;

/// A WebSocket to a daemon.
pub(crate) type Socket = WebSocketStream<BoxStream>;

/// How the daemon ended a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The close code, see [`kleene_api::close_code`].
    pub code: u16,
    /// The message in the close reason.
    pub message: WebSocketMessage,
}

impl Closing {
    fn new(frame: Option<CloseFrame>) -> Self {
        let (code, reason) = match &frame {
            Some(frame) => (u16::from(frame.code), frame.reason.as_str()),
            None => (close_code::FINISHED, ""),
        };
        let message = serde_json::from_str(reason).unwrap_or_else(|_| WebSocketMessage {
            msg_type: if matches!(code, close_code::FINISHED | close_code::DETACHED) {
                MessageType::Closing
            } else {
                MessageType::Error
            },
            message: reason.to_owned(),
            data: String::new(),
        });
        Self { code, message }
    }

    /// Whether the operation failed.
    pub fn failed(&self) -> bool {
        self.message.msg_type == MessageType::Error
            || !matches!(self.code, close_code::FINISHED | close_code::DETACHED)
    }
}

/// One message from the daemon.
pub(crate) enum Frame {
    Text(String),
    Binary(Bytes),
    Closed(Closing),
}

/// Waits for the next message that isn't the WebSocket protocol's own.
pub(crate) async fn next_frame<S>(
    stream: &mut S,
    address: &HostAddress,
) -> Result<Frame, ClientError>
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(Frame::Text(text.as_str().to_owned())),
            Some(Ok(Message::Binary(data))) => return Ok(Frame::Binary(data)),
            Some(Ok(Message::Close(frame))) => {
                // Sends the answer to the close frame, without waiting for anything.
                let _ = stream.next().now_or_never();
                return Ok(Frame::Closed(Closing::new(frame)));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(lost(address, Some(error))),
            None => return Err(lost(address, None)),
        }
    }
}

pub(crate) fn lost(address: &HostAddress, error: Option<tungstenite::Error>) -> ClientError {
    ClientError::Lost {
        address: address.clone(),
        source: error.map(Into::into),
    }
}

/// The message, if the text is the one that opens a session.
pub(crate) fn opening(text: &str) -> Option<WebSocketMessage> {
    serde_json::from_str(text).ok()
}

impl Client {
    /// Opens a WebSocket and sends the configuration frame.
    pub(crate) async fn session(
        &self,
        path: &str,
        protocol: Option<&'static str>,
        config: &impl Serialize,
    ) -> Result<Socket, ClientError> {
        let config = serde_json::to_string(config).map_err(|error| ClientError::Protocol {
            what: "a configuration can't be written as JSON".to_owned(),
            source: Some(Box::new(error)),
        })?;
        let mut socket = self.upgrade(path, protocol).await?;
        socket
            .send(Message::text(config))
            .await
            .map_err(|error| lost(self.address(), Some(error)))?;
        Ok(socket)
    }

    async fn upgrade(
        &self,
        path: &str,
        protocol: Option<&'static str>,
    ) -> Result<Socket, ClientError> {
        let key = generate_key();
        let mut request = self.request(Method::GET, path, Bytes::new())?;
        add_handshake(request.headers_mut(), &key, protocol)?;
        let (response, _sender) = self.exchange(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            return Err(match self.read_body(response).await {
                Ok(body) if status.is_success() => {
                    ClientError::protocol(format!("no WebSocket at {path} ({} bytes)", body.len()))
                }
                Ok(body) => refusal(status, &body),
                Err(error) => error,
            });
        }
        check_handshake(&response, &key, protocol)?;
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|error| self.lost(error))?;
        let parts = upgraded
            .downcast::<TokioIo<BoxStream>>()
            .map_err(|_| ClientError::protocol("an upgrade of another connection"))?;
        let read = parts.read_buf.to_vec();
        let stream = parts.io.into_inner();
        let config = WebSocketConfig::default().read_buffer_size(READ);
        let role = Role::Client;
        Ok(WebSocketStream::from_partially_read(stream, read, role, Some(config)).await)
    }
}

fn add_handshake(
    headers: &mut HeaderMap,
    key: &str,
    protocol: Option<&'static str>,
) -> Result<(), ClientError> {
    let key = HeaderValue::from_str(key)
        .map_err(|_| ClientError::protocol("a WebSocket key that is no header"))?;
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, key);
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(())
}

fn check_handshake<B>(
    response: &Response<B>,
    key: &str,
    protocol: Option<&'static str>,
) -> Result<(), ClientError> {
    let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
    if header(SEC_WEBSOCKET_ACCEPT) != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(ClientError::protocol(
            "a WebSocket handshake without its key",
        ));
    }
    if header(SEC_WEBSOCKET_PROTOCOL) != protocol.map(str::as_bytes) {
        return Err(ClientError::protocol(format!(
            "it doesn't speak {}: daemon and client differ in version",
            protocol.unwrap_or("without subprotocol")
        )));
    }
    Ok(())
}
