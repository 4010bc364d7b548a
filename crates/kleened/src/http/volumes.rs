//! `/volumes`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kleene_api::{ErrorResponse, IdResponse, Volume, VolumeConfig, VolumeInspect};
use kleene_types::VolumeName;

use super::containers::named;
use super::convert;
use super::error::ApiError;
use super::extract::{JsonBody, Name, Params};
use crate::app::App;

/// List volumes, the newest first.
#[utoipa::path(
    get, path = "/volumes/list", tag = "volumes",
    responses((status = 200, body = Vec<Volume>))
)]
pub async fn volume_list(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<Volume>>, ApiError> {
    params.none()?;
    let list = app.run(|engine| Ok(engine.volume_list()?.iter().map(convert::volume).collect()));
    Ok(Json(list.await?))
}

/// Create a volume. One of this name that is there already is success.
#[utoipa::path(
    post, path = "/volumes/create", tag = "volumes", request_body = VolumeConfig,
    responses(
        (status = 201, body = IdResponse, description = "Its name"),
        (status = 400, body = ErrorResponse, description = "The body or the name is bad"),
        (status = 409, body = ErrorResponse, description = "The disk is full"),
    )
)]
pub async fn volume_create(
    State(app): State<Arc<App>>,
    params: Params,
    JsonBody(config): JsonBody<VolumeConfig>,
) -> Result<(StatusCode, Json<IdResponse>), ApiError> {
    params.none()?;
    let name: VolumeName = config
        .name
        .parse()
        .map_err(|error: kleene_types::NameError| ApiError::bad_request(error.to_string()))?;
    let name = app.run(move |engine| engine.volume_create(name)).await?;
    Ok((StatusCode::CREATED, named(name)))
}

/// Show a volume with the mounts that use it.
#[utoipa::path(
    get, path = "/volumes/{name}/inspect", tag = "volumes",
    params(("name" = String, Path, description = "Exact name")),
    responses(
        (status = 200, body = VolumeInspect),
        (status = 404, body = ErrorResponse, description = "No such volume"),
    )
)]
pub async fn volume_inspect(
    State(app): State<Arc<App>>,
    Name(name): Name,
    params: Params,
) -> Result<Json<VolumeInspect>, ApiError> {
    params.none()?;
    let (view, mounts) = app.run(move |engine| engine.volume_inspect(&name)).await?;
    let mounts = mounts.iter();
    Ok(Json(VolumeInspect {
        mountpoints: mounts
            .map(|(id, mount)| convert::mount_point(id, mount))
            .collect(),
        volume: convert::volume(&view),
    }))
}

/// Remove a volume that no container mounts.
#[utoipa::path(
    delete, path = "/volumes/{name}", tag = "volumes",
    params(("name" = String, Path, description = "Exact name")),
    responses(
        (status = 200, body = IdResponse, description = "Its name"),
        (status = 404, body = ErrorResponse, description = "No such volume"),
        (status = 409, body = ErrorResponse, description = "Containers mount it; they are named"),
    )
)]
pub async fn volume_remove(
    State(app): State<Arc<App>>,
    Name(name): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    params.none()?;
    Ok(named(
        app.run(move |engine| engine.volume_remove(&name)).await?,
    ))
}

/// Remove all volumes that no container mounts. Answers their names, the oldest first.
#[utoipa::path(
    post, path = "/volumes/prune", tag = "volumes",
    responses((status = 200, body = Vec<String>))
)]
pub async fn volume_prune(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<String>>, ApiError> {
    params.none()?;
    let names = app.run(|engine| engine.volume_prune()).await?;
    Ok(Json(names.iter().map(ToString::to_string).collect()))
}
