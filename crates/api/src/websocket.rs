//! Messages over WebSockets.
//!
//! Every WebSocket endpoint works alike: the client's first text frame is the configuration; the
//! server answers with a `starting` message, streams raw output, and closes with a message in the
//! close reason. A client that asks for the subprotocol [`STREAMS_PROTOCOL`] (for `/exec/start`)
//! gets binary frames whose first byte is a [`Channel`], so that standard output and standard error
//! stay apart and the exit code needs no parsing of sentences. One that asks for
//! [`PROGRESS_PROTOCOL`] (for `/images/create`) gets text frames that are [`ProgressInfo`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::WindowSize;

/// Subprotocol of `/exec/start` with one channel a stream.
pub const STREAMS_PROTOCOL: &str = "kleene.streams.v1";

/// Subprotocol of `/images/create` with progress as JSON.
pub const PROGRESS_PROTOCOL: &str = "kleene.progress.v1";

/// Close codes that the daemon uses.
pub mod close_code {
    /// Finished.
    pub const FINISHED: u16 = 1000;
    /// Started detached.
    pub const DETACHED: u16 = 1001;
    /// The configuration frame is bad.
    pub const BAD_CONFIG: u16 = 1002;
    /// Failed.
    pub const FAILED: u16 = 1011;
}

/// What a message announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// The request is being carried out.
    Starting,
    /// It was carried out.
    Closing,
    /// It failed.
    Error,
}

/// A message of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebSocketMessage {
    /// What it announces.
    pub msg_type: MessageType,
    /// For people.
    pub message: String,
    /// For programs, such as an id.
    pub data: String,
}

impl WebSocketMessage {
    /// Bytes that fit into a close frame's reason (RFC 6455, section 5.5).
    const MAX_REASON: usize = 123;

    /// The message as JSON, for a text frame.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The message as JSON, its text cut (at the end, marked by `…`) until it fits into a close
    /// frame's reason.
    pub fn to_close_reason(&self) -> String {
        let mut message = self.clone();
        loop {
            let json = message.to_json();
            if json.len() <= Self::MAX_REASON || message.message.pop().is_none() {
                return json;
            }
            while message.message.ends_with('…') {
                message.message.pop();
            }
            if !message.message.is_empty() {
                message.message.pop();
                message.message.push('…');
            }
        }
    }
}

/// First byte of a binary frame in the streams subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// Client to daemon: standard input; no data after the byte: end of file.
    Stdin = 0,
    /// Daemon to client: standard output, or the terminal.
    Stdout = 1,
    /// Daemon to client: standard error.
    Stderr = 2,
    /// Client to daemon: a [`Control`] as JSON.
    Control = 3,
    /// Daemon to client, once, at the end: an [`ExitInfo`] as JSON.
    Exit = 4,
}

impl Channel {
    /// The channel of a frame's first byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Stdin,
            Self::Stdout,
            Self::Stderr,
            Self::Control,
            Self::Exit,
        ]
        .into_iter()
        .find(|channel| *channel as u8 == byte)
    }

    /// A frame: this channel's byte and the data.
    pub fn frame(self, data: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(data.len() + 1);
        frame.push(self as u8);
        frame.extend_from_slice(data);
        frame
    }
}

/// What a client asks for beside its input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Control {
    /// The terminal has a new size.
    Resize(WindowSize),
    /// Send the process this signal, by the daemon's platform's number.
    Signal(i32),
    /// Go away without ending the process.
    Detach,
}

/// How an attached process ended, or why it didn't start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExitInfo {
    /// The process's exit code, 128 + signal; 125 to 127 when it could not be started.
    pub exit_code: i32,
    /// Whether the container ended with it.
    pub container_stopped: bool,
    /// The whole error message when it could not be started; a close reason may be too short.
    pub error: Option<String>,
    /// Whether a process of the container was killed during this one's life because the container's
    /// memory limit was reached.
    #[serde(default)]
    pub out_of_memory: bool,
}

/// How far the making of an image has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressInfo {
    /// What is being done.
    pub step: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, when known.
    pub total: Option<u64>,
    /// The whole error message when it failed; a close reason may be too short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What of several things that are done at once is meant: the beginning of a layer's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_reasons_fit() {
        let message = WebSocketMessage {
            msg_type: MessageType::Error,
            message: "é\"".repeat(200),
            data: "@0123456789ab".to_owned(),
        };
        let reason = message.to_close_reason();
        assert!(reason.len() <= 123, "{}", reason.len());
        let parsed: WebSocketMessage = serde_json::from_str(&reason).unwrap();
        assert!(parsed.message.ends_with('…') && parsed.message.len() > 20);
        assert_eq!(parsed.data, message.data);
    }

    #[test]
    fn short_messages_stay_whole() {
        let message = WebSocketMessage {
            msg_type: MessageType::Closing,
            message: "executable 0123456789ab and its container exited with exit-code 0".to_owned(),
            data: String::new(),
        };
        let parsed: WebSocketMessage = serde_json::from_str(&message.to_close_reason()).unwrap();
        assert_eq!(parsed, message);
    }
}
