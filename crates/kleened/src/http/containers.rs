//! `/containers`: verify, convert, forward.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kleene_api::{ContainerConfig, ContainerInspect, ContainerSummary, ErrorResponse, IdResponse};
use kleene_engine::{Done, Engine, EngineError, ListOptions};
use serde_json::{Map, Value};

use super::convert;
use super::error::{self, ApiError};
use super::extract::{JsonBody, Name, Params, parse_object};
use crate::app::App;

/// List containers, the newest first.
#[utoipa::path(
    get, path = "/containers/list", tag = "containers",
    params(
        ("all" = Option<bool>, Query, description = "Also those that don't run"),
        ("size" = Option<bool>, Query, description = "Also what their files occupy"),
    ),
    responses((status = 200, body = Vec<ContainerSummary>))
)]
pub async fn container_list(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<ContainerSummary>>, ApiError> {
    let [all, size] = params.flags(["all", "size"])?;
    let options = ListOptions {
        all: all.unwrap_or_default(),
        size: size.unwrap_or_default(),
    };
    let list = move |engine: &Engine| -> Result<Vec<ContainerSummary>, EngineError> {
        let views = engine.container_list(options)?;
        Ok(views.iter().map(convert::container_summary).collect())
    };
    // Sizes are counted, which takes its time.
    Ok(Json(match options.size {
        true => app.run(list).await?,
        false => app.ask(list).await?,
    }))
}

/// Create a container.
#[utoipa::path(
    post, path = "/containers/create", tag = "containers", request_body = ContainerConfig,
    responses(
        (status = 201, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "The body is not a configuration"),
        (status = 404, body = ErrorResponse, description =
            "No such image, or a name, mount, port or variable that can't be"),
        (status = 409, body = ErrorResponse, description = "The name is taken, or the disk is full"),
    )
)]
pub async fn container_create(
    State(app): State<Arc<App>>,
    params: Params,
    JsonBody(config): JsonBody<ContainerConfig>,
) -> Result<(StatusCode, Json<IdResponse>), ApiError> {
    params.none()?;
    let new = convert::new_container(config).map_err(error::on_container_create)?;
    let id = app.run(move |engine| engine.container_create(new)).await;
    let done = id.map_err(error::on_container_create)?;
    Ok((StatusCode::CREATED, with_warnings(done)))
}

/// Change a container. Fields that are `null` or absent stay as they are.
#[utoipa::path(
    post, path = "/containers/{id}/update", tag = "containers", request_body = ContainerConfig,
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 201, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "A value that can't be"),
        (status = 404, body = ErrorResponse, description = "No such container"),
        (status = 409, body = ErrorResponse, description = "The name is taken, or it can't change"),
    )
)]
pub async fn container_update(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
    JsonBody(mut fields): JsonBody<Map<String, Value>>,
) -> Result<(StatusCode, Json<IdResponse>), ApiError> {
    params.none()?;
    // The original client repeats the container's reference in the body.
    fields.remove("container");
    let text = Value::Object(fields).to_string();
    let config: ContainerConfig = parse_object(text.as_bytes()).map_err(ApiError::bad_request)?;
    let id = app.run(move |engine| {
        let present = engine.container_inspect(&reference)?.record;
        let changes = convert::container_changes(config, &present)?;
        engine.container_update(present.id.as_str(), changes)
    });
    Ok((StatusCode::CREATED, with_warnings(id.await?)))
}

/// Show a container with its endpoints, mounts and execution instances.
#[utoipa::path(
    get, path = "/containers/{id}/inspect", tag = "containers",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = ContainerInspect),
        (status = 404, body = ErrorResponse, description = "No such container"),
    )
)]
pub async fn container_inspect(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<ContainerInspect>, ApiError> {
    params.none()?;
    let seen = app.ask(move |engine| {
        let view = engine.container_inspect(&reference)?;
        let execs = engine.container_execs(&view.record.id)?;
        Ok(convert::container_inspect(&view, &execs))
    });
    Ok(Json(seen.await?))
}

/// Remove a container. Its volumes stay.
#[utoipa::path(
    delete, path = "/containers/{id}", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("force" = Option<bool>, Query, description = "Stop it first if it runs"),
    ),
    responses(
        (status = 200, body = IdResponse),
        (status = 404, body = ErrorResponse, description = "No such container"),
        (status = 409, body = ErrorResponse, description = "It runs"),
    )
)]
pub async fn container_remove(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    let [force] = params.flags(["force"])?;
    let force = force.unwrap_or_default();
    let id = app.run(move |engine| engine.container_remove(&reference, force));
    Ok(named(id.await.map_err(error::on_container_remove)?))
}

/// Remove all containers that don't run and aren't marked to persist. Answers their ids, the oldest
/// first.
#[utoipa::path(
    post, path = "/containers/prune", tag = "containers",
    responses((status = 200, body = Vec<String>))
)]
pub async fn container_prune(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<String>>, ApiError> {
    params.none()?;
    let ids = app.run(|engine| engine.container_prune()).await?;
    Ok(Json(ids.iter().map(ToString::to_string).collect()))
}

/// The answer that names an object.
pub(super) fn named(id: impl ToString) -> Json<IdResponse> {
    Json(IdResponse {
        id: id.to_string(),
        warnings: Vec::new(),
    })
}

/// The answer that names a container that was created or changed.
fn with_warnings(done: Done) -> Json<IdResponse> {
    Json(IdResponse {
        id: done.id.to_string(),
        warnings: done.warnings,
    })
}
