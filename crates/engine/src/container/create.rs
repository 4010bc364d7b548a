//! Creating a container: its root as a clone of the image, its volumes, and their first contents.

use std::collections::BTreeSet;

use kleene_doors::host::{CopyUp, Network, SourceKind};
use kleene_doors::storage::{Dataset, Root, Snapshot};
use kleene_store::{
    ContainerRecord, ImageConfig, ImageRecord, ImageSnapshot, NetworkDriver, OperationId, Step,
    VolumeRecord,
};
use kleene_types::{
    ContainerId, ContainerName, ContainerPath, EnvVar, HealthCheck, IdPrefix, ImageRef, Init,
    MountKind, MountSpec, Resources, RestartPolicy, Span, Timestamp, VolumeName, merge_env,
};

use super::name_taken;
use crate::events::NewEvent;
use crate::image::lineage::of_dataset;
use crate::later::UNSTARTED;
use crate::locks::{Key, Mode};
use crate::{Done, Engine, EngineError, Later, NewContainer, names};

/// As many digits of an id as names may not have in common with it. With fewer, a name such as `c185`
/// would be refused now and then among hundreds of containers, by chance.
const TYPED_DIGITS: usize = 6;

/// Most bytes of a command with its environment: a quarter of the stack's usual limit of 8 MiB, less
/// what the loader needs, is what Linux allows (execve(2)).
const MAX_COMMAND: usize = 1 << 20;

/// Most bytes of one argument or variable: 32 pages, with the NUL at its end (execve(2)).
const MAX_ARGUMENT: usize = (128 << 10) - 1;

impl Engine {
    /// Creates a container. Volumes that don't exist are created; an empty volume that was never
    /// populated is filled with what the container has at the mount's destination.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`]; [`EngineError::Invalid`] for mounts that can't be made;
    /// [`EngineError::Conflict`] for a name that is taken. Then nothing was created.
    pub fn container_create(&self, new: NewContainer) -> Result<Done, EngineError> {
        let image = self.find_image(&new.image)?;
        let snapshot = self.wanted_snapshot(&image, &new.image)?;
        let warnings = self.validate(&new)?;
        let record = self.draft(new, &image, snapshot)?;
        let volumes = volumes_of(&record.mounts);
        let _locks = self.locks.hold(
            volumes
                .iter()
                .map(|volume| (Key::Volume(volume.clone()), Mode::Exclusive))
                .chain([(Key::Image(image.id.clone()), Mode::Shared)]),
        );
        if self.store.image(&image.id)?.is_none() {
            return Err(EngineError::ImageNotFound(image.id.to_string()));
        }
        let steps = self.steps(&record, &volumes)?;
        self.journalled(&steps, |operation| {
            self.build(&record, &of_dataset(&record.origin()))?;
            let created = self.provide_volumes(&record)?;
            self.record_container(operation, &record, &created)
        })?;
        self.emit(
            NewEvent::container("create", &record.id, &record.name).with("image", &record.image),
        );
        if record.auto_remove {
            let container = record.id.clone();
            let call = Later::RemoveUnstarted { container };
            self.supervisor.call_later(UNSTARTED, call);
        }
        Ok(Done {
            id: record.id,
            warnings,
        })
    }

    /// Checks everything that can be checked without creating anything. Answers what can't be done
    /// quite as asked.
    fn validate(&self, new: &NewContainer) -> Result<Vec<String>, EngineError> {
        runtime_network(new.network_driver)?;
        if new.published_ports > 0 {
            return Err(EngineError::NotYet(
                "publishing ports is not available yet: use the network driver 'host', with which \
                 the container's ports are the host's"
                    .to_owned(),
            ));
        }
        self.host.check_jail_params(&new.jail_params)?;
        validate_command(&new.cmd, &new.env, &new.user)?;
        unique_destinations(&new.mounts)?;
        for mount in &new.mounts {
            self.source_kind(&mount.kind)?;
        }
        if let Some(name) = &new.name {
            refuse_id_as_name(name)?;
            self.refuse_beginning_as_name(name)?;
        }
        if let Some(name) = &new.name
            && self.store.container_by_name(name.as_str())?.is_some()
        {
            return Err(name_taken(kleene_store::StoreError::Taken, name));
        }
        refuse_removal_and_restart(new.auto_remove, new.restart_policy)?;
        if let Some(Some(check)) = &new.health_check {
            validate_health_check(check)?;
        }
        self.check_resources(&new.resources)
    }

