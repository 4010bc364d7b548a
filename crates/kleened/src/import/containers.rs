//! Containers and their mounts.

use kleene_doors::storage::DatasetKind;
use kleene_store::original::{Original, OriginalRecord};
use kleene_store::{ContainerRecord, ImageSnapshot, NetworkDriver};
use kleene_types::{
    ContainerId, ContainerName, ContainerPath, ImageId, Init, MountKind, MountSpec, Resources,
    SnapshotName,
};

use super::datasets::Datasets;
use super::plan::Plan;
use super::{images, records};

/// Plans all containers. Images and volumes are planned before.
pub(super) fn plan(plan: &mut Plan, original: &Original, datasets: &Datasets<'_>) {
    let mounts = mounts(plan, original);
    for row in &original.containers {
        if let Err(why) = container(plan, row, &mounts, datasets) {
            let what = match row.record.get("name").and_then(|name| name.as_str()) {
                Some(name) => format!("container {} ({name})", row.key),
                None => format!("container {}", row.key),
            };
            plan.refuse(what, why);
        }
    }
}

/// The mounts that belong to a container.
fn mounts(plan: &mut Plan, original: &Original) -> Vec<records::Mount> {
    let mut mounts = Vec::new();
    for value in &original.mounts {
        let mount: records::Mount = match records::read(value) {
            Ok(mount) => mount,
            Err(why) => {
                plan.refuse(format!("the mount {value}"), why);
                continue;
            }
        };
        let owner = &mount.container_id;
        if original.containers.iter().any(|it| it.key == *owner) {
            mounts.push(mount);
        } else {
            plan.notes.push(format!(
                "the mount of {} on {} belongs to no container: it is left out",
                mount.source, mount.destination
            ));
        }
    }
    mounts
}

/// Adds a container to the plan.
fn container(
    plan: &mut Plan,
    row: &OriginalRecord,
    mounts: &[records::Mount],
    datasets: &Datasets<'_>,
) -> Result<(), String> {
    let id: ContainerId = row.key.parse().map_err(|error| format!("{error}"))?;
    let record: records::Container = records::read(&row.record)?;
    let image = plan
        .images
        .iter()
        .find(|image| image.id.as_str() == record.image_id)
        .map(|image| image.id.clone())
        .ok_or_else(|| format!("its image {:?} isn't taken over", record.image_id))?;
    let found = datasets.find(
        DatasetKind::Container,
        id.as_str(),
        record.dataset.as_deref(),
    )?;
    let own = mounts.iter().filter(|it| it.container_id == row.key);
    let mounts = specs(plan, own)?;
    let network_driver = driver(record.network_driver.as_deref())?;
    let restart_policy = match record.restart_policy.as_deref() {
        None | Some("") => kleene_types::RestartPolicy::No,
        Some(policy) => policy.parse().map_err(|error| format!("{error}"))?,
    };
    let what = format!("container {id}");
    if matches!(network_driver, NetworkDriver::Ipnet | NetworkDriver::Vnet) {
        plan.notes.push(format!(
            "{what}: its network driver is '{}': it can be started once there are networks",
            network_driver.as_str()
        ));
    }
    plan.later.ports(&id, record.public_ports);
    plan.rename(&found);
    let snapshot = origin(plan, found.origin.as_deref(), &image, &what);
    let name = name(plan, &record.name, &id, &what)?;
    let notes = &mut plan.notes;
    plan.containers.push(ContainerRecord {
        name,
        image,
        init: Init::of_command(&record.cmd),
        cmd: record.cmd,
        user: record.user,
        env: records::env(&record.env, &what, notes),
        network_driver,
        jail_params: record.jail_param,
        restart_policy,
        persist: record.persist,
        auto_remove: false,
        created: records::time(&record.created, &what, notes),
        mounts,
        last_run: None,
        resources: Resources::default(),
        health_check: None,
        stop_signal: None,
        stop_timeout: None,
        working_dir: None,
        stopped_by_user: false,
        restarts: 0,
        anonymous_volumes: Vec::new(),
        snapshot,
        id,
    });
    Ok(())
}

