//! `/images`, all but its WebSockets.
//!
//! Names of images may hold slashes, and existing clients don't percent-encode them. So everything
//! below `/images/` that isn't a fixed path comes here whole, and what is done is told by its end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, Uri};
use kleene_api::{ErrorResponse, IdResponse, Image};

use super::containers::named;
use super::error::{self, ApiError};
use super::extract::{Name, Params};
use super::{convert, no_such_endpoint};
use crate::app::App;

/// List images, the newest first.
#[utoipa::path(
    get, path = "/images/list", tag = "images",
    params(("all" = Option<bool>, Query, description = "Also those that only keep steps of builds")),
    responses((status = 200, body = Vec<Image>))
)]
pub async fn image_list(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<Image>>, ApiError> {
    let [all] = params.flags(["all"])?;
    let all = all.unwrap_or_default();
    let list = app.run(move |engine| {
        Ok(engine
            .image_list(all)?
            .iter()
            .map(convert::images::image)
            .collect())
    });
    Ok(Json(list.await?))
}

/// Show an image.
#[utoipa::path(
    get, path = "/images/{image}/inspect", tag = "images",
    params(("image" = String, Path, description = "Id, unique beginning of an id, or NAME[:TAG]")),
    responses(
        (status = 200, body = Image),
        (status = 404, body = ErrorResponse, description = "No such image"),
    )
)]
pub async fn image_inspect(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    Name(path): Name,
    params: Params,
) -> Result<Json<Image>, ApiError> {
    let Some(reference) = path.strip_suffix("/inspect").map(str::to_owned) else {
        return Err(no_such_endpoint(&method, uri.path()));
    };
    params.none()?;
    let view = app.run(move |engine| engine.image_inspect(&reference));
    Ok(Json(convert::images::image(&view.await?)))
}

/// Give an image a name and tag. A tag that another image has moves over.
#[utoipa::path(
    post, path = "/images/{image}/tag", tag = "images",
    params(
        ("image" = String, Path, description = "Id, unique beginning of an id, or NAME[:TAG]"),
        ("nametag" = String, Query, description = "The new NAME[:TAG]"),
    ),
    responses(
        (status = 200, body = IdResponse),
        (status = 400, body = ErrorResponse, description = "The new name is missing or bad"),
        (status = 404, body = ErrorResponse, description = "No such image"),
    )
)]
pub async fn image_tag(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    Name(path): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    let Some(reference) = path.strip_suffix("/tag").map(str::to_owned) else {
        return Err(no_such_endpoint(&method, uri.path()));
    };
    let (name, tag) = convert::name_and_tag(&params.text("nametag")?)?;
    let id = app.run(move |engine| engine.image_tag(&reference, name, tag));
    Ok(named(id.await?))
}

/// Remove an image that nothing uses.
#[utoipa::path(
    delete, path = "/images/{image}", tag = "images",
    params(("image" = String, Path, description = "Id, unique beginning of an id, or NAME[:TAG]")),
    responses(
        (status = 200, body = IdResponse),
        (status = 404, body = ErrorResponse, description =
            "No such image, or it is in use; then the message names the users' ids, one a line"),
    )
)]
pub async fn image_remove(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<IdResponse>, ApiError> {
    params.none()?;
    let id = app.run(move |engine| engine.image_remove(&reference));
    Ok(named(id.await.map_err(error::on_image_remove)?))
}

/// Remove the images that nothing uses: those without a name, or all. Answers their ids, children
/// before parents.
#[utoipa::path(
    post, path = "/images/prune", tag = "images",
    params(("all" = Option<bool>, Query, description = "Also images with a name")),
    responses((status = 200, body = Vec<String>))
)]
pub async fn image_prune(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Json<Vec<String>>, ApiError> {
    let [all] = params.flags(["all"])?;
    let ids = app.run(move |engine| engine.image_prune(all.unwrap_or_default()));
    Ok(Json(ids.await?.iter().map(ToString::to_string).collect()))
}
