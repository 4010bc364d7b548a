//! The room behind the host door: containers are jails.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kleene_command::{Runner, System};
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
use kleene_monitor::proto::JailStart;
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};
use rustix::fs::{Mode, OFlags};

use super::container::Containers;
use super::looks::Looks;
use super::params::Params;
use super::places::OnDisk;
use super::record::{Record, Records};
use super::seams::{Monitors, Places};
use super::signals::Whose;
use super::spawn::Programs;
use super::{check, jails, limits, observe, signals};
use crate::shared::instances::Instances;
use crate::shared::monitors::{self, Monitored, Refused, Word};
use crate::shared::{
    copy_in, copy_up, destination, failed, files, hooks, inspect_source, layers, log,
};

/// Where jails are recorded, beside the execution instances.
const JAILS: &str = "jails";

/// The script that starts a system's services, and the command that stops them: see rc(8).
const BOOT: &str = "/etc/rc";
const SHUTDOWN: [&str; 3] = ["/bin/sh", "/etc/rc.shutdown", "jail"];

/// Bytes that the path of a Unix socket may have: `sun_path` in unix(4), without its NUL.
const LONGEST_SOCKET: usize = 103;

/// What the room needs to know.
#[derive(Debug, Clone)]
pub struct FreeBsdHostConfig {
    /// Where running execution instances and jails are recorded; made (0700) if it is missing.
    pub state_dir: PathBuf,
    /// The program `kleene-monitor`: see [`crate::find_monitor`].
    pub monitor: PathBuf,
    /// Whether jail parameters may name commands to be run on the host (`exec.prestart` and the
    /// like): whoever may create a container is root on the host then.
    pub allow_host_commands: bool,
}

/// FreeBSD as a host.
pub struct FreeBsdHost {
    tools: Arc<dyn Runner>,
    monitors: Box<dyn Monitors>,
    instances: Instances,
    containers: Containers,
    looks: Looks,
    host_commands: bool,
}

impl FreeBsdHost {
    /// Opens the room.
    ///
    /// # Errors
    /// As [`FreeBsdHost::open`].
    pub fn new(config: &FreeBsdHostConfig) -> Result<Self, HostError> {
        let monitors = Programs {
            program: config.monitor.clone(),
        };
        Self::open(
            &config.state_dir,
            Arc::new(System),
            Box::new(monitors),
            Box::new(OnDisk),
            config.allow_host_commands,
        )
    }

