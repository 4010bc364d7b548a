//! Looking at containers from outside, and reaching into them: output, usage, processes, files.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path};
use std::time::Duration;

use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::host::HostError;
use kleene_doors::observe::ProcessInfo;
use kleene_doors::storage::{Change, Dataset};
use kleene_store::{ContainerRecord, ExecRecord};
use kleene_types::{ExecId, Timestamp};

use crate::locks::{Guard, Key, Mode};
use crate::running::Init;
use crate::{ContainerState, Engine, EngineError, Exit, LogView, StartedExec, StatsView};

/// How long it takes at most until the end of a process is noticed.
const END_RECORDED: Duration = Duration::from_secs(5);

impl Engine {
    /// Usage of the named containers, or of all that run when none is named: in the order in which
    /// they are named, or the newest first. Those that don't run are left out unless they were named.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`], [`EngineError::ContainerNotRunning`] for one that was
    /// named.
    pub fn container_stats(&self, references: &[String]) -> Result<Vec<StatsView>, EngineError> {
        if references.is_empty() {
            return self.all_stats();
        }
        let mut views: Vec<StatsView> = Vec::new();
        for reference in references {
            let (container, init) = self.running_container(reference)?;
            if views.iter().all(|view| view.id != container.id) {
                views.push(self.stats_of(container, &init)?);
            }
        }
        Ok(views)
    }