    /// Refuses a name that is the beginning of a container's id: whoever means that would get this one.
    /// Short ones can't be refused, since every other id would stand in their way.
    pub(crate) fn refuse_beginning_as_name(&self, name: &ContainerName) -> Result<(), EngineError> {
        let beginning = IdPrefix::parse(name.as_str());
        let Some(beginning) = beginning.filter(|it| it.as_str().len() >= TYPED_DIGITS) else {
            return Ok(());
        };
        let found = self.store.containers_by_prefix(beginning.as_str(), 1)?;
        match found.first() {
            Some(other) => Err(EngineError::Conflict(format!(
                "the container name '{name}' is the beginning of the id {} of container '{}': \
                 choose another one",
                other.id, other.name
            ))),
            None => Ok(()),
        }
    }

    /// A new id, which doesn't begin with a container's name.
    fn new_id(&self) -> Result<ContainerId, EngineError> {
        'ids: loop {
            let id = ContainerId::random();
            for length in TYPED_DIGITS..id.as_str().len() {
                let beginning = id.as_str().get(..length).unwrap_or_default();
                if self.store.container_by_name(beginning)?.is_some() {
                    continue 'ids;
                }
            }
            return Ok(id);
        }
    }

    /// What a mount's source is; checks that it is there.
    pub(crate) fn source_kind(&self, kind: &MountKind) -> Result<SourceKind, EngineError> {
        match kind {
            MountKind::Volume(_) => Ok(SourceKind::Directory),
            MountKind::Nullfs(path) => Ok(self.host.inspect_source(path.as_path())?),
        }
    }

    /// The snapshot that a reference asks for, when it asks for one.
    fn wanted_snapshot(
        &self,
        image: &ImageRecord,
        reference: &ImageRef,
    ) -> Result<Option<ImageSnapshot>, EngineError> {
        let Some(wanted) = &reference.snapshot else {
            return Ok(None);
        };
        match self.locate_snapshot(image, wanted)? {
            None => Err(EngineError::ImageNotFound(reference.to_string())),
            found => Ok(found),
        }
    }

    fn draft(
        &self,
        new: NewContainer,
        image: &ImageRecord,
        snapshot: Option<ImageSnapshot>,
    ) -> Result<ContainerRecord, EngineError> {
        let name = match new.name {
            Some(name) => name,
            None => names::random(|name: &ContainerName| {
                self.store
                    .container_by_name(name.as_str())
                    .map(|found| found.is_some())
            })?,
        };
        let config = &image.config;
        let cmd = whole_command(new.entrypoint, new.cmd, config);
        let mut mounts = new.mounts;
        let anonymous_volumes = declare_volumes(config, &mut mounts);
        // What lies deeper is mounted later, so that a mount never hides one beneath it.
        mounts.sort_by_key(|mount| mount.destination.as_str().matches('/').count());
        Ok(ContainerRecord {
            id: self.new_id()?,
            name,
            image: image.id.clone(),
            init: new.init.unwrap_or_else(|| Init::of_command(&cmd)),
            cmd,
            user: if new.user.is_empty() {
                config.user.clone()
            } else {
                new.user
            },
            env: merge_env(&config.env, &new.env),
            network_driver: new.network_driver,
            jail_params: new.jail_params,
            restart_policy: new.restart_policy,
            persist: new.persist,
            auto_remove: new.auto_remove,
            created: Timestamp::now(),
            mounts,
            last_run: None,
            resources: new.resources,
            health_check: new
                .health_check
                .unwrap_or_else(|| config.health_check.clone()),
            stop_signal: new.stop_signal.or(config.stop_signal),
            stop_timeout: new.stop_timeout,
            working_dir: new
                .working_dir
                .unwrap_or_else(|| config.working_dir.clone()),
            stopped_by_user: false,
            restarts: 0,
            anonymous_volumes,
            snapshot,
        })
    }

    /// What has to be undone should the creation be cut short.
    fn steps(
        &self,
        record: &ContainerRecord,
        volumes: &BTreeSet<VolumeName>,
    ) -> Result<Vec<Step>, EngineError> {
        let mut steps = Vec::new();
        for volume in volumes {
            // Carried out from the end: a volume is settled, then thrown away if it is new.
            match self.store.volume(volume)? {
                Some(known) if known.populated => {}
                Some(_) => steps.push(Step::SettleVolume(volume.clone())),
                None => {
                    self.ensure_unclaimed(volume)?;
                    steps.push(Step::DiscardVolume(volume.clone()));
                }
            }
        }
        steps.push(Step::DiscardContainer(record.id.clone()));
        Ok(steps)
    }

    /// Makes the container's root and checks that everything can be mounted in it.
    fn build(&self, record: &ContainerRecord, origin: &Snapshot) -> Result<(), EngineError> {
        let dataset = Dataset::Container(record.id.clone());
        self.storage.clone_snapshot(origin, &dataset)?;
        if let Some(quota) = record.resources.storage_quota {
            self.storage.set_quota(&record.id, Some(quota))?;
        }
        if record.mounts.is_empty() {
            return Ok(());
        }
        let root = self.storage.root(&dataset)?;
        for mount in &record.mounts {
            if !beneath_another(&mount.destination, &record.mounts) {
                let kind = self.source_kind(&mount.kind)?;
                self.host
                    .check_destination(&root, &mount.destination, kind)?;
            }
        }
        Ok(())
    }

    /// Creates the volumes that don't exist and fills those that were never filled. Answers the
    /// records that are new or changed.
    fn provide_volumes(&self, record: &ContainerRecord) -> Result<Vec<VolumeRecord>, EngineError> {
        let mut volumes: Vec<VolumeRecord> = Vec::new();
        let mut root: Option<Root> = None;
        for mount in &record.mounts {
            let MountKind::Volume(name) = &mount.kind else {
                continue;
            };
            let known = volumes.iter().find(|volume| volume.name == *name).cloned();
            let mut volume = match known {
                Some(volume) => volume,
                None => self.ensure_volume(name)?,
            };
            if !volume.populated {
                let root = match &root {
                    Some(root) => root,
                    None => root.insert(self.storage.root(&Dataset::Container(record.id.clone()))?),
                };
                volume.populated = self.populate(name, root, &mount.destination)?;
            }
            volumes.retain(|other| other.name != *name);
            volumes.push(volume);
        }
        Ok(volumes)
    }

    /// The volume's record; its dataset is created when there is none.
    fn ensure_volume(&self, name: &VolumeName) -> Result<VolumeRecord, EngineError> {
        match self.store.volume(name)? {
            Some(volume) => Ok(volume),
            None => {
                self.storage.create(&Dataset::Volume(name.clone()))?;
                Ok(VolumeRecord {
                    name: name.clone(),
                    created: Timestamp::now(),
                    populated: false,
                })
            }
        }
    }

    /// Fills a volume with what `root` has at `from`. Whether the volume counts as populated now.
    fn populate(
        &self,
        volume: &VolumeName,
        root: &Root,
        from: &ContainerPath,
    ) -> Result<bool, EngineError> {
        let into = self.storage.mountpoint(&Dataset::Volume(volume.clone()));
        Ok(match self.host.copy_up(root, from, &into)? {
            CopyUp::NothingToCopy => false,
            CopyUp::TargetNotEmpty | CopyUp::Copied { .. } => true,
        })
    }

    /// Checks what a container may use of the machine. Answers what can't be done quite as asked.
    pub(crate) fn check_resources(
        &self,
        resources: &Resources,
    ) -> Result<Vec<String>, EngineError> {
        let Resources {
            limits,
            ulimits,
            shm_size,
            storage_quota,
            log_limit: _,
        } = resources;
        let info = self.storage.info();
        if storage_quota.is_some() && !info.quotas {
            return Err(EngineError::NotYet(format!(
                "storage with the driver '{}' can't limit what a container occupies: leave the \
                 storage quota out, or use storage that has quotas",
                info.driver
            )));
        }
        Ok(self.host.check_limits(limits, *shm_size, ulimits)?)
    }

    fn record_container(
        &self,
        operation: OperationId,
        record: &ContainerRecord,
        volumes: &[VolumeRecord],
    ) -> Result<(), EngineError> {
        let events = self.volume_events(volumes)?;
        self.store
            .write(|transaction| {
                volumes
                    .iter()
                    .try_for_each(|volume| transaction.put_volume(volume))?;
                transaction.put_container(record)?;
                transaction.finish(operation)
            })
            .map_err(|error| name_taken(error, &record.name))?;
        events.into_iter().for_each(|event| self.emit(event));
        Ok(())
    }
}

