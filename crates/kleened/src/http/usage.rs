//! What running containers use, and their processes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kleene_api::{ContainerStats, ErrorResponse, ProcessInfo};

use super::convert::usage;
use super::error::ApiError;
use super::extract::{Name, Params};
use crate::app::App;

/// Show what containers have used since they were started.
#[utoipa::path(
    get, path = "/containers/stats", tag = "containers",
    params(("containers" = Option<String>, Query, description =
        "Ids or names, separated by commas; may be given several times. Absent: all that run")),
    responses(
        (status = 200, body = Vec<ContainerStats>),
        (status = 404, body = ErrorResponse, description =
            "No such container, or one of those named doesn't run"),
    )
)]
pub async fn container_stats(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<ContainerStats>>, ApiError> {
    let names = params.list("containers")?;
    let views = app.ask(move |engine| engine.container_stats(&names));
    Ok(Json(views.await?.into_iter().map(usage::stats).collect()))
}

/// List the processes of a running container.
#[utoipa::path(
    get, path = "/containers/{id}/top", tag = "containers",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = Vec<ProcessInfo>),
        (status = 404, body = ErrorResponse, description = "No such container, or not running"),
    )
)]
pub async fn container_top(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<Vec<ProcessInfo>>, ApiError> {
    params.none()?;
    let processes = app.ask(move |engine| engine.container_top(&reference));
    let processes = processes.await?.into_iter();
    Ok(Json(processes.map(usage::process).collect()))
}
