//! The output that is kept of containers and execution instances.
//!
//! It is read a piece at a time, when the client has taken the one before: so a client that reads
//! slowly, or not at all, costs one piece of memory and no thread.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use kleene_api::{ErrorResponse, LOG_RECORDS};
use kleene_doors::frames::Frame;
use kleene_engine::{Engine, EngineError, LogView};
use kleene_types::{ExecId, Timestamp};
use tokio::time::Instant;

use super::error::{ApiError, log};
use super::extract::{Name, Params, parse_flag};
use super::time;
use crate::app::{ActivityGuard, App};
use crate::codec::FrameReader;
use crate::logs::{Format, LogReader, Piece, Selection};

const TEXT: &str = "text/plain; charset=utf-8";

/// The output that is kept of a container.
///
/// It is that of the first processes of its last runs. With `follow` it goes on until the present run
/// ends, whether the container is started again after that or not. A transfer that breaks off before
/// its end is not complete.
#[utoipa::path(
    get, path = "/containers/{id}/logs", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("follow" = Option<bool>, Query, description =
            "Go on with what is written from now on, until the container ends"),
        ("since" = Option<String>, Query, description =
            "Only what was written at this time (RFC 3339, or seconds since 1970) or later"),
        ("until" = Option<String>, Query, description = "Only what was written before this time"),
        ("tail" = Option<String>, Query, description = "Only so many lines at the end, or `all`"),
        ("stdout" = Option<bool>, Query, description = "With standard output (the default)"),
        ("stderr" = Option<bool>, Query, description = "With standard error (the default)"),
        ("timestamps" = Option<bool>, Query, description =
            "Begin each line of text with its time. (Records have theirs anyway.)"),
        ("format" = Option<String>, Query, description =
            "`records` or `text`; absent: records for a client that accepts them"),
    ),
    responses(
        (status = 200, description = "Text, of both streams in its order; or records: eight bytes of \
            microseconds since 1970, one byte of stream (1 standard output or terminal, 2 standard \
            error), four bytes of length, and the data; all numbers are little-endian",
            content((String = "text/plain"), (Vec<u8> = "application/vnd.kleene.log"))),
        (status = 400, body = ErrorResponse, description = "A parameter is bad"),
        (status = 404, body = ErrorResponse, description = "No such container"),
    )
)]
pub async fn container_logs(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let options = Options::parse(params, &headers)?;
    respond(app, options, move |engine| engine.container_log(&reference)).await
}

/// The output that is kept of an execution instance.
#[utoipa::path(
    get, path = "/exec/{id}/logs", tag = "exec",
    params(
        ("id" = String, Path, description = "Id or unique beginning of an id"),
        ("follow" = Option<bool>, Query, description =
            "Go on with what is written from now on, until the process ends"),
        ("since" = Option<String>, Query, description =
            "Only what was written at this time (RFC 3339, or seconds since 1970) or later"),
        ("until" = Option<String>, Query, description = "Only what was written before this time"),
        ("tail" = Option<String>, Query, description = "Only so many lines at the end, or `all`"),
        ("stdout" = Option<bool>, Query, description = "With standard output (the default)"),
        ("stderr" = Option<bool>, Query, description = "With standard error (the default)"),
        ("timestamps" = Option<bool>, Query, description = "Begin each line of text with its time"),
        ("format" = Option<String>, Query, description =
            "`records` or `text`; absent: records for a client that accepts them"),
    ),
    responses(
        (status = 200, description = "As for the output of a container",
            content((String = "text/plain"), (Vec<u8> = "application/vnd.kleene.log"))),
        (status = 400, body = ErrorResponse, description = "A parameter is bad"),
        (status = 404, body = ErrorResponse, description = "No such execution instance"),
    )
)]
pub async fn exec_logs(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let options = Options::parse(params, &headers)?;
    respond(app, options, move |engine| engine.exec_log(&reference)).await
}

/// What the client wants.
#[derive(Debug, Clone, Copy)]
struct Options {
    follow: bool,
    tail: Option<u64>,
    selection: Selection,
    format: Format,
}

