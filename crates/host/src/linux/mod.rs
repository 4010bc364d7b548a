//! The Linux room: containers of namespaces and control groups, each process with a monitor.
//!
//! What a monitor does is told in `kleene_monitor`. Here, monitors are started and found again.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::frames::Frame;
use kleene_doors::host::{
    CopyUp, Hooks, Host, HostError, Place, Probe, SourceKind, StartRequest, Started,
};
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_doors::storage::Root;
use kleene_monitor::nursery::empty_mount_namespace;
use kleene_monitor::proto::{InitProcess, Jail, StartMessage};
use kleene_monitor::sealed::seal_program;
use kleene_monitor::status::gone;
use kleene_monitor::sys::pidfd_send_signal;
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};
use rustix::process::Signal;

mod cgroup;
mod copy_up;
mod destination;
mod outside;
pub mod seccomp;
mod seccomp_profile;
mod source;
mod spawn;
mod state;

use cgroup::Hierarchies;
use outside::Outside;
use spawn::{Monitored, Reaper, Refused};
use state::{Living, State};

/// The monitor's file name.
const MONITOR: &str = "kleene-monitor";

/// How long a monitor may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Jail parameters that ask for what every container has on Linux.
const GRANTED: [&str; 4] = [
    "mount.devfs",
    "mount.fdescfs",
    "mount.procfs",
    "allow.raw_sockets",
];

/// What the room needs to know.
#[derive(Debug, Clone)]
pub struct LinuxHostConfig {
    /// Where running execution instances are recorded; made (0700) if it is missing.
    pub state_dir: PathBuf,
    /// Where compiled system call filters are kept; made (0700) if it is missing.
    pub cache_dir: PathBuf,
    /// The program `kleene-monitor`: see [`find_monitor`].
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
    monitor: OwnedFd,
    filter: PathBuf,
    /// See [`kleene_monitor::nursery`].
    nursery: OwnedFd,
    reaper: Reaper,
    outside: Outside,
    host_commands: bool,
}

