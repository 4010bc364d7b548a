//! Containers' control groups, from the daemon's side: where they are, who is in them, and their
//! removal. They are made by monitors: see `kleene_monitor::proto::CgroupPlan`.
//!
//! Two hierarchies are used where they are mounted and writable: the unified one (version 2; killing
//! a container for good, and knowing that it is empty) and `devices` of version 1.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use kleene_monitor::proto::CgroupPlan;
use kleene_monitor::status::gone;
use kleene_monitor::sys::pidfd_send_signal;
use kleene_types::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Access;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

/// The group of all containers in each hierarchy.
const PARENT: &str = "kleene";

/// How long the processes of a group that is to be removed may take to end after they were killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two tries where the kernel announces nothing.
const PAUSE: Duration = Duration::from_millis(2);

/// The hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies {
    unified: Option<PathBuf>,
    devices: Option<PathBuf>,
}

impl Hierarchies {
    /// Finds the hierarchies in the mount table, which is read this once.
    ///
    /// # Errors
    /// The table can't be read.
    pub fn discover() -> io::Result<Self> {
        let found = Self::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        let usable = |path: Option<PathBuf>| {
            path.filter(|path| rustix::fs::access(path, Access::WRITE_OK).is_ok())
        };
        let usable = Self {
            unified: usable(found.unified),
            devices: usable(found.devices),
        };
        tracing::debug!(?usable, "control group hierarchies");
        Ok(usable)
    }

    /// See `proc_pid_mountinfo(5)`.
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
                (Some("cgroup2"), _) => found.unified = Some(unescape(point)),
                (Some("cgroup"), Some(options))
                    if options.split(',').any(|option| option == "devices") =>
                {
                    found.devices = Some(unescape(point));
                }
                _ => {}
            }
        }
        found
    }

    /// A container's groups.
    pub fn plan(&self, container: &ContainerId) -> CgroupPlan {
        let of = |hierarchy: &PathBuf| hierarchy.join(PARENT).join(container.as_str());
        CgroupPlan {
            unified: self.unified.as_ref().map(of),
            legacy: self.devices.iter().map(of).collect(),
            devices: self.devices.as_ref().map(of),
            settings: Vec::new(),
            out_of_memory: None,
        }
    }

    /// Sends a signal to all processes in a container but one: to none if it isn't there, or if
    /// there are no groups.
    ///
    /// # Errors
    /// The group can't be read, or a signal not be sent.
    pub fn signal_others(
        &self,
        container: &ContainerId,
        signal: Signal,
        spared: u32,
    ) -> io::Result<()> {
        let Some(group) = self.plan(container).directories().next().cloned() else {
            return Ok(());
        };
        let mut others = members(&group)?
            .into_iter()
            .filter(|member| *member != spared);
        others.try_for_each(|member| signal_member(&group, member, signal))
    }

    /// Kills everything in a container that has a unified group.
    ///
    /// # Errors
    /// The group refuses.
    pub fn kill(&self, container: &ContainerId) -> io::Result<()> {
        let Some(group) = self.plan(container).unified else {
            return Ok(());
        };
        match fs::write(group.join("cgroup.kill"), "1") {
            // Neither the group, nor the file before Linux 5.14.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes a container's groups, and kills what is left in them. Missing is success.
    ///
    /// # Errors
    /// The first group that can't be removed; the others are tried nevertheless.
    pub fn remove(&self, container: &ContainerId) -> io::Result<()> {
        let plan = self.plan(container);
        let results: Vec<io::Result<()>> = plan.directories().map(|group| remove(group)).collect();
        results.into_iter().collect()
    }
}

/// Mount points have spaces and the like as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let text = text
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n");
    PathBuf::from(text.replace("\\134", "\\"))
}

fn members(group: &Path) -> io::Result<Vec<u32>> {
    match fs::read_to_string(group.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        // The group is being removed.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn remove(group: &Path) -> io::Result<()> {
    let busy = Some(rustix::io::Errno::BUSY.raw_os_error());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == busy && Instant::now() < deadline => {
                for member in members(group)? {
                    signal_member(group, member, Signal::KILL)?;
                }
                await_change(group);
            }
            Err(error) => {
                let message = format!("removing the control group {}: {error}", group.display());
                return Err(io::Error::new(error.kind(), message));
            }
            Ok(()) => return Ok(()),
        }
    }
}

/// Sends a signal to a process of the group. Its id is only trusted if the process behind a
/// descriptor that was opened meanwhile is still a member; one that has ended is no failure.
fn signal_member(group: &Path, member: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = i32::try_from(member).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    if members(group)?.contains(&member) {
        return match pidfd_send_signal(&process, signal.as_raw()) {
            Err(error) if gone(&error) => Ok(()),
            other => other,
        };
    }
    Ok(())
}

/// Waits a little for the group to become empty.
fn await_change(group: &Path) {
    let Ok(events) = fs::File::open(group.join("cgroup.events")) else {
        return thread::sleep(PAUSE);
    };
    let populated = io::read_to_string(&events).is_ok_and(|text| text.contains("populated 1"));
    if !populated {
        return thread::sleep(PAUSE);
    }
    // Whatever comes of it, the group is looked at again.
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_on_hybrid_and_unified_hosts() {
        let hybrid = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/dev\\040ices rw,relatime shared:3 - cgroup cgroup rw,devices
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let found = Hierarchies::parse(hybrid);
        assert_eq!(
            found.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert_eq!(
            found.devices.as_deref(),
            Some(Path::new("/sys/fs/cgroup/dev ices"))
        );

        let unified = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::parse(unified);
        let container = ContainerId::random();
        let plan = found.plan(&container);
        let group = Path::new("/sys/fs/cgroup/kleene").join(container.as_str());
        assert_eq!(
            plan,
            CgroupPlan {
                unified: Some(group),
                ..CgroupPlan::default()
            }
        );
        assert_eq!(Hierarchies::parse("nonsense\n"), Hierarchies::default());
    }
}
