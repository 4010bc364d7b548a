//! The host door over a simulated FreeBSD.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::host::{
    CopyUp, Hooks, Host, HostError, Probe, SourceKind, StartRequest, Started,
};
use kleene_doors::layers::{
    CopiedIn, CopyIn, CopySource, KeepFn, LayerApplied, LayerOptions, LayerPacked,
};
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_doors::storage::Root;
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};

use super::Machine;
use crate::fake::{FakeHost, Op};
use crate::freebsd::FreeBsdHost;

/// The host door over a [`Machine`]: processes, jails, mounts and limits are the FreeBSD room's; files,
/// which all rooms treat alike, are those of the [`FakeHost`] whose processes run in the jails.
///
/// Calls are noted there, and fail when a test of that wants it.
pub struct SimulatedHost {
    room: FreeBsdHost,
    fake: FakeHost,
    /// Held while a client attaches, so that it is known which one it was.
    attaching: Mutex<()>,
}

impl SimulatedHost {
    /// Opens the room over a machine, as a daemon that starts does. `state_dir` is a directory of the
    /// real host.
    ///
    /// # Errors
    /// As [`FreeBsdHost::open`].
    pub fn open(machine: &Machine, state_dir: &Path) -> Result<Self, HostError> {
        Ok(Self {
            room: machine.room(state_dir)?,
            fake: machine.processes().clone(),
            attaching: Mutex::default(),
        })
    }
}

impl Host for SimulatedHost {
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        self.fake.note(Op::CheckJailParams, params.join(" "))?;
        self.room.check_jail_params(params)
    }

    fn hooks(&self, params: &[String], cmd: &[String]) -> Result<Hooks, HostError> {
        self.fake.note(Op::Hooks, params.join(" "))?;
        self.room.hooks(params, cmd)
    }

    fn run_host_command(
        &self,
        container: &ContainerId,
        argv: &[String],
        limit: Span,
    ) -> Result<(), HostError> {
        let object = format!("{container} {}", argv.join(" "));
        self.fake.note(Op::RunHostCommand, object)?;
        self.room.run_host_command(container, argv, limit)
    }

    fn check_limits(
        &self,
        limits: &Limits,
        shm_size: Option<ByteSize>,
        ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError> {
        self.fake.note(Op::CheckLimits, "")?;
        let mut warnings = self.room.check_limits(limits, shm_size, ulimits)?;
        warnings.extend(self.fake.wanted_warnings());
        Ok(warnings)
    }

    fn update_limits(
        &self,
        container: &ContainerId,
        init: &ExecId,
        limits: &Limits,
    ) -> Result<(), HostError> {
        self.fake.note(Op::UpdateLimits, container)?;
        self.room.update_limits(container, init, limits)?;
        self.fake.set_limits(init, limits);
        Ok(())
    }

    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.fake.note(Op::Pause, container)?;
        self.room.pause(container, init)
    }

    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.fake.note(Op::Unpause, container)?;
        self.room.unpause(container, init)
    }

    fn stats(&self, container: &ContainerId, init: &ExecId) -> Result<Stats, HostError> {
        self.fake.note(Op::Stats, container)?;
        let stats = self.room.stats(container, init)?;
        Ok(self.fake.wanted_stats(container).unwrap_or(stats))
    }

    fn processes(
        &self,
        container: &ContainerId,
        init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError> {
        self.fake.note(Op::Processes, container)?;
        let processes = self.room.processes(container, init)?;
        Ok(self.fake.wanted_processes(container).unwrap_or(processes))
    }

    fn number(&self, container: &ContainerId) -> Option<u32> {
        self.room.number(container)
    }

    fn log(&self, exec: &ExecId) -> Result<Vec<File>, HostError> {
        self.fake.log(exec)
    }

    fn follow(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.fake.note(Op::Follow, exec)?;
        self.room.follow(exec)
    }

    fn stat_path(&self, of: &FilesOf, path: &Path) -> Result<Option<PathStat>, HostError> {
        self.fake.stat_path(of, path)
    }

    fn read_archive(&self, of: &FilesOf, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
        self.fake.read_archive(of, path, to)
    }

    fn write_archive(
        &self,
        of: &FilesOf,
        directory: &Path,
        from: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<(), HostError> {
        self.fake.write_archive(of, directory, from, options)
    }

    fn instances(&self) -> Result<Vec<ExecId>, HostError> {
        self.fake.note(Op::Instances, "")?;
        self.room.instances()
    }

    fn inspect_source(&self, path: &Path) -> Result<SourceKind, HostError> {
        self.fake.inspect_source(path)
    }

    fn check_destination(
        &self,
        root: &Root,
        destination: &ContainerPath,
        source: SourceKind,
    ) -> Result<(), HostError> {
        self.fake.check_destination(root, destination, source)
    }

    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        self.fake.copy_up(root, from, into)
    }

    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        self.fake.recover_copy_up(into)
    }

    fn apply_layer(
        &self,
        root: &Root,
        from: &mut dyn Read,
        options: &LayerOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LayerApplied, HostError> {
        self.fake.apply_layer(root, from, options, progress)
    }

    fn pack_layer(
        &self,
        below: Option<&Root>,
        root: &Root,
        to: &mut dyn Write,
    ) -> Result<LayerPacked, HostError> {
        self.fake.pack_layer(below, root, to)
    }

    fn copy_in(&self, copy: &CopyIn<'_>) -> Result<CopiedIn, HostError> {
        self.fake.copy_in(copy)
    }

    fn digest_sources(
        &self,
        from: &CopySource<'_>,
        sources: &[String],
        keep: KeepFn<'_>,
    ) -> Result<[u8; 32], HostError> {
        self.fake.digest_sources(from, sources, keep)
    }

    fn read_beneath(
        &self,
        directory: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, HostError> {
        self.fake.read_beneath(directory, path, limit)
    }

    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        self.fake.note(Op::Start, &request.exec)?;
        self.room.start(request)
    }

    /// The client has its place when this returns: what is printed then reaches it.
    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.fake.note(Op::Attach, exec)?;
        let attaching = self.attaching.lock();
        let _attaching = attaching.unwrap_or_else(PoisonError::into_inner);
        let before = self.fake.clients_so_far(exec);
        let stream = self.room.attach(exec)?;
        self.fake.await_client(exec, before);
        Ok(stream)
    }

    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError> {
        self.fake.note(Op::Probe, exec)?;
        self.room.probe(exec)
    }

    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.fake.note(Op::Signal, format!("{exec} {signal}"))?;
        self.room.signal(exec, signal)
    }

    fn send_signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.fake.note(Op::SendSignal, format!("{exec} {signal}"))?;
        self.room.send_signal(exec, signal)
    }

    fn end_session(&self, exec: &ExecId) -> Result<(), HostError> {
        self.fake.note(Op::EndSession, exec)?;
        self.room.end_session(exec)
    }

    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.fake.note(Op::Terminate, container)?;
        self.room.terminate(container, init)
    }

    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.fake.note(Op::Kill, container)?;
        self.room.kill(container, init)
    }

    fn forget(&self, exec: &ExecId) -> Result<(), HostError> {
        self.fake.note(Op::Forget, exec)?;
        self.room.forget(exec)?;
        self.fake.drop_instance(exec);
        Ok(())
    }

    fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        self.fake.note(Op::Clean, container)?;
        self.room.clean(container)
    }
}