    fn all_stats(&self) -> Result<Vec<StatsView>, EngineError> {
        let running = self.running.all();
        let mut views = Vec::new();
        for container in self.store.containers()? {
            let Some(init) = running.get(&container.id) else {
                continue;
            };
            match self.stats_of(container, init) {
                Ok(view) => views.push(view),
                // It has ended in the meantime.
                Err(EngineError::ContainerNotRunning(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(views)
    }

    fn stats_of(&self, container: ContainerRecord, init: &Init) -> Result<StatsView, EngineError> {
        let stats = self.host.stats(&container.id, &init.exec);
        Ok(StatsView {
            stats: stats.map_err(|error| not_running(error, &container))?,
            read: Timestamp::now(),
            id: container.id,
            name: container.name,
        })
    }

    /// Processes of a running container, by their ids.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_top(&self, reference: &str) -> Result<Vec<ProcessInfo>, EngineError> {
        let (container, init) = self.running_container(reference)?;
        let processes = self.host.processes(&container.id, &init.exec);
        processes.map_err(|error| not_running(error, &container))
    }

    /// What differs between a container and its image, by path.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn container_changes(&self, reference: &str) -> Result<Vec<Change>, EngineError> {
        let id = self.find_container(reference)?.id;
        let _lock = self
            .locks
            .hold([(Key::Container(id.clone()), Mode::Shared)]);
        self.recorded_container(&id)?;
        Ok(self.storage.changes(&id)?)
    }

    /// The output that is kept of a container's runs. Read it with [`Engine::log_files`].
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn container_log(&self, reference: &str) -> Result<LogView, EngineError> {
        let container = self.find_container(reference)?;
        let last = container.last_run.as_ref().map(|run| &run.init);
        let mut execs = self.store.execs_of(&container.id)?;
        execs.retain(|exec| exec.started.is_some() && (exec.first || Some(&exec.id) == last));
        execs.sort_by_key(|exec| exec.started);
        Ok(LogView { execs })
    }

    /// The output that is kept of an execution instance.
    ///
    /// # Errors
    /// [`EngineError::ExecNotFound`].
    pub fn exec_log(&self, reference: &str) -> Result<LogView, EngineError> {
        let execs = vec![self.find_exec(reference)?];
        Ok(LogView { execs })
    }

    /// The files of an execution instance's log, the oldest first: see [`kleene_doors::log`].
    ///
    /// # Errors
    /// When they can't be opened.
    pub fn log_files(&self, exec: &ExecId) -> Result<Vec<std::fs::File>, EngineError> {
        Ok(self.host.log(exec)?)
    }

    /// A stream that tells when a running instance's log has grown: see
    /// [`kleene_doors::frames::Frame::Follow`]. `None`: it doesn't run any more.
    ///
    /// # Errors
    /// When the host can't tell.
    pub fn log_follow(&self, exec: &ExecId) -> Result<Option<UnixStream>, EngineError> {
        match self.host.follow(exec) {
            Ok(stream) => Ok(Some(stream)),
            Err(HostError::NotRunning(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new client's stream to a container's first process.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_attach(&self, reference: &str) -> Result<StartedExec, EngineError> {
        let (container, init) = self.running_container(reference)?;
        let stream = self.host.attach(&init.exec);
        Ok(StartedExec {
            attached: Some(stream.map_err(|error| not_running(error, &container))?),
            id: init.exec,
        })
    }

    /// A new client's stream to an execution instance.
    ///
    /// # Errors
    /// [`EngineError::ExecNotFound`], [`EngineError::Conflict`] when it doesn't run.
    pub fn exec_attach(&self, reference: &str) -> Result<StartedExec, EngineError> {
        let exec = self.find_exec(reference)?;
        if !exec.is_running() {
            return Err(exec_not_running(&exec));
        }
        let stream = self.host.attach(&exec.id).map_err(|error| match error {
            HostError::NotRunning(_) => exec_not_running(&exec),
            other => other.into(),
        })?;
        Ok(StartedExec {
            id: exec.id,
            attached: Some(stream),
        })
    }

    /// How a container's last run ended; `None` while it runs, waits for its restart, or was never
    /// started.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn container_exit(&self, reference: &str) -> Result<Option<Exit>, EngineError> {
        let view = self.container_inspect(reference)?;
        if view.state != ContainerState::Exited {
            return Ok(None);
        }
        Ok(view.record.last_run.and_then(|run| {
            run.ended.map(|(_, exit_code)| Exit {
                id: view.record.id,
                exit_code,
                out_of_memory: run.out_of_memory,
            })
        }))
    }

    /// What is at an absolute path in a container.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn stat_path(&self, reference: &str, path: &Path) -> Result<Option<PathStat>, EngineError> {
        self.with_files(reference, path, Mode::Shared, |files| {
            Ok(self.host.stat_path(&files.of, path)?)
        })
    }

    /// Writes what is at a path in a container as a tar archive: see
    /// [`kleene_doors::host::Host::read_archive`]. A container that doesn't run is neither started
    /// nor removed meanwhile: that waits.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when nothing is there.
    pub fn read_archive(
        &self,
        reference: &str,
        path: &Path,
        to: &mut dyn Write,
    ) -> Result<(), EngineError> {
        self.with_files(reference, path, Mode::Shared, |files| {
            Ok(self.host.read_archive(&files.of, path, to)?)
        })
    }

    /// Unpacks a tar archive in a directory of a container. One that doesn't run is neither started
    /// nor removed meanwhile, and nobody else reads or writes its files: that waits.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when there is no such directory or the archive is bad,
    /// [`EngineError::Conflict`] when it lies on a read-only mount.
    pub fn write_archive(
        &self,
        reference: &str,
        directory: &Path,
        from: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<(), EngineError> {
        self.with_files(reference, directory, Mode::Exclusive, |files| {
            refuse_read_only(&files.container, directory).map_err(FilesError::Engine)?;
            let written = self.host.write_archive(&files.of, directory, from, options);
            Ok(written?)
        })
    }

    /// A container that runs, and its first process.
    fn running_container(&self, reference: &str) -> Result<(ContainerRecord, Init), EngineError> {
        let container = self.find_container(reference)?;
        match self.running.get(&container.id) {
            Some(init) => Ok((container, init)),
            None => Err(EngineError::ContainerNotRunning(container.name.to_string())),
        }
    }

    /// Works with a container's files. One that has just ended still seems to run: then the work is
    /// done again once its end is recorded. (The host hasn't begun it, for want of a process.)
    fn with_files<T>(
        &self,
        reference: &str,
        path: &Path,
        mode: Mode,
        mut work: impl FnMut(&Files<'_>) -> Result<T, FilesError>,
    ) -> Result<T, EngineError> {
        check_path(path)?;
        let files = self.files(reference, mode)?;
        let ended = match (work(&files), &files.of) {
            (Err(FilesError::Host(HostError::NotRunning(_))), FilesOf::Running { init }) => init,
            (result, _) => return result.map_err(|error| error.told(&files.container)),
        };
        let id = &files.container.id;
        self.running.wait(id, ended, END_RECORDED);
        drop(
            self.locks
                .hold([(Key::Container(id.clone()), Mode::Shared)]),
        );
        let files = self.files(reference, mode)?;
        work(&files).map_err(|error| error.told(&files.container))
    }

    /// How a container's files are reached. One that doesn't run is locked as long as they are used:
    /// its file systems are mounted for that, and a second time they must not be. One that runs is
    /// not, since its end couldn't be recorded as long as it was.
    fn files(&self, reference: &str, mode: Mode) -> Result<Files<'_>, EngineError> {
        let id = self.find_container(reference)?.id;
        if let Some(init) = self.running.get(&id) {
            return Ok(Files {
                of: FilesOf::Running { init: init.exec },
                container: self.recorded_container(&id)?,
                _lock: None,
            });
        }
        let lock = self.locks.hold([(Key::Container(id.clone()), mode)]);
        let container = self.recorded_container(&id)?;
        // It may have been started while the lock was waited for.
        if let Some(init) = self.running.get(&id) {
            return Ok(Files {
                of: FilesOf::Running { init: init.exec },
                container,
                _lock: None,
            });
        }
        let mounts = container.mounts.iter();
        let mounts = mounts.map(|spec| self.host_mount(spec));
        let of = FilesOf::Stopped {
            root: self.storage.root(&Dataset::Container(id))?,
            mounts: mounts.collect::<Result<_, _>>()?,
        };
        Ok(Files {
            of,
            container,
            _lock: Some(lock),
        })
    }
}

/// A container's files.
struct Files<'a> {
    of: FilesOf,
    container: ContainerRecord,
    _lock: Option<Guard<'a>>,
}

/// Why something can't be done with a container's files.
enum FilesError {
    Host(HostError),
    Engine(EngineError),
}

impl From<HostError> for FilesError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl FilesError {
    fn told(self, container: &ContainerRecord) -> EngineError {
        match self {
            Self::Host(error) => not_running(error, container),
            Self::Engine(error) => error,
        }
    }
}

/// The host's error about a container; that it doesn't run is told by the container's name.
fn not_running(error: HostError, container: &ContainerRecord) -> EngineError {
    match error {
        HostError::NotRunning(_) => EngineError::ContainerNotRunning(container.name.to_string()),
        other => other.into(),
    }
}

fn exec_not_running(exec: &ExecRecord) -> EngineError {
    let id = &exec.id;
    EngineError::Conflict(match exec.ended {
        Some((_, code)) => format!(
            "execution instance {id} has ended with exit code {code}: create and start a new one"
        ),
        None => format!("execution instance {id} is not running: start it"),
    })
}

fn check_path(path: &Path) -> Result<(), EngineError> {
    let problem = if !path.is_absolute() {
        "is not absolute: begin it with a slash"
    } else if path.as_os_str().as_encoded_bytes().contains(&0) {
        "holds a NUL byte"
    } else {
        return Ok(());
    };
    let path = path.display();
    Err(EngineError::Invalid(format!("the path '{path}' {problem}")))
}

/// Refuses to write on a read-only mount. (Where links or `..` lead is only noticed by the host.)
fn refuse_read_only(container: &ContainerRecord, path: &Path) -> Result<(), EngineError> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Ok(());
    }
    let mut mounts = container.mounts.iter().rev();
    let covering = mounts.find(|mount| path.starts_with(mount.destination.as_str()));
    match covering {
        Some(mount) if mount.read_only => Err(EngineError::Conflict(format!(
            "'{}' in container '{}' can't be written to: the mount at '{}' is read-only",
            path.display(),
            container.name,
            mount.destination
        ))),
        _ => Ok(()),
    }
}