impl Options {
    fn parse(params: Params, headers: &HeaderMap) -> Result<Self, ApiError> {
        const KNOWN: [&str; 8] = [
            "follow",
            "since",
            "until",
            "tail",
            "stdout",
            "stderr",
            "timestamps",
            "format",
        ];
        let [
            follow,
            since,
            until,
            tail,
            stdout,
            stderr,
            timestamps,
            format,
        ] = params.texts(KNOWN)?;
        let flag = |name, text: Option<String>, default| {
            text.map_or(Ok(default), |text| parse_flag(name, &text))
        };
        let moment = |name, text: Option<String>, default| {
            text.map_or(Ok(default), |text| time::parse(name, &text))
        };
        let text = Format::Text {
            timestamps: flag("timestamps", timestamps, false)?,
        };
        Ok(Self {
            follow: flag("follow", follow, false)?,
            tail: tail.as_deref().map_or(Ok(None), parse_tail)?,
            selection: Selection {
                stdout: flag("stdout", stdout, true)?,
                stderr: flag("stderr", stderr, true)?,
                since: moment("since", since, 0)?,
                until: moment("until", until, u64::MAX)?,
            },
            format: match format.as_deref() {
                Some("records") => Format::Records,
                Some("text") => text,
                None if accepts_records(headers) => Format::Records,
                None => text,
                Some(other) => {
                    return Err(ApiError::bad_request(format!(
                        "the query parameter 'format' is '{other}': give records or text"
                    )));
                }
            },
        })
    }

    /// When following ends at the latest; `None` in the past.
    fn deadline(&self) -> Option<Option<Instant>> {
        if self.selection.until == u64::MAX {
            return Some(None);
        }
        let now = Timestamp::now().microseconds();
        let left = self.selection.until.checked_sub(now)?;
        // A moment that no clock will show is never reached.
        Some(Instant::now().checked_add(Duration::from_micros(left)))
    }
}

/// A number of lines; `None`: all.
fn parse_tail(text: &str) -> Result<Option<u64>, ApiError> {
    if text == "all" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "the query parameter 'tail' is '{text}': give a number of lines, or all"
        ))
    })
}

fn accepts_records(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| value.to_str().is_ok_and(|text| text.contains(LOG_RECORDS)))
}

async fn respond(
    app: Arc<App>,
    options: Options,
    find: impl FnOnce(&Engine) -> Result<LogView, EngineError> + Send + 'static,
) -> Result<Response, ApiError> {
    let deadline = options.deadline();
    let follow = options.follow && deadline.is_some();
    let opened = app.ask(move |engine| Opened::open(engine, &find(engine)?, options, follow));
    let Opened { reader, growing } = opened.await?;
    let growth = growing.map(|(exec, stream)| {
        let growth = Growth::new(stream, deadline.flatten());
        growth.map(|growth| (exec, growth))
    });
    let growth = growth
        .transpose()
        .map_err(|error| failed("follow", error))?;
    let (exec, growth) = growth.unzip();
    let output = Output {
        _open: app.sessions.enter(),
        app,
        reader,
        exec,
        growth,
    };
    let content_type = match options.format {
        Format::Records => LOG_RECORDS,
        Format::Text { .. } => TEXT,
    };
    let body = Body::from_stream(stream::try_unfold(output, Output::next));
    Ok(([(CONTENT_TYPE, content_type)], body).into_response())
}

/// Logs that have been opened.
struct Opened {
    reader: LogReader,
    /// The execution instance whose log grows, and who tells that it has.
    growing: Option<(ExecId, UnixStream)>,
}

