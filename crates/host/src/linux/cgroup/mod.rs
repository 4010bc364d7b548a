//! Containers' control groups, from the daemon's side: where they are, what they are to allow, who
//! is in them, and their removal. They are made and entered by monitors: see
//! `kleene_monitor::proto::CgroupPlan`.
//!
//! Every hierarchy that is mounted and writable counts: the unified one (version 2) with its
//! controllers, and those of version 1, where one mount may have several. On hybrid hosts a
//! controller is in one of the two: it is used where it is. See the kernel's
//! `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kleene_doors::host::HostError;
use kleene_monitor::proto::CgroupPlan;
use kleene_types::{ContainerId, CpuSet, Limits};
use rustix::fs::Access;

pub mod freezer;
mod members;
mod parents;
mod settings;
mod update;

/// The group of all containers in each hierarchy.
const PARENT: &str = "kleene";

/// What control groups control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Time of processors.
    Cpu,
    /// The count of it (version 1; version 2 counts without a controller).
    Cpuacct,
    /// Which processors.
    Cpuset,
    /// Memory.
    Memory,
    /// Which devices (version 1).
    Devices,
    /// Stopping in the tracks (version 1; version 2 does so without a controller).
    Freezer,
    /// Input and output.
    Io,
    /// Processes and threads.
    Pids,
}

impl Controller {
    const ALL: [Self; 8] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Devices,
        Self::Freezer,
        Self::Io,
        Self::Pids,
    ];

    /// Its name in version 1.
    pub const fn legacy_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Io => "blkio",
            Self::Pids => "pids",
        }
    }

    /// Its name in version 2, if it is there.
    const fn unified_name(self) -> Option<&'static str> {
        match self {
            Self::Cpu | Self::Cpuset | Self::Memory | Self::Pids => Some(self.legacy_name()),
            Self::Io => Some("io"),
            Self::Cpuacct | Self::Devices | Self::Freezer => None,
        }
    }

    /// Whether containers are in its group (version 1) though nothing is limited: to keep them from
    /// devices, to be able to stop and observe them.
    ///
    /// One group more costs a start and an end together some 0.05 ms (made, entered, removed), but
    /// for `cpu`: who moves into another of its groups may lose the processor to somebody else
    /// there and then, which costs milliseconds on a busy host, and all containers together would
    /// weigh as much as one of the host's processes. The groups of `cpuset` lose processors for good
    /// that are offline for a moment. These two are for those whom they limit.
    const fn is_always_used(self) -> bool {
        !matches!(self, Self::Cpu | Self::Cpuset)
    }
}

/// A hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Legacy {
    mount: PathBuf,
    controllers: Vec<Controller>,
}

/// The hierarchy of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unified {
    mount: PathBuf,
    controllers: Vec<Controller>,
}

/// The hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies {
    unified: Option<Unified>,
    legacy: Vec<Legacy>,
}

/// The version of control groups that a controller belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The first.
    Legacy,
    /// The second.
    Unified,
}

/// Where a controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home<'h> {
    /// How its files are called.
    pub version: Version,
    /// The root of its hierarchy.
    mount: &'h Path,
}

impl Home<'_> {
    /// The group of all containers.
    fn parent(&self) -> PathBuf {
        self.mount.join(PARENT)
    }

    /// A container's group.
    pub fn group(&self, container: &ContainerId) -> PathBuf {
        self.parent().join(container.as_str())
    }
}

impl Hierarchies {
    /// Finds the hierarchies in the mount table, which is read this once.
    ///
    /// # Errors
    /// The table can't be read.
    pub fn discover() -> io::Result<Self> {
        let mut found = Self::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        let usable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
        found.legacy.retain(|legacy| usable(&legacy.mount));
        found.unified = found.unified.filter(|unified| usable(&unified.mount));
        if let Some(unified) = &mut found.unified {
            let offered = fs::read_to_string(unified.mount.join("cgroup.controllers"))?;
            unified.controllers = parse_controllers(&offered);
        }
        tracing::debug!(?found, "control group hierarchies");
        Ok(found)
    }