    /// Opens the room over these tools, monitors and places. `state_dir` is where running execution
    /// instances and jails are recorded. What jails without processes have left is taken away.
    ///
    /// # Errors
    /// When the directory can't be made, or its path is too long for sockets in it.
    pub fn open(
        state_dir: &Path,
        tools: Arc<dyn Runner>,
        monitors: Box<dyn Monitors>,
        places: Box<dyn Places>,
        host_commands: bool,
    ) -> Result<Self, HostError> {
        let opening = || format!("opening the directory {}", state_dir.display());
        let instances = Instances::open(state_dir).map_err(failed(opening()))?;
        let socket = instances.path(&ExecId::random()).join("attach.sock");
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(HostError::Unsupported(format!(
                "the Kleene root's path is too long for sockets in it: '{}' has more than \
                 {LONGEST_SOCKET} bytes; choose another kleene_root or mount point",
                socket.display()
            )));
        }
        let records = Records::open(instances.beside(JAILS)).map_err(failed(opening()))?;
        let room = Self {
            containers: Containers::new(Arc::clone(&tools), places, records),
            tools,
            monitors,
            instances,
            looks: Looks::default(),
            host_commands,
        };
        room.sweep()?;
        Ok(room)
    }

    /// Takes away what containers have left in which nothing runs: a daemon may have died between making
    /// a jail and starting a process in it, or while somebody looked at a container's files.
    fn sweep(&self) -> Result<(), HostError> {
        let recorded = self.containers.records.all();
        let recorded = recorded.map_err(failed("listing the jails"))?;
        if recorded.is_empty() {
            return Ok(());
        }
        let instances = self.instances()?;
        let runs = |container: &ContainerId| {
            instances.iter().any(|exec| {
                let status = self.instances.status(exec).ok().flatten();
                let is_its = status.is_some_and(|status| status.container == *container);
                is_its && self.connect(exec).is_ok()
            })
        };
        let (running, others): (Vec<_>, Vec<_>) = recorded.into_iter().partition(runs);
        let read = |container| self.containers.read(container).ok().flatten();
        let in_use: Vec<Record> = running.iter().filter_map(read).collect();
        for container in &others {
            // Of a look whose end has failed: what is mounted there now is the running container's.
            let is_used = |record: Record| in_use.iter().any(|used| used.root == record.root);
            let cleaned = match read(container).is_some_and(is_used) {
                true => self.containers.forget(container),
                false => self.containers.clean(container),
            };
            if let Err(problem) = cleaned {
                let problem: &dyn std::error::Error = &problem;
                tracing::warn!(%container, problem, "what a container has left can't be taken away");
            }
        }
        Ok(())
    }

    fn params(&self, params: &[String]) -> Result<Params, HostError> {
        Params::parse(params, self.host_commands)
    }

    fn connect(&self, exec: &ExecId) -> io::Result<UnixStream> {
        self.monitors.connect(exec, &self.instances.path(exec))
    }

    /// A stream to a running instance's monitor, on which this frame has been sent.
    fn say(&self, exec: &ExecId, frame: &Frame) -> Result<UnixStream, HostError> {
        let not_running = |_| HostError::NotRunning(exec.clone());
        let mut stream = self.connect(exec).map_err(not_running)?;
        frame.write(&mut stream).map_err(not_running)?;
        Ok(stream)
    }

    /// The jail of a container whose first instance runs.
    fn jail(&self, container: &ContainerId, init: &ExecId) -> Result<(i32, Record), HostError> {
        let not_running = || HostError::NotRunning(init.clone());
        self.connect(init).map_err(|_| not_running())?;
        let record = self.containers.read(container)?.ok_or_else(not_running)?;
        let jid = record.jid.ok_or_else(not_running)?;
        Ok((jid, record))
    }

    /// The order for a monitor, once the container is there.
    fn order(&self, request: &StartRequest) -> Result<JailStart, HostError> {
        let container = &request.container;
        // Who joins runs no commands of the host.
        let joins = matches!(request.place, Place::Running { .. });
        let params = Params::parse(&request.jail_params, self.host_commands || joins)?;
        let record = match &request.place {
            Place::New(setup) => {
                let limits = limits::Plan::new(&setup.limits)?;
                self.containers.set_up(container, setup, &params, &limits)?
            }
            Place::Running { init } => {
                let (_, record) = self.jail(container, init)?;
                if record.paused {
                    return Err(refusal(format!(
                        "container {container} is paused: unpause it first"
                    )));
                }
                record
            }
        };
        let jid = record
            .jid
            .ok_or_else(|| refusal(format!("container {container} has no jail")))?;
        let mut request = request.clone();
        params.apply_to(&mut request);
        Ok(JailStart {
            directory: self.instances.path(&request.exec),
            jid,
            devfs: record.devfs,
            persists: params.persists,
            request,
        })
    }

    /// Takes away what a failed start has left behind.
    fn undo(&self, request: &StartRequest) {
        if let Err(problem) = self.instances.remove(&request.exec) {
            tracing::warn!(exec = %request.exec, %problem, "a failed start's directory stays");
        }
        if matches!(request.place, Place::New(_))
            && let Err(problem) = self.clean(&request.container)
        {
            let problem: &dyn std::error::Error = &problem;
            tracing::warn!(container = %request.container, problem, "a failed start leaves traces");
        }
    }

    fn monitor(&self, order: &JailStart) -> Result<Started, HostError> {
        let exec = &order.request.exec;
        self.instances.create(exec).map_err(failed(format!(
            "making a directory for execution instance {exec}"
        )))?;
        match self.monitors.start(order) {
            Ok(Monitored {
                pid,
                control,
                attached,
            }) => Ok(Started {
                pid,
                watch: control,
                attached,
            }),
            Err(Refused::Failure(failure)) => Err(failure.into()),
            Err(Refused::Broken(source)) => Err(HostError::Failed {
                action: format!(
                    "monitoring execution instance {exec} ({})",
                    self.instances.complaints(exec)
                ),
                source: Box::new(source),
            }),
        }
    }

    fn set_paused(
        &self,
        container: &ContainerId,
        init: &ExecId,
        paused: bool,
    ) -> Result<(), HostError> {
        let (jid, record) = self.jail(container, init)?;
        let tools = &*self.tools;
        match paused {
            true => {
                // Noted first: a daemon that dies now leaves a container that can be unpaused.
                self.containers
                    .note(container, &Record { paused, ..record })?;
                // Again for those that were made while the others were told.
                let stop = |_| signals::send(tools, jid, Whose::All, "STOP");
                (0..2).try_for_each(stop).inspect_err(|_| {
                    // Whoever is told that it failed takes all of it to be running.
                    if let Err(problem) = self.set_paused(container, init, false) {
                        let problem: &dyn std::error::Error = &problem;
                        tracing::warn!(%container, problem, "a part of it may stay paused");
                    }
                })
            }
            false => {
                signals::send(tools, jid, Whose::All, "CONT")?;
                self.containers
                    .note(container, &Record { paused, ..record })
            }
        }
    }

    /// Whether the container of an instance is paused.
    fn is_paused(&self, exec: &ExecId) -> io::Result<bool> {
        let Some(status) = self.instances.status(exec)? else {
            return Ok(false);
        };
        let record = self.containers.records.read(&status.container)?;
        Ok(record.is_some_and(|record| record.paused))
    }

    fn find_out(&self, exec: &ExecId) -> io::Result<Probe> {
        if let Ok(watch) = self.connect(exec) {
            match monitors::ask(watch)? {
                Some(Word::Running { pid, watch }) => {
                    return Ok(Probe::Running {
                        pid,
                        watch,
                        paused: self.is_paused(exec)?,
                    });
                }
                Some(Word::Exited(status)) => return Ok(Probe::Exited(status)),
                None => {}
            }
        }
        // A process dies with its monitor.
        let status = self.instances.status(exec)?;
        Ok(match status.and_then(|status| status.exit) {
            Some(exit) => Probe::Exited(exit),
            None => Probe::Lost,
        })
    }

    /// Calls with a container's root, in which its mounts are.
    fn with_root<T>(
        &self,
        of: &FilesOf,
        work: impl FnOnce(BorrowedFd<'_>) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        match of {
            FilesOf::Running { init } => {
                let not_running = || HostError::NotRunning(init.clone());
                let status = self.instances.status(init);
                let status = status.map_err(failed(format!("looking at {init}")))?;
                let container = status.ok_or_else(not_running)?.container;
                let record = self.containers.read(&container)?.ok_or_else(not_running)?;
                work(open(&record.root)?.as_fd())
            }
            FilesOf::Stopped { root, mounts } if mounts.is_empty() => {
                work(open(&self.containers.root_path(root)?)?.as_fd())
            }
            FilesOf::Stopped { root, mounts } => {
                let root = self.containers.root_path(root)?;
                self.looks.begin(&self.containers, &root, mounts)?;
                let done = open(&root).and_then(|root| work(root.as_fd()));
                let ended = self.looks.end(&self.containers, &root);
                done.and_then(|value| ended.map(|()| value))
            }
        }
    }
}

