//! What happens to containers that exist: stopping, starting again, pausing, signals, and waiting for
//! their end.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kleene_api::{ErrorResponse, IdResponse, WaitResponse};
use kleene_engine::EngineError;
use kleene_types::{Signal, Span};

use super::containers::named;
use super::error::ApiError;
use super::extract::{Name, Params};
use crate::app::App;
use crate::wait::{self, Condition, WaitError};

/// Stop a container: it is asked to end, and killed when it takes too long.
#[utoipa::path(
    post, path = "/containers/{id}/stop", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("time" = Option<String>, Query, description =
            "Time between asking and killing, such as 30s; absent: the container's own, or 10s"),
    ),
    responses(
        (status = 200, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "The time is none"),
        (status = 404, body = ErrorResponse, description = "No such container, or not running"),
    )
)]
pub async fn container_stop(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    let grace = grace(params)?;
    let id = app.run(move |engine| engine.container_stop(&reference, grace));
    Ok(named(id.await?))
}

/// Stop a container if it runs, and start it again in the background.
#[utoipa::path(
    post, path = "/containers/{id}/restart", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("time" = Option<String>, Query, description =
            "Time between asking and killing, such as 30s; absent: the container's own, or 10s"),
    ),
    responses(
        (status = 200, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "The time is none"),
        (status = 404, body = ErrorResponse, description = "No such container"),
        (status = 409, body = ErrorResponse, description = "It can't be started"),
    )
)]
pub async fn container_restart(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    let grace = grace(params)?;
    let id = app.run(move |engine| engine.container_restart(&reference, grace));
    Ok(named(id.await?))
}

/// The query parameter `time`.
fn grace(params: Params) -> Result<Option<Duration>, ApiError> {
    let [time] = params.texts(["time"])?;
    let time = time.map(|text| text.parse::<Span>());
    let time = time.transpose().map_err(|error| {
        ApiError::bad_request(format!("the query parameter 'time' is wrong: {error}"))
    })?;
    Ok(time.map(Span::duration))
}

/// Send a signal to the first process of a container.
#[utoipa::path(
    post, path = "/containers/{id}/kill", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("signal" = Option<String>, Query, description =
            "Name, such as HUP, or number; absent: KILL"),
    ),
    responses(
        (status = 200, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "No such signal"),
        (status = 404, body = ErrorResponse, description = "No such container, or not running"),
        (status = 409, body = ErrorResponse, description = "It has ended in this moment"),
    )
)]
pub async fn container_kill(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    let [signal] = params.texts(["signal"])?;
    let signal = match signal {
        Some(text) => text.parse::<Signal>(),
        None => "KILL".parse(),
    };
    let signal = signal.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let id = app.run(move |engine| engine.container_kill(&reference, signal));
    Ok(named(id.await?))
}

/// Stop all processes of a container in their tracks.
#[utoipa::path(
    post, path = "/containers/{id}/pause", tag = "containers",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = IdResponse),
        (status = 404, body = ErrorResponse, description = "No such container, or not running"),
        (status = 409, body = ErrorResponse, description = "It is paused already"),
    )
)]
pub async fn container_pause(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    params.none()?;
    let id = app.run(move |engine| engine.container_pause(&reference));
    Ok(named(id.await?))
}

/// Let the processes of a paused container go on.
#[utoipa::path(
    post, path = "/containers/{id}/unpause", tag = "containers",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = IdResponse),
        (status = 404, body = ErrorResponse, description = "No such container, or not running"),
        (status = 409, body = ErrorResponse, description = "It isn't paused"),
    )
)]
pub async fn container_unpause(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    params.none()?;
    let id = app.run(move |engine| engine.container_unpause(&reference));
    Ok(named(id.await?))
}

/// Wait for a container. Answers how it ended.
#[utoipa::path(
    post, path = "/containers/{id}/wait", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("condition" = Option<String>, Query, description =
            "not-running (default): until it doesn't run, nor waits for its restart; next-exit: \
             until its present run, or else its next one, has ended; removed: until it is removed. \
             A container that was never started has the exit code 0"),
    ),
    responses(
        (status = 200, body = WaitResponse),
        (status = 400, body = ErrorResponse, description = "No such condition"),
        (status = 404, body = ErrorResponse, description =
            "No such container, or it was removed before it had run"),
        (status = 503, body = ErrorResponse, description = "The daemon is stopping"),
    )
)]
pub async fn container_wait(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<WaitResponse>, ApiError> {
    let [condition] = params.texts(["condition"])?;
    let condition = match condition {
        Some(text) => Condition::parse(&text).ok_or_else(|| unknown_condition(&text))?,
        None => Condition::NotRunning,
    };
    match wait::container(&app, &reference, condition).await {
        Ok(exit) => Ok(Json(WaitResponse {
            id: exit.id.to_string(),
            exit_code: exit.exit_code,
            out_of_memory: exit.out_of_memory,
        })),
        Err(WaitError::Engine(error)) => Err(error.into()),
        Err(WaitError::Removed) => Err(EngineError::ContainerNotFound(reference).into()),
        Err(WaitError::Stopping) => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "kleened is stopping: wait again when it is back",
        )),
    }
}

fn unknown_condition(text: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the query parameter 'condition' is '{text}': use one of {}",
        Condition::WORDS.map(|(word, _)| word).join(", ")
    ))
}
