//! Execution instances and their streams.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use kleene_api::{
    Channel, Control, ExecAttachConfig, ExecConfig, ExecInspect, ExecStartConfig, ExitInfo,
    IdResponse, MessageType, STREAMS_PROTOCOL, WindowSize,
};
use serde::Serialize;
use tokio_tungstenite::tungstenite::Message;

use crate::HostAddress;
use crate::client::{Client, segment};
use crate::error::ClientError;
use crate::websocket::{Closing, Frame, Socket, lost, next_frame, opening};

impl Client {
    /// Records a process to run in a container. The answer is the execution instance's id.
    ///
    /// # Errors
    /// When there is no such container, or a setting is bad.
    pub async fn exec_create(&self, config: &ExecConfig) -> Result<String, ClientError> {
        let answer: IdResponse = self.send("/exec/create", config).await?;
        Ok(answer.id)
    }

    /// Stops an execution instance, and its container too if `stop_container` is set. With `force`
    /// the process is killed at once. The answer is its id.
    ///
    /// # Errors
    /// When there is no such execution instance, or it doesn't run.
    pub async fn exec_stop(
        &self,
        exec: &str,
        force: bool,
        stop_container: bool,
    ) -> Result<String, ClientError> {
        let path = format!(
            "/exec/{}/stop?force_stop={force}&stop_container={stop_container}",
            segment(exec)
        );
        let answer: IdResponse = self.post(&path).await?;
        Ok(answer.id)
    }

    /// An execution instance.
    ///
    /// # Errors
    /// When there is none of that id.
    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecInspect, ClientError> {
        self.get(&format!("/exec/{}/inspect", segment(exec))).await
    }

    /// Starts an execution instance.
    ///
    /// Attached, the session carries its streams until the process ends. Detached, the session only
    /// tells by its closing whether the process was started.
    ///
    /// # Errors
    /// When the session can't be opened; failures to start are events of the session.
    pub async fn exec_start(&self, config: &ExecStartConfig) -> Result<ExecSession, ClientError> {
        self.streams("/exec/start", config).await
    }

    /// Attaches to a container's first process: see [`Client::exec_attach`].
    ///
    /// # Errors
    /// When the session can't be opened.
    pub async fn container_attach(
        &self,
        container: &str,
        stdin: bool,
        window: Option<WindowSize>,
    ) -> Result<ExecSession, ClientError> {
        self.attach(Some(container), None, stdin, window).await
    }

    /// Attaches to a running execution instance. The session carries its streams from now on, until
    /// the process ends; one that is left doesn't end the process. That there is none is an
    /// [`ExecEvent::Exit`] with an error.
    ///
    /// # Errors
    /// When the session can't be opened.
    pub async fn exec_attach(
        &self,
        exec: &str,
        stdin: bool,
        window: Option<WindowSize>,
    ) -> Result<ExecSession, ClientError> {
        self.attach(None, Some(exec), stdin, window).await
    }

    async fn attach(
        &self,
        container: Option<&str>,
        exec: Option<&str>,
        stdin: bool,
        window: Option<WindowSize>,
    ) -> Result<ExecSession, ClientError> {
        let config = ExecAttachConfig {
            container_id: container.map(str::to_owned),
            exec_id: exec.map(str::to_owned),
            stdin,
            window,
        };
        self.streams("/exec/attach", &config).await
    }

    async fn streams(
        &self,
        path: &str,
        config: &impl Serialize,
    ) -> Result<ExecSession, ClientError> {
        let socket = self.session(path, Some(STREAMS_PROTOCOL), config).await?;
        let (sink, stream) = socket.split();
        Ok(ExecSession {
            input: ExecInput {
                sink,
                address: self.address().clone(),
            },
            events: ExecEvents {
                stream,
                address: self.address().clone(),
                out_of_memory: false,
            },
        })
    }
}

/// A started execution instance. Its two halves are for use side by side: a process that waits for
/// its output to be read doesn't read input.
pub struct ExecSession {
    /// What goes to the process.
    pub input: ExecInput,
    /// What comes from it.
    pub events: ExecEvents,
}

/// The client's half of a session. Dropping it leaves the session open.
pub struct ExecInput {
    sink: SplitSink<Socket, Message>,
    address: HostAddress,
}

