//! Who is in a container's groups: signals to them, their end, and the groups' removal.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kleene_monitor::status::gone;
use kleene_monitor::sys::pidfd_send_signal;
use kleene_types::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tracing::warn;

use super::Hierarchies;
use super::freezer::is_gone;
use crate::linux::processes::session_of;

/// How long the processes of a group that is to be removed may take to end after they were killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the other processes of a container may take to their end after they were asked. Whoever
/// stops the container kills them earlier.
const LAST_OTHERS: Duration = Duration::from_secs(24 * 60 * 60);

/// Time between two looks at who is left. The kernel announces only when nobody is.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long the leader of a session gets to wait for its children that were killed.
const LAST_WAITS: Duration = Duration::from_millis(200);

/// How often processes are looked for that were made while others were moved: those of a process
/// that has been moved are born in the right place.
const ROUNDS: u32 = 100;

/// Pause between two tries where the kernel announces nothing.
const PAUSE: Duration = Duration::from_millis(2);

impl Hierarchies {
    /// The ids of a container's processes: none if it isn't there. `None` when there are no groups.
    ///
    /// # Errors
    /// The group can't be read.
    pub fn processes(&self, container: &ContainerId) -> io::Result<Option<Vec<u32>>> {
        self.plan_to_join(container)
            .directories()
            .next()
            .map(|group| members(group))
            .transpose()
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
        let Some(group) = self.plan_to_join(container).directories().next().cloned() else {
            return Ok(());
        };
        let mut others = members(&group)?
            .into_iter()
            .filter(|member| *member != spared);
        others.try_for_each(|member| signal_member(&group, member, signal))
    }

    /// Kills a container's first process as soon as there is no other one in the container: at once
    /// if that is so now, or if there are no groups to tell. It isn't waited for.
    ///
    /// # Errors
    /// The group can't be read, or the process not be killed.
    pub fn kill_when_alone(
        &self,
        container: &ContainerId,
        first: u32,
        process: OwnedFd,
    ) -> io::Result<()> {
        let group = self.plan_to_join(container).directories().next().cloned();
        let is_alone = move |group: &Path| -> io::Result<bool> {
            Ok(members(group)?.iter().all(|member| *member == first))
        };
        let Some(group) = group.filter(|group| !is_alone(group).unwrap_or(true)) else {
            return kill_process(&process);
        };
        let wait = move || {
            let deadline = Instant::now() + LAST_OTHERS;
            while !has_ended(&process, LOOK_AGAIN) && Instant::now() < deadline {
                if is_alone(&group).unwrap_or(true) {
                    if let Err(problem) = kill_process(&process) {
                        warn!(process = first, %problem, "ending the last process of a container");
                    }
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("stopping".to_owned());
        thread.spawn(wait).map(drop)
    }

    /// Kills all processes of a container in the session of this number: none if it isn't there, or
    /// if there are no groups. Its leader goes last, so that it can wait for those that it has started:
    /// nobody else may do so.
    ///
    /// # Errors
    /// The group can't be read, or a process not be killed.
    pub fn kill_session(&self, container: &ContainerId, session: u32) -> io::Result<()> {
        let Some(group) = self.plan_to_join(container).directories().next().cloned() else {
            return Ok(());
        };
        let is_meant = |member| session_of(member).map(|found| found == Some(session));
        let deadline = Instant::now() + LAST_WAITS;
        while has_children(session) && Instant::now() < deadline {
            for member in members(&group)? {
                if member != session && is_meant(member)? {
                    signal_if(member, Signal::KILL, || {
                        Ok(is_member(&group, member)? && is_meant(member)?)
                    })?;
                }
            }
            thread::sleep(PAUSE);
        }
        let mut killed = HashSet::new();
        loop {
            let before = killed.len();
            for member in members(&group)? {
                if !killed.contains(&member) && is_meant(member)? {
                    signal_if(member, Signal::KILL, || {
                        Ok(is_member(&group, member)? && is_meant(member)?)
                    })?;
                    killed.insert(member);
                }
            }
            // Who has been killed makes no more processes; those made just before are found now.
            if killed.len() == before {
                return Ok(());
            }
        }
    }

    /// Kills everything in a container that has a unified group, and lets everything in it take
    /// notice of signals that were sent.
    ///
    /// # Errors
    /// The group refuses.
    pub fn kill(&self, container: &ContainerId) -> io::Result<()> {
        self.thaw(container)?;
        let Some(group) = self.unified_group(container) else {
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
        let thawed = self.thaw(container);
        let groups = self.every_group(container);
        let results: Vec<io::Result<()>> = groups.iter().map(|group| remove(group)).collect();
        results.into_iter().collect::<io::Result<()>>()?;
        thawed
    }
}

/// Kills a process; one that has ended is no failure.
fn kill_process(process: &OwnedFd) -> io::Result<()> {
    match pidfd_send_signal(process, Signal::KILL.as_raw()) {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}

/// Waits at most `limit` for the end of a process.
fn has_ended(process: &OwnedFd, limit: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: limit.subsec_nanos().into(),
    };
    let ready = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout));
    ready.is_ok_and(|ready| ready > 0)
}

/// Whether a process has children, be they dead and not waited for. One that has ended has none.
fn has_children(process: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    children.is_ok_and(|children| !children.trim().is_empty())
}

/// Ids of the processes in a group; none when it isn't there.
pub(super) fn members(group: &Path) -> io::Result<Vec<u32>> {
    match fs::read_to_string(group.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
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

/// Moves the processes of one group into another one, of another hierarchy.
///
/// # Errors
/// The other group refuses one, or new ones keep coming.
pub(super) fn gather(from: &Path, into: &Path) -> io::Result<()> {
    let entry = into.join("cgroup.procs");
    for _ in 0..ROUNDS {
        let inside = members(into)?;
        let mut outside = members(from)?;
        outside.retain(|member| !inside.contains(member));
        if outside.is_empty() {
            return Ok(());
        }
        for member in outside {
            match fs::write(&entry, member.to_string()) {
                // It has ended meanwhile.
                Err(error) if gone(&error) && entry.exists() => {}
                other => other?,
            }
        }
    }
    Err(io::Error::other(
        "it makes processes faster than they can be found",
    ))
}

/// Sends a signal to a process of the group. Its id is only trusted if the process behind a
/// descriptor that was opened meanwhile is still a member; one that has ended is no failure.
fn signal_member(group: &Path, member: u32, signal: Signal) -> io::Result<()> {
    signal_if(member, signal, || is_member(group, member))
}

fn is_member(group: &Path, process: u32) -> io::Result<bool> {
    Ok(members(group)?.contains(&process))
}

/// Sends a signal to the process of this id, if it is the one that is meant after a descriptor of it
/// was opened.
fn signal_if(
    process: u32,
    signal: Signal,
    is_meant: impl FnOnce() -> io::Result<bool>,
) -> io::Result<()> {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    if is_meant()? {
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
