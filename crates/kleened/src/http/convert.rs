//! Between the contract's types, which are texts, and the engine's, which are parsed.

use std::fmt::Display;

use kleene_api as api;
use kleene_doors::host::{Stdin, WindowSize};
use kleene_doors::storage::AdoptMode;
use kleene_doors::userland::{Extras, Source};
use kleene_engine::{
    ContainerChanges, ContainerView, EngineError, ExecStart, ImageSource, NewContainer, NewExec,
    NewImage, VolumeView,
};
use kleene_store::{ContainerRecord, ExecRecord, NetworkDriver};
use kleene_types::{
    ContainerId, ContainerName, ContainerPath, EnvVar, HealthCheck, ImageName, ImageRef, ImageTag,
    Init, MountSpec, RestartPolicy, Signal, Span, Timestamp,
};

use crate::config::did_you_mean;

pub mod builds;
pub mod images;
mod settings;
pub mod usage;

/// Ways to make a base image.
const METHODS: [&str; 5] = ["fetch", "fetch-auto", "host", "zfs-clone", "zfs-copy"];

fn invalid(error: impl Display) -> EngineError {
    EngineError::Invalid(error.to_string())
}

/// A container to create.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong.
pub fn new_container(config: api::ContainerConfig) -> Result<NewContainer, EngineError> {
    let resources = settings::resources(&config)?;
    let Settings {
        init,
        health_check,
        stop_signal,
        stop_timeout,
        working_dir,
    } = Settings::of(&config)?;
    let image = config
        .image
        .filter(|image| !image.is_empty())
        .ok_or_else(|| invalid("no image is given: name one in the field 'image'"))?;
    let mounts = config.mounts.unwrap_or_default();
    Ok(NewContainer {
        resources,
        init,
        health_check,
        stop_signal,
        stop_timeout,
        working_dir,
        entrypoint: config.entrypoint,
        name: config.name.map(|name| container_name(&name)).transpose()?,
        image: image.parse().map_err(invalid)?,
        cmd: config.cmd.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        env: environment(&config.env.unwrap_or_default())?,
        mounts: mounts.iter().map(mount).collect::<Result<_, _>>()?,
        jail_params: config.jail_param.unwrap_or_default(),
        network_driver: match config.network_driver {
            Some(driver) => network_driver(&driver)?,
            None => NetworkDriver::Ipnet,
        },
        published_ports: config.public_ports.unwrap_or_default().len(),
        restart_policy: match config.restart_policy {
            Some(policy) => policy.parse().map_err(invalid)?,
            None => RestartPolicy::No,
        },
        persist: config.persist.unwrap_or_default(),
        auto_remove: config.auto_remove.unwrap_or_default(),
    })
}

/// Changes to a container. What can't be changed is refused where it differs from `present`; the
/// image is left out of account, as the contract wants it.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong, [`EngineError::Conflict`] for what can't change.
pub fn container_changes(
    config: api::ContainerConfig,
    present: &ContainerRecord,
) -> Result<ContainerChanges, EngineError> {
    let fixed = |what: &str| {
        EngineError::Conflict(format!(
            "the {what} of a container can't be changed: create a new container"
        ))
    };
    let limits = settings::limit_changes(&config)?;
    let size = |field, text: &Option<String>| settings::size(field, text.as_deref());
    let shm_size = size("shm_size", &config.shm_size)?;
    let storage_quota = size("storage_quota", &config.storage_quota)?;
    let log_limit = size("log_limit", &config.log_limit)?;
    let ulimits = settings::ulimits(&config)?;
    let Settings {
        init,
        health_check,
        stop_signal,
        stop_timeout,
        working_dir,
    } = Settings::of(&config)?;
    // The original client sends empty lists for what its user didn't mention.
    let mounts = config.mounts.unwrap_or_default();
    let mounts: Vec<MountSpec> = mounts.iter().map(mount).collect::<Result<_, _>>()?;
    if !mounts.is_empty() && mounts != present.mounts {
        return Err(fixed("mounts"));
    }
    if config.public_ports.is_some_and(|ports| !ports.is_empty()) {
        return Err(fixed("published ports"));
    }
    if let Some(driver) = config.network_driver
        && network_driver(&driver)? != present.network_driver
    {
        return Err(fixed("network driver"));
    }
    if config.entrypoint.is_some() {
        return Err(fixed("field 'entrypoint'"));
    }
    if config.auto_remove.is_some_and(|a| a != present.auto_remove) {
        return Err(fixed("field 'auto_remove'"));
    }
    Ok(ContainerChanges {
        name: config.name.map(|name| container_name(&name)).transpose()?,
        cmd: config.cmd,
        user: config.user,
        env: config.env.map(|env| environment(&env)).transpose()?,
        jail_params: config.jail_param,
        restart_policy: config
            .restart_policy
            .map(|policy| policy.parse().map_err(invalid))
            .transpose()?,
        persist: config.persist,
        limits,
        ulimits,
        shm_size,
        storage_quota,
        log_limit,
        init,
        health_check,
        stop_signal,
        stop_timeout,
        working_dir,
    })
}