impl ExecInput {
    /// Sends standard input. Waits while the process has more unread input than the connection
    /// holds.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn stdin(&mut self, data: &[u8]) -> Result<(), ClientError> {
        if data.is_empty() {
            return Ok(());
        }
        self.send(Channel::Stdin, data).await
    }

    /// Says that standard input has ended.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn end_of_input(&mut self) -> Result<(), ClientError> {
        self.send(Channel::Stdin, &[]).await
    }

    /// Gives the process's terminal another size.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn resize(&mut self, size: WindowSize) -> Result<(), ClientError> {
        self.control(&Control::Resize(size)).await
    }

    /// Sends the process a signal, by the number of the daemon's system.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn signal(&mut self, signal: i32) -> Result<(), ClientError> {
        self.control(&Control::Signal(signal)).await
    }

    /// Announces that this client goes away and the process shall go on.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn detach(&mut self) -> Result<(), ClientError> {
        self.control(&Control::Detach).await
    }

    async fn control(&mut self, control: &Control) -> Result<(), ClientError> {
        let json = serde_json::to_vec(control).map_err(|error| ClientError::Protocol {
            what: "a control message can't be written as JSON".to_owned(),
            source: Some(Box::new(error)),
        })?;
        self.send(Channel::Control, &json).await
    }

    async fn send(&mut self, channel: Channel, data: &[u8]) -> Result<(), ClientError> {
        self.sink
            .send(Message::binary(channel.frame(data)))
            .await
            .map_err(|error| lost(&self.address, Some(error)))
    }
}

/// What comes from an execution instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// The process runs and its streams follow.
    Started,
    /// Standard output, or the terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// What the daemon says beside the streams: why the process wasn't started.
    Message(String),
    /// How the process ended, or why it wasn't started.
    Exit(ExitInfo),
    /// The session has ended; nothing follows.
    Closed(Closing),
}

/// The daemon's half of a session.
pub struct ExecEvents {
    stream: SplitStream<Socket>,
    address: HostAddress,
    /// Whether the process has ended for want of memory.
    out_of_memory: bool,
}

/// What closing messages say of that where there is no room for more, and what is meant.
const SHORT_OF_MEMORY: (&str, &str) = (" (OOM)", " (out of memory)");

impl ExecEvents {
    /// Waits for the next event. Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// When the connection breaks before [`ExecEvent::Closed`], or the daemon breaks the protocol.
    pub async fn next(&mut self) -> Result<ExecEvent, ClientError> {
        match next_frame(&mut self.stream, &self.address).await? {
            Frame::Text(text) => Ok(match opening(&text) {
                Some(message) if message.msg_type == MessageType::Starting => ExecEvent::Started,
                Some(message) => ExecEvent::Message(message.message),
                None => ExecEvent::Message(text),
            }),
            Frame::Binary(frame) => {
                let event = binary_event(&frame)?;
                if let ExecEvent::Exit(exit) = &event {
                    self.out_of_memory = exit.out_of_memory;
                }
                Ok(event)
            }
            Frame::Closed(closing) => Ok(ExecEvent::Closed(self.spelt_out(closing))),
        }
    }

    /// The closing message without abbreviations.
    fn spelt_out(&self, mut closing: Closing) -> Closing {
        let (short, long) = SHORT_OF_MEMORY;
        let text = &mut closing.message.message;
        if self.out_of_memory && text.ends_with(short) {
            text.truncate(text.len() - short.len());
            text.push_str(long);
        }
        closing
    }
}

fn binary_event(frame: &Bytes) -> Result<ExecEvent, ClientError> {
    let channel = frame.first().copied().and_then(Channel::from_byte);
    let data = || frame.slice(1..);
    match channel {
        Some(Channel::Stdout) => Ok(ExecEvent::Stdout(data())),
        Some(Channel::Stderr) => Ok(ExecEvent::Stderr(data())),
        Some(Channel::Exit) => match serde_json::from_slice(&data()) {
            Ok(exit) => Ok(ExecEvent::Exit(exit)),
            Err(error) => Err(ClientError::Protocol {
                what: "an exit frame doesn't have the expected form".to_owned(),
                source: Some(Box::new(error)),
            }),
        },
        Some(Channel::Stdin | Channel::Control) | None => {
            Err(ClientError::protocol("a frame of an unknown channel"))
        }
    }
}
