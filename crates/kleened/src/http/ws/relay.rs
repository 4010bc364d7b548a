//! Between a client's WebSocket and the stream of a process.
//!
//! Both directions run side by side, and each waits for the slower of its two ends: nothing is
//! gathered here, whatever a client or a process does not read.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use kleene_api::{Channel, Control};
use kleene_doors::frames::{Frame, MAX_CHUNK};
use kleene_doors::host::ExitStatus;
use kleene_doors::log::Stream;
use kleene_types::ExecId;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::debug;

use super::session::{Gone, Session};
use crate::app::App;
use crate::codec::{FrameReader, Incoming, Output};
use crate::http::convert;
use crate::http::extract::parse_json;

/// Why a relay has ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The process has ended, and all of its output has been sent.
    Exited(ExitStatus),
    /// The process has ended, and all of its output has been sent. Its container goes on.
    LivesOn(ExitStatus),
    /// The process's stream broke off without a word.
    Broken,
    /// The client has gone away.
    Gone,
    /// The client wants the process to go on without it.
    Detached,
    /// The client broke the protocol.
    BadFrame(String),
    /// The daemon ends.
    Stopping,
}

impl From<Gone> for Outcome {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// What a client is to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It has started the process, and ends it with the signals that end its own programs.
    Starter,
    /// It has come later. The process gets its signals as they are, and its input if it has any.
    Guest {
        /// Whether it has input.
        stdin: bool,
    },
}

/// Carries data between a client and the process of `exec`.
pub(super) async fn relay(
    app: &App,
    exec: &ExecId,
    session: &mut Session,
    stream: UnixStream,
    role: Role,
) -> Outcome {
    let (from_process, to_process) = stream.into_split();
    let channels = session.subprotocol;
    let output = pin!(output(
        from_process,
        &mut session.sink,
        channels,
        app.timing.ping
    ));
    let input = pin!(input(
        app,
        exec,
        &mut session.source,
        to_process,
        channels,
        role
    ));
    tokio::select! {
        // A process that has ended counts, even if its client went away at the same moment.
        biased;
        outcome = output => outcome,
        outcome = input => outcome,
        () = app.stop.wait() => Outcome::Stopping,
    }
}

/// Sends a signal to a process.
pub(super) async fn signal(app: &App, exec: &ExecId, number: i32) {
    let id = exec.clone();
    let sent = app.ask(move |engine| engine.exec_signal(&id, number));
    if let Err(problem) = sent.await {
        // It has ended in the meantime.
        debug!(%exec, signal = number, %problem, "a signal was not sent");
    }
}

/// Sends a signal to a process as it is.
async fn pass_signal(app: &App, exec: &ExecId, number: i32) {
    let id = exec.clone();
    let sent = app.ask(move |engine| engine.exec_pass_signal(&id, number));
    if let Err(problem) = sent.await {
        debug!(%exec, signal = number, %problem, "a signal was not sent");
    }
}

/// From the process to the client.
async fn output(
    from: OwnedReadHalf,
    to: &mut SplitSink<WebSocket, Message>,
    channels: bool,
    ping: Duration,
) -> Outcome {
    let mut frames = FrameReader::for_many(from);
    let mut pings = interval_at(Instant::now() + ping, ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            incoming = frames.next_incoming() => match incoming {
                Ok(Some(Incoming::Output(output))) => output_message(output, channels),
                Ok(Some(Incoming::Frame(Frame::Exited(status)))) => {
                    // A client that has gone away learns nothing of the end, which counts all the same.
                    let _ = to.flush().await;
                    return Outcome::Exited(status);
                }
                Ok(Some(Incoming::Frame(Frame::LivesOn(status)))) => {
                    let _ = to.flush().await;
                    return Outcome::LivesOn(status);
                }
                // The others say nothing to clients.
                Ok(Some(Incoming::Frame(_))) => continue,
                Ok(None) | Err(_) => return Outcome::Broken,
            },
            _ = pings.tick() => Message::Ping(Default::default()),
        };
        // Small pieces that have come together go together.
        let sent = match frames.has_next() {
            true => to.feed(message).await,
            false => to.send(message).await,
        };
        if sent.is_err() {
            return Outcome::Gone;
        }
    }
}

fn output_message(output: Output, channels: bool) -> Message {
    let channel = match output.stream {
        Stream::Stdout => Channel::Stdout,
        Stream::Stderr => Channel::Stderr,
    };
    Message::Binary(match channels {
        true => output.behind(channel as u8),
        false => output.plain(),
    })
}

/// From the client to the process.
async fn input(
    app: &App,
    exec: &ExecId,
    from: &mut SplitStream<WebSocket>,
    mut to: OwnedWriteHalf,
    channels: bool,
    role: Role,
) -> Outcome {
    loop {
        let message = match from.next().await {
            Some(Ok(message)) => message,
            Some(Err(_)) | None => return Outcome::Gone,
        };
        let data = match message {
            Message::Close(_) => return Outcome::Gone,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Binary(data) => data,
            Message::Text(_) if channels => {
                return Outcome::BadFrame("text where a channel's binary frame is wanted".into());
            }
            Message::Text(text) => text.into(),
        };
        let parsed = match channels {
            true => channel_request(&data),
            false => Ok(Request::Stdin(&data)),
        };
        let sent = match parsed {
            Ok(Request::Stdin(_) | Request::Frame(Frame::StdinEnd))
                if role == (Role::Guest { stdin: false }) =>
            {
                Ok(())
            }
            Ok(Request::Stdin(data)) => stdin(&mut to, data).await,
            Ok(Request::Frame(frame)) => to.write_all(&frame.encode()).await,
            Ok(Request::Signal(number)) => {
                match role {
                    Role::Starter => signal(app, exec, number).await,
                    Role::Guest { .. } => pass_signal(app, exec, number).await,
                }
                Ok(())
            }
            Ok(Request::Detach) => return Outcome::Detached,
            Err(problem) => return Outcome::BadFrame(problem),
        };
        // A process that takes no input any more may still have output; the other direction
        // learns of its end.
        drop::<io::Result<()>>(sent);
    }
}

/// What a client's frame asks for.
enum Request<'a> {
    Stdin(&'a [u8]),
    Frame(Frame),
    Signal(i32),
    Detach,
}

fn channel_request(data: &[u8]) -> Result<Request<'_>, String> {
    let Some((channel, data)) = data.split_first() else {
        return Err("a frame without a channel".to_owned());
    };
    match Channel::from_byte(*channel) {
        Some(Channel::Stdin) if data.is_empty() => Ok(Request::Frame(Frame::StdinEnd)),
        Some(Channel::Stdin) => Ok(Request::Stdin(data)),
        Some(Channel::Control) => Ok(match parse_json(data)? {
            Control::Resize(size) => Request::Frame(Frame::Resize(convert::window(size))),
            Control::Signal(number) => Request::Signal(number),
            Control::Detach => Request::Detach,
        }),
        _ => Err(format!("clients have no channel {channel}")),
    }
}

/// Sends input in pieces that a monitor takes.
async fn stdin(to: &mut OwnedWriteHalf, data: &[u8]) -> io::Result<()> {
    for piece in data.chunks(MAX_CHUNK) {
        to.write_all(&Frame::Stdin(piece.to_vec()).encode()).await?;
    }
    Ok(())
}
