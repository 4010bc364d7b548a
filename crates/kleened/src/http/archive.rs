//! Files of containers: what is at a path, archives in both directions, and what has changed.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use kleene_api::{Change, ErrorResponse, PathStat};
use kleene_doors::files::{self, PathKind, UnpackOptions};
use kleene_doors::storage::{self, ChangeKind};

use super::error::ApiError;
use super::extract::{Name, Params, missing, parse_flag};
use super::transfer::{self, Upload};
use crate::app::App;

/// Show what is at a path in a container. The path's last component isn't followed.
#[utoipa::path(
    get, path = "/containers/{id}/stat", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("path" = String, Query, description = "An absolute path in the container"),
    ),
    responses(
        (status = 200, body = PathStat),
        (status = 400, body = ErrorResponse, description = "The path is bad"),
        (status = 404, body = ErrorResponse, description = "No such container, or nothing is there"),
    )
)]
pub async fn path_stat(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<PathStat>, ApiError> {
    let path = params.text("path")?;
    Ok(Json(convert_stat(stat(&app, &reference, &path).await?)))
}

/// What is at a path, if anything is.
async fn stat(app: &App, reference: &str, path: &str) -> Result<files::PathStat, ApiError> {
    let (container, at) = (reference.to_owned(), PathBuf::from(path));
    let found = app.run(move |engine| engine.stat_path(&container, &at));
    found.await?.ok_or_else(|| {
        ApiError::not_found(format!(
            "no such file or directory in container '{reference}': '{path}'"
        ))
    })
}

/// Read what is at a path in a container, with everything beneath it.
///
/// The archive's entries begin with the path's last component. A transfer that breaks off before its
/// end is not complete. A container that doesn't run is neither started nor removed meanwhile: that
/// waits.
#[utoipa::path(
    get, path = "/containers/{id}/archive", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("path" = String, Query, description = "An absolute path in the container"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-tar"),
        (status = 400, body = ErrorResponse, description = "The path is bad"),
        (status = 404, body = ErrorResponse, description = "No such container, or nothing is there"),
        (status = 409, body = ErrorResponse, description = "The container's state stands against it"),
    )
)]
pub async fn archive_read(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Response, ApiError> {
    let path = params.text("path")?;
    stat(&app, &reference, &path).await?;
    transfer::download(app, move |engine, to| {
        engine.read_archive(&reference, path.as_ref(), to)
    })
    .await
}

/// Unpack an archive in a directory of a container.
///
/// Its entries never leave the directory. A container that doesn't run is neither started nor removed
/// meanwhile: that waits.
#[utoipa::path(
    put, path = "/containers/{id}/archive", tag = "containers",
    params(
        ("id" = String, Path, description = "Id, unique beginning of an id, or name"),
        ("path" = String, Query, description = "An absolute path of a directory in the container"),
        ("keep_owner" = Option<bool>, Query, description =
            "Keep the archive's owners; otherwise everything belongs to root"),
    ),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses(
        (status = 204, description = "Everything is there"),
        (status = 400, body = ErrorResponse, description =
            "The path is bad or no directory, or the archive is bad"),
        (status = 404, body = ErrorResponse, description =
            "No such container, or no such directory in it"),
        (status = 409, body = ErrorResponse, description =
            "The directory is read-only, the disk is full, or the container's state stands against it"),
    )
)]
pub async fn archive_write(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let mut upload = Upload::new(body, app.timing.transfer);
    let written = match target(&app, &reference, params).await {
        Ok((path, options)) => {
            upload
                .pass_on(&app, move |engine, from| {
                    engine.write_archive(&reference, &path, from, options)
                })
                .await
        }
        Err(error) => Err(error),
    };
    upload.end(&app).await;
    written.map(|()| StatusCode::NO_CONTENT)
}

/// Where the archive is to be unpacked, and how.
async fn target(
    app: &App,
    reference: &str,
    params: Params,
) -> Result<(PathBuf, UnpackOptions), ApiError> {
    let [path, keep_owner] = params.texts(["path", "keep_owner"])?;
    let path = path.ok_or_else(|| missing("path"))?;
    let keep_owner = keep_owner.map_or(Ok(false), |text| parse_flag("keep_owner", &text))?;
    let found = stat(app, reference, &path).await?;
    if found.leads_to.unwrap_or(found.kind) != PathKind::Directory {
        return Err(ApiError::bad_request(format!(
            "'{path}' in container '{reference}' is no directory"
        )));
    }
    let options = UnpackOptions {
        keep_owner,
        ..UnpackOptions::default()
    };
    Ok((path.into(), options))
}

/// List what differs between a container and its image.
#[utoipa::path(
    get, path = "/containers/{id}/changes", tag = "containers",
    params(("id" = String, Path, description = "Id, unique beginning of an id, or name")),
    responses(
        (status = 200, body = Vec<Change>, description = "By path"),
        (status = 404, body = ErrorResponse, description = "No such container"),
    )
)]
pub async fn container_changes(
    State(app): State<Arc<App>>,
    Name(reference): Name,
    params: Params,
) -> Result<Json<Vec<Change>>, ApiError> {
    params.none()?;
    let changes = app.run(move |engine| engine.container_changes(&reference));
    Ok(Json(
        changes.await?.into_iter().map(convert_change).collect(),
    ))
}

fn convert_change(change: storage::Change) -> Change {
    Change {
        path: change.path.to_string_lossy().into_owned(),
        kind: match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Changed => "changed",
            ChangeKind::Deleted => "deleted",
        }
        .to_owned(),
    }
}

fn convert_stat(stat: files::PathStat) -> PathStat {
    let files::PathStat {
        name,
        kind,
        mode,
        size,
        uid,
        gid,
        modified,
        target,
        leads_to,
    } = stat;
    PathStat {
        name,
        kind: kind_name(kind).to_owned(),
        mode,
        size,
        uid,
        gid,
        modified: modified.to_string(),
        target,
        leads_to: leads_to.map(|kind| kind_name(kind).to_owned()),
    }
}

fn kind_name(kind: PathKind) -> &'static str {
    match kind {
        PathKind::File => "file",
        PathKind::Directory => "directory",
        PathKind::Symlink => "symlink",
        PathKind::Special => "special",
    }
}
