//! Files of containers: what is at a path, archives in both directions, and what has changed.
//!
//! The engine reads and writes archives on a thread, which waits for the client whenever it is the
//! slower one. Nothing is gathered but one piece.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::BodyExt;
use kleene_api::{Change, ErrorResponse, PathStat};
use kleene_doors::files::{self, PathKind, UnpackOptions};
use kleene_doors::storage::{self, ChangeKind};
use kleene_engine::EngineError;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::{ApiError, log};
use super::extract::{Name, Params, missing, parse_flag};
use crate::app::App;

const TAR: &str = "application/x-tar";

/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;

/// What is read and thrown away of a body after the answer is known, so that a client which sends
/// first and reads then finds it.
const LEFT_OVER: u64 = 64 << 20;

/// Show what is at a path in a container. The path's last component isn't followed.
#[utoipa::path(
    get, path = "/containers/{id}/stat", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("path" = String, Query, description = "An absolute path in the container"),
    ),
    responses(
        (status = 200, body = PathStat),
        (status = 400, body = ErrorResponse, description = "The path is bad"),
        (status = 404, body = ErrorResponse, description = "No such container, or nothing is there"),
    )
)]
pub async fn path_stat(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<PathStat>, ApiError> {
    let path = params.text("path")?;
    Ok(Json(convert_stat(stat(&app, &reference, &path).await?)))
}

/// What is at a path, if anything is.
async fn stat(app: &App, reference: &str, path: &str) -> Result<files::PathStat, ApiError> {
    let (container, at) = (reference.to_owned(), PathBuf::from(path));
    let found = app.run(move |engine| engine.stat_path(&container, &at));
    found.await?.ok_or_else(|| {
        ApiError::not_found(format!(
            "no such file or directory in container '{reference}': '{path}'"
        ))
    })
}

/// Read what is at a path in a container, with everything beneath it.
///
/// The archive's entries begin with the path's last component. A transfer that breaks off before its
/// end is not complete. A container that doesn't run is neither started nor removed meanwhile: that
/// waits.
#[utoipa::path(
    get, path = "/containers/{id}/archive", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("path" = String, Query, description = "An absolute path in the container"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
        (status = 400, body = ErrorResponse, description = "The path is bad"),
        (status = 404, body = ErrorResponse, description = "No such container, or nothing is there"),
        (status = 409, body = ErrorResponse, description = "The container's state stands against it"),
    )
)]
pub async fn archive_read(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Response, ApiError> {
    let path = params.text("path")?;
    stat(&app, &reference, &path).await?;
    let (to, mut pieces) = channel(1);
    let limit = app.timing.transfer;
    let packing = tokio::spawn(async move {
        let packed = app.transfer(move |engine| {
            let mut to = Upstream::new(to, limit);
            engine.read_archive(&reference, path.as_ref(), &mut to)?;
            // A client that has gone away doesn't miss the end.
            let _ = to.flush();
            Ok(())
        });
        packed.await
    });
    // What fails before anything was read is told by a status code.
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

/// Unpack an archive in a directory of a container.
///
/// Its entries never leave the directory. A container that doesn't run is neither started nor removed
/// meanwhile: that waits.
#[utoipa::path(
    put, path = "/containers/{id}/archive", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("path" = String, Query, description = "An absolute path of a directory in the container"),
        ("keep_owner" = Option<bool>, Query, description =
            "Keep the archive's owners; otherwise everything belongs to root"),
    ),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses(
        (status = 204, description = "Everything is there"),
        (status = 400, body = ErrorResponse, description =
            "The path is bad or no directory, or the archive is bad"),
        (status = 404, body = ErrorResponse, description =
            "No such container, or no such directory in it"),
        (status = 409, body = ErrorResponse, description =
            "The directory is read-only, the disk is full, or the container's state stands against it"),
    )
)]
pub async fn archive_write(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let mut body = Downstream::new(body, app.timing.transfer);
    let written = match target(&app, &reference, params).await {
        Ok((path, options)) => {
            let written = app.transfer(move |engine| {
                let written = engine.write_archive(&reference, &path, &mut body, options);
                Ok((body, written))
            });
            let (rest, written) = written.await?;
            body = rest;
            written.map_err(ApiError::from)
        }
        Err(error) => Err(error),
    };
    // Its client may still be sending, and many read the answer only after that. One that sends for
    // ever may yet notice the answer while it does, as long as somebody takes what it sends; what it
    // does after this time is its own affair.
    let limit = app.timing.close;
    let _ = timeout(limit, body.discard(LEFT_OVER)).await;
    if !body.ended {
        tokio::spawn(async move { timeout(limit, body.discard(u64::MAX)).await });
    }
    written.map(|()| StatusCode::NO_CONTENT)
}

/// Where the archive is to be unpacked, and how.
async fn target(
    app: &App,
    reference: &str,
    params: Params,
) -> Result<(PathBuf, UnpackOptions), ApiError> {
    let [path, keep_owner] = params.texts(["path", "keep_owner"])?;
    let path = path.ok_or_else(|| missing("path"))?;
    let keep_owner = keep_owner.map_or(Ok(false), |text| parse_flag("keep_owner", &text))?;
    let found = stat(app, reference, &path).await?;
    if found.leads_to.unwrap_or(found.kind) != PathKind::Directory {
        return Err(ApiError::bad_request(format!(
            "'{path}' in container '{reference}' is no directory"
        )));
    }
    Ok((path.into(), UnpackOptions { keep_owner }))
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

/// List what differs between a container and its image.
#[utoipa::path(
    get, path = "/containers/{id}/changes", tag = "containers",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = Vec<Change>, description = "By path"),
        (status = 404, body = ErrorResponse, description = "No such container"),
    )
)]
pub async fn container_changes(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<Vec<Change>>, ApiError> {
    params.none()?;
    let changes = app.run(move |engine| engine.container_changes(&reference));
    Ok(Json(
        changes.await?.into_iter().map(convert_change).collect(),
    ))
}

fn convert_change(change: storage::Change) -> Change {
    Change {
        path: change.path.to_string_lossy().into_owned(),
        kind: match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Changed => "changed",
            ChangeKind::Deleted => "deleted",
        }
        .to_owned(),
    }
}

fn convert_stat(stat: files::PathStat) -> PathStat {
    let files::PathStat {
        name,
        kind,
        mode,
        size,
        uid,
        gid,
        modified,
        target,
        leads_to,
    } = stat;
    PathStat {
        name,
        kind: kind_name(kind).to_owned(),
        mode,
        size,
        uid,
        gid,
        modified: modified.to_string(),
        target,
        leads_to: leads_to.map(|kind| kind_name(kind).to_owned()),
    }
}

fn kind_name(kind: PathKind) -> &'static str {
    match kind {
        PathKind::File => "file",
        PathKind::Directory => "directory",
        PathKind::Symlink => "symlink",
        PathKind::Special => "special",
    }
}
