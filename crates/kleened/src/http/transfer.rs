//! Archives on their way between clients and the engine.
//!
//! The engine reads and writes on a thread, which waits for the client whenever it is the slower one.
//! Nothing is gathered but one piece.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt;
use kleene_engine::{Engine, EngineError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::{ApiError, log};
use crate::app::App;

const TAR: &str = "application/x-tar";

/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;

/// What is read and thrown away of a body after the answer is known, so that a client which sends
/// first and reads then finds it.
const LEFT_OVER: u64 = 64 << 20;

/// Answers with the archive that `work` writes. What fails before anything was written is told by a
/// status code; later, a transfer that breaks off is all that a client can see of it.
///
/// # Errors
/// Those of `work`.
pub async fn download(
    app: Arc<App>,
    work: impl FnOnce(&Engine, &mut dyn Write) -> Result<(), EngineError> + Send + 'static,
) -> Result<Response, ApiError> {
    let (to, mut pieces) = channel(1);
    let limit = app.timing.transfer;
    let packing = tokio::spawn(async move {
        let packed = app.transfer(move |engine| {
            let mut to = Upstream::new(to, limit);
            work(engine, &mut to)?;
            // A client that has gone away doesn't miss the end.
            let _ = to.flush();
            Ok(())
        });
        packed.await
    });
    let Some(first) = pieces.recv().await else {
        result(packing).await?;
        return Ok(tar(Body::empty()));
    };
    let download = Download {
        first: Some(first),
        pieces,
        packing,
    };
    let body = stream::try_unfold(download, Download::next);
    Ok(tar(Body::from_stream(body)))
}

fn tar(body: Body) -> Response {
    ([(CONTENT_TYPE, TAR)], body).into_response()
}

type Packing = JoinHandle<Result<(), EngineError>>;

async fn result(packing: Packing) -> Result<(), EngineError> {
    packing.await.unwrap_or_else(|error| {
        Err(EngineError::Internal {
            context: "the archive can't be read".to_owned(),
            source: Box::new(error),
        })
    })
}

/// An archive on its way to a client.
struct Download {
    first: Option<Bytes>,
    pieces: Receiver<Bytes>,
    packing: Packing,
}

impl Download {
    /// The next piece. An error breaks the transfer off, which is all that a client can see of it.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, EngineError> {
        if let Some(first) = self.first.take() {
            return Ok(Some((first, self)));
        }
        match self.pieces.recv().await {
            Some(piece) => Ok(Some((piece, self))),
            None => result(self.packing).await.inspect_err(log).map(|()| None),
        }
    }
}

/// Takes what the engine writes, on its thread, to the client.
struct Upstream {
    runtime: Handle,
    to: Sender<Bytes>,
    limit: Duration,
    buffer: BytesMut,
}

impl Upstream {
    fn new(to: Sender<Bytes>, limit: Duration) -> Self {
        Self {
            runtime: Handle::current(),
            to,
            limit,
            buffer: BytesMut::new(),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        let sent = async { timeout(self.limit, self.to.send(piece)).await };
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(stalled("took", self.limit)),
        }
    }
}

fn stalled(what: &str, limit: Duration) -> io::Error {
    let text = format!("the client {what} nothing for {} s", limit.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl Write for Upstream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.reserve(CHUNK);
        }
        let taken = data.len().min(CHUNK - self.buffer.len());
        self.buffer
            .extend_from_slice(data.get(..taken).unwrap_or_default());
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => self.send(),
        }
    }
}

/// What a client sends, until its end.
pub struct Upload(Downstream);

impl Upload {
    /// The body of a request, whose client may take at most `limit` for a piece.
    pub fn new(body: Body, limit: Duration) -> Self {
        Self(Downstream::new(body, limit))
    }

    /// Has `work` read what comes.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn pass_on<T: Send + 'static>(
        &mut self,
        app: &App,
        work: impl FnOnce(&Engine, &mut (dyn Read + Send)) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Self(body) = self;
        let empty = Downstream::new(Body::empty(), app.timing.transfer);
        let mut from = std::mem::replace(body, empty);
        let done = app.transfer(move |engine| {
            let done = work(engine, &mut from);
            Ok((from, done))
        });
        let (rest, done) = done.await?;
        *body = rest;
        done.map_err(ApiError::from)
    }

    /// Takes what is left.
    ///
    /// Its client may still be sending, and many read the answer only after that. One that sends for
    /// ever may yet notice the answer while it does, as long as somebody takes what it sends; what it
    /// does after this time is its own affair.
    pub async fn end(self, app: &App) {
        let Self(mut body) = self;
        let limit = app.timing.close;
        let _ = timeout(limit, body.discard(LEFT_OVER)).await;
        if !body.ended {
            tokio::spawn(async move { timeout(limit, body.discard(u64::MAX)).await });
        }
    }
}

/// Gives what a client sends to the engine, on its thread.
struct Downstream {
    runtime: Handle,
    from: Body,
    limit: Duration,
    /// What has come and isn't read yet.
    piece: Bytes,
    ended: bool,
}

impl Downstream {
    fn new(from: Body, limit: Duration) -> Self {
        Self {
            runtime: Handle::current(),
            from,
            limit,
            piece: Bytes::new(),
            ended: false,
        }
    }

    /// Waits for the next piece, which is empty at the end.
    async fn receive(&mut self) -> io::Result<()> {
        while self.piece.is_empty() && !self.ended {
            match timeout(self.limit, self.from.frame()).await {
                Ok(Some(Ok(frame))) => self.piece = frame.into_data().unwrap_or_default(),
                Ok(None) => self.ended = true,
                Ok(Some(Err(error))) => {
                    self.ended = true;
                    return Err(io::Error::other(error));
                }
                Err(_) => {
                    self.ended = true;
                    return Err(stalled("sent", self.limit));
                }
            }
        }
        Ok(())
    }

    /// Throws away what is still to come, but not more than `most` bytes.
    async fn discard(&mut self, most: u64) {
        let mut gone = 0;
        while gone < most && self.receive().await.is_ok() && !self.piece.is_empty() {
            gone += self.piece.len() as u64;
            self.piece.clear();
        }
    }
}

impl Read for Downstream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let runtime = self.runtime.clone();
            runtime.block_on(self.receive())?;
        }
        let length = into.len().min(self.piece.len());
        let data = self.piece.split_to(length);
        if let Some(into) = into.get_mut(..length) {
            into.copy_from_slice(&data);
        }
        Ok(length)
    }
}