    /// See `proc_pid_mountinfo(5)`. A hierarchy that is mounted several times counts once.
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = mount.split(' ').nth(4) else {
                continue;
            };
            let mut kind = kind.split(' ');
            match (kind.next(), kind.nth(1)) {
                (Some("cgroup2"), _) if found.unified.is_none() => {
                    found.unified = Some(Unified {
                        mount: unescape(point),
                        controllers: Vec::new(),
                    });
                }
                (Some("cgroup"), Some(options)) => found.add_legacy(point, options),
                _ => {}
            }
        }
        found
    }

    fn add_legacy(&mut self, point: &str, options: &str) {
        let has = |name: &str| options.split(',').any(|option| option == name);
        let controllers: Vec<Controller> = Controller::ALL
            .into_iter()
            .filter(|controller| has(controller.legacy_name()))
            .collect();
        let known = |controller| {
            let mut all = self.legacy.iter().flat_map(|legacy| &legacy.controllers);
            all.any(|other| *other == controller)
        };
        if !controllers.is_empty() && !controllers.iter().any(|controller| known(*controller)) {
            self.legacy.push(Legacy {
                mount: unescape(point),
                controllers,
            });
        }
    }

    /// Where a controller is; `None` when this host doesn't have it.
    pub fn home(&self, controller: Controller) -> Option<Home<'_>> {
        let legacy = self
            .legacy
            .iter()
            .find(|legacy| legacy.controllers.contains(&controller))
            .map(|legacy| Home {
                version: Version::Legacy,
                mount: &legacy.mount,
            });
        legacy.or_else(|| {
            let unified = self.unified.as_ref()?;
            let has = unified.controllers.contains(&controller);
            has.then_some(Home {
                version: Version::Unified,
                mount: &unified.mount,
            })
        })
    }

    /// The groups of a container that is to be made, and what is to be written to their files.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming a limit that this host can't enforce.
    pub fn plan(&self, container: &ContainerId, limits: &Limits) -> Result<CgroupPlan, HostError> {
        self.prepare(limits)?;
        let wanted = match limits.is_empty() {
            true => Vec::new(),
            false => self.wanted(limits)?,
        };
        let limited = limited(limits);
        let is_used = |controller: &Controller| match controller {
            Controller::Cpuacct => self.unified.is_none(),
            other => other.is_always_used() || limited.contains(other),
        };
        Ok(CgroupPlan {
            settings: wanted
                .iter()
                .filter_map(|wanted| wanted.setting(container))
                .collect(),
            ..self.groups(container, |legacy| legacy.controllers.iter().any(is_used))
        })
    }

    /// The groups of a running container.
    pub fn plan_to_join(&self, container: &ContainerId) -> CgroupPlan {
        // Which ones depends on its limits, and on the daemon that has started it. Without the one of
        // the devices nobody gets in.
        self.groups(container, |legacy| {
            legacy.controllers.contains(&Controller::Devices)
                || group(&legacy.mount, container).exists()
        })
    }

    fn groups(&self, container: &ContainerId, is_used: impl Fn(&Legacy) -> bool) -> CgroupPlan {
        let devices = self.home(Controller::Devices);
        CgroupPlan {
            unified: self
                .unified
                .as_ref()
                .map(|unified| group(&unified.mount, container)),
            legacy: self
                .legacy
                .iter()
                .filter(|legacy| is_used(legacy))
                .map(|legacy| group(&legacy.mount, container))
                .collect(),
            devices: devices.map(|home| home.group(container)),
            settings: Vec::new(),
            out_of_memory: self.out_of_memory(container),
        }
    }

    /// The processors that containers may have; `None` when no group controls them.
    pub fn processors(&self) -> Option<CpuSet> {
        parents::processors(&self.home(Controller::Cpuset)?)
    }

    /// The file that counts the processes which were killed for want of memory.
    pub fn out_of_memory(&self, container: &ContainerId) -> Option<PathBuf> {
        let home = self.home(Controller::Memory)?;
        let name = match home.version {
            Version::Legacy => "memory.oom_control",
            Version::Unified => "memory.events",
        };
        Some(home.group(container).join(name))
    }

    /// A container's group in each hierarchy, whether it is there or not.
    fn every_group(&self, container: &ContainerId) -> Vec<PathBuf> {
        let unified = self.unified.iter().map(|unified| &unified.mount);
        let legacy = self.legacy.iter().map(|legacy| &legacy.mount);
        let mounts = unified.chain(legacy);
        mounts.map(|mount| group(mount, container)).collect()
    }

    /// The same without the unified hierarchy, as on older hosts.
    #[cfg(test)]
    pub fn without_unified(&self) -> Self {
        Self {
            unified: None,
            ..self.clone()
        }
    }

    /// A container's group in the unified hierarchy.
    pub fn unified_group(&self, container: &ContainerId) -> Option<PathBuf> {
        let unified = self.unified.as_ref()?;
        Some(group(&unified.mount, container))
    }
}

fn group(mount: &Path, container: &ContainerId) -> PathBuf {
    mount.join(PARENT).join(container.as_str())
}

/// The controllers that enforce these limits.
fn limited(limits: &Limits) -> Vec<Controller> {
    let Limits {
        memory,
        memory_swap,
        cpus,
        cpuset,
        pids,
        io_weight,
    } = limits;
    let all = [
        (
            memory.is_some() || memory_swap.is_some(),
            Controller::Memory,
        ),
        (cpus.is_some(), Controller::Cpu),
        (cpuset.is_some(), Controller::Cpuset),
        (pids.is_some(), Controller::Pids),
        (io_weight.is_some(), Controller::Io),
    ];
    all.into_iter()
        .filter_map(|(is_limited, controller)| is_limited.then_some(controller))
        .collect()
}

/// The content of `cgroup.controllers` and `cgroup.subtree_control`.
fn parse_controllers(text: &str) -> Vec<Controller> {
    Controller::ALL
        .into_iter()
        .filter(|controller| {
            let name = controller.unified_name();
            text.split_whitespace().any(|word| Some(word) == name)
        })
        .collect()
}

/// Mount points have spaces and the like as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let text = text
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n");
    PathBuf::from(text.replace("\\134", "\\"))
}

#[cfg(test)]
mod tests;
