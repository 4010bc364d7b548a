//! Limits of a running container: changed together, or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kleene_doors::host::HostError;
use kleene_monitor::proto::Setting;
use kleene_types::{ByteSize, ContainerId, Limits};
use rustix::io::Errno;

use super::members::{gather, members};
use super::settings::Addressed;
use super::{Controller, Hierarchies, Version};

/// What has been done so far, to be taken back in reverse order.
#[derive(Debug, Default)]
struct Done(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// The file held this.
    Written { file: PathBuf, former: String },
    /// The group wasn't there.
    Made(PathBuf),
}

impl Hierarchies {
    /// Changes what a running container may use.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming the limit and the reason; nothing has changed then.
    pub fn update(&self, container: &ContainerId, limits: &Limits) -> Result<(), HostError> {
        self.prepare(limits)?;
        let mut done = Done::default();
        self.change(container, limits, &mut done).inspect_err(|_| {
            done.take_back();
        })
    }

    fn change(
        &self,
        container: &ContainerId,
        limits: &Limits,
        done: &mut Done,
    ) -> Result<(), HostError> {
        let wanted = self.wanted(limits)?;
        let addressed = wanted.iter().map(|wanted| wanted.address(container));
        // Where there is no such file, nothing has ever been limited by it.
        let addressed = addressed.filter(|one| one.limits || one.setting.file.exists());
        let (mut there, missing): (Vec<Addressed>, Vec<Addressed>) =
            addressed.partition(|address| address.group.exists());
        memory_first_where_it_fits(&mut there);
        for Addressed {
            controller,
            group,
            setting,
            ..
        } in there
        {
            let mut write = || {
                if setting.file.ends_with("memory.max") {
                    make_room(&group, &setting)?;
                }
                done.write(&setting)
            };
            write().map_err(|error| self.refusal(container, controller, &setting, &error))?;
        }
        for Addressed {
            controller,
            group,
            setting,
            ..
        } in &missing
        {
            done.make(group)
                .and_then(|()| done.write(setting))
                .map_err(|error| self.refusal(container, *controller, setting, &error))?;
        }
        for Addressed {
            controller,
            group,
            setting,
            ..
        } in &missing
        {
            self.enter(container, group)
                .map_err(|error| self.refusal(container, *controller, setting, &error))?;
        }
        Ok(())
    }

    /// Moves a container's processes into a group that was made after they had started.
    fn enter(&self, container: &ContainerId, group: &Path) -> io::Result<()> {
        let plan = self.plan_to_join(container);
        let known = plan.directories().find(|known| *known != group);
        let known = known.ok_or_else(|| io::Error::other("nothing tells who is in it"))?;
        gather(known, group)
    }

    fn refusal(
        &self,
        container: &ContainerId,
        controller: Controller,
        setting: &Setting,
        error: &io::Error,
    ) -> HostError {
        let busy = error.raw_os_error() == Some(Errno::BUSY.raw_os_error());
        let used = match controller {
            Controller::Memory if busy => self.memory_in_use(container),
            _ => None,
        };
        let what = &setting.what;
        HostError::Unsupported(match used {
            Some(used) => format!(
                "{what} can't be set now: container {container} uses {used} bytes, and not enough \
                 of them can be taken back; let it free some, or stop it first. Nothing has changed"
            ),
            None => format!(
                "{what} can't be set for container {container} while it runs ({error}). Nothing \
                 has changed"
            ),
        })
    }

    fn memory_in_use(&self, container: &ContainerId) -> Option<u64> {
        let home = self.home(Controller::Memory)?;
        let name = match home.version {
            Version::Legacy => "memory.usage_in_bytes",
            Version::Unified => "memory.current",
        };
        number(&home.group(container).join(name))
    }
}

impl Done {
    /// Writes a file that holds something else.
    fn write(&mut self, setting: &Setting) -> io::Result<()> {
        let Setting { file, value, .. } = setting;
        let text = fs::read_to_string(file)?;
        // Where devices have values of their own, these are in further lines.
        let former = text.lines().next().unwrap_or_default().to_owned();
        if former.trim() == value.trim() {
            return Ok(());
        }
        fs::write(file, value)?;
        let file = file.clone();
        self.0.push(Step::Written { file, former });
        Ok(())
    }

    fn make(&mut self, group: &Path) -> io::Result<()> {
        match fs::create_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        self.0.push(Step::Made(group.to_owned()));
        Ok(())
    }

    fn take_back(&mut self) {
        for step in self.0.drain(..).rev() {
            let (result, path) = match step {
                Step::Written { file, former } => (fs::write(&file, format!("{former}\n")), file),
                Step::Made(group) => (leave(&group), group),
            };
            if let Err(problem) = result {
                tracing::warn!(path = %path.display(), %problem, "a limit can't be taken back");
            }
        }
    }
}

/// Moves everybody out of a group again, to the root of the hierarchy, and removes it.
fn leave(group: &Path) -> io::Result<()> {
    if let Some(root) = group.parent().and_then(Path::parent) {
        for member in members(group)? {
            match fs::write(root.join("cgroup.procs"), member.to_string()) {
                Err(error) if kleene_monitor::status::gone(&error) => {}
                other => other?,
            }
        }
    }
    fs::remove_dir(group)
}

/// In version 1, memory and swap space together may at no time be less than memory alone: the other
/// one must give way first, or make room.
fn memory_first_where_it_fits(settings: &mut [Addressed]) {
    let position = |name: &str| {
        let mut settings = settings.iter();
        settings.position(|address| address.setting.file.ends_with(name))
    };
    let (Some(memory), Some(total)) = (
        position("memory.limit_in_bytes"),
        position("memory.memsw.limit_in_bytes"),
    ) else {
        return;
    };
    let asked = |position: usize| {
        let address = settings.get(position);
        let value = address.map(|address| address.setting.value.parse::<u64>());
        // -1: no limit.
        value.and_then(Result::ok).unwrap_or(u64::MAX)
    };
    let current = settings
        .get(total)
        .and_then(|address| number(&address.setting.file))
        .unwrap_or(u64::MAX);
    if asked(memory) > current {
        settings.swap(memory, total);
    }
}

/// In version 2 a limit below what is in use has processes killed at once. So what can be taken back
/// is taken back before (Linux 5.19), and a limit that is still too small refused.
fn make_room(group: &Path, setting: &Setting) -> io::Result<()> {
    let Ok(limit) = setting.value.parse::<ByteSize>() else {
        return Ok(());
    };
    let over = || {
        let current = number(&group.join("memory.current")).unwrap_or(0);
        current.saturating_sub(limit.bytes())
    };
    if over() > 0 {
        // It tells by `EAGAIN` that it was less than that; what counts is what is left.
        let _ = fs::write(group.join("memory.reclaim"), over().to_string());
    }
    match over() {
        0 => Ok(()),
        _ => Err(Errno::BUSY.into()),
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
