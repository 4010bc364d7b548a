//! Doors through which the daemon dies: the n-th step panics, as a kill at that point would end the
//! engine, without any of its own clean-up.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::host::{
    CopyUp, Hooks, Host, HostError, Probe, SourceKind, StartRequest, Started,
};
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_doors::storage::{
    AdoptMode, Change, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError, StorageInfo,
};
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};

/// Steps left until death; shared by both doors.
#[derive(Clone)]
pub struct Countdown(Arc<AtomicIsize>);

impl Countdown {
    /// Dies at the step after `steps` others.
    pub fn after(steps: isize) -> Self {
        Self(Arc::new(AtomicIsize::new(steps)))
    }

    /// Whether it has come to that.
    pub fn is_dead(&self) -> bool {
        self.0.load(Ordering::SeqCst) < 0
    }

    /// Every thread of a dead daemon ends.
    fn tick(&self) {
        assert!(self.0.fetch_sub(1, Ordering::SeqCst) > 0, "killed");
    }

    /// Runs one step, with a chance to die before and after it.
    fn around<T>(&self, step: impl FnOnce() -> T) -> T {
        self.tick();
        let result = step();
        self.tick();
        result
    }
}

pub struct DyingStorage(pub Arc<dyn Storage>, pub Countdown);

impl Storage for DyingStorage {
    fn info(&self) -> StorageInfo {
        self.0.info()
    }
    fn create(&self, dataset: &Dataset) -> Result<(), StorageError> {
        self.1.around(|| self.0.create(dataset))
    }
    fn snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError> {
        self.1.around(|| self.0.snapshot(snapshot))
    }
    fn clone_snapshot(&self, origin: &Snapshot, dataset: &Dataset) -> Result<(), StorageError> {
        self.1.around(|| self.0.clone_snapshot(origin, dataset))
    }
    fn destroy(&self, dataset: &Dataset) -> Result<(), StorageError> {
        self.1.around(|| self.0.destroy(dataset))
    }
    fn adopt(&self, source: &str, mode: AdoptMode, dataset: &Dataset) -> Result<(), StorageError> {
        self.1.around(|| self.0.adopt(source, mode, dataset))
    }
    fn exists(&self, dataset: &Dataset) -> Result<bool, StorageError> {
        self.0.exists(dataset)
    }
    fn list(&self, kind: DatasetKind) -> Result<Vec<Dataset>, StorageError> {
        self.0.list(kind)
    }
    fn name(&self, dataset: &Dataset) -> String {
        self.0.name(dataset)
    }
    fn mountpoint(&self, dataset: &Dataset) -> PathBuf {
        self.0.mountpoint(dataset)
    }
    fn root(&self, dataset: &Dataset) -> Result<Root, StorageError> {
        self.0.root(dataset)
    }
    fn usage(&self, dataset: &Dataset) -> Result<u64, StorageError> {
        self.0.usage(dataset)
    }
    fn changes(&self, container: &ContainerId) -> Result<Vec<Change>, StorageError> {
        self.0.changes(container)
    }
    fn set_quota(
        &self,
        container: &ContainerId,
        quota: Option<ByteSize>,
    ) -> Result<(), StorageError> {
        self.1.around(|| self.0.set_quota(container, quota))
    }
}

pub struct DyingHost(pub Arc<dyn Host>, pub Countdown);

impl Host for DyingHost {
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        self.0.check_jail_params(params)
    }
    fn hooks(&self, params: &[String]) -> Result<Hooks, HostError> {
        self.0.hooks(params)
    }
    fn run_host_command(
        &self,
        container: &ContainerId,
        argv: &[String],
        limit: Span,
    ) -> Result<(), HostError> {
        self.1
            .around(|| self.0.run_host_command(container, argv, limit))
    }
    fn check_limits(
        &self,
        limits: &Limits,
        shm_size: Option<ByteSize>,
        ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError> {
        self.0.check_limits(limits, shm_size, ulimits)
    }
    fn update_limits(
        &self,
        container: &ContainerId,
        init: &ExecId,
        limits: &Limits,
    ) -> Result<(), HostError> {
        self.1
            .around(|| self.0.update_limits(container, init, limits))
    }
    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.1.around(|| self.0.pause(container, init))
    }
    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.1.around(|| self.0.unpause(container, init))
    }
    fn stats(&self, container: &ContainerId, init: &ExecId) -> Result<Stats, HostError> {
        self.0.stats(container, init)
    }
    fn processes(
        &self,
        container: &ContainerId,
        init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError> {
        self.0.processes(container, init)
    }
    fn log(&self, exec: &ExecId) -> Result<Vec<File>, HostError> {
        self.0.log(exec)
    }
    fn follow(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.0.follow(exec)
    }
    fn stat_path(&self, of: &FilesOf, path: &Path) -> Result<Option<PathStat>, HostError> {
        self.0.stat_path(of, path)
    }
    fn read_archive(&self, of: &FilesOf, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
        self.0.read_archive(of, path, to)
    }
    fn write_archive(
        &self,
        of: &FilesOf,
        directory: &Path,
        from: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<(), HostError> {
        self.0.write_archive(of, directory, from, options)
    }
    fn instances(&self) -> Result<Vec<ExecId>, HostError> {
        self.0.instances()
    }
    fn inspect_source(&self, path: &Path) -> Result<SourceKind, HostError> {
        self.0.inspect_source(path)
    }
    fn check_destination(
        &self,
        root: &Root,
        destination: &ContainerPath,
        source: SourceKind,
    ) -> Result<(), HostError> {
        self.1
            .around(|| self.0.check_destination(root, destination, source))
    }
    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        self.1.around(|| self.0.copy_up(root, from, into))
    }
    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        self.1.around(|| self.0.recover_copy_up(into))
    }
    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        self.1.around(|| self.0.start(request))
    }
    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.0.attach(exec)
    }
    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError> {
        self.0.probe(exec)
    }
    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.1.around(|| self.0.signal(exec, signal))
    }
    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.1.around(|| self.0.terminate(container, init))
    }
    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.1.around(|| self.0.kill(container, init))
    }
    fn forget(&self, exec: &ExecId) -> Result<(), HostError> {
        self.1.around(|| self.0.forget(exec))
    }
    fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        self.1.around(|| self.0.clean(container))
    }
}