/// The command with what stands before it.
fn whole_command(
    entrypoint: Option<Vec<String>>,
    cmd: Vec<String>,
    image: &ImageConfig,
) -> Vec<String> {
    let own = entrypoint.is_some();
    let mut whole = entrypoint.unwrap_or_else(|| image.entrypoint.clone());
    match cmd.is_empty() && !own {
        true => whole.extend(image.cmd.iter().cloned()),
        false => whole.extend(cmd),
    }
    whole
}

/// Adds a mount of a new volume at each destination where the image wants one and the user hasn't
/// mounted something. Answers the volumes' names.
fn declare_volumes(image: &ImageConfig, mounts: &mut Vec<MountSpec>) -> Vec<VolumeName> {
    let mut volumes = Vec::new();
    for destination in &image.volumes {
        if mounts.iter().any(|mount| mount.destination == *destination) {
            continue;
        }
        let name = VolumeName::random();
        mounts.push(MountSpec {
            kind: MountKind::Volume(name.clone()),
            destination: destination.clone(),
            read_only: false,
        });
        volumes.push(name);
    }
    volumes
}

/// The host's network for a container's driver, as far as there is one yet.
pub(crate) fn runtime_network(driver: NetworkDriver) -> Result<Network, EngineError> {
    match driver {
        NetworkDriver::Host => Ok(Network::Host),
        NetworkDriver::Disabled => Ok(Network::Disabled),
        NetworkDriver::Ipnet | NetworkDriver::Vnet => Err(EngineError::NotYet(format!(
            "the network driver '{}' is not available yet: use 'host' or 'disabled'",
            driver.as_str()
        ))),
    }
}

