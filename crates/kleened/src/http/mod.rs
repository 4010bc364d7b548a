//! The HTTP interface: routes, and what is answered where there is none.
//!
//! Handlers verify, convert and forward; what is right or wrong beyond a request's form is decided
//! by the engine.

pub mod convert;
pub mod error;
pub mod extract;
pub mod openapi;

mod archive;
mod containers;
mod events;
mod exec;
mod images;
mod life;
mod logs;
mod moving;
mod networks;
mod system;
mod time;
mod transfer;
mod usage;
mod volumes;
mod ws;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tracing::debug;

use crate::app::App;
use error::ApiError;
use extract::{Name, Params};

/// All endpoints, for hints and for the test of the OpenAPI document.
const ENDPOINTS: &[(&str, &str)] = &[
    ("GET", "/containers/list"),
    ("POST", "/containers/create"),
    ("POST", "/containers/prune"),
    ("POST", "/containers/{id}/update"),
    ("GET", "/containers/stats"),
    ("POST", "/containers/{id}/stop"),
    ("POST", "/containers/{id}/restart"),
    ("POST", "/containers/{id}/kill"),
    ("POST", "/containers/{id}/pause"),
    ("POST", "/containers/{id}/unpause"),
    ("POST", "/containers/{id}/wait"),
    ("GET", "/containers/{id}/top"),
    ("GET", "/containers/{id}/logs"),
    ("GET", "/containers/{id}/export"),
    ("POST", "/containers/{id}/commit"),
    ("GET", "/containers/{id}/changes"),
    ("GET", "/containers/{id}/stat"),
    ("GET", "/containers/{id}/archive"),
    ("PUT", "/containers/{id}/archive"),
    ("GET", "/containers/{id}/inspect"),
    ("DELETE", "/containers/{id}"),
    ("POST", "/exec/create"),
    ("GET", "/exec/start"),
    ("GET", "/exec/attach"),
    ("GET", "/exec/{id}/inspect"),
    ("POST", "/exec/{id}/stop"),
    ("GET", "/exec/{id}/logs"),
    ("GET", "/images/list"),
    ("GET", "/images/create"),
    ("GET", "/images/build"),
    ("GET", "/images/pull"),
    ("GET", "/images/push"),
    ("GET", "/images/search"),
    ("POST", "/images/login"),
    ("GET", "/images/save"),
    ("POST", "/images/load"),
    ("POST", "/images/import"),
    ("POST", "/images/prune"),
    ("GET", "/images/{image}/inspect"),
    ("GET", "/images/{image}/history"),
    ("GET", "/images/{image}/export"),
    ("POST", "/images/{image}/tag"),
    ("DELETE", "/images/{image}"),
    ("GET", "/networks/list"),
    ("POST", "/networks/create"),
    ("POST", "/networks/prune"),
    ("POST", "/networks/connect"),
    ("GET", "/networks/{id}/inspect"),
    ("DELETE", "/networks/{id}"),
    ("POST", "/networks/{id}/disconnect/{container}"),
    ("GET", "/volumes/list"),
    ("POST", "/volumes/create"),
    ("POST", "/volumes/prune"),
    ("GET", "/volumes/{name}/inspect"),
    ("DELETE", "/volumes/{name}"),
    ("GET", "/events"),
    ("GET", "/info"),
    ("GET", "/openapi.json"),
];

/// The routes over an application.
pub fn router(app: Arc<App>) -> Router {
    names_like_routes(routes())
        .fallback(|method: Method, uri: Uri| async move { no_such_endpoint(&method, uri.path()) })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(guard))
        .with_state(app)
}

fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/containers/list", get(containers::container_list))
        .route("/containers/create", post(containers::container_create))
        .route("/containers/prune", post(containers::container_prune))
        .route(
            "/containers/{id}/update",
            post(containers::container_update),
        )
        .route("/containers/stats", get(usage::container_stats))
        .route("/containers/{id}/stop", post(life::container_stop))
        .route("/containers/{id}/restart", post(life::container_restart))
        .route("/containers/{id}/kill", post(life::container_kill))
        .route("/containers/{id}/pause", post(life::container_pause))
        .route("/containers/{id}/unpause", post(life::container_unpause))
        .route("/containers/{id}/wait", post(life::container_wait))
        .route("/containers/{id}/top", get(usage::container_top))
        .route("/containers/{id}/logs", get(logs::container_logs))
        .route("/containers/{id}/export", get(moving::container_export))
        .route("/containers/{id}/commit", post(moving::container_commit))
        .route("/containers/{id}/changes", get(archive::container_changes))
        .route("/containers/{id}/stat", get(archive::path_stat))
        .route(
            "/containers/{id}/archive",
            get(archive::archive_read).put(archive::archive_write),
        )
        .route(
            "/containers/{id}/inspect",
            get(containers::container_inspect),
        )
        .route("/containers/{id}", delete(containers::container_remove))
        .route("/exec/create", post(exec::exec_create))
        .route("/exec/start", get(ws::exec_start))
        .route("/exec/attach", get(ws::exec_attach))
        .route("/exec/{id}/inspect", get(exec::exec_inspect))
        .route("/exec/{id}/stop", post(exec::exec_stop))
        .route("/exec/{id}/logs", get(logs::exec_logs))
        .route("/images/list", get(images::image_list))
        .route("/images/create", get(ws::image_create))
        .route("/images/build", get(ws::image_build))
        .route("/images/pull", get(ws::image_pull))
        .route("/images/push", get(ws::image_push))
        .route("/images/search", get(moving::image_search))
        .route("/images/login", post(moving::registry_login))
        .route("/images/save", get(moving::image_save))
        .route("/images/load", post(moving::image_load))
        .route("/images/import", post(moving::image_import))
        .route("/images/prune", post(images::image_prune))
        .route(
            "/images/{*image}",
            get(images::image_get)
                .post(images::image_tag)
                .delete(images::image_remove),
        )
        .route("/networks/list", get(networks::network_list))
        .route("/networks/create", post(networks::network_create))
        .route("/networks/prune", post(networks::network_prune))
        .route("/networks/connect", post(networks::network_connect))
        .route("/networks/{id}/inspect", get(networks::network_inspect))
        .route("/networks/{id}", delete(networks::network_remove))
        .route(
            "/networks/{id}/disconnect/{container}",
            post(networks::network_disconnect),
        )
        .route("/volumes/list", get(volumes::volume_list))
        .route("/volumes/create", post(volumes::volume_create))
        .route("/volumes/prune", post(volumes::volume_prune))
        .route("/volumes/{name}/inspect", get(volumes::volume_inspect))
        .route("/volumes/{name}", delete(volumes::volume_remove))
        .route("/events", get(events::events))
        .route("/info", get(system::info))
        .route("/openapi.json", get(system::openapi_document))
}

/// Adds the removal of objects that are called like a fixed path: `DELETE /volumes/list` removes the
/// volume "list".
fn names_like_routes(mut router: Router<Arc<App>>) -> Router<Arc<App>> {
    for word in ["list", "create", "prune", "stats"] {
        let remove = delete(move |state, params: Params| {
            containers::container_remove(state, Name(word.to_owned()), params)
        });
        router = router.route(&format!("/containers/{word}"), remove);
    }
    for word in ["list", "create", "prune"] {
        let remove = delete(move |state, params: Params| {
            volumes::volume_remove(state, Name(word.to_owned()), params)
        });
        router = router.route(&format!("/volumes/{word}"), remove);
    }
    for word in [
        "list", "create", "prune", "build", "pull", "push", "search", "login", "save", "load",
        "import",
    ] {
        let remove = delete(move |state, params: Params| {
            images::image_remove(state, Name(word.to_owned()), params)
        });
        router = router.route(&format!("/images/{word}"), remove);
    }
    router
}

/// The answer where there is no endpoint, with the ones that are near.
fn no_such_endpoint(method: &Method, path: &str) -> ApiError {
    let mut near: Vec<(f64, String)> = ENDPOINTS
        .iter()
        .map(|(method, known)| (likeness(path, known), format!("{method} {known}")))
        .filter(|(likeness, _)| *likeness > 0.5)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.into_iter().take(3).map(|(_, text)| text).collect();
    let hint = match near.is_empty() {
        true => "GET /openapi.json lists all".to_owned(),
        false => format!("near are {}", near.join(", ")),
    };
    ApiError::not_found(format!("there is no endpoint {method} {path}: {hint}"))
}

/// How much a path looks like an endpoint's, 0 to 1. Names of objects may be anything.
fn likeness(path: &str, endpoint: &str) -> f64 {
    let given: Vec<&str> = path.trim_matches('/').split('/').collect();
    let wanted: Vec<&str> = endpoint.trim_matches('/').split('/').collect();
    let same: f64 = given
        .iter()
        .zip(&wanted)
        .map(|(given, wanted)| match wanted.starts_with('{') {
            true => 0.5,
            false => strsim::normalized_damerau_levenshtein(given, wanted),
        })
        .sum();
    let length = given.len().max(wanted.len());
    same / f64::from(u32::try_from(length).unwrap_or(u32::MAX))
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let hint = no_such_endpoint(&method, path);
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, hint.message)
}

/// Turns requests of web pages of other origins away, and writes requests into the log.
async fn guard(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let started = Instant::now();
    let response = match foreign_origin(request.headers()) {
        // A page that somebody visits must not be able to start containers on a port of localhost.
        true => ApiError::new(
            StatusCode::FORBIDDEN,
            "requests from web pages of another origin are refused",
        )
        .into_response(),
        false => next.run(request).await,
    };
    debug!(%method, path = uri.path(), status = response.status().as_u16(), took = ?started.elapsed());
    response
}

/// Whether a browser sent this on behalf of a page that this daemon didn't serve.
fn foreign_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|o| o.split_once("://"));
    origin.is_none_or(|(_, authority)| Some(authority) != host)
}
