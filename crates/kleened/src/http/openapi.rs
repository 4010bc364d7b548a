//! The OpenAPI document, made of the endpoints' own descriptions.

use kleene_api as api;
use utoipa::OpenApi;

use super::{
    archive, containers, events, exec, images, life, logs, moving, networks, system, usage,
    volumes, ws,
};

/// The document as it is published beside the sources; a test keeps it fresh.
pub const DOCUMENT: &str = include_str!("../../../../openapi/kleened.json");

#[derive(OpenApi)]
#[openapi(
    info(
        title = "kleened",
        description = "Containers whose data is kept. Errors are `{\"message\": \"...\"}`. Endpoints \
            that are marked as WebSockets take their configuration as the first text frame; see \
            WebSocketMessage for what they answer."
    ),
    paths(
        containers::container_list,
        containers::container_create,
        containers::container_update,
        life::container_stop,
        life::container_restart,
        life::container_kill,
        life::container_pause,
        life::container_unpause,
        life::container_wait,
        usage::container_stats,
        usage::container_top,
        logs::container_logs,
        archive::container_changes,
        archive::path_stat,
        archive::archive_read,
        archive::archive_write,
        containers::container_inspect,
        containers::container_remove,
        containers::container_prune,
        exec::exec_create,
        exec::exec_inspect,
        exec::exec_stop,
        logs::exec_logs,
        ws::exec_start,
        ws::exec_attach,
        images::image_list,
        images::image_inspect,
        images::image_tag,
        images::image_remove,
        images::image_prune,
        ws::image_create,
        ws::image_build,
        ws::image_pull,
        ws::image_push,
        images::image_history,
        images::image_export,
        moving::image_save,
        moving::image_load,
        moving::image_import,
        moving::image_search,
        moving::registry_login,
        moving::container_export,
        moving::container_commit,
        networks::network_list,
        networks::network_create,
        networks::network_inspect,
        networks::network_remove,
        networks::network_prune,
        networks::network_connect,
        networks::network_disconnect,
        volumes::volume_list,
        volumes::volume_create,
        volumes::volume_inspect,
        volumes::volume_remove,
        volumes::volume_prune,
        events::events,
        system::info,
        system::openapi_document,
    ),
    components(schemas(
        api::ExecStartConfig,
        api::ExecAttachConfig,
        api::ImageCreateConfig,
        api::ImageBuildConfig,
        api::ImagePullConfig,
        api::ImagePushConfig,
        api::WebSocketMessage,
        api::Control,
        api::ExitInfo,
        api::ProgressInfo,
    ))
)]
struct Description;

/// The document as the endpoints describe it now.
///
/// # Errors
/// Never in practice: the document is plain JSON.
pub fn generate() -> Result<String, serde_json::Error> {
    Description::openapi()
        .to_pretty_json()
        .map(|json| json + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_document_is_fresh() {
        assert!(
            generate().unwrap() == DOCUMENT,
            "openapi/kleened.json is stale: write it anew with `kleened --openapi`"
        );
    }

    #[test]
    fn the_document_describes_every_route() {
        let document: serde_json::Value = serde_json::from_str(&generate().unwrap()).unwrap();
        let mut described: Vec<String> = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.push(format!("{} {path}", method.to_uppercase()));
            }
        }
        let mut routes: Vec<String> = super::super::ENDPOINTS
            .iter()
            .map(|(method, path)| format!("{method} {path}"))
            .collect();
        described.sort();
        routes.sort();
        assert_eq!(described, routes);
    }
}
