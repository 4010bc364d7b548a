//! Scripted processes in the jails of a simulated FreeBSD: see [`crate::freebsd::simulated`].

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use kleene_doors::frames::Frame;
use kleene_doors::host::{HostError, Started};
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_monitor::proto::JailStart;
use kleene_types::{ContainerId, ExecId, Limits, Signal};

use super::process::{self, Process};
use super::{FakeHost, Op, PATIENCE, Stage};

/// A process in a jail.
#[derive(Debug)]
pub(crate) struct Jailed {
    pub info: ProcessInfo,
    pub paused: bool,
}

impl FakeHost {
    /// As the doors of the host itself begin: notes a call, and fails it if the test wants that.
    pub(crate) fn note(&self, op: Op, object: impl ToString) -> Result<(), HostError> {
        self.called(op, object)
    }

    /// Starts a process as a monitor on FreeBSD does. The jail is there, with its mounts.
    pub(crate) fn start_in_jail(&self, order: &JailStart) -> Result<Started, HostError> {
        self.start_program(&order.request, Some(&order.directory), |_| Ok(()))
    }

    /// Connects to the monitor of an instance. The first frame tells what the connection is for.
    pub(crate) fn connect_to_monitor(&self, exec: &ExecId) -> io::Result<UnixStream> {
        let state = self.shared.lock();
        let process = state.processes.get(exec);
        if !process.is_some_and(Process::runs) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        drop(state);
        // Not a strong reference: the thread must not keep a host alive that no test uses any more.
        let shared = Arc::downgrade(&self.shared);
        process::serve(exec, move |exec, frame, client| {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let mut state = shared.lock();
            let Some(process) = state.processes.get_mut(exec) else {
                *client = None;
                return;
            };
            match frame {
                Frame::Attach | Frame::Watch | Frame::Follow => {
                    if let Some(client) = client.take() {
                        process.serve(&frame, client);
                    }
                }
                frame => drop(process.receive(frame)),
            }
            state.ended(exec);
            shared.changed.notify_all();
        })
    }

    /// How many clients an instance has had.
    pub(crate) fn clients_so_far(&self, exec: &ExecId) -> usize {
        let state = self.shared.lock();
        let process = state.processes.get(exec);
        process.map_or(0, |process| process.clients_so_far)
    }

    /// Waits until an instance has had more clients than that, or doesn't run any more.
    pub(crate) fn await_client(&self, exec: &ExecId, before: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        while state
            .processes
            .get(exec)
            .is_some_and(|process| process.runs() && process.clients_so_far <= before)
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A container's processes, in the order of their ids.
    pub(crate) fn jailed(&self, container: &ContainerId) -> Vec<Jailed> {
        let mut state = self.shared.lock();
        let living = state.running_in(container).filter(|it| it.lives());
        let mut found: Vec<Jailed> = living
            .map(|process| Jailed {
                info: process.info(),
                paused: process.seen.paused,
            })
            .collect();
        found.sort_by_key(|process| process.info.pid);
        found
    }

    /// Whether an instance has ended, and isn't lost.
    pub(crate) fn has_exited(&self, exec: &ExecId) -> bool {
        let state = self.shared.lock();
        let process = state.processes.get(exec);
        process.is_some_and(|process| matches!(process.seen.stage, Stage::Exited(_)))
    }

    /// Sends a signal, by its name without `SIG`, to a container's processes, or to one of them, and
    /// tells to how many. The first process gets it last: with its end the others would end.
    pub(crate) fn signal_jailed(
        &self,
        container: &ContainerId,
        only: Option<u32>,
        signal: &str,
    ) -> usize {
        let number = signal.parse().map_or(0, Signal::number);
        let mut state = self.shared.lock();
        let living = state.running_in(container).filter(|it| it.lives());
        let wanted = living.filter(|process| only.is_none_or(|pid| process.seen.pid == pid));
        let mut all: Vec<(bool, ExecId)> = wanted
            .map(|process| (process.is_first(), process.seen.request.exec.clone()))
            .collect();
        all.sort();
        for (_, exec) in &all {
            if let Some(process) = state.processes.get_mut(exec) {
                match signal {
                    "STOP" => process.seen.paused = true,
                    "CONT" => drop(process.unpause()),
                    _ => drop(process.signal(number)),
                }
            }
        }
        for (_, exec) in &all {
            state.ended(exec);
        }
        self.shared.changed.notify_all();
        all.len()
    }

    /// Whether a container is to go on without processes.
    pub(crate) fn keep(&self, container: &ContainerId, keep: bool) {
        let mut state = self.shared.lock();
        match keep {
            true => drop(state.kept.insert(container.clone())),
            false => drop(state.kept.remove(container)),
        }
        state.settle(container);
        self.shared.changed.notify_all();
    }

    /// How often the machine was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        self.shared.lock().restarts
    }

    /// Notes what a container's first process is limited to now.
    pub(crate) fn set_limits(&self, init: &ExecId, limits: &Limits) {
        if let Some(process) = self.shared.lock().processes.get_mut(init) {
            process.seen.limits = limits.clone();
        }
        self.shared.changed.notify_all();
    }

    /// Forgets an instance, which doesn't run.
    pub(crate) fn drop_instance(&self, exec: &ExecId) {
        self.shared.lock().processes.remove(exec);
    }

    /// What the test wants a check of limits to warn of.
    pub(crate) fn wanted_warnings(&self) -> Vec<String> {
        self.shared.lock().limit_warnings.clone()
    }

    /// What the test wants a container to have used.
    pub(crate) fn wanted_stats(&self, container: &ContainerId) -> Option<Stats> {
        self.shared.lock().stats.get(container).cloned()
    }

    /// What the test wants a container's processes to be.
    pub(crate) fn wanted_processes(&self, container: &ContainerId) -> Option<Vec<ProcessInfo>> {
        let state = self.shared.lock();
        state.process_lists.get(container).cloned()
    }
}