impl Opened {
    fn open(
        engine: &Engine,
        view: &LogView,
        options: Options,
        follow: bool,
    ) -> Result<Self, EngineError> {
        let mut reader = LogReader::new(options.selection, options.format);
        let mut growing = None;
        let last = view.execs.last().map(|exec| &exec.id);
        for exec in &view.execs {
            if follow && Some(&exec.id) == last && exec.is_running() {
                // First of all, so that nothing is written between looking and listening.
                growing = engine.log_follow(&exec.id)?;
            }
            let files = engine.log_files(&exec.id)?;
            let added = match growing {
                Some(_) => reader.add_growing(files),
                None => reader.add(files),
            };
            added.map_err(|error| failed("read", error))?;
        }
        if let Some(lines) = options.tail {
            let kept = reader.keep_last_lines(lines);
            kept.map_err(|error| failed("read", error))?;
        }
        Ok(Self {
            reader,
            growing: last.cloned().zip(growing),
        })
    }
}

fn failed(what: &str, error: io::Error) -> EngineError {
    EngineError::Internal {
        context: format!("can't {what} the output: {error}"),
        source: Box::new(error),
    }
}

/// Output on its way to a client.
struct Output {
    app: Arc<App>,
    reader: LogReader,
    /// Whose log grows.
    exec: Option<ExecId>,
    /// Tells that it has grown; `None` when it won't any more.
    growth: Option<Growth>,
    _open: ActivityGuard,
}

impl Output {
    /// The next piece.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, EngineError> {
        loop {
            if self.growth.is_some() && self.app.stop.is_set() {
                return Err(stopping());
            }
            let (mut reader, exec) = (self.reader, self.exec.clone());
            let read = self.app.ask(move |engine| {
                let piece = read(engine, &mut reader, exec.as_ref())?;
                Ok((reader, piece))
            });
            let piece;
            (self.reader, piece) = read.await.inspect_err(log)?;
            match (piece, &mut self.growth) {
                (Piece::Data(data), _) => return Ok(Some((data, self))),
                (Piece::Nothing, _) => {}
                (Piece::End, None) => return Ok(None),
                (Piece::End, Some(growth)) => tokio::select! {
                    grown = growth.wait() => if !grown {
                        // What was written last is still to be read.
                        self.growth = None;
                    },
                    () = self.app.stop.wait() => return Err(stopping()),
                },
            }
        }
    }
}

/// The next piece, also of files that were begun in the meantime.
fn read(
    engine: &Engine,
    reader: &mut LogReader,
    growing: Option<&ExecId>,
) -> Result<Piece, EngineError> {
    let unreadable = |error| failed("read", error);
    let piece = reader.read().map_err(unreadable)?;
    if piece == Piece::End
        && let Some(exec) = growing
        && reader.renew(engine.log_files(exec)?).map_err(unreadable)?
    {
        return reader.read().map_err(unreadable);
    }
    Ok(piece)
}

/// Following ends without the process: the client must not take it for its end.
fn stopping() -> EngineError {
    EngineError::Conflict("kleened is stopping".to_owned())
}

/// Tells when a log has grown.
struct Growth {
    frames: FrameReader<tokio::net::UnixStream>,
    deadline: Option<Instant>,
}

impl Growth {
    fn new(stream: UnixStream, deadline: Option<Instant>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(stream)?;
        Ok(Self {
            frames: FrameReader::new(stream),
            deadline,
        })
    }

    /// Waits until there is more; `false` when there won't be any more, or nobody wants it.
    async fn wait(&mut self) -> bool {
        let frames = &mut self.frames;
        match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, grown(frames))
                .await
                .unwrap_or(false),
            None => grown(frames).await,
        }
    }
}

async fn grown(frames: &mut FrameReader<tokio::net::UnixStream>) -> bool {
    let mut grown = false;
    loop {
        // Much may have been written while the client was busy: one look is enough for all of it.
        let frame = match grown {
            false => frames.next().await,
            true => match frames.next().now_or_never() {
                Some(frame) => frame,
                None => return true,
            },
        };
        match frame {
            Ok(Some(Frame::Exited(_)) | None) | Err(_) => return false,
            // What was written between our first look and the monitor's knowing of us isn't told of
            // by another frame than its first.
            Ok(Some(Frame::Grown | Frame::Started(_))) => grown = true,
            Ok(Some(_)) => {}
        }
    }
}
