//! Images as the contract shows them.

use kleene_api as api;
use kleene_engine::ImageView;

use super::{name_texts, settings, texts};

/// An image.
pub fn image(view: &ImageView) -> api::Image {
    let record = &view.record;
    let config = &record.config;
    let (name, tag) = name_texts(record.reference.as_ref());
    let instructions = record.instructions.iter();
    let origin = record.origin.as_ref();
    api::Image {
        id: record.id.to_string(),
        name,
        tag,
        cmd: config.cmd.clone(),
        env: texts(&config.env),
        user: config.user.clone(),
        instructions: instructions
            .map(|(line, snapshot)| {
                let snapshot = snapshot.as_ref().map(|name| format!("@{name}"));
                (line.clone(), snapshot.unwrap_or_default())
            })
            .collect(),
        created: record.created.to_string(),
        dataset: view.dataset.clone(),
        parent: record
            .parent
            .as_ref()
            .map(|parent| parent.image.to_string())
            .unwrap_or_default(),
        entrypoint: config.entrypoint.clone(),
        working_dir: config
            .working_dir
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        labels: config.labels.clone(),
        exposed_ports: config.exposed_ports.iter().cloned().collect(),
        volumes: config.volumes.iter().map(ToString::to_string).collect(),
        stop_signal: config.stop_signal.map(|signal| signal.to_string()),
        health_check: config
            .health_check
            .as_ref()
            .map(settings::health_check_config),
        shell: config.shell.clone(),
        os: record.platform.os.clone(),
        architecture: record.platform.architecture.clone(),
        digest: origin.map(|it| it.digest.clone()).unwrap_or_default(),
        source: origin.map(|it| it.reference.clone()).unwrap_or_default(),
        size: view.size,
        shared_size: view.shared_size,
        build_cache: record.build_cache,
    }
}
