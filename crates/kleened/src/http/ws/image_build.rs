//! `/images/build`: builds an image, and passes on what the build tells.

use std::io;
use std::sync::Arc;

use axum::extract::ws::Message;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use kleene_api::{ImageBuildConfig, MessageType, WebSocketMessage, close_code};
use kleene_engine::{BuildContext, BuildFailed, BuildOutput, Cancel, EngineError, ReceivedContext};
use kleene_types::ImageId;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::session::{Gone, Session};
use super::work::gone;
use crate::app::App;
use crate::http::convert::builds;
use crate::http::error::log;

/// Messages that may wait for the client. A client that is slow makes the build slow.
const WAITING: usize = 16;

pub(super) async fn run(app: Arc<App>, mut session: Session) {
    let Some(config) = session.config::<ImageBuildConfig>().await else {
        return;
    };
    let context = match config.upload {
        false => Ok(BuildContext::Directory(config.context.clone().into())),
        true => match receive(&app, &mut session).await {
            Ok(received) => received.map(BuildContext::Received),
            Err(Gone) => return,
        },
    };
    let new = context.and_then(|context| builds::new_build(config, context));
    let outcome = match new {
        Err(error) => Ok((false, Err(error.into()))),
        Ok(new) => build(&app, &mut session, new).await,
    };
    let Ok((started, built)) = outcome else {
        return;
    };
    match built {
        Ok(id) => {
            let (code, message) = (close_code::FINISHED, "image created");
            session.close(code, MessageType::Closing, message, id).await;
        }
        Err(failed) => tell_failure(&mut session, started, failed).await,
    }
}

/// A failed build: the message as text, and in the close reason the last snapshot.
async fn tell_failure(session: &mut Session, started: bool, failed: BuildFailed) {
    log(&failed.error);
    // The contract's clients take what comes first for the opening.
    if !started && session.starting().await.is_err() {
        return;
    }
    let message = failed.error.to_string();
    if session.text(format!("{message}\n")).await.is_ok() {
        let snapshot = failed.snapshot.map(|name| format!("@{name}"));
        let (code, kind) = (close_code::FAILED, MessageType::Error);
        let data = snapshot.unwrap_or_default();
        session.close(code, kind, "image build failed", data).await;
    }
}

/// Receives the context: binary frames with a tar archive, and an empty one at the end.
async fn receive(
    app: &App,
    session: &mut Session,
) -> Result<Result<ReceivedContext, EngineError>, Gone> {
    let (pieces, from) = mpsc::channel::<Bytes>(1);
    let unpack = app.transfer(move |engine| {
        let mut pieces = Pieces {
            runtime: Handle::current(),
            from,
            piece: Bytes::new(),
        };
        engine.receive_context(&mut pieces)
    });
    let mut unpack = std::pin::pin!(unpack);
    let mut pieces = Some(pieces);
    loop {
        let frame = tokio::select! {
            biased;
            received = &mut unpack, if pieces.is_none() => return Ok(received),
            frame = timeout(app.timing.transfer, session.source.next()) => frame,
            () = app.stop.wait() => return Err(Gone),
        };
        let Ok(frame) = frame else {
            return Ok(Err(EngineError::Invalid(
                "the client stopped sending the context: try again".to_owned(),
            )));
        };
        match frame {
            Some(Ok(Message::Binary(data))) if data.is_empty() => pieces = None,
            Some(Ok(Message::Binary(data))) => {
                let Some(pieces) = &pieces else {
                    continue;
                };
                // When the archive is refused the rest is of no interest, but has to be taken: the
                // client reads the answer only afterwards.
                tokio::select! {
                    sent = pieces.send(data) => drop(sent),
                    received = &mut unpack => {
                        if let Err(error) = received {
                            drain(session).await?;
                            return Ok(Err(error));
                        }
                    }
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(_))) => {
                return Ok(Err(EngineError::Invalid(
                    "the context must be sent as binary frames".to_owned(),
                )));
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
        }
    }
}

/// Takes what is left of a context that was refused.
async fn drain(session: &mut Session) -> Result<(), Gone> {
    loop {
        match session.source.next().await {
            Some(Ok(Message::Binary(data))) if data.is_empty() => return Ok(()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
            Some(Ok(_)) => {}
        }
    }
}

/// Gives what a client sends to the engine, on its thread.
struct Pieces {
    runtime: Handle,
    from: Receiver<Bytes>,
    piece: Bytes,
}

impl io::Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let Self { runtime, from, .. } = self;
            self.piece = runtime.block_on(from.recv()).unwrap_or_default();
        }
        let length = into.len().min(self.piece.len());
        let data = self.piece.split_to(length);
        if let Some(into) = into.get_mut(..length) {
            into.copy_from_slice(&data);
        }
        Ok(length)
    }
}

/// What a build tells, on its way to the client.
struct Lines {
    runtime: Handle,
    to: Sender<Message>,
}

impl Lines {
    fn send(&self, message: Message) {
        // A client that has gone away is noticed by the session.
        let _ = self.runtime.block_on(self.to.send(message));
    }
}

impl BuildOutput for Lines {
    fn started(&self, image: &ImageId) {
        let message = WebSocketMessage {
            msg_type: MessageType::Starting,
            message: String::new(),
            data: image.to_string(),
        };
        self.send(Message::text(message.to_json()));
    }

    fn text(&self, data: &[u8]) {
        // Output that is no text is sent as it is.
        self.send(match std::str::from_utf8(data) {
            Ok(text) => Message::text(text),
            Err(_) => Message::binary(data.to_vec()),
        });
    }
}

type Built = Result<ImageId, BuildFailed>;

/// Builds. A client that goes away cancels that, and so does the daemon's end. Answers whether the
/// session was opened, too.
async fn build(
    app: &App,
    session: &mut Session,
    new: kleene_engine::NewBuild,
) -> Result<(bool, Built), Gone> {
    let cancel = Cancel::default();
    let (to, mut messages) = mpsc::channel(WAITING);
    let of_build = cancel.clone();
    let work = app.transfer(move |engine| {
        let lines = Lines {
            runtime: Handle::current(),
            to,
        };
        Ok(engine.image_build(&new, &lines, &of_build))
    });
    let mut work = std::pin::pin!(work);
    let mut started = false;
    // Writing to a client that has gone away is what shows that it has, when it says nothing.
    let mut ping = interval_at(Instant::now() + app.timing.ping, app.timing.ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let flat = |done: Result<Built, EngineError>| done.unwrap_or_else(|error| Err(error.into()));
    loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => match message {
                Some(message) => message,
                // Nothing more is told: the build is over.
                None => return Ok((started, flat(work.await))),
            },
            done = &mut work => {
                while let Ok(message) = messages.try_recv() {
                    started = true;
                    session.send(message).await?;
                }
                return Ok((started, flat(done)));
            }
            () = gone(&mut session.source) => break,
            () = app.stop.wait() => break,
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        started |= !matches!(message, Message::Ping(_));
        if session.sink.send(message).await.is_err() {
            break;
        }
    }
    // Whoever tells something must not wait for a client that isn't there.
    drop(messages);
    let ended = tokio::task::spawn_blocking(move || cancel.cancel());
    let _ = ended.await;
    let _ = work.await;
    Err(Gone)
}