/// Refuses commands that no system can execute.
pub(crate) fn validate_command(
    cmd: &[String],
    env: &[EnvVar],
    user: &str,
) -> Result<(), EngineError> {
    let invalid = |text: String| Err(EngineError::Invalid(text));
    if cmd.iter().any(|argument| argument.contains('\0')) {
        return invalid("the command holds a NUL byte".to_owned());
    }
    if cmd.first().is_some_and(String::is_empty) {
        return invalid("the command's program is an empty text".to_owned());
    }
    if user.chars().any(char::is_control) {
        return invalid(format!("the user {user:?} holds control characters"));
    }
    let lengths = || {
        cmd.iter()
            .map(String::len)
            .chain(env.iter().map(|e| e.as_str().len()))
    };
    if lengths().any(|length| length > MAX_ARGUMENT) {
        return invalid(format!(
            "an argument or environment variable is longer than {MAX_ARGUMENT} bytes: pass it in a \
             file or on standard input"
        ));
    }
    if lengths().sum::<usize>() > MAX_COMMAND {
        return invalid(format!(
            "the command and the environment are longer than {MAX_COMMAND} bytes together: pass \
             some of it in files"
        ));
    }
    Ok(())
}

/// Refuses a container that would be removed and restarted when it stops.
pub(crate) fn refuse_removal_and_restart(
    auto_remove: bool,
    policy: RestartPolicy,
) -> Result<(), EngineError> {
    match auto_remove && policy != RestartPolicy::No {
        true => Err(EngineError::Invalid(format!(
            "a container that is removed when it stops can't have the restart policy '{policy}': \
             leave one of the two out"
        ))),
        false => Ok(()),
    }
}

/// Refuses health checks that make no sense.
pub(crate) fn validate_health_check(check: &HealthCheck) -> Result<(), EngineError> {
    let invalid = |text: &str| Err(EngineError::Invalid(format!("the health check {text}")));
    if check.cmd.is_empty() {
        return invalid("has no command");
    }
    if check.interval == Span::default() || check.timeout == Span::default() {
        return invalid("needs an interval and a timeout of more than 0");
    }
    if check.retries == 0 {
        return invalid("needs at least 1 retry");
    }
    validate_command(&check.cmd, &[], "")
}

/// Refuses a name that reads like an id: the container of that id would be found in its place.
pub(crate) fn refuse_id_as_name(name: &ContainerName) -> Result<(), EngineError> {
    match name.as_str().parse::<ContainerId>() {
        Ok(_) => Err(EngineError::Invalid(format!(
            "the container name '{name}' has the form of an id: choose another one"
        ))),
        Err(_) => Ok(()),
    }
}

/// Refuses two mounts at one place.
pub(crate) fn unique_destinations(mounts: &[MountSpec]) -> Result<(), EngineError> {
    let mut seen = BTreeSet::new();
    match mounts.iter().find(|mount| !seen.insert(&mount.destination)) {
        Some(twice) => Err(EngineError::Invalid(format!(
            "two mounts have the destination '{}': give each its own",
            twice.destination
        ))),
        None => Ok(()),
    }
}

fn volumes_of(mounts: &[MountSpec]) -> BTreeSet<VolumeName> {
    mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Volume(name) => Some(name.clone()),
            MountKind::Nullfs(_) => None,
        })
        .collect()
}

/// Whether `destination` lies within another mount, so that the container's own root has nothing to
/// do with it.
fn beneath_another(destination: &ContainerPath, mounts: &[MountSpec]) -> bool {
    mounts.iter().any(|mount| {
        destination
            .as_str()
            .strip_prefix(mount.destination.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
    })
}
