//! Doors through which the daemon dies: the n-th step panics, as a kill at that point would end the
//! engine, without any of its own clean-up.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use kleene_doors::host::{CopyUp, Host, HostError, Probe, SourceKind, StartRequest, Started};
use kleene_doors::storage::{
    AdoptMode, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError, StorageInfo,
};
use kleene_types::{ContainerId, ContainerPath, ExecId};

/// Steps left until death; shared by both doors.
#[derive(Clone)]
pub struct Countdown(Arc<AtomicIsize>);

impl Countdown {
    /// Dies at the step after `steps` others.
    pub fn after(steps: isize) -> Self {
        Self(Arc::new(AtomicIsize::new(steps)))
    }

    fn tick(&self) {
        assert!(self.0.fetch_sub(1, Ordering::SeqCst) != 0, "killed");
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
}

pub struct DyingHost(pub Arc<dyn Host>, pub Countdown);

impl Host for DyingHost {
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        self.0.check_jail_params(params)
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