/// A container's name; the contract lets it begin with a slash, which isn't part of it.
fn container_name(text: &str) -> Result<ContainerName, EngineError> {
    text.parse().map_err(invalid)
}

fn environment(texts: &[String]) -> Result<Vec<EnvVar>, EngineError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(invalid))
        .collect()
}

fn mount(config: &api::MountPointConfig) -> Result<MountSpec, EngineError> {
    let mount =
        MountSpec::new(&config.source, &config.destination, config.read_only).map_err(invalid)?;
    if mount.kind.name() == config.kind {
        return Ok(mount);
    }
    if !["volume", "nullfs"].contains(&config.kind.as_str()) {
        return Err(invalid(format_args!(
            "invalid mount type '{}': use 'volume' or 'nullfs'",
            config.kind
        )));
    }
    Err(invalid(format_args!(
        "invalid mount '{}:{}': the type is '{}', but the source is {}",
        config.source,
        config.destination,
        config.kind,
        match mount.kind.name() {
            "nullfs" => "a path on the host",
            _ => "the name of a volume",
        }
    )))
}

fn network_driver(text: &str) -> Result<NetworkDriver, EngineError> {
    use NetworkDriver::{Disabled, Host, Ipnet, Vnet};
    word(
        "network driver",
        text,
        &[Ipnet, Host, Vnet, Disabled],
        |d| d.as_str(),
    )
}

/// Settings that are the same for new containers and changes.
struct Settings {
    init: Option<Init>,
    health_check: Option<Option<HealthCheck>>,
    stop_signal: Option<Signal>,
    stop_timeout: Option<Span>,
    working_dir: Option<Option<ContainerPath>>,
}

impl Settings {
    fn of(config: &api::ContainerConfig) -> Result<Self, EngineError> {
        let init = config.init.as_ref();
        let timeout = config.stop_timeout.as_ref();
        let signal = config.stop_signal.as_ref();
        Ok(Self {
            init: init.map(|t| t.parse().map_err(invalid)).transpose()?,
            health_check: settings::health_check(config.health_check.as_ref())?,
            stop_signal: signal.map(|t| t.parse().map_err(invalid)).transpose()?,
            stop_timeout: timeout
                .map(|text| settings::parse("stop_timeout", text))
                .transpose()?,
            working_dir: settings::working_dir(config.working_dir.as_deref())?,
        })
    }
}

/// The value that one of the contract's words stands for.
fn word<T: Copy>(
    what: &str,
    text: &str,
    values: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, EngineError> {
    let found = values.iter().find(|value| name(**value) == text);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = values.iter().map(|value| name(*value)).collect();
        invalid(format_args!(
            "invalid {what} '{text}': use one of {}",
            names.join(", ")
        ))
    })
}

