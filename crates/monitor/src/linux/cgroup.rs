//! The container's control groups: made by the monitor of its first process, entered by all.
//!
//! The unified group (version 2) is entered by `CLONE_INTO_CGROUP`. Groups of version 1 are entered
//! by the new process itself, through `tasks`: writing a process id to `cgroup.procs` from outside
//! costs ten times as much. See the kernel's `admin-guide/cgroup-v1` and `admin-guide/cgroup-v2.rst`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use kleene_doors::host::StartFailure;
use rustix::fs::{Mode, OFlags};

use crate::failure::{OrFail, Started, setup};
use crate::proto::{CgroupPlan, Setting};

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
    /// The groups of version 1, each with its `tasks` file.
    legacy: Vec<(PathBuf, File)>,
    control_devices: bool,
}

impl Groups {
    /// Makes the groups of a new container, with its limits.
    pub(crate) fn create(plan: &CgroupPlan) -> Started<Self> {
        for directory in plan.directories() {
            ensure(directory)
                .or_fail(|| format!("making the control group {}", directory.display()))?;
        }
        apply(&plan.settings)?;
        if let Some(directory) = &plan.devices {
            restrict_devices(directory)
                .or_fail(|| format!("restricting devices in {}", directory.display()))?;
        }
        Self::open(plan)
    }

    /// Opens the groups of a running container.
    pub(crate) fn open(plan: &CgroupPlan) -> Started<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open_unified = |path: &PathBuf| {
            let group = rustix::fs::open(path, flags, Mode::empty());
            group.map_err(|errno| not_opened(path, &errno.into()))
        };
        let open_legacy = |path: &PathBuf| {
            let tasks = File::options().write(true).open(path.join("tasks"));
            let tasks = tasks.map_err(|error| not_opened(path, &error))?;
            Ok((path.clone(), tasks))
        };
        Ok(Self {
            unified: plan.unified.as_ref().map(open_unified).transpose()?,
            legacy: plan
                .legacy
                .iter()
                .map(open_legacy)
                .collect::<Started<_>>()?,
            control_devices: plan.devices.is_some(),
        })
    }

    /// Whether a control group keeps the container from devices that aren't meant for it.
    pub(crate) fn control_devices(&self) -> bool {
        self.control_devices
    }

    /// Moves the calling process into the groups that it isn't cloned into.
    pub(crate) fn enter(&self) -> Started<()> {
        for (path, tasks) in &self.legacy {
            (&*tasks)
                .write_all(b"0")
                .or_fail(|| format!("entering the control group {}", path.display()))?;
        }
        Ok(())
    }
}

fn not_opened(path: &Path, error: &io::Error) -> StartFailure {
    let path = path.display();
    setup(match error.kind() {
        ErrorKind::NotFound => format!(
            "the container's control group {path} is missing: stop the container and start it again"
        ),
        _ => format!("opening the control group {path} failed: {error}"),
    })
}

/// Writes limits, in their order.
pub(crate) fn apply(settings: &[Setting]) -> Started<()> {
    for Setting { what, file, value } in settings {
        // Without truncating, which these files have no notion of.
        let write = || {
            let mut file = File::options().write(true).open(file)?;
            file.write_all(value.as_bytes())
        };
        write().or_fail(|| format!("setting the {what} in {}", file.display()))?;
    }
    Ok(())
}

/// Counts the container's processes that the kernel has killed for want of memory.
pub(crate) struct OutOfMemory {
    file: Option<PathBuf>,
    before: u64,
}

impl OutOfMemory {
    /// Counts from now on.
    pub(crate) fn watch(plan: &CgroupPlan) -> Self {
        let file = plan.out_of_memory.clone();
        let before = file.as_deref().and_then(kills).unwrap_or(0);
        Self { file, before }
    }

    /// Whether there was one.
    pub(crate) fn has_happened(&self) -> bool {
        let now = self.file.as_deref().and_then(kills);
        now.is_some_and(|now| now > self.before)
    }
}

/// The number in the line `oom_kill N`; `None` when there is none.
fn kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_for_want_of_memory_are_counted_by_either_version() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.events");
        let plan = CgroupPlan {
            out_of_memory: Some(file.clone()),
            ..CgroupPlan::default()
        };
        let new = OutOfMemory::watch(&plan);
        assert!(!new.has_happened());
        fs::write(&file, "low 0\noom 1\noom_kill 1\noom_group_kill 0\n").unwrap();
        assert!(new.has_happened());
        let later = OutOfMemory::watch(&plan);
        assert!(!later.has_happened());
        fs::write(&file, "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").unwrap();
        assert!(later.has_happened());
        fs::remove_file(&file).unwrap();
        assert!(!later.has_happened());
        assert!(!OutOfMemory::watch(&CgroupPlan::default()).has_happened());
    }
}
