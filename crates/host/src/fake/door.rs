//! The door itself.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;

use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::host::{
    CopyUp, Hooks, Host, HostError, Probe, SourceKind, StartRequest, Started,
};
use kleene_doors::layers::{
    CopiedIn, CopyIn, CopySource, KeepFn, LayerApplied, LayerOptions, LayerPacked,
};
use kleene_doors::observe::{PidsUsage, ProcessInfo, Stats};
use kleene_doors::storage::Root;
use kleene_tree::PopulateOutcome;
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};

use super::{FakeHost, Op, Stage, copy_in, failed, hooks, layers, mounts};

impl Host for FakeHost {
    /// Takes every parameter but those whose name begins with `unsupported`.
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError> {
        self.called(Op::CheckJailParams, params.join(" "))?;
        match params.iter().find(|param| param.starts_with("unsupported")) {
            Some(param) => Err(HostError::Unsupported(format!(
                "jail parameter '{param}' isn't supported here: leave it out"
            ))),
            None => Ok(()),
        }
    }

    /// Understands `exec.prestart=WORDS` and its like (see [`Hooks`]), split at spaces.
    fn hooks(&self, params: &[String], _: &[String]) -> Result<Hooks, HostError> {
        self.called(Op::Hooks, params.join(" "))?;
        hooks::parse(params)
    }

    fn run_host_command(
        &self,
        container: &ContainerId,
        argv: &[String],
        _limit: Span,
    ) -> Result<(), HostError> {
        let object = format!("{container} {}", argv.join(" "));
        self.called(Op::RunHostCommand, object)
    }

