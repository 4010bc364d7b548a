//! The Linux room: containers of namespaces and control groups, each process with a monitor.
//!
//! What a monitor does is told in `kleene_monitor`. Here, monitors are started and found again.

use std::fs::{self, File};
use std::io;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_command::System;
use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::frames::Frame;
use kleene_doors::host::{
    CopyUp, Hooks, Host, HostError, Place, Probe, SourceKind, StartFailure, StartRequest, Started,
};
use kleene_doors::layers::{
    CopiedIn, CopyIn, CopySource, KeepFn, LayerApplied, LayerOptions, LayerPacked,
};
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_doors::storage::Root;
use kleene_monitor::nursery::empty_mount_namespace;
use kleene_monitor::proto::{InitProcess, StartMessage};
use kleene_monitor::sealed::seal_program;
use kleene_monitor::status::start_time;
use kleene_monitor::sys::pidfd_send_signal;
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};
use rustix::process::Signal;

mod cgroup;
mod clock;
mod files_view;
mod jail;
mod limits;
mod outside;
mod processes;
mod reserved;
pub mod seccomp;
mod seccomp_profile;
mod signals;
mod spawn;
mod state;
mod stats;

use crate::shared::instances::make_private;
use crate::shared::monitors::{self, Monitored, Refused, Word};
use crate::shared::{
    copy_in, copy_up, destination, failed, files, hooks, inspect_source, layers, log,
};
use cgroup::Hierarchies;
use cgroup::freezer::Freezer;
use files_view::Access;
use jail::JailParams;
use outside::Outside;
pub(crate) use reserved::check_free;
use signals::{is_lost_on, signal, takes_notice_of};
use spawn::Monitors;
use state::{Living, State};

/// What the room needs to know.
#[derive(Debug, Clone)]
pub struct LinuxHostConfig {
    /// Where running execution instances are recorded; made (0700) if it is missing.
    pub state_dir: PathBuf,
    /// Where compiled system call filters are kept; made (0700) if it is missing.
    pub cache_dir: PathBuf,
    /// The program `kleene-monitor`: see [`crate::find_monitor`].
    pub monitor: PathBuf,
    /// An outside OCI runtime to start containers with.
    pub oci_runtime: Option<PathBuf>,
    /// Whether jail parameters may name commands to be run on the host (`exec.prestart` and the
    /// like): whoever may create a container is root on the host then.
    pub allow_host_commands: bool,
}

/// Linux as a host.
pub struct LinuxHost {
    state: State,
    hierarchies: Hierarchies,
    monitors: Monitors,
    filter: PathBuf,
    /// See [`kleene_monitor::nursery`].
    nursery: OwnedFd,
    outside: Outside,
    host_commands: bool,
}

impl LinuxHost {
    /// Opens the room: finds the control groups, compiles the system call filter if that hasn't been
    /// done on this machine, and takes a sealed copy of the monitor's program.
    ///
    /// # Errors
    /// When one of these fails.
    pub fn new(config: &LinuxHostConfig) -> Result<Self, HostError> {
        let LinuxHostConfig {
            state_dir,
            cache_dir,
            monitor,
            oci_runtime,
            allow_host_commands,
        } = config;
        let state = State::open(state_dir).map_err(failed(format!(
            "opening the directory {}",
            state_dir.display()
        )))?;
        let outside = Outside::open(state.outside(), oci_runtime.clone())?;
        make_private(cache_dir).map_err(failed(format!(
            "making the directory {}",
            cache_dir.display()
        )))?;
        let hierarchies = Hierarchies::discover().map_err(failed("finding the control groups"))?;
        let filter = seccomp::ensure_filter(cache_dir).map_err(|error| HostError::Failed {
            action: "compiling the system call filter".to_owned(),
            source: Box::new(error),
        })?;
        let filter = fs::canonicalize(filter).map_err(failed("finding the compiled filter"))?;
        let monitor = File::open(monitor)
            .and_then(seal_program)
            .map_err(failed(format!("loading the monitor {}", monitor.display())))?;
        let nursery = empty_mount_namespace().map_err(failed("making an empty mount namespace"))?;
        let monitors = Monitors::new(monitor).map_err(failed("starting a thread"))?;
        Ok(Self {
            state,
            hierarchies,
            monitors,
            filter,
            nursery,
            outside,
            host_commands: *allow_host_commands,
        })
    }

