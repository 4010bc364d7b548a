//! The groups that containers' groups lie in, and what they must have before limits can be set.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use kleene_doors::host::HostError;
use kleene_types::{CpuSet, Limits};
use rustix::io::Errno;

use super::{Controller, Hierarchies, Home, Unified, Version, limited, parse_controllers};
use crate::linux::failed;

impl Hierarchies {
    /// Makes the parents of containers' groups ready for containers with these limits. Controllers
    /// of the unified hierarchy that nothing needs but observation may stay off.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming the controller that can't be had.
    pub fn prepare(&self, limits: &Limits) -> Result<(), HostError> {
        let limited = limited(limits);
        if let Some(unified) = &self.unified {
            let off = unified.enable();
            let needed = off
                .into_iter()
                .find(|(controller, _)| limited.contains(controller));
            if let Some((controller, reason)) = needed {
                return Err(refusal(controller, &unified.mount, &reason));
            }
        }
        for home in limited
            .into_iter()
            .filter_map(|controller| self.home(controller))
            .filter(|home| home.version == Version::Legacy)
        {
            let parent = home.parent();
            make(&parent).map_err(failed(format!(
                "making the control group {}",
                parent.display()
            )))?;
        }
        match self.home(Controller::Cpuset) {
            Some(home) if limits.cpuset.is_some() && home.version == Version::Legacy => {
                fill_cpuset(&home)
            }
            _ => Ok(()),
        }
    }
}

impl Unified {
    /// Switches the controllers on in the root and the group of all containers. Those that refuse,
    /// with the reason.
    fn enable(&self) -> Vec<(Controller, io::Error)> {
        let parent = self.mount.join(super::PARENT);
        if self.controllers.is_empty() {
            return Vec::new();
        }
        let enabled = enabled_in(&parent).unwrap_or_default();
        if self.controllers.iter().all(|one| enabled.contains(one)) {
            return Vec::new();
        }
        let enable = |controller: Controller| {
            make(&parent)?;
            enable_in(&self.mount, controller)?;
            enable_in(&parent, controller)
        };
        let all = self.controllers.iter();
        all.filter_map(|controller| Some((*controller, enable(*controller).err()?)))
            .collect()
    }
}

fn enabled_in(group: &Path) -> io::Result<Vec<Controller>> {
    let control = group.join("cgroup.subtree_control");
    Ok(parse_controllers(&fs::read_to_string(control)?))
}

fn enable_in(group: &Path, controller: Controller) -> io::Result<()> {
    if enabled_in(group)?.contains(&controller) {
        return Ok(());
    }
    let name = controller.unified_name().unwrap_or_default();
    fs::write(group.join("cgroup.subtree_control"), format!("+{name}"))
}

fn refusal(controller: Controller, root: &Path, reason: &io::Error) -> HostError {
    let name = controller.unified_name().unwrap_or_default();
    let root = root.display();
    HostError::Unsupported(
        if reason.raw_os_error() == Some(Errno::BUSY.raw_os_error()) {
            format!(
                "the control group controller '{name}' can't be enabled, because there are \
                 processes in the group {root} itself: move them into a group beneath it (where \
                 systemd runs, start the daemon as a service of it with Delegate=yes), or leave \
                 the limit out"
            )
        } else {
            format!(
                "the control group controller '{name}' can't be enabled in {root} ({reason}): let \
                 the daemon write there, or leave the limit out"
            )
        },
    )
}

/// Gives the group of all containers the processors and memory of its hierarchy's root.
fn fill_cpuset(home: &Home<'_>) -> Result<(), HostError> {
    for name in ["cpuset.mems", "cpuset.cpus"] {
        let (all, own) = (cpuset(home, name)?, home.parent().join(name));
        let fill = || match fs::read_to_string(&own)?.trim() == all {
            true => Ok(()),
            false => fs::write(&own, &all),
        };
        fill().map_err(failed(format!("writing {}", own.display())))?;
    }
    Ok(())
}

/// The processors that containers may have; `None` when no group controls them.
pub(super) fn processors(home: &Home<'_>) -> Option<CpuSet> {
    let name = match home.version {
        Version::Legacy => "cpuset.cpus",
        Version::Unified => "cpuset.cpus.effective",
    };
    cpuset(home, name).ok()?.parse().ok()
}

/// The processors or nodes of memory that a hierarchy of version 1 has.
pub(super) fn cpuset(home: &Home<'_>, name: &str) -> Result<String, HostError> {
    let path = home.mount.join(name);
    let text = fs::read_to_string(&path).map_err(failed(format!("reading {}", path.display())))?;
    Ok(text.trim().to_owned())
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