/// An execution instance to create.
///
/// # Errors
/// [`EngineError::Invalid`] for a bad environment variable.
pub fn new_exec(config: api::ExecConfig) -> Result<NewExec, EngineError> {
    Ok(NewExec {
        container: config.container_id,
        cmd: config.cmd,
        env: environment(&config.env)?,
        user: config.user,
        tty: config.tty,
        working_dir: settings::working_dir(config.working_dir.as_deref())?.flatten(),
    })
}

/// How an execution instance is started.
pub fn exec_start(config: &api::ExecStartConfig) -> ExecStart {
    ExecStart {
        attach: config.attach,
        start_container: config.start_container,
        stdin: if config.stdin {
            Stdin::Stream
        } else {
            Stdin::Null
        },
        window: config.window.map(window),
    }
}

/// A terminal's size.
pub fn window(size: api::WindowSize) -> WindowSize {
    WindowSize {
        rows: size.rows,
        columns: size.columns,
    }
}

/// An image to create.
///
/// # Errors
/// [`EngineError::Invalid`] naming what is wrong, [`EngineError::NotYet`] for what isn't there.
pub fn new_image(config: api::ImageCreateConfig) -> Result<NewImage, EngineError> {
    let reference = config
        .tag
        .filter(|tag| !tag.is_empty())
        .map(|tag| name_and_tag(&tag))
        .transpose()?;
    let method = config.method.as_str();
    if config.update && !matches!(method, "fetch" | "fetch-auto") {
        return Err(invalid(format_args!(
            "'update' belongs to the methods 'fetch' and 'fetch-auto', not to '{method}'"
        )));
    }
    if !config.add.is_empty() && method != "host" {
        return Err(invalid(format_args!(
            "'add' belongs to the method 'host', not to '{method}'"
        )));
    }
    let required = |value: Option<String>, field: &str| {
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            invalid(format_args!(
                "the method '{method}' needs the field '{field}'"
            ))
        })
    };
    let zfs = |mode| -> Result<ImageSource, EngineError> {
        let dataset = required(config.zfs_dataset.clone(), "zfs_dataset")?;
        Ok(ImageSource::Zfs { dataset, mode })
    };
    let source = match method {
        "fetch" => ImageSource::Userland(Source::Archive {
            url: required(config.url, "url")?,
        }),
        "fetch-auto" => ImageSource::Userland(Source::Auto),
        "host" => ImageSource::Userland(Source::Host {
            add: config.add.into_iter().map(Into::into).collect(),
        }),
        "zfs-clone" => zfs(AdoptMode::Clone)?,
        "zfs-copy" => zfs(AdoptMode::Copy)?,
        other => return Err(unknown_method(other)),
    };
    Ok(NewImage {
        // A name that was given beats one that is found out.
        autotag: config.autotag && method == "fetch-auto" && reference.is_none(),
        source,
        reference,
        extras: Extras {
            resolv_conf: config.dns,
            localtime: config.localtime,
            update: config.update,
        },
    })
}

fn unknown_method(method: &str) -> EngineError {
    match did_you_mean(method, &METHODS) {
        Some(near) => invalid(format_args!(
            "unknown method '{method}': did you mean '{near}'?"
        )),
        None => invalid(format_args!(
            "unknown method '{method}': use one of {}",
            METHODS.join(", ")
        )),
    }
}

/// The name and tag that a new or renamed image gets.
///
/// # Errors
/// [`EngineError::Invalid`] when the text isn't `NAME[:TAG]`.
pub fn name_and_tag(text: &str) -> Result<(ImageName, ImageTag), EngineError> {
    let reference: ImageRef = text.parse().map_err(invalid)?;
    if reference.snapshot.is_some() {
        return Err(invalid(format_args!(
            "invalid name '{text}': an image is named NAME[:TAG], without a snapshot"
        )));
    }
    let tag = reference.tag_or_latest();
    Ok((reference.name, tag))
}

