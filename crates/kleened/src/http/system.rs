//! What the daemon says of itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use kleene_api::SystemInfo;

use super::openapi;
use crate::app::App;

/// Show what the daemon is.
#[utoipa::path(
    get, path = "/info", tag = "system",
    responses((status = 200, body = SystemInfo))
)]
pub async fn info(State(app): State<Arc<App>>) -> Json<SystemInfo> {
    Json(app.info.clone())
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "system",
    responses((status = 200, description = "The OpenAPI document"))
)]
pub async fn openapi_document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::DOCUMENT)
}
