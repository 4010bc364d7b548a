//! `/networks`. There are none in this version, and the answers say so.

use axum::Json;
use kleene_api::{
    EndPointConfig, ErrorResponse, IdResponse, Network, NetworkConfig, NetworkInspect,
};

use super::error::ApiError;
use super::extract::{JsonBody, Name, Params};

const NOT_YET: &str = "networks are not available yet in this version: use network driver 'host' \
                       or 'disabled'";

/// List networks by name.
#[utoipa::path(
    get, path = "/networks/list", tag = "networks",
    responses((status = 200, body = Vec<Network>))
)]
pub async fn network_list(params: Params) -> Result<Json<Vec<Network>>, ApiError> {
    params.none()?;
    Ok(Json(Vec::new()))
}

/// Create a network.
#[utoipa::path(
    post, path = "/networks/create", tag = "networks", request_body = NetworkConfig,
    responses(
        (status = 201, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "The body is not a configuration"),
        (status = 409, body = ErrorResponse, description = "It can't be made"),
    )
)]
pub async fn network_create(JsonBody(_): JsonBody<NetworkConfig>) -> Result<(), ApiError> {
    Err(ApiError::conflict(NOT_YET))
}

/// Show a network with its endpoints.
#[utoipa::path(
    get, path = "/networks/{id}/inspect", tag = "networks",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = NetworkInspect),
        (status = 404, body = ErrorResponse, description = "No such network"),
    )
)]
pub async fn network_inspect(Name(_): Name) -> Result<(), ApiError> {
    Err(ApiError::not_found("network not found"))
}

/// Remove a network.
#[utoipa::path(
    delete, path = "/networks/{id}", tag = "networks",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = IdResponse),
        (status = 404, body = ErrorResponse, description = "No such network"),
    )
)]
pub async fn network_remove(Name(_): Name) -> Result<(), ApiError> {
    // The full stop is the contract's.
    Err(ApiError::not_found("network not found."))
}

/// Remove all networks without endpoints. Answers their ids.
#[utoipa::path(
    post, path = "/networks/prune", tag = "networks",
    responses((status = 200, body = Vec<String>))
)]
pub async fn network_prune(params: Params) -> Result<Json<Vec<String>>, ApiError> {
    params.none()?;
    Ok(Json(Vec::new()))
}

/// Connect a container to a network.
#[utoipa::path(
    post, path = "/networks/connect", tag = "networks", request_body = EndPointConfig,
    responses(
        (status = 204),
        (status = 400, body = ErrorResponse, description = "The body is not a configuration"),
        (status = 404, body = ErrorResponse, description = "No such network or container"),
        (status = 409, body = ErrorResponse, description = "They can't be connected"),
    )
)]
pub async fn network_connect(JsonBody(_): JsonBody<EndPointConfig>) -> Result<(), ApiError> {
    Err(ApiError::conflict(NOT_YET))
}

/// Disconnect a container from a network.
#[utoipa::path(
    post, path = "/networks/{id}/disconnect/{container}", tag = "networks",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("container" = String, Path, description = "Id, unique beginning of an id, or name"),
    ),
    responses(
        (status = 204),
        (status = 404, body = ErrorResponse, description = "No such network or container"),
    )
)]
pub async fn network_disconnect() -> Result<(), ApiError> {
    Err(ApiError::not_found("network not found"))
}