fn driver(name: Option<&str>) -> Result<NetworkDriver, String> {
    match name {
        None | Some("ipnet") => Ok(NetworkDriver::Ipnet),
        Some("host") => Ok(NetworkDriver::Host),
        Some("vnet") => Ok(NetworkDriver::Vnet),
        Some("disabled") => Ok(NetworkDriver::Disabled),
        Some(other) => Err(format!("its network driver '{other}' is not known")),
    }
}

/// Its mounts. A container isn't taken over with a part of them: what it writes would go elsewhere.
fn specs<'a>(
    plan: &Plan,
    mounts: impl Iterator<Item = &'a records::Mount>,
) -> Result<Vec<MountSpec>, String> {
    let mut specs: Vec<MountSpec> = Vec::new();
    for mount in mounts {
        let spec = spec(plan, mount)?;
        // The original writes some of them down twice.
        if specs.contains(&spec) {
            continue;
        }
        if specs.iter().any(|it| it.destination == spec.destination) {
            return Err(format!("two of its mounts are on {}", spec.destination));
        }
        specs.push(spec);
    }
    Ok(specs)
}

fn spec(plan: &Plan, mount: &records::Mount) -> Result<MountSpec, String> {
    let wrong = |error: &dyn std::fmt::Display| {
        format!(
            "its mount of {} on {} can't be made: {error}",
            mount.source, mount.destination
        )
    };
    let kind = match mount.kind.as_str() {
        "nullfs" => MountKind::Nullfs(mount.source.parse().map_err(|e| wrong(&e))?),
        // The original's first releases had no types.
        "" if mount.source.starts_with('/') => {
            MountKind::Nullfs(mount.source.parse().map_err(|e| wrong(&e))?)
        }
        "volume" | "" => MountKind::Volume(mount.source.parse().map_err(|e| wrong(&e))?),
        other => return Err(wrong(&format_args!("its type '{other}' is not known"))),
    };
    if let MountKind::Volume(name) = &kind
        && !plan.has_volume(name)
    {
        return Err(wrong(&"that volume isn't taken over"));
    }
    // The original takes a relative destination from the container's root.
    let destination = format!("/{}", mount.destination.trim_start_matches('/'));
    let destination: ContainerPath = destination.parse().map_err(|e| wrong(&e))?;
    Ok(MountSpec {
        kind,
        destination,
        read_only: mount.read_only,
        nosuid: false,
    })
}

/// The snapshot that it was made of, where that isn't its image's last one.
fn origin(
    plan: &mut Plan,
    origin: Option<&str>,
    image: &ImageId,
    what: &str,
) -> Option<ImageSnapshot> {
    let known = origin.and_then(|origin| images::snapshot_of(&plan.places, origin));
    if known.is_none() {
        plan.notes.push(format!(
            "{what}: its dataset is a clone of {}, and not of an image: `klee container diff` can't \
             tell what it has changed",
            origin.unwrap_or("nothing")
        ));
    }
    let last = ImageSnapshot {
        image: image.clone(),
        snapshot: SnapshotName::image(),
    };
    known.filter(|snapshot| *snapshot != last)
}

/// Its name. With the original several containers may have the same name, or none.
fn name(
    plan: &mut Plan,
    recorded: &str,
    id: &ContainerId,
    what: &str,
) -> Result<ContainerName, String> {
    let (taken, parsed) = (plan.container_names(), recorded.parse::<ContainerName>());
    let wanted = match &parsed {
        Ok(name) if !taken.contains(name.as_str()) => return Ok(name.clone()),
        Ok(name) => format!("{name}-{id}"),
        Err(_) => id.to_string(),
    };
    let name = [wanted, id.to_string()]
        .into_iter()
        .filter_map(|text| text.parse::<ContainerName>().ok())
        .find(|name| !taken.contains(name.as_str()))
        .ok_or("its name is another container's, and so is its id")?;
    let reason = match parsed {
        Ok(_) => "is another container's",
        Err(_) => "is not a name",
    };
    plan.notes.push(format!(
        "{what}: its name {recorded:?} {reason}: it is named {name}"
    ));
    Ok(name)
}
