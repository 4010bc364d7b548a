//! Doors that tell of every step before and after it is taken, for tests that interrupt the daemon at
//! each of them.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};

use crate::files::{FilesOf, PathStat, UnpackOptions};
use crate::host::{CopyUp, Hooks, Host, HostError, Probe, SourceKind, StartRequest, Started};
use crate::layers::{
    CopiedIn, CopyIn, CopySource, KeepFn, LayerApplied, LayerOptions, LayerPacked,
};
use crate::observe::{ProcessInfo, Stats};
use crate::storage::{
    AdoptMode, Change, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError, StorageInfo,
};

/// What is called before and after each step that changes something.
#[derive(Clone)]
pub struct Steps(Arc<dyn Fn() + Send + Sync>);

impl Steps {
    /// Calls `step` each time.
    pub fn new(step: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(step))
    }

    fn around<T>(&self, work: impl FnOnce() -> T) -> T {
        (self.0)();
        let result = work();
        (self.0)();
        result
    }
}

/// Storage whose steps are told of.
pub struct SteppedStorage {
    /// The storage that does the work.
    pub inner: Arc<dyn Storage>,
    /// Whom to tell.
    pub steps: Steps,
}

/// A host whose steps are told of.
pub struct SteppedHost {
    /// The host that does the work.
    pub inner: Arc<dyn Host>,
    /// Whom to tell.
    pub steps: Steps,
}

impl Storage for SteppedStorage {
    fn info(&self) -> StorageInfo {
        self.inner.info()
    }
    fn create(&self, dataset: &Dataset) -> Result<(), StorageError> {
        self.steps.around(|| self.inner.create(dataset))
    }
    fn snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError> {
        self.steps.around(|| self.inner.snapshot(snapshot))
    }
    fn clone_snapshot(&self, origin: &Snapshot, dataset: &Dataset) -> Result<(), StorageError> {
        self.steps
            .around(|| self.inner.clone_snapshot(origin, dataset))
    }
    fn destroy(&self, dataset: &Dataset) -> Result<(), StorageError> {
        self.steps.around(|| self.inner.destroy(dataset))
    }
    fn adopt(&self, source: &str, mode: AdoptMode, dataset: &Dataset) -> Result<(), StorageError> {
        self.steps
            .around(|| self.inner.adopt(source, mode, dataset))
    }
    fn exists(&self, dataset: &Dataset) -> Result<bool, StorageError> {
        self.inner.exists(dataset)
    }
    fn list(&self, kind: DatasetKind) -> Result<Vec<Dataset>, StorageError> {
        self.inner.list(kind)
    }
    fn name(&self, dataset: &Dataset) -> String {
        self.inner.name(dataset)
    }
    fn mountpoint(&self, dataset: &Dataset) -> PathBuf {
        self.inner.mountpoint(dataset)
    }
    fn root(&self, dataset: &Dataset) -> Result<Root, StorageError> {
        self.inner.root(dataset)
    }
    fn usage(&self, dataset: &Dataset) -> Result<u64, StorageError> {
        self.inner.usage(dataset)
    }
    fn changes(&self, container: &ContainerId) -> Result<Vec<Change>, StorageError> {
        self.inner.changes(container)
    }
    fn set_quota(
        &self,
        container: &ContainerId,
        quota: Option<ByteSize>,
    ) -> Result<(), StorageError> {
        self.steps.around(|| self.inner.set_quota(container, quota))
    }
}