/// Finds the monitor's program where it is installed: beside the running program, or in
/// `../libexec/kleene` from there.
///
/// # Errors
/// [`HostError::Unsupported`] naming the places.
pub fn find_monitor() -> Result<PathBuf, HostError> {
    let own = std::env::current_exe().map_err(failed("finding the own program"))?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let places = [
        directory.join(MONITOR),
        directory.join("../libexec/kleene").join(MONITOR),
    ];
    places
        .iter()
        .find(|place| place.is_file())
        .cloned()
        .ok_or_else(|| {
            let [beside, libexec] = places.each_ref().map(|place| place.display());
            HostError::Unsupported(format!(
                "the program {MONITOR} is missing: it is looked for at {beside} and {libexec}; \
             install it there, or configure its path"
            ))
        })
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
        let reaper = Reaper::new().map_err(failed("starting a thread"))?;
        Ok(Self {
            state,
            hierarchies,
            monitor,
            filter,
            nursery,
            reaper,
            outside,
            host_commands: *allow_host_commands,
        })
    }

    fn message(&self, request: &StartRequest) -> Result<StartMessage, HostError> {
        let join = match &request.place {
            Place::New(_) => None,
            Place::Running { init } => {
                let Living { status, .. } = self.living(init)?;
                Some(InitProcess {
                    pid: status.pid,
                    start_time: status.start_time,
                })
            }
        };
        Ok(StartMessage {
            request: request.clone(),
            seccomp: self.filter.clone(),
            nursery: format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                self.nursery.as_raw_fd()
            )
            .into(),
            cgroups: self.hierarchies.plan(&request.container),
            jail: Jail::default(),
            join,
            boot_id: self.state.boot_id().to_owned(),
            outside: self.outside.plan(request)?,
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

    fn living(&self, exec: &ExecId) -> Result<Living, HostError> {
        let living = self
            .state
            .living(exec)
            .map_err(failed(format!("looking at {exec}")))?;
        living.ok_or_else(|| HostError::NotRunning(exec.clone()))
    }

    /// Asks an instance's monitor; `None` when there is none.
    fn ask(&self, exec: &ExecId) -> io::Result<Option<Probe>> {
        let Ok(mut watch) = self.state.connect(exec) else {
            return Ok(None);
        };
        watch.set_read_timeout(Some(ANSWER_LIMIT))?;
        let answer = Frame::Watch
            .write(&mut watch)
            .and_then(|()| Frame::read(&mut watch));
        watch.set_read_timeout(None)?;
        Ok(match answer {
            Ok(Some(Frame::Started(pid))) => Some(Probe::Running {
                pid,
                watch,
                paused: false,
            }),
            Ok(Some(Frame::Exited(status))) => Some(Probe::Exited(status)),
            // It is there, but stopped or starved: nothing is known about its process.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // It has ended just now.
            Ok(_) | Err(_) => None,
        })
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
        match params.iter().find(|param| !is_granted(param)) {
            None => Ok(()),
            Some(param) => Err(HostError::Unsupported(format!(
                "jail parameter '{param}' isn't supported on Linux: leave it out"
            ))),
        }
    }

    fn hooks(&self, _params: &[String]) -> Result<Hooks, HostError> {
        Ok(Hooks::default())
    }

    fn run_host_command(
        &self,
        _container: &ContainerId,
        _argv: &[String],
        _limit: Span,
    ) -> Result<(), HostError> {
        not_yet()
    }

    fn check_limits(
        &self,
        _limits: &Limits,
        _shm_size: Option<ByteSize>,
        _ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError> {
        Ok(Vec::new())
    }

    fn update_limits(
        &self,
        _container: &ContainerId,
        _init: &ExecId,
        _limits: &Limits,
    ) -> Result<(), HostError> {
        not_yet()
    }

    fn pause(&self, _container: &ContainerId, _init: &ExecId) -> Result<(), HostError> {
        not_yet()
    }

    fn unpause(&self, _container: &ContainerId, _init: &ExecId) -> Result<(), HostError> {
        not_yet()
    }

    fn stats(&self, _container: &ContainerId, _init: &ExecId) -> Result<Stats, HostError> {
        not_yet()
    }

    fn processes(
        &self,
        _container: &ContainerId,
        _init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError> {
        not_yet()
    }

    fn log(&self, _exec: &ExecId) -> Result<Vec<File>, HostError> {
        not_yet()
    }

    fn follow(&self, _exec: &ExecId) -> Result<UnixStream, HostError> {
        not_yet()
    }

    fn stat_path(&self, _of: &FilesOf, _path: &Path) -> Result<Option<PathStat>, HostError> {
        not_yet()
    }

    fn read_archive(
        &self,
        _of: &FilesOf,
        _path: &Path,
        _to: &mut dyn Write,
    ) -> Result<(), HostError> {
        not_yet()
    }

    fn write_archive(
        &self,
        _of: &FilesOf,
        _directory: &Path,
        _from: &mut dyn Read,
        _options: UnpackOptions,
    ) -> Result<(), HostError> {
        not_yet()
    }

    fn instances(&self) -> Result<Vec<ExecId>, HostError> {
        Ok(Vec::new())
    }

    fn inspect_source(&self, path: &Path) -> Result<SourceKind, HostError> {
        source::inspect_source(path)
    }

    fn check_destination(
        &self,
        root: &Root,
        destination: &ContainerPath,
        source: SourceKind,
    ) -> Result<(), HostError> {
        destination::check_destination(root, destination, source)
    }

    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        copy_up::copy_up(root, from, into)
    }

    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        copy_up::recover_copy_up(into)
    }

    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        let message = self.message(request)?;
        let exec = &request.exec;
        let log = self.state.create(exec).map_err(failed(format!(
            "making a directory for execution instance {exec}"
        )))?;
        let directory = self.state.path(exec);
        match spawn::start(&self.monitor, &directory, log, &message, &self.reaper) {
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
            true => pidfd_send_signal(&living.process, Signal::KILL.as_raw()),
            false => pidfd_send_signal(&living.process, signal),
        };
        send().map_err(failed(format!(
            "sending signal {signal} to execution instance {exec}"
        )))
    }

    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        let living = self.living(init)?;
        let pid = living.status.pid;
        let stop = || {
            if takes_notice_of(pid, Signal::TERM)? {
                return signal(&living, Signal::TERM);
            }
            self.hierarchies
                .signal_others(container, Signal::TERM, pid)?;
            signal(&living, Signal::KILL)
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

fn not_yet<T>() -> Result<T, HostError> {
    Err(HostError::Unsupported(
        "this is not available yet".to_owned(),
    ))
}

fn failed(action: impl Display) -> impl FnOnce(io::Error) -> HostError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            HostError::NoSpace(action.to_string())
        }
        _ => HostError::Failed {
            action: action.to_string(),
            source: Box::new(source),
        },
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// `name`, `name=true` or `name=1`.
fn is_granted(param: &str) -> bool {
    let (name, value) = param.split_once('=').unwrap_or((param, "true"));
    GRANTED.contains(&name.trim()) && matches!(value.trim(), "true" | "1")
}

/// Sends a signal; that the process has ended meanwhile is no failure.
fn signal(living: &Living, signal: Signal) -> io::Result<()> {
    match pidfd_send_signal(&living.process, signal.as_raw()) {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}

/// Whether a signal does anything to the first process of a namespace: the kernel throws away what
/// it neither handles nor blocks (in order to wait for it). See `pid_namespaces(7)`.
fn takes_notice_of(pid: u32, signal: Signal) -> io::Result<bool> {
    let Some(status) = process_status(pid)? else {
        return Ok(false);
    };
    let signal = signal.as_raw();
    Ok(in_mask(&status, "SigCgt:", signal) || in_mask(&status, "SigBlk:", signal))
}

/// Whether a signal that ends processes is thrown away by the kernel, though the process doesn't ask
/// for that: it is the first one of its namespace and has no handler.
fn is_lost_on(pid: u32, signal: i32) -> io::Result<bool> {
    let ends = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
    let Some(status) = process_status(pid)?.filter(|_| ends.iter().any(|s| s.as_raw() == signal))
    else {
        return Ok(false);
    };
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let ids = ids.unwrap_or("").split_whitespace().skip(1);
    let masks = ["SigCgt:", "SigBlk:", "SigIgn:"];
    let first = ids.last() == Some("1");
    Ok(first && !masks.iter().any(|mask| in_mask(&status, mask, signal)))
}

/// What `proc_pid_status(5)` tells of a process; `None` when it has ended.
fn process_status(pid: u32) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Err(error) if gone(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether a signal is in one of the masks of a process's status.
fn in_mask(status: &str, field: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix(field));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jail_parameters_that_every_container_has() {
        for param in ["mount.devfs", "mount.devfs=true", "allow.raw_sockets = 1"] {
            assert!(is_granted(param), "{param}");
        }
        for param in [
            "mount.devfs=false",
            "allow.mount",
            "nomount.devfs",
            "",
            "exec.clean",
        ] {
            assert!(!is_granted(param), "{param}");
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_types,
        reason = "a process whose signals are known is needed"
    )]
    fn signals_without_a_handler_are_not_noticed() {
        // Not this process: while it makes a thread, it blocks all of its signals for a moment.
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let noticed = takes_notice_of(child.id(), Signal::USR2);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!noticed.unwrap());
    }

    #[test]
    fn only_first_processes_lose_signals() {
        let own = std::process::id();
        for signal in [Signal::TERM, Signal::USR1] {
            assert!(!is_lost_on(own, signal.as_raw()).unwrap());
        }
        let status = "Name:\tsleep\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004000\n";
        assert!(in_mask(status, "SigCgt:", Signal::TERM.as_raw()));
        assert!(!in_mask(status, "SigIgn:", Signal::TERM.as_raw()));
        assert!(!in_mask(status, "SigBlk:", Signal::TERM.as_raw()));
    }
}
