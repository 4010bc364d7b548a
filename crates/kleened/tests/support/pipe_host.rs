//! The fake host, but what is attached to is a bare socket in the test's hands: it reads and writes
//! frames when it wants to.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;

use kleene_doors::host::{CopyUp, Host, HostError, Probe, SourceKind, StartRequest, Started};
use kleene_doors::storage::Root;
use kleene_host::fake::FakeHost;
use kleene_types::{ContainerId, ContainerPath, ExecId};

/// Sends the other ends of attached streams to the test.
pub struct PipeHost {
    pub inner: FakeHost,
    pub ends: Sender<UnixStream>,
}

impl Host for PipeHost {
    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        let detached = StartRequest {
            attach: false,
            ..request.clone()
        };
        let started = self.inner.start(&detached)?;
        let attached = request.attach.then(|| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            self.ends.send(theirs).unwrap();
            ours
        });
        Ok(Started {
            attached,
            ..started
        })
    }

    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        self.inner.check_jail_params(params)
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
        self.inner.check_destination(root, destination, source)
    }

    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        self.inner.copy_up(root, from, into)
    }

    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        self.inner.recover_copy_up(into)
    }

    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.inner.attach(exec)
    }

    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError> {
        self.inner.probe(exec)
    }

    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.inner.signal(exec, signal)
    }

    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.inner.terminate(container, init)
    }

    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.inner.kill(container, init)
    }

    fn forget(&self, exec: &ExecId) -> Result<(), HostError> {
        self.inner.forget(exec)
    }

    fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        self.inner.clean(container)
    }
}
