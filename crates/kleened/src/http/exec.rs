//! `/exec`, all but its WebSocket.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kleene_api::{ErrorResponse, ExecConfig, ExecInspect, IdResponse};

use super::containers::named;
use super::convert;
use super::error::ApiError;
use super::extract::{JsonBody, Name, Params};
use crate::app::App;

/// Create an execution instance: a process to start in a container.
#[utoipa::path(
    post, path = "/exec/create", tag = "exec", request_body = ExecConfig,
    responses(
        (status = 201, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "The body or a value in it is bad"),
        (status = 404, body = ErrorResponse, description = "No such container"),
    )
)]
pub async fn exec_create(
    State(app): State<Arc<App>>,
    params: Params,
    JsonBody(config): JsonBody<ExecConfig>,
) -> Result<(StatusCode, Json<IdResponse>), ApiError> {
    params.none()?;
    let new = convert::new_exec(config)?;
    let id = app.run(move |engine| engine.exec_create(new)).await?;
    Ok((StatusCode::CREATED, named(id)))
}

/// Show an execution instance.
#[utoipa::path(
    get, path = "/exec/{id}/inspect", tag = "exec",
    params(("id" = String, Path, description = "Id or unique beginning of an id")),
    responses(
        (status = 200, body = ExecInspect),
        (status = 404, body = ErrorResponse, description = "No such execution instance"),
    )
)]
pub async fn exec_inspect(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<ExecInspect>, ApiError> {
    params.none()?;
    let record = app.ask(move |engine| engine.exec_inspect(&reference));
    Ok(Json(convert::exec(&record.await?)))
}

/// End the process of an execution instance.
#[utoipa::path(
    post, path = "/exec/{id}/stop", tag = "exec",
    params(
        ("id" = String, Path, description = "Id or unique beginning of an id"),
        ("force_stop" = bool, Query, description = "SIGKILL in place of SIGTERM"),
        ("stop_container" = bool, Query, description = "Stop its container as well"),
    ),
    responses(
        (status = 200, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "A parameter is missing"),
        (status = 404, body = ErrorResponse, description =
            "No such execution instance, or not running"),
    )
)]
pub async fn exec_stop(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    let [force, container] = params.required_flags(["force_stop", "stop_container"])?;
    let id = app.run(move |engine| engine.exec_stop(&reference, force, container));
    Ok(named(id.await?))
}