/// A container as the contract shows it.
pub fn container(view: &ContainerView) -> api::Container {
    let record = &view.record;
    let run = record.last_run.as_ref();
    let ended = run.and_then(|run| run.ended);
    api::Container {
        id: record.id.to_string(),
        name: record.name.to_string(),
        image_id: record.image.to_string(),
        cmd: record.cmd.clone(),
        user: record.user.clone(),
        env: texts(&record.env),
        network_driver: record.network_driver.as_str().to_owned(),
        public_ports: Vec::new(),
        jail_param: record.jail_params.clone(),
        restart_policy: record.restart_policy.to_string(),
        persist: record.persist,
        created: record.created.to_string(),
        dataset: view.dataset.clone(),
        running: view.number.is_some(),
        auto_remove: record.auto_remove,
        exit_code: ended.map(|(_, code)| code),
        started: run.map(|run| run.started.to_string()),
        finished: ended.map(|(when, _): (Timestamp, i32)| when.to_string()),
        status: view.state.as_str().to_owned(),
        out_of_memory: run.is_some_and(|run| run.out_of_memory),
        restart_count: record.restarts,
        health: view.health.as_ref().map(settings::health),
        limits: settings::limits(record),
        init: record.init.to_string(),
        health_check: record
            .health_check
            .as_ref()
            .map(settings::health_check_config),
        stop_signal: record.stop_signal.map(|signal| signal.to_string()),
        stop_timeout: record.stop_timeout.map(|span| span.to_string()),
        working_dir: match &record.working_dir {
            Some(path) => path.to_string(),
            None => "/".to_owned(),
        },
    }
}

/// A line of the containers' listing.
pub fn container_summary(view: &ContainerView) -> api::ContainerSummary {
    let (image_name, image_tag) = name_texts(view.image.as_ref());
    api::ContainerSummary {
        container: container(view),
        image_name,
        image_tag,
        jid: view.number,
        size: view.size,
        mounts: texts(&view.record.mounts),
    }
}

/// A container with its mounts and execution instances.
pub fn container_inspect(view: &ContainerView, execs: &[ExecRecord]) -> api::ContainerInspect {
    let record = &view.record;
    let mounts = record.mounts.iter();
    api::ContainerInspect {
        container: container(view),
        container_endpoints: Vec::new(),
        container_mountpoints: mounts.map(|mount| mount_point(&record.id, mount)).collect(),
        container_execs: execs.iter().map(exec).collect(),
    }
}

/// A container's mount as the contract shows it.
pub fn mount_point(container: &ContainerId, mount: &MountSpec) -> api::MountPoint {
    api::MountPoint {
        container_id: container.to_string(),
        destination: mount.destination.to_string(),
        read_only: mount.read_only,
        source: mount.kind.source().to_owned(),
        kind: mount.kind.name().to_owned(),
    }
}

/// An execution instance as the contract shows it.
pub fn exec(record: &ExecRecord) -> api::ExecInspect {
    let running = record.is_running();
    api::ExecInspect {
        id: record.id.to_string(),
        container_id: record.container.to_string(),
        cmd: record.cmd.clone(),
        user: record.user.clone(),
        tty: record.tty,
        running,
        pid: record.started.filter(|_| running).map(|(_, pid)| pid),
        exit_code: record.ended.map(|(_, code)| code),
        started: record.started.map(|(when, _)| when.to_string()),
        finished: record.ended.map(|(when, _)| when.to_string()),
        out_of_memory: record.out_of_memory,
    }
}

/// A volume as the contract shows it.
pub fn volume(view: &VolumeView) -> api::Volume {
    api::Volume {
        created: view.record.created.to_string(),
        dataset: view.dataset.clone(),
        mountpoint: view.mountpoint.display().to_string(),
        name: view.record.name.to_string(),
    }
}

fn name_texts(reference: Option<&(ImageName, ImageTag)>) -> (String, String) {
    match reference {
        Some((name, tag)) => (name.to_string(), tag.to_string()),
        None => Default::default(),
    }
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