impl Host for FreeBsdHost {
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        let parsed = self.params(params)?;
        if params.is_empty() {
            return Ok(());
        }
        // Should sysctl(8) not tell, jail(8) will.
        let kernels = jails::kernel_params(&*self.tools).unwrap_or_default();
        match parsed.unknown(&kernels).filter(|_| !kernels.is_empty()) {
            None => Ok(()),
            Some(unknown) => Err(HostError::Unsupported(format!(
                "jail parameter '{unknown}': there is no such parameter on this host: see jail(8)"
            ))),
        }
    }

    fn hooks(&self, params: &[String], cmd: &[String]) -> Result<Hooks, HostError> {
        let mut hooks = self.params(params)?.hooks;
        if hooks.stop.is_none() && cmd.iter().any(|word| word == BOOT) {
            hooks.stop = Some(SHUTDOWN.map(str::to_owned).to_vec());
        }
        Ok(hooks)
    }

    fn run_host_command(
        &self,
        container: &ContainerId,
        argv: &[String],
        limit: Span,
    ) -> Result<(), HostError> {
        hooks::run_host_command(&*self.tools, container, argv, limit)
    }

    fn check_limits(
        &self,
        limits: &Limits,
        shm_size: Option<ByteSize>,
        ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError> {
        check::check(&*self.tools, limits, shm_size, ulimits)
    }

    fn update_limits(
        &self,
        container: &ContainerId,
        init: &ExecId,
        limits: &Limits,
    ) -> Result<(), HostError> {
        let plan = limits::Plan::new(limits)?;
        let (_, record) = self.jail(container, init)?;
        let limited = record.limited || plan.has_rules();
        let noted = Record { limited, ..record };
        self.containers.note(container, &noted)?;
        plan.replace(&*self.tools, container.as_str(), limited)
    }

    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.set_paused(container, init, true)
    }

    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.set_paused(container, init, false)
    }

    fn stats(&self, container: &ContainerId, init: &ExecId) -> Result<Stats, HostError> {
        let (jid, record) = self.jail(container, init)?;
        observe::stats(&*self.tools, container.as_str(), jid, &record.root)
    }

    fn processes(
        &self,
        container: &ContainerId,
        init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError> {
        let (jid, record) = self.jail(container, init)?;
        observe::processes(&*self.tools, jid, &record.root)
    }

    fn log(&self, exec: &ExecId) -> Result<Vec<File>, HostError> {
        log::open(&self.instances.path(exec)).map_err(failed(format!(
            "opening the log of execution instance {exec}"
        )))
    }

    fn follow(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.say(exec, &Frame::Follow)
    }

    fn stat_path(&self, of: &FilesOf, path: &Path) -> Result<Option<PathStat>, HostError> {
        self.with_root(of, |root| files::stat(root, path))
    }

    fn read_archive(&self, of: &FilesOf, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
        self.with_root(of, |root| files::pack(root, path, to))
    }

    fn write_archive(
        &self,
        of: &FilesOf,
        directory: &Path,
        from: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<(), HostError> {
        self.with_root(of, |root| files::unpack(root, directory, from, options))
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
        let order = self.order(request)?;
        self.monitor(&order).map_err(|problem| {
            self.undo(request);
            match &request.place {
                // A container that ends meanwhile can't be joined any more, whatever the monitor says.
                Place::Running { init } if self.connect(init).is_err() => {
                    HostError::NotRunning(init.clone())
                }
                _ => problem,
            }
        })
    }

    fn number(&self, container: &ContainerId) -> Option<u32> {
        let record = self.containers.read(container).ok()??;
        u32::try_from(record.jid?).ok()
    }

    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.say(exec, &Frame::Attach)
    }

    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError> {
        self.find_out(exec)
            .map_err(failed(format!("asking for execution instance {exec}")))
    }

    /// No process is without handlers for being a jail's first: a signal does what it always does.
    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.send_signal(exec, signal)
    }

    fn send_signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        let sending = || format!("sending signal {signal} to execution instance {exec}");
        let status = self.instances.status(exec).map_err(failed(sending()))?;
        if let Some(status) = status.filter(|status| status.left) {
            // It has ended itself: the signal is for those that live on.
            let (jid, _) = self.jail(&status.container, exec)?;
            return signals::send(&*self.tools, jid, Whose::All, &signal.to_string());
        }
        let stream = self.say(exec, &Frame::Signal(signal))?;
        // The answer to what is said later comes when the signal is sent.
        match monitors::ask(stream) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(HostError::NotRunning(exec.clone())),
            Err(error) => Err(failed(sending())(error)),
        }
    }

    fn end_session(&self, exec: &ExecId) -> Result<(), HostError> {
        let status = self.instances.status(exec);
        let status = status.map_err(failed(format!("looking at execution instance {exec}")))?;
        let Some(status) = status else {
            return Ok(());
        };
        let record = self.containers.read(&status.container)?;
        match record.and_then(|record| record.jid) {
            Some(jid) => {
                let whose = Whose::Session(status.pid);
                signals::send(&*self.tools, jid, whose, "KILL")
            }
            None => Ok(()),
        }
    }

    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        let (jid, record) = self.jail(container, init)?;
        let tools = &*self.tools;
        signals::send(tools, jid, Whose::All, "TERM")?;
        if record.paused {
            self.set_paused(container, init, false)?;
        }
        match record.persists {
            true => jails::end_with_last_process(tools, container.as_str()),
            false => Ok(()),
        }
    }

    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        let not_running = |_| HostError::NotRunning(init.clone());
        self.connect(init).map_err(not_running)?;
        let record = self.containers.records.read(container).ok().flatten();
        if let Some(jid) = record.and_then(|record| record.jid) {
            // Also those of a jail that somebody has given another name.
            signals::send(&*self.tools, jid, Whose::All, "KILL")?;
        }
        jails::ensure_removed(&*self.tools, container.as_str())
    }

    fn instances(&self) -> Result<Vec<ExecId>, HostError> {
        let instances = self.instances.all();
        instances.map_err(failed("listing the execution instances"))
    }

    fn forget(&self, exec: &ExecId) -> Result<(), HostError> {
        self.instances
            .remove(exec)
            .map_err(failed(format!("forgetting execution instance {exec}")))
    }

    fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        self.containers.clean(container)
    }
}

/// Where devices are, nothing else can be: the file system of the kernel has no directories to mount on.
fn check_free(path: &Path, _: SourceKind) -> Result<(), String> {
    match path.starts_with("/dev") {
        true => Err("it lies in /dev, where the container's devices are".to_owned()),
        false => Ok(()),
    }
}

fn open(root: &PathBuf) -> Result<OwnedFd, HostError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .map_err(|errno| failed("opening the container's root")(errno.into()))
}

fn refusal(message: String) -> HostError {
    HostError::Start(StartFailure { code: 125, message })
}
