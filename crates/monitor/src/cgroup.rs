//! The container's control groups: made by the monitor of its first process, entered by all.
//!
//! The unified group (version 2) is entered by `CLONE_INTO_CGROUP`. A `devices` group (version 1)
//! is entered by the new process itself, through `tasks`: writing a process id to `cgroup.procs`
//! from outside costs ten times as much. See the kernel's `admin-guide/cgroup-v1/devices.rst`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::failure::{OrFail, Started};
use crate::proto::CgroupPlan;

/// The devices that a container may use, as everywhere: all may be made (`m`), but only these be
/// read and written: null, zero, full, random, urandom, tty, console, ptmx, pts.
pub(crate) const DEVICES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// The open groups that a new process is to enter.
pub(crate) struct Groups {
    /// For `CLONE_INTO_CGROUP`.
    pub unified: Option<OwnedFd>,
    /// The `tasks` file of the `devices` group.
    tasks: Option<File>,
}

impl Groups {
    /// Makes the groups of a new container.
    pub(crate) fn create(plan: &CgroupPlan) -> Started<Self> {
        for directory in plan.directories() {
            ensure(directory)
                .or_fail(|| format!("making the control group {}", directory.display()))?;
        }
        if let Some(directory) = &plan.devices {
            restrict_devices(directory)
                .or_fail(|| format!("restricting devices in {}", directory.display()))?;
        }
        Self::open(plan)
    }

    /// Opens the groups of a running container.
    pub(crate) fn open(plan: &CgroupPlan) -> Started<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let unified = match &plan.unified {
            Some(path) => Some(
                rustix::fs::open(path, flags, Mode::empty())
                    .or_fail(|| format!("opening the control group {}", path.display()))?,
            ),
            None => None,
        };
        let tasks = match &plan.devices {
            Some(path) => Some(
                File::options()
                    .write(true)
                    .open(path.join("tasks"))
                    .or_fail(|| format!("opening the control group {}", path.display()))?,
            ),
            None => None,
        };
        Ok(Self { unified, tasks })
    }

    /// Whether a control group keeps the container from devices that aren't meant for it.
    pub(crate) fn control_devices(&self) -> bool {
        self.tasks.is_some()
    }

    /// Moves the calling process into the groups that it isn't cloned into.
    pub(crate) fn enter(&self) -> io::Result<()> {
        match &self.tasks {
            Some(tasks) => (&*tasks).write_all(b"0"),
            None => Ok(()),
        }
    }
}

/// Makes the group and its parent, the one of all containers.
fn ensure(directory: &Path) -> io::Result<()> {
    let create = |path: &Path| match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    match create(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(parent) = directory.parent() {
                create(parent)?;
            }
            create(directory)
        }
        other => other,
    }
}

fn restrict_devices(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("devices.deny"), "a")?;
    let mut allow = File::options()
        .write(true)
        .open(directory.join("devices.allow"))?;
    for device in DEVICES {
        match allow.write_all(device.as_bytes()) {
            // Our own parent group may not use the device: then nor may the container.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}
