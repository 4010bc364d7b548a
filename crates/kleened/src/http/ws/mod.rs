//! WebSocket endpoints: `/exec/start`, `/exec/attach`, and those of images that take their time.
//!
//! Every session begins with the client's configuration as a text frame; the daemon opens with a
//! `starting` message, streams, and closes with a message in the close reason.

mod exec_attach;
mod exec_start;
mod image_build;
mod image_create;
mod image_transfer;
mod process;
mod relay;
mod session;
mod work;

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use kleene_api::{ErrorResponse, PROGRESS_PROTOCOL, STREAMS_PROTOCOL};

use super::error::ApiError;
use crate::app::App;
use session::Session;

/// Largest message that is taken from a client: 1 MiB of data and the byte of its channel.
const MAX_MESSAGE: usize = (1 << 20) + 1;

/// Bytes that are read at once, and gathered before they are written. There are two such buffers in
/// every session, so they are small.
const BUFFER: usize = 16 << 10;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// WebSocket: start an execution instance. The first text frame is an ExecStartConfig.
#[utoipa::path(
    get, path = "/exec/start", tag = "exec",
    responses(
        (status = 101, description =
            "Output follows as binary frames. With the subprotocol kleene.streams.v1 the first byte \
             of each frame is its channel: 0 stdin (client; empty: end of file), 1 stdout, 2 \
             stderr, 3 control (client; a Control as JSON), 4 exit (an ExitInfo as JSON). Close \
             codes: 1000 ended, 1001 started detached, 1002 bad frame, 1011 failed"),
        (status = 400, body = ErrorResponse, description = "Not a WebSocket handshake"),
    )
)]
pub async fn exec_start(
    State(app): State<Arc<App>>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    open(app, upgrade, Some(STREAMS_PROTOCOL), exec_start::run)
}

/// WebSocket: join the streams of a process that runs. The first text frame is an ExecAttachConfig.
#[utoipa::path(
    get, path = "/exec/attach", tag = "exec",
    responses(
        (status = 101, description =
            "Frames are those of /exec/start. The process doesn't end when the client goes away. \
             Close codes: 1000 ended, 1001 detached, 1002 bad frame, 1011 failed"),
        (status = 400, body = ErrorResponse, description = "Not a WebSocket handshake"),
    )
)]
pub async fn exec_attach(
    State(app): State<Arc<App>>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    open(app, upgrade, Some(STREAMS_PROTOCOL), exec_attach::run)
}

/// WebSocket: make a base image. The first text frame is an ImageCreateConfig.
#[utoipa::path(
    get, path = "/images/create", tag = "images",
    responses(
        (status = 101, description =
            "Lines of text follow. With the subprotocol kleene.progress.v1 they are ProgressInfo \
             objects. Close codes: 1000 made (the reason's data is the image's id), 1002 bad \
             frame, 1011 failed"),
        (status = 400, body = ErrorResponse, description = "Not a WebSocket handshake"),
    )
)]
pub async fn image_create(
    State(app): State<Arc<App>>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    open(app, upgrade, Some(PROGRESS_PROTOCOL), image_create::run)
}

/// WebSocket: pull an image from a registry. The first text frame is an ImagePullConfig.
#[utoipa::path(
    get, path = "/images/pull", tag = "images",
    responses(
        (status = 101, description =
            "As for /images/create. Close codes: 1000 pulled (the reason's data is the image's id), \
             1002 bad frame, 1011 failed"),
        (status = 400, body = ErrorResponse, description = "Not a WebSocket handshake"),
    )
)]
pub async fn image_pull(
    State(app): State<Arc<App>>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    open(app, upgrade, Some(PROGRESS_PROTOCOL), image_transfer::pull)
}

/// WebSocket: push an image to a registry. The first text frame is an ImagePushConfig.
#[utoipa::path(
    get, path = "/images/push", tag = "images",
    responses(
        (status = 101, description =
            "As for /images/create. Close codes: 1000 pushed (the reason's data is the manifest's \
             digest), 1002 bad frame, 1011 failed"),
        (status = 400, body = ErrorResponse, description = "Not a WebSocket handshake"),
    )
)]
pub async fn image_push(
    State(app): State<Arc<App>>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    open(app, upgrade, Some(PROGRESS_PROTOCOL), image_transfer::push)
}

/// WebSocket: build an image. The first text frame is an ImageBuildConfig.
#[utoipa::path(
    get, path = "/images/build", tag = "images",
    responses(
        (status = 101, description =
            "The build's output follows. Close codes: 1000 built, 1002 bad frame, 1011 failed (the \
             reason's data is the last snapshot)"),
        (status = 400, body = ErrorResponse, description = "Not a WebSocket handshake"),
    )
)]
pub async fn image_build(
    State(app): State<Arc<App>>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    open(app, upgrade, None, image_build::run)
}

/// Answers the handshake, and runs the session once the connection is a WebSocket.
fn open<F: Future<Output = ()> + Send>(
    app: Arc<App>,
    upgrade: Upgrade,
    protocol: Option<&'static str>,
    run: impl FnOnce(Arc<App>, Session) -> F + Send + 'static,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|error| {
        ApiError::bad_request(format!(
            "this endpoint speaks WebSocket: {}",
            error.body_text()
        ))
    })?;
    let open = app.sessions.enter();
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .protocols(protocol);
    Ok(upgrade.on_upgrade(async move |socket| {
        let session = Session::new(socket, app.timing, app.stop.clone());
        run(app, session).await;
        drop(open);
    }))
}
