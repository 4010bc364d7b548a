//! One WebSocket session: its messages and its end.

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use kleene_api::{MessageType, WebSocketMessage, close_code};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::app::{Stop, Timing};
use crate::http::extract::parse_object;

/// The client has gone away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// A session. Its two halves can be used side by side.
pub(super) struct Session {
    /// Towards the client.
    pub sink: SplitSink<WebSocket, Message>,
    /// From the client.
    pub source: SplitStream<WebSocket>,
    /// Whether the client asked for the endpoint's subprotocol.
    pub subprotocol: bool,
    timing: Timing,
    stop: Stop,
}

impl Session {
    pub(super) fn new(socket: WebSocket, timing: Timing, stop: Stop) -> Self {
        let subprotocol = socket.protocol().is_some();
        let (sink, source) = socket.split();
        Self {
            sink,
            source,
            subprotocol,
            timing,
            stop,
        }
    }

    /// The configuration: the client's first text frame. Where there is none, or a bad one, the
    /// session is closed and there is nothing more to do.
    pub(super) async fn config<T: DeserializeOwned>(&mut self) -> Option<T> {
        let (limit, stop) = (self.timing.config_frame, self.stop.clone());
        let first = async {
            tokio::select! {
                first = self.first_text() => first,
                () = stop.wait() => Err(Gone),
            }
        };
        let problem = match timeout(limit, first).await {
            Ok(Ok(Some(text))) => match parse_object(text.as_bytes()) {
                Ok(config) => return Some(config),
                Err(problem) => problem,
            },
            Ok(Ok(None)) => "the first frame must be the configuration as text".to_owned(),
            Ok(Err(Gone)) => return None,
            Err(_) => "no configuration was sent in time".to_owned(),
        };
        self.close(close_code::BAD_CONFIG, MessageType::Error, problem, "")
            .await;
        None
    }

    /// The first frame with data, if it is text.
    async fn first_text(&mut self) -> Result<Option<String>, Gone> {
        loop {
            match self.source.next().await {
                Some(Ok(Message::Text(text))) => return Ok(Some(text.as_str().to_owned())),
                Some(Ok(Message::Binary(_))) => return Ok(None),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
            }
        }
    }

    /// Sends the message that opens the answer.
    pub(super) async fn starting(&mut self) -> Result<(), Gone> {
        let message = WebSocketMessage {
            msg_type: MessageType::Starting,
            message: String::new(),
            data: String::new(),
        };
        self.text(message.to_json()).await
    }

    /// Sends text.
    pub(super) async fn text(&mut self, text: String) -> Result<(), Gone> {
        self.send(Message::text(text)).await
    }

    /// Sends a frame; waits until the connection has taken it.
    pub(super) async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.sink.send(message).await.map_err(|_| Gone)
    }

    /// Ends the session with a message in the close reason, and waits for the client's answer: a
    /// connection that is dropped while input is on its way loses the output before it too.
    pub(super) async fn close(
        &mut self,
        code: u16,
        msg_type: MessageType,
        message: impl Into<String>,
        data: impl Into<String>,
    ) {
        let reason = WebSocketMessage {
            msg_type,
            message: message.into(),
            data: data.into(),
        };
        let frame = CloseFrame {
            code,
            reason: reason.to_close_reason().into(),
        };
        let (limit, stop) = (self.timing.close, self.stop.clone());
        let overdue = async {
            stop.wait().await;
            sleep(limit).await;
        };
        // A client that reads slowly gets the output before the frame, however long that takes: but
        // not beyond the daemon's end.
        let sent = tokio::select! {
            sent = self.send(Message::Close(Some(frame))) => sent,
            () = overdue => Err(Gone),
        };
        if sent.is_ok() {
            let drained = async { while let Some(Ok(_)) = self.source.next().await {} };
            // A client that doesn't answer is cut off.
            let _ = timeout(limit, drained).await;
        }
    }
}
