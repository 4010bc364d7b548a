//! The fake host, but what is attached to is a bare socket in the test's hands: it reads and writes
//! frames when it wants to.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;

use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::host::{
    CopyUp, Hooks, Host, HostError, Probe, SourceKind, StartRequest, Started,
};
use kleene_doors::layers::{
    CopiedIn, CopyIn, CopySource, KeepFn, LayerApplied, LayerOptions, LayerPacked,
};
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_doors::storage::Root;
use kleene_host::fake::FakeHost;
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};

/// Sends the other ends of attached streams to the test.
pub struct PipeHost {
    pub inner: FakeHost,
    pub ends: Sender<UnixStream>,
}

impl Host for PipeHost {
    fn read_beneath(
        &self,
        directory: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, HostError> {
        self.inner.read_beneath(directory, path, limit)
    }
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
        self.inner.run_host_command(container, argv, limit)
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
        self.inner.update_limits(container, init, limits)
    }

    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.inner.pause(container, init)
    }

    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.inner.unpause(container, init)
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
        self.inner.check_destination(root, destination, source)
    }

    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        self.inner.copy_up(root, from, into)
    }

    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        self.inner.recover_copy_up(into)
    }

    fn apply_layer(
        &self,
        root: &Root,
        from: &mut dyn Read,
        options: &LayerOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LayerApplied, HostError> {
        self.inner.apply_layer(root, from, options, progress)
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
        self.inner.copy_in(copy)
    }

    fn digest_sources(
        &self,
        from: &CopySource<'_>,
        sources: &[String],
        keep: KeepFn<'_>,
    ) -> Result<[u8; 32], HostError> {
        self.inner.digest_sources(from, sources, keep)
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

    fn send_signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.inner.send_signal(exec, signal)
    }

    fn end_session(&self, exec: &ExecId) -> Result<(), HostError> {
        self.inner.end_session(exec)
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
