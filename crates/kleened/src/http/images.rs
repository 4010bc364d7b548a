//! `/images`, all but its WebSockets.
//!
//! Names of images may hold slashes, and existing clients don't percent-encode them. So everything
//! below `/images/` that isn't a fixed path comes here whole, and what is done is told by its end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use kleene_api::{ErrorResponse, HistoryEntry, IdResponse, Image, PruneReport};

use super::containers::named;
use super::error::{self, ApiError};
use super::extract::{Name, Params};
use super::{convert, no_such_endpoint, transfer};
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

/// What is asked about an image is told by the path's end.
pub async fn image_get(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    Name(path): Name,
    params: Params,
) -> Result<Response, ApiError> {
    let asked = path
        .rsplit_once('/')
        .map(|(image, what)| (image.to_owned(), what));
    let Some((image, what)) = asked else {
        return Err(no_such_endpoint(&method, uri.path()));
    };
    params.none()?;
    match what {
        "inspect" => Ok(image_inspect(&app, image).await?.into_response()),
        "history" => Ok(image_history(&app, image).await?.into_response()),
        "export" => image_export(app, image).await,
        _ => Err(no_such_endpoint(&method, uri.path())),
    }
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
async fn image_inspect(app: &App, image: String) -> Result<Json<Image>, ApiError> {
    let view = app.run(move |engine| engine.image_inspect(&image));
    Ok(Json(convert::images::image(&view.await?)))
}

/// Show the steps by which an image was made, the latest first.
#[utoipa::path(
    get, path = "/images/{image}/history", tag = "images",
    params(("image" = String, Path, description = "Id, unique beginning of an id, or NAME[:TAG]")),
    responses(
        (status = 200, body = Vec<HistoryEntry>),
        (status = 404, body = ErrorResponse, description = "No such image"),
    )
)]
async fn image_history(app: &App, image: String) -> Result<Json<Vec<HistoryEntry>>, ApiError> {
    let history = app.run(move |engine| engine.image_history(&image)).await?;
    Ok(Json(
        history.into_iter().map(convert::images::history).collect(),
    ))
}

/// Write an image's tree as one archive.
#[utoipa::path(
    get, path = "/images/{image}/export", tag = "images",
    params(("image" = String, Path, description = "Id, unique beginning of an id, or NAME[:TAG]")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
        (status = 404, body = ErrorResponse, description = "No such image"),
    )
)]
async fn image_export(app: Arc<App>, image: String) -> Result<Response, ApiError> {
    transfer::download(app, move |engine, to| engine.image_export(&image, to)).await
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
    params(
        ("all" = Option<bool>, Query, description = "Also images with a name"),
        ("build_cache" = Option<bool>, Query, description = "Also what builds keep for the next one"),
        ("dry_run" = Option<bool>, Query, description = "Remove nothing: tell what would be"),
        ("report" = Option<bool>, Query, description = "Answer a PruneReport"),
        ("filters" = Option<Vec<String>>, Query, description =
            "`until=TIME` (a time, or a span before now) and `label=NAME[=VALUE]`; may be given \
             several times"),
    ),
    responses((status = 200, body = Vec<String>))
)]
pub async fn image_prune(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (prune, report) = convert::images::image_prune(params.pairs())?;
    let pruned = app.run(move |engine| engine.image_prune(&prune)).await?;
    let images = pruned.images.iter().map(ToString::to_string).collect();
    let bytes = pruned.bytes;
    Ok(match report {
        true => Json(PruneReport { images, bytes }).into_response(),
        false => Json(images).into_response(),
    })
}