    fn check_limits(
        &self,
        _limits: &Limits,
        _shm_size: Option<ByteSize>,
        _ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError> {
        self.called(Op::CheckLimits, "")?;
        Ok(self.shared.lock().limit_warnings.clone())
    }

    fn update_limits(
        &self,
        container: &ContainerId,
        init: &ExecId,
        limits: &Limits,
    ) -> Result<(), HostError> {
        self.called(Op::UpdateLimits, container)?;
        self.shared.lock().running(init)?.seen.limits = limits.clone();
        self.shared.changed.notify_all();
        Ok(())
    }

    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.called(Op::Pause, container)?;
        let mut state = self.shared.lock();
        state.running(init)?;
        for process in state.running_in(container) {
            process.seen.paused = true;
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.called(Op::Unpause, container)?;
        let mut state = self.shared.lock();
        state.running(init)?;
        for process in state.running_in(container) {
            process.unpause();
        }
        state.ended(init);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn stats(&self, container: &ContainerId, init: &ExecId) -> Result<Stats, HostError> {
        self.called(Op::Stats, container)?;
        let mut state = self.shared.lock();
        state.running(init)?;
        let current = state.running_in(container).count() as u64;
        let stats = state.stats.get(container).cloned();
        Ok(stats.unwrap_or_else(|| Stats {
            pids: Some(PidsUsage {
                current,
                limit: None,
            }),
            ..Stats::default()
        }))
    }

    fn processes(
        &self,
        container: &ContainerId,
        init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError> {
        self.called(Op::Processes, container)?;
        let mut state = self.shared.lock();
        state.running(init)?;
        if let Some(processes) = state.process_lists.get(container) {
            return Ok(processes.clone());
        }
        let running = state.running_in(container);
        let mut processes: Vec<ProcessInfo> = running.map(|process| process.info()).collect();
        processes.sort_by_key(|process| process.pid);
        Ok(processes)
    }

    fn log(&self, exec: &ExecId) -> Result<Vec<File>, HostError> {
        self.called(Op::Log, exec)?;
        let state = self.shared.lock();
        match state.processes.get(exec) {
            Some(process) => process.log.open().map_err(|error| {
                let action = format!("opening the log of execution instance {exec}");
                failed(action, error)
            }),
            None => Ok(Vec::new()),
        }
    }

    fn follow(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.called(Op::Follow, exec)?;
        let (stream, to) = self.connect(exec)?;
        self.shared.lock().running(exec)?.add_follower(to);
        Ok(stream)
    }

    fn stat_path(&self, of: &FilesOf, path: &Path) -> Result<Option<PathStat>, HostError> {
        self.called(Op::StatPath, path.display())?;
        Ok(self.view(of)?.stat(path))
    }

    fn read_archive(&self, of: &FilesOf, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
        self.called(Op::ReadArchive, path.display())?;
        self.view(of)?.pack(path, to)
    }

    fn write_archive(
        &self,
        of: &FilesOf,
        directory: &Path,
        from: &mut dyn Read,
        _options: UnpackOptions,
    ) -> Result<(), HostError> {
        self.called(Op::WriteArchive, directory.display())?;
        self.view(of)?.unpack(directory, from)
    }

    fn instances(&self) -> Result<Vec<ExecId>, HostError> {
        self.called(Op::Instances, "")?;
        Ok(self.known())
    }

    fn inspect_source(&self, path: &Path) -> Result<SourceKind, HostError> {
        self.called(Op::InspectSource, path.display())?;
        mounts::source_kind(&self.fs, path)
    }

    fn check_destination(
        &self,
        root: &Root,
        destination: &ContainerPath,
        source: SourceKind,
    ) -> Result<(), HostError> {
        self.called(Op::CheckDestination, destination)?;
        let target = mounts::directory(root)?.join(destination.beneath());
        mounts::check_target(&self.fs, &target, destination, source).map_err(HostError::Source)
    }

    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
        self.called(Op::CopyUp, format!("{from} {}", into.display()))?;
        let from = mounts::directory(root)?.join(from.beneath());
        if !self.fs.is_dir(&from) {
            return Ok(CopyUp::NothingToCopy);
        }
        Ok(match self.fs.populate(&from, into) {
            PopulateOutcome::SourceEmpty => CopyUp::NothingToCopy,
            PopulateOutcome::TargetNotEmpty => CopyUp::TargetNotEmpty,
            PopulateOutcome::Copied(copied) => CopyUp::Copied {
                entries: copied.entries,
                bytes: copied.bytes,
            },
        })
    }

    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError> {
        self.called(Op::RecoverCopyUp, into.display())?;
        Ok(!self.fs.list(into).is_empty())
    }

    fn apply_layer(
        &self,
        root: &Root,
        from: &mut dyn Read,
        options: &LayerOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LayerApplied, HostError> {
        self.called(Op::ApplyLayer, mounts::directory(root)?.display())?;
        layers::apply(&self.fs, mounts::directory(root)?, from, options, progress)
    }

    fn pack_layer(
        &self,
        below: Option<&Root>,
        root: &Root,
        to: &mut dyn Write,
    ) -> Result<LayerPacked, HostError> {
        let root = mounts::directory(root)?;
        self.called(Op::PackLayer, root.display())?;
        let below = below.map(mounts::directory).transpose()?;
        layers::pack(&self.fs, below, root, to)
    }

    fn copy_in(&self, copy: &CopyIn<'_>) -> Result<CopiedIn, HostError> {
        let words = format!("{} {}", copy.sources.join(" "), copy.destination);
        self.called(Op::CopyIn, words)?;
        copy_in::copy_in(&self.fs, copy)
    }

    fn digest_sources(
        &self,
        from: &CopySource<'_>,
        sources: &[String],
        keep: KeepFn<'_>,
    ) -> Result<[u8; 32], HostError> {
        self.called(Op::DigestSources, sources.join(" "))?;
        copy_in::digest(&self.fs, from, sources, keep)
    }

    fn read_beneath(
        &self,
        directory: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, HostError> {
        let found = self.fs.read(&directory.join(path));
        match found {
            Some(content) if content.len() as u64 > limit => Err(HostError::Source(format!(
                "'{}' is larger than {limit} bytes",
                path.display()
            ))),
            found => Ok(found),
        }
    }

    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        self.called(Op::Start, &request.exec)?;
        self.start_program(request, None, |setup| mounts::make(&self.fs, setup))
    }

    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError> {
        self.called(Op::Attach, exec)?;
        let (stream, to) = self.connect(exec)?;
        self.shared.lock().running(exec)?.add_client(to);
        self.shared.changed.notify_all();
        Ok(stream)
    }

    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError> {
        self.called(Op::Probe, exec)?;
        let (watch, to) = self.connect(exec)?;
        let mut state = self.shared.lock();
        let Some(process) = state.processes.get_mut(exec) else {
            return Ok(Probe::Lost);
        };
        Ok(match &process.seen.stage {
            Stage::Running => {
                process.add_watch(to);
                Probe::Running {
                    pid: process.seen.pid,
                    watch,
                    paused: process.seen.paused,
                }
            }
            Stage::Exited(status) => Probe::Exited(status.clone()),
            Stage::Lost => Probe::Lost,
        })
    }

    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.called(Op::Signal, format!("{exec} {signal}"))?;
        self.signal_one(exec, signal)
    }

    fn send_signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.called(Op::SendSignal, format!("{exec} {signal}"))?;
        self.signal_one(exec, signal)
    }

    /// A scripted process is all that its instance has.
    fn end_session(&self, exec: &ExecId) -> Result<(), HostError> {
        self.called(Op::EndSession, exec)?;
        let mut state = self.shared.lock();
        if state.running(exec).is_ok_and(|process| process.signal(9)) {
            state.ended(exec);
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.called(Op::Terminate, container)?;
        self.signal_all(init, container, 15)
    }

    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError> {
        self.called(Op::Kill, container)?;
        self.signal_all(init, container, 9)
    }

    fn forget(&self, exec: &ExecId) -> Result<(), HostError> {
        self.called(Op::Forget, exec)?;
        let mut state = self.shared.lock();
        if state.running(exec).is_ok() {
            return Err(failed(
                format!("forgetting execution instance {exec}"),
                "it runs",
            ));
        }
        state.processes.remove(exec);
        Ok(())
    }

    fn clean(&self, container: &ContainerId) -> Result<(), HostError> {
        self.called(Op::Clean, container)?;
        let mut state = self.shared.lock();
        let running = state.running_in(container).next().is_some();
        if running {
            return Err(failed(
                format!("cleaning up after container {container}"),
                "it runs",
            ));
        }
        Ok(())
    }
}