    fn message(&self, request: &StartRequest) -> Result<StartMessage, HostError> {
        let container = &request.container;
        let (join, cgroups) = match &request.place {
            Place::New(setup) => {
                let plan = self.hierarchies.plan(container, &setup.limits)?;
                (None, plan)
            }
            Place::Running { init } => {
                let Living { status, .. } = self.living(init)?;
                self.refuse_paused(container)?;
                let init = InitProcess {
                    pid: status.pid,
                    start_time: status.start_time,
                };
                (Some(init), self.hierarchies.plan_to_join(container))
            }
        };
        // Who joins runs no commands of the host.
        let host_commands = self.host_commands || join.is_some();
        let params = JailParams::parse(&request.jail_params, host_commands)?;
        let jail = params.jail;
        let outside = self.outside.plan(request)?;
        let mut request = request.clone();
        params.apply_to(&mut request);
        Ok(StartMessage {
            directory: self.state.path(&request.exec),
            request,
            seccomp: self.filter.clone(),
            nursery: format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                self.nursery.as_raw_fd()
            )
            .into(),
            cgroups,
            jail,
            join,
            boot_id: self.state.boot_id().to_owned(),
            outside,
        })
    }

    fn jail_params(&self, params: &[String]) -> Result<JailParams, HostError> {
        JailParams::parse(params, self.host_commands)
    }

    /// A process that is started in a paused container would stand still before its program runs.
    fn refuse_paused(&self, container: &ContainerId) -> Result<(), HostError> {
        let paused = self.hierarchies.is_frozen(container);
        let paused = paused.map_err(failed(format!("looking at container {container}")))?;
        match paused {
            false => Ok(()),
            true => Err(HostError::Start(StartFailure {
                code: 125,
                message: format!("container {container} is paused: unpause it first"),
            })),
        }
    }

    fn freezer(&self, container: &ContainerId, init: &ExecId) -> Result<Freezer, HostError> {
        self.living(init)?;
        self.hierarchies.freezer(container).ok_or_else(|| {
            HostError::Unsupported(format!(
                "container {container} can't be paused: this host has neither version 2 of control \
                 groups (Linux 5.2 and later) nor the controller 'freezer'"
            ))
        })
    }

    /// Takes away what a failed start has left behind.
    fn undo(&self, request: &StartRequest) {
        if let Err(problem) = self.state.remove(&request.exec) {
            tracing::warn!(exec = %request.exec, %problem, "a failed start's directory stays");
        }
        if matches!(request.place, Place::New(_))
            && let Err(problem) = self.clean(&request.container)
        {
            let problem: &dyn std::error::Error = &problem;
            tracing::warn!(container = %request.container, problem, "a failed start leaves traces");
        }
    }

    /// Sends a signal by the platform's number.
    fn send(&self, living: &Living, signal: i32) -> io::Result<()> {
        pidfd_send_signal(&living.process, signal)?;
        match signal == Signal::KILL.as_raw() {
            true => self.hierarchies.let_die(&living.status.container),
            false => Ok(()),
        }
    }

    fn living(&self, exec: &ExecId) -> Result<Living, HostError> {
        let living = self
            .state
            .living(exec)
            .map_err(failed(format!("looking at {exec}")))?;
        living.ok_or_else(|| HostError::NotRunning(exec.clone()))
    }

    /// Asks an instance's monitor; `None` when there is none.
    fn ask(&self, exec: &ExecId) -> io::Result<Option<Probe>> {
        let Ok(watch) = self.state.connect(exec) else {
            return Ok(None);
        };
        Ok(match monitors::ask(watch)? {
            Some(Word::Running { pid, watch }) => Some(Probe::Running {
                pid,
                watch,
                paused: self.is_paused(exec)?,
            }),
            Some(Word::Exited(status)) => Some(Probe::Exited(status)),
            None => None,
        })
    }

    /// Whether the container of an instance is paused.
    fn is_paused(&self, exec: &ExecId) -> io::Result<bool> {
        match self.state.status(exec)? {
            Some(status) => self.hierarchies.is_frozen(&status.container),
            None => Ok(false),
        }
    }

    fn find_out(&self, exec: &ExecId) -> io::Result<Probe> {
        if let Some(probe) = self.ask(exec)? {
            return Ok(probe);
        }
        let status = self.state.status(exec)?;
        if let Some(exit) = status.and_then(|status| status.exit) {
            return Ok(Probe::Exited(exit));
        }
        // Nobody can relay its streams or learn how it ends: it is of no use any more.
        if let Some(living) = self.state.living(exec)? {
            signal(&living, Signal::KILL)?;
        }
        Ok(Probe::Lost)
    }
}

