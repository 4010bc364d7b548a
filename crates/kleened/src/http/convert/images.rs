//! Images: as the contract shows them, and what it asks for.

use kleene_api as api;
use kleene_doors::distribution::{Credentials, SearchResult};
use kleene_engine::{
    Changes, EngineError, HistoryView, Identity, ImagePrune, ImageView, Loaded, NewCommit,
    NewImport, NewPull, NewPush,
};
use kleene_types::{ImageName, ImageTag, Platform, Span, Timestamp};

use super::{invalid, name_and_tag, name_texts, settings, texts};
use crate::http::error::ApiError;
use crate::http::extract::{parse_flag, unknown_parameter};
use crate::http::time;

/// An image.
pub fn image(view: &ImageView) -> api::Image {
    let record = &view.record;
    let config = &record.config;
    let (name, tag) = name_texts(record.reference.as_ref());
    let instructions = record.instructions.iter();
    let origin = record.origin.as_ref();
    let platform = record.platform.clone().unwrap_or_else(Platform::host);
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
        os: platform.os().to_owned(),
        architecture: platform.architecture().to_owned(),
        digest: origin.map(|it| it.digest.clone()).unwrap_or_default(),
        source: origin.map(|it| it.reference.clone()).unwrap_or_default(),
        size: view.size,
        shared_size: view.shared_size,
        build_cache: record.build_cache,
    }
}

/// One step of an image's making.
pub fn history(view: HistoryView) -> api::HistoryEntry {
    api::HistoryEntry {
        image: view.image.to_string(),
        snapshot: view
            .snapshot
            .map(|name| format!("@{name}"))
            .unwrap_or_default(),
        created: view.created,
        created_by: view.created_by,
        comment: view.comment,
    }
}

/// An image that was read from an archive.
pub fn loaded(loaded: &Loaded) -> api::LoadedImage {
    let name = loaded.names.first();
    api::LoadedImage {
        id: loaded.id.to_string(),
        name: name
            .map(|(name, tag)| format!("{name}:{tag}"))
            .unwrap_or_default(),
    }
}

/// A repository that a registry has found.
pub fn search_result(result: SearchResult) -> api::SearchResult {
    api::SearchResult {
        name: result.name,
        description: result.description,
        stars: result.stars,
        official: result.official,
    }
}

/// Who asks at a registry, and at which alone.
fn identity(credentials: api::RegistryCredentials) -> Result<Option<Identity>, EngineError> {
    let registry = Some(credentials.registry.clone()).filter(|text| !text.is_empty());
    let registry = registry.map(|text| text.parse().map_err(invalid));
    let registry = registry.transpose()?;
    Ok(self::credentials(credentials).map(|credentials| Identity {
        registry,
        credentials,
    }))
}

/// Who asks at a registry; `None`: nobody in particular.
pub fn credentials(credentials: api::RegistryCredentials) -> Option<Credentials> {
    let api::RegistryCredentials {
        registry: _,
        username,
        password,
        identity_token,
    } = credentials;
    if !identity_token.is_empty() {
        return Some(Credentials::IdentityToken(identity_token));
    }
    (!username.is_empty()).then_some(Credentials::Password { username, password })
}

/// An image to pull.
///
/// # Errors
/// [`EngineError::Invalid`] for a bad platform or name.
pub fn new_pull(config: api::ImagePullConfig) -> Result<NewPull, EngineError> {
    let platform = config.platform.filter(|text| !text.is_empty());
    Ok(NewPull {
        reference: config.reference,
        platform: platform
            .map(|text| text.parse().map_err(invalid))
            .transpose()?,
        name: optional_name(config.tag.as_deref())?,
        identity: config.credentials.map(identity).transpose()?.flatten(),
    })
}

/// An image to push.
///
/// # Errors
/// [`EngineError::Invalid`] for a bad registry.
pub fn new_push(config: api::ImagePushConfig) -> Result<NewPush, EngineError> {
    Ok(NewPush {
        image: config.image,
        reference: config.reference.filter(|text| !text.is_empty()),
        identity: config.credentials.map(identity).transpose()?.flatten(),
    })
}

/// A container to make an image of.
///
/// # Errors
/// [`EngineError::Invalid`] for a bad name or change.
pub fn new_commit(
    container: String,
    config: api::ContainerCommitConfig,
) -> Result<NewCommit, EngineError> {
    Ok(NewCommit {
        container,
        name: optional_name(config.tag.as_deref())?,
        comment: config.comment,
        pause: config.pause.unwrap_or(true),
        changes: Changes::parse(&config.changes)?,
    })
}

/// An archive to make an image of, from a query.
///
/// # Errors
/// For unknown parameters, a bad name or change.
pub fn new_import(query: Vec<(String, String)>) -> Result<NewImport, ApiError> {
    let (mut tag, mut comment, mut changes) = (None, String::new(), Vec::new());
    for (name, value) in query {
        match name.as_str() {
            "tag" => tag = Some(value),
            "comment" => comment = value,
            "changes" => changes.push(value),
            _ => return Err(unknown_parameter(&name, &["tag", "comment", "changes"])),
        }
    }
    Ok(NewImport {
        name: optional_name(tag.as_deref())?,
        comment,
        changes: Changes::parse(&changes)?,
    })
}

fn optional_name(text: Option<&str>) -> Result<Option<(ImageName, ImageTag)>, EngineError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(name_and_tag).transpose()
}

/// What is to be pruned, and whether a report is wanted, from a query.
///
/// # Errors
/// For unknown parameters and filters, and values that make no sense.
pub fn image_prune(query: Vec<(String, String)>) -> Result<(ImagePrune, bool), ApiError> {
    const KNOWN: [&str; 5] = ["all", "build_cache", "dry_run", "report", "filters"];
    let mut prune = ImagePrune::default();
    let mut report = false;
    for (name, value) in query {
        match name.as_str() {
            "all" => prune.all = parse_flag(&name, &value)?,
            "build_cache" => prune.build_cache = parse_flag(&name, &value)?,
            "dry_run" => prune.dry_run = parse_flag(&name, &value)?,
            "report" => report = parse_flag(&name, &value)?,
            "filters" => add_filter(&mut prune, &value)?,
            _ => return Err(unknown_parameter(&name, &KNOWN)),
        }
    }
    Ok((prune, report))
}

fn add_filter(prune: &mut ImagePrune, filter: &str) -> Result<(), ApiError> {
    let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
    match key {
        "until" => {
            let now = Timestamp::now().microseconds();
            let time = match value.parse::<Span>() {
                Ok(span) => {
                    let span = u64::try_from(span.duration().as_micros()).unwrap_or(u64::MAX);
                    now.saturating_sub(span)
                }
                Err(_) => time::parse("filters", value)?,
            };
            prune.until = Timestamp::from_microseconds(time);
        }
        "label" if !value.is_empty() => {
            let label = match value.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (value.to_owned(), None),
            };
            prune.labels.push(label);
        }
        _ => {
            return Err(ApiError::bad_request(format!(
                "unknown filter '{filter}': use until=TIME or label=NAME[=VALUE]"
            )));
        }
    }
    Ok(())
}
