//! Images and containers on their way between hosts: as archives, by registries, as commits.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use kleene_api::{
    ContainerCommitConfig, ErrorResponse, IdResponse, LoadedImage, RegistryLoggedIn, RegistryLogin,
    SearchResult,
};

use super::containers::named;
use super::convert::images as convert;
use super::error::ApiError;
use super::extract::{JsonBody, Name, Params, missing};
use super::transfer::{self, Upload};
use crate::app::App;

/// Repositories that a search answers when nobody says how many.
const FOUND: usize = 25;

/// Save images in one archive: an OCI image layout that `docker load` reads as well.
#[utoipa::path(
    get, path = "/images/save", tag = "images",
    params(("names" = Vec<String>, Query, description = "Images; may be given several times")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
        (status = 404, body = ErrorResponse, description = "No such image"),
    )
)]
pub async fn image_save(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let names = params.list("names")?;
    if names.is_empty() {
        return Err(missing("names"));
    }
    transfer::download(app, move |engine, to| engine.image_save(&names, to)).await
}

/// Load the images of an archive: an OCI image layout, or what `docker save` writes.
#[utoipa::path(
    post, path = "/images/load", tag = "images",
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses(
        (status = 200, body = Vec<LoadedImage>),
        (status = 400, body = ErrorResponse, description = "The archive is bad"),
    )
)]
pub async fn image_load(
    State(app): State<Arc<App>>,
    params: Params,
    body: Body,
) -> Result<Json<Vec<LoadedImage>>, ApiError> {
    params.none()?;
    let mut upload = Upload::new(body, app.timing.transfer);
    let loaded = upload
        .pass_on(&app, |engine, from| {
            engine.image_load(from, None, &mut |_| std::ops::ControlFlow::Continue(()))
        })
        .await;
    upload.end(&app).await;
    Ok(Json(loaded?.iter().map(convert::loaded).collect()))
}

/// Make an image of an archive that holds a whole tree.
#[utoipa::path(
    post, path = "/images/import", tag = "images",
    params(
        ("tag" = Option<String>, Query, description = "Name of the image, NAME[:TAG]"),
        ("comment" = Option<String>, Query, description = "What to note"),
        ("changes" = Option<Vec<String>>, Query, description =
            "Instructions for the image's settings; may be given several times"),
    ),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses(
        (status = 200, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "The archive or a setting is bad"),
    )
)]
pub async fn image_import(
    State(app): State<Arc<App>>,
    params: Params,
    body: Body,
) -> Result<Json<IdResponse>, ApiError> {
    let mut upload = Upload::new(body, app.timing.transfer);
    let imported = match convert::new_import(params.pairs()) {
        Ok(import) => {
            upload
                .pass_on(&app, move |engine, from| {
                    let go_on = &mut |_| std::ops::ControlFlow::Continue(());
                    engine.image_import(&import, from, go_on)
                })
                .await
        }
        Err(error) => Err(error),
    };
    upload.end(&app).await;
    Ok(named(imported?))
}

/// Write a container's tree as one archive, without what is mounted in it.
#[utoipa::path(
    get, path = "/containers/{id}/export", tag = "containers",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
        (status = 404, body = ErrorResponse, description = "No such container"),
    )
)]
pub async fn container_export(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Response, ApiError> {
    params.none()?;
    transfer::download(app, move |engine, to| {
        engine.container_export(&reference, to)
    })
    .await
}

/// Make an image of a container.
#[utoipa::path(
    post, path = "/containers/{id}/commit", tag = "containers",
    request_body = ContainerCommitConfig,
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 201, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "A name or setting is bad"),
        (status = 404, body = ErrorResponse, description = "No such container"),
    )
)]
pub async fn container_commit(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
    JsonBody(config): JsonBody<ContainerCommitConfig>,
) -> Result<(StatusCode, Json<IdResponse>), ApiError> {
    params.none()?;
    let commit = convert::new_commit(reference, config)?;
    let id = app.run(move |engine| engine.container_commit(&commit));
    Ok((StatusCode::CREATED, named(id.await?)))
}

/// Look for images in a registry.
#[utoipa::path(
    get, path = "/images/search", tag = "images",
    params(
        ("term" = String, Query, description = "A word"),
        ("registry" = Option<String>, Query, description = "The registry; absent: the default one"),
        ("limit" = Option<usize>, Query, description = "Most results, 25 when absent"),
    ),
    responses(
        (status = 200, body = Vec<SearchResult>),
        (status = 409, body = ErrorResponse, description = "The registry can't search"),
        (status = 502, body = ErrorResponse, description = "The registry can't be reached"),
    )
)]
pub async fn image_search(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<SearchResult>>, ApiError> {
    let [term, registry, limit] = params.texts(["term", "registry", "limit"])?;
    let term = term.ok_or_else(|| missing("term"))?;
    let limit = match limit.map(|text| text.parse()) {
        None => FOUND,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => {
            return Err(ApiError::bad_request(
                "the query parameter 'limit' must be a number",
            ));
        }
    };
    let found = app.transfer(move |engine| engine.image_search(&term, registry.as_deref(), limit));
    Ok(Json(
        found
            .await?
            .into_iter()
            .map(convert::search_result)
            .collect(),
    ))
}

/// Ask a registry whether it knows somebody. Nothing is kept: clients keep credentials.
#[utoipa::path(
    post, path = "/images/login", tag = "images", request_body = RegistryLogin,
    responses(
        (status = 200, body = RegistryLoggedIn),
        (status = 401, body = ErrorResponse, description = "It doesn't"),
        (status = 502, body = ErrorResponse, description = "The registry can't be reached"),
    )
)]
pub async fn registry_login(
    State(app): State<Arc<App>>,
    params: Params,
    JsonBody(login): JsonBody<RegistryLogin>,
) -> Result<Json<RegistryLoggedIn>, ApiError> {
    params.none()?;
    let Some(credentials) = convert::credentials(login.credentials) else {
        return Err(ApiError::bad_request("no credentials are given"));
    };
    let registry = login.registry;
    let answer = app.transfer(move |engine| engine.registry_login(Some(&registry), &credentials));
    let (registry, login) = answer.await?;
    Ok(Json(RegistryLoggedIn {
        registry: registry.to_string(),
        identity_token: login.identity_token,
    }))
}