impl Host for LinuxHost {
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        self.jail_params(params).map(drop)
    }

    fn hooks(&self, params: &[String], _: &[String]) -> Result<Hooks, HostError> {
        Ok(self.jail_params(params)?.hooks)
    }

    fn run_host_command(
        &self,
        container: &ContainerId,
        argv: &[String],
        limit: Span,
    ) -> Result<(), HostError> {
        hooks::run_host_command(&System, container, argv, limit)
    }

    fn check_limits(
        &self,
        limits: &Limits,
        shm_size: Option<ByteSize>,
        ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError> {
        let machine = limits::Machine::look();
        limits::check(&self.hierarchies, &machine, limits, shm_size, ulimits)
    }

    fn update_limits(
        &self,
        container: &ContainerId,
        init: &ExecId,
        limits: &Limits,
    ) -> Result<(), HostError> {
        self.living(init)?;
        self.hierarchies.update(container, limits)
    }

    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.freezer(container, init)?
            .freeze()
            .map_err(failed(format!("pausing container {container}")))
    }

    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.freezer(container, init)?
            .thaw()
            .map_err(failed(format!("unpausing container {container}")))
    }

    fn stats(&self, container: &ContainerId, init: &ExecId) -> Result<Stats, HostError> {
        let pid = self.living(init)?.status.pid;
        Ok(stats::read(&self.hierarchies, container, pid))
    }

    fn processes(
        &self,
        container: &ContainerId,
        init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError> {
        let pid = self.living(init)?.status.pid;
        processes::list(&self.hierarchies, container, pid).map_err(failed(format!(
            "listing the processes of container {container}"
        )))
    }

    fn log(&self, exec: &ExecId) -> Result<Vec<File>, HostError> {
        log::open(&self.state.path(exec)).map_err(failed(format!(
            "opening the log of execution instance {exec}"
        )))
    }

    fn follow(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        let not_running = |_| HostError::NotRunning(exec.clone());
        let mut stream = self.state.connect(exec).map_err(not_running)?;
        Frame::Follow.write(&mut stream).map_err(not_running)?;
        Ok(stream)
    }

    fn stat_path(&self, of: &FilesOf, path: &Path) -> Result<Option<PathStat>, HostError> {
        files::stat(self.view(of, Access::Read)?.root(), path)
    }

    fn read_archive(&self, of: &FilesOf, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
        files::pack(self.view(of, Access::Read)?.root(), path, to)
    }

    fn write_archive(
        &self,
        of: &FilesOf,
        directory: &Path,
        from: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<(), HostError> {
        files::unpack(
            self.view(of, Access::Write)?.root(),
            directory,
            from,
            options,
        )
    }

    fn instances(&self) -> Result<Vec<ExecId>, HostError> {
        let instances = self.state.all();
        instances.map_err(failed("listing the execution instances"))
    }

    fn inspect_source(&self, path: &Path) -> Result<SourceKind, HostError> {
        inspect_source(path)
    }

    fn check_destination(
        &self,
        root: &Root,
        destination: &ContainerPath,
        source: SourceKind,
    ) -> Result<(), HostError> {
        destination::check_destination(root, destination, source, check_free)
    }

    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        copy_up::copy_up(root, from, into)
    }

    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        copy_up::recover_copy_up(into)
    }

    fn apply_layer(
        &self,
        root: &Root,
        from: &mut dyn Read,
        options: &LayerOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LayerApplied, HostError> {
        layers::apply(root, from, options, progress)
    }

    fn pack_layer(
        &self,
        below: Option<&Root>,
        root: &Root,
        to: &mut dyn Write,
    ) -> Result<LayerPacked, HostError> {
        layers::pack(below, root, to)
    }

    fn copy_in(&self, copy: &CopyIn<'_>) -> Result<CopiedIn, HostError> {
        copy_in::copy_in(copy)
    }

    fn digest_sources(
        &self,
        from: &CopySource<'_>,
        sources: &[String],
        keep: KeepFn<'_>,
    ) -> Result<[u8; 32], HostError> {
        copy_in::digest(from, sources, keep)
    }

    fn read_beneath(
        &self,
        directory: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, HostError> {
        files::read_beneath(directory, path, limit)
    }

    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        let message = self.message(request)?;
        let exec = &request.exec;
        self.state.create(exec).map_err(failed(format!(
            "making a directory for execution instance {exec}"
        )))?;
        match self.monitors.start(&message) {
            Ok(Monitored {
                pid,
                control,
                attached,
            }) => Ok(Started {
                pid,
                watch: control,
                attached,
            }),
            Err(refused) => {
                let complaints = self.state.complaints(exec);
                self.undo(request);
                Err(match refused {
                    Refused::Failure(failure) => failure.into(),
                    Refused::Broken(source) => HostError::Failed {
                        action: format!("monitoring execution instance {exec} ({complaints})"),
                        source: Box::new(source),
                    },
                })
            }
        }
    }

    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        let not_running = |_| HostError::NotRunning(exec.clone());
        let mut stream = self.state.connect(exec).map_err(not_running)?;
        Frame::Attach.write(&mut stream).map_err(not_running)?;
        Ok(stream)
    }

    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError> {
        self.find_out(exec)
            .map_err(failed(format!("asking for execution instance {exec}")))
    }

    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        let living = self.living(exec)?;
        let send = || match is_lost_on(living.status.pid, signal)? {
            true => self.send(&living, Signal::KILL.as_raw()),
            false => self.send(&living, signal),
        };
        send().map_err(failed(sending(signal, exec)))
    }

    fn send_signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        let living = self.living(exec)?;
        let sent = self.send(&living, signal);
        sent.map_err(failed(sending(signal, exec)))
    }

    fn end_session(&self, exec: &ExecId) -> Result<(), HostError> {
        let end = || {
            let status = self.state.status(exec)?;
            let Some(status) = status.filter(|status| status.boot_id == self.state.boot_id())
            else {
                return Ok(());
            };
            // Nobody else gets the process's id while its session lasts.
            match start_time(status.pid)? {
                Some(other) if other != status.start_time => Ok(()),
                _ => self.hierarchies.kill_session(&status.container, status.pid),
            }
        };
        end().map_err(failed(format!("ending all of execution instance {exec}")))
    }

    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        let living = self.living(init)?;
        let pid = living.status.pid;
        let stop = || {
            if takes_notice_of(pid, Signal::TERM)? {
                signal(&living, Signal::TERM)?;
            } else {
                // With it the kernel kills all others, so those come first.
                self.hierarchies
                    .signal_others(container, Signal::TERM, pid)?;
                let process = living.process.try_clone()?;
                self.hierarchies.kill_when_alone(container, pid, process)?;
            }
            // Nobody takes notice of anything while the container is paused.
            self.hierarchies.thaw(container)
        };
        stop().map_err(failed(format!("stopping container {container}")))
    }

    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        let living = self.living(init)?;
        // With the first process, the kernel kills all others in its namespace.
        signal(&living, Signal::KILL)
            .and_then(|()| self.hierarchies.kill(container))
            .map_err(failed(format!("killing container {container}")))
    }

    fn forget(&self, exec: &ExecId) -> Result<(), HostError> {
        self.state
            .remove(exec)
            .map_err(failed(format!("forgetting execution instance {exec}")))
    }

    fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        let outside = self.outside.clean(container);
        self.hierarchies
            .remove(container)
            .map_err(failed(format!("cleaning up after container {container}")))?;
        outside
    }
}

fn sending(signal: i32, exec: &ExecId) -> String {
    format!("sending signal {signal} to execution instance {exec}")
}