impl Host for SteppedHost {
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        self.inner.check_jail_params(params)
    }
    fn hooks(&self, params: &[String], cmd: &[String]) -> Result<Hooks, HostError> {
        self.inner.hooks(params, cmd)
    }
    fn number(&self, container: &ContainerId) -> Option<u32> {
        self.inner.number(container)
    }
    fn run_host_command(
        &self,
        container: &ContainerId,
        argv: &[String],
        limit: Span,
    ) -> Result<(), HostError> {
        self.steps
            .around(|| self.inner.run_host_command(container, argv, limit))
    }
    fn check_limits(
        &self,
        limits: &Limits,
        shm_size: Option<ByteSize>,
        ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError> {
        self.inner.check_limits(limits, shm_size, ulimits)
    }
    fn update_limits(
        &self,
        container: &ContainerId,
        init: &ExecId,
        limits: &Limits,
    ) -> Result<(), HostError> {
        self.steps
            .around(|| self.inner.update_limits(container, init, limits))
    }
    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.steps.around(|| self.inner.pause(container, init))
    }
    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.steps.around(|| self.inner.unpause(container, init))
    }
    fn stats(&self, container: &ContainerId, init: &ExecId) -> Result<Stats, HostError> {
        self.inner.stats(container, init)
    }
    fn processes(
        &self,
        container: &ContainerId,
        init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError> {
        self.inner.processes(container, init)
    }
    fn log(&self, exec: &ExecId) -> Result<Vec<File>, HostError> {
        self.inner.log(exec)
    }
    fn follow(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.inner.follow(exec)
    }
    fn stat_path(&self, of: &FilesOf, path: &Path) -> Result<Option<PathStat>, HostError> {
        self.inner.stat_path(of, path)
    }
    fn read_archive(&self, of: &FilesOf, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
        self.inner.read_archive(of, path, to)
    }
    fn write_archive(
        &self,
        of: &FilesOf,
        directory: &Path,
        from: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<(), HostError> {
        self.inner.write_archive(of, directory, from, options)
    }
    fn instances(&self) -> Result<Vec<ExecId>, HostError> {
        self.inner.instances()
    }
    fn inspect_source(&self, path: &Path) -> Result<SourceKind, HostError> {
        self.inner.inspect_source(path)
    }
    fn check_destination(
        &self,
        root: &Root,
        destination: &ContainerPath,
        source: SourceKind,
    ) -> Result<(), HostError> {
        self.steps
            .around(|| self.inner.check_destination(root, destination, source))
    }
    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        self.steps.around(|| self.inner.copy_up(root, from, into))
    }
    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        self.steps.around(|| self.inner.recover_copy_up(into))
    }
    fn apply_layer(
        &self,
        root: &Root,
        from: &mut dyn Read,
        options: &LayerOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LayerApplied, HostError> {
        self.steps
            .around(|| self.inner.apply_layer(root, from, options, progress))
    }
    fn pack_layer(
        &self,
        below: Option<&Root>,
        root: &Root,
        to: &mut dyn Write,
    ) -> Result<LayerPacked, HostError> {
        self.inner.pack_layer(below, root, to)
    }
    fn copy_in(&self, copy: &CopyIn<'_>) -> Result<CopiedIn, HostError> {
        self.steps.around(|| self.inner.copy_in(copy))
    }
    fn digest_sources(
        &self,
        from: &CopySource<'_>,
        sources: &[String],
        keep: KeepFn<'_>,
    ) -> Result<[u8; 32], HostError> {
        self.inner.digest_sources(from, sources, keep)
    }
    fn read_beneath(
        &self,
        directory: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, HostError> {
        self.inner.read_beneath(directory, path, limit)
    }
    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        self.steps.around(|| self.inner.start(request))
    }
    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.inner.attach(exec)
    }
    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError> {
        self.inner.probe(exec)
    }
    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.steps.around(|| self.inner.signal(exec, signal))
    }
    fn send_signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.steps.around(|| self.inner.send_signal(exec, signal))
    }
    fn end_session(&self, exec: &ExecId) -> Result<(), HostError> {
        self.steps.around(|| self.inner.end_session(exec))
    }
    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.steps.around(|| self.inner.terminate(container, init))
    }
    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.steps.around(|| self.inner.kill(container, init))
    }
    fn forget(&self, exec: &ExecId) -> Result<(), HostError> {
        self.steps.around(|| self.inner.forget(exec))
    }
    fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        self.steps.around(|| self.inner.clean(container))
    }
}
