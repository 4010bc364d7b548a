//! The in-memory host room, for tests of code above the host door.
//!
//! Host paths lie in a [`MemFs`], processes are scripted ([`Program`]), streams are real sockets
//! that speak [`kleene_doors::frames`]. A test can end processes, make single operations fail,
//! take the processes away as a restart of the machine does, and read what was called.
//!
//! ```
//! use kleene_host::fake::{FakeHost, Program};
//! let host = FakeHost::new(kleene_tree::memory::MemFs::new());
//! host.program("true", Program::Exits { code: 0, output: Vec::new() });
//! host.program("nginx", Program::Runs);
//! ```

mod mounts;
mod process;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kleene_doors::files::{FilesOf, PathStat, UnpackOptions};
use kleene_doors::frames::Frame;
use kleene_doors::host::{
    CopyUp, Hooks, Host, HostError, Place, Probe, SourceKind, StartFailure, StartRequest, Started,
};
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_doors::storage::Root;
use kleene_tree::PopulateOutcome;
use kleene_tree::memory::MemFs;
use kleene_types::{ByteSize, ContainerId, ContainerPath, ExecId, Limits, Span, Ulimit};

use process::Process;
pub use process::{Program, Seen, Stage};

/// How long [`FakeHost::wait_until`] waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first process id; any number above the usual ones will do.
const FIRST_PID: u32 = 70_000;

/// The operations of the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// [`Host::check_jail_params`]
    CheckJailParams,
    /// [`Host::inspect_source`]
    InspectSource,
    /// [`Host::check_destination`]
    CheckDestination,
    /// [`Host::copy_up`]
    CopyUp,
    /// [`Host::recover_copy_up`]
    RecoverCopyUp,
    /// [`Host::start`]
    Start,
    /// [`Host::attach`]
    Attach,
    /// [`Host::probe`]
    Probe,
    /// [`Host::signal`]
    Signal,
    /// [`Host::terminate`]
    Terminate,
    /// [`Host::kill`]
    Kill,
    /// [`Host::forget`]
    Forget,
    /// [`Host::clean`]
    Clean,
}

/// One call of the door, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation.
    pub op: Op,
    /// What it was done to: an id, a path, or parameters one by one with spaces between.
    pub object: String,
}

/// A host in memory. Clones are the same host.
#[derive(Clone)]
pub struct FakeHost {
    fs: MemFs,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    programs: BTreeMap<String, Program>,
    processes: BTreeMap<ExecId, Process>,
    started: u32,
    calls: Vec<Call>,
    failures: VecDeque<(Op, HostError)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What goes with the end of a process: with the container's first one, all others in it end.
    fn ended(&mut self, exec: &ExecId) {
        let Some(process) = self.processes.get(exec) else {
            return;
        };
        if !matches!(process.seen.request.place, Place::New(_)) {
            return;
        }
        let container = process.seen.request.container.clone();
        for other in self.running_in(&container) {
            other.end(137);
        }
    }

    fn running_in<'a>(&'a mut self, id: &ContainerId) -> impl Iterator<Item = &'a mut Process> {
        let id = id.clone();
        let processes = self.processes.values_mut();
        processes.filter(move |process| process.runs() && process.seen.request.container == id)
    }

    fn running(&mut self, exec: &ExecId) -> Result<&mut Process, HostError> {
        match self.processes.get_mut(exec) {
            Some(process) if process.runs() => Ok(process),
            _ => Err(HostError::NotRunning(exec.clone())),
        }
    }
}

/// What the test does to the host.
impl FakeHost {
    /// A host whose files are `fs`; no programs are known yet.
    pub fn new(fs: MemFs) -> Self {
        Self {
            fs,
            shared: Arc::default(),
        }
    }

    /// The host's files.
    pub fn fs(&self) -> &MemFs {
        &self.fs
    }

    /// From now on every container has a program of this name (as in `argv[0]`). Unknown programs
    /// fail with 127.
    pub fn program(&self, name: &str, program: Program) {
        self.shared.lock().programs.insert(name.to_owned(), program);
    }

    /// The next `op` fails with a [`HostError::Failed`], and does nothing.
    pub fn fail_next(&self, op: Op) {
        let error = failed(format!("{op:?}"), "injected by the test");
        self.fail_next_with(op, error);
    }

    /// The next `op` fails with this error, and does nothing. May be called several times.
    pub fn fail_next_with(&self, op: Op, error: HostError) {
        self.shared.lock().failures.push_back((op, error));
    }

    /// Prints on a process's standard output.
    pub fn print(&self, exec: &ExecId, output: &[u8]) {
        if let Some(process) = self.shared.lock().processes.get_mut(exec) {
            process.tell_clients(&Frame::Stdout(output.to_vec()));
        }
    }

    /// Prints on a process's standard error.
    pub fn print_error(&self, exec: &ExecId, output: &[u8]) {
        if let Some(process) = self.shared.lock().processes.get_mut(exec) {
            process.tell_clients(&Frame::Stderr(output.to_vec()));
        }
    }

    /// Ends a process with this exit code.
    pub fn finish(&self, exec: &ExecId, code: i32) {
        let mut state = self.shared.lock();
        if let Some(process) = state.processes.get_mut(exec) {
            process.end(code);
        }
        state.ended(exec);
        self.shared.changed.notify_all();
    }

    /// Loses a process: its streams end without a word and nobody knows how it ended, as when its
    /// monitor is killed.
    pub fn lose(&self, exec: &ExecId) {
        if let Some(process) = self.shared.lock().processes.get_mut(exec) {
            process.hang_up();
            process.seen.stage = Stage::Lost;
        }
        self.shared.changed.notify_all();
    }

    /// Restarts the machine: every process that runs is lost.
    pub fn reboot(&self) {
        let running: Vec<ExecId> = self.running();
        running.iter().for_each(|exec| self.lose(exec));
    }

    /// Ends all streams, as a daemon's end does. The processes live on.
    pub fn disconnect(&self) {
        let mut state = self.shared.lock();
        state.processes.values_mut().for_each(Process::hang_up);
    }

    /// The execution instances that run.
    pub fn running(&self) -> Vec<ExecId> {
        let state = self.shared.lock();
        let running = state.processes.iter().filter(|(_, process)| process.runs());
        running.map(|(exec, _)| exec.clone()).collect()
    }

    /// The execution instances that the host keeps something of, running or not.
    pub fn known(&self) -> Vec<ExecId> {
        self.shared.lock().processes.keys().cloned().collect()
    }

    /// A process as it is now.
    pub fn seen(&self, exec: &ExecId) -> Option<Seen> {
        let state = self.shared.lock();
        state
            .processes
            .get(exec)
            .map(|process| process.seen.clone())
    }

    /// Waits until a process is as the test wants it; `false` when it isn't after 20 seconds.
    pub fn wait_until(&self, exec: &ExecId, wanted: impl Fn(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            let process = state.processes.get(exec);
            if process.is_some_and(|process| wanted(&process.seen)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// The host's path of what the processes of an execution instance's container see at `path`.
    pub fn host_path(&self, exec: &ExecId, path: &str) -> Option<PathBuf> {
        let state = self.shared.lock();
        let place = &state.processes.get(exec)?.seen.request.place;
        let setup = match place {
            Place::New(setup) => setup,
            Place::Running { init } => match &state.processes.get(init)?.seen.request.place {
                Place::New(setup) => setup,
                Place::Running { .. } => return None,
            },
        };
        mounts::seen_at(setup, Path::new(path))
    }
}

impl FakeHost {
    /// Notes a call, and fails it if the test wants that.
    fn called(&self, op: Op, object: impl ToString) -> Result<(), HostError> {
        let mut state = self.shared.lock();
        let object = object.to_string();
        state.calls.push(Call { op, object });
        self.shared.changed.notify_all();
        let next = state.failures.iter().position(|(wanted, _)| *wanted == op);
        match next.and_then(|next| state.failures.remove(next)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// A new stream whose client's frames reach the process.
    fn connect(
        &self,
        exec: &ExecId,
    ) -> Result<(UnixStream, std::sync::mpsc::Sender<Frame>), HostError> {
        // Not a strong reference: the thread must not keep a host alive that no test uses any more.
        let shared = Arc::downgrade(&self.shared);
        let receive = move |exec: &ExecId, frame| {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let mut state = shared.lock();
            let process = state.processes.get_mut(exec);
            if process.is_some_and(|process| process.receive(frame)) {
                state.ended(exec);
            }
            shared.changed.notify_all();
        };
        process::connect(exec, receive).map_err(|error| failed("connecting".to_owned(), error))
    }

    fn start_program(&self, request: &StartRequest) -> Result<Started, HostError> {
        let (watch, to_watch) = self.connect(&request.exec)?;
        let attached = match request.attach {
            true => Some(self.connect(&request.exec)?),
            false => None,
        };
        let mut state = self.shared.lock();
        if state.processes.contains_key(&request.exec) {
            let action = format!("starting execution instance {}", request.exec);
            return Err(failed(action, "there is one of this id already"));
        }
        match &request.place {
            Place::New(setup) if state.running_in(&request.container).next().is_none() => {
                mounts::make(&self.fs, setup)?;
            }
            Place::New(_) => {
                let message = format!("container {} runs already", request.container);
                return Err(StartFailure { code: 125, message }.into());
            }
            Place::Running { init } => drop(state.running(init)?),
        }
        let program = program_of(&state, request)?;
        let pid = FIRST_PID + state.started;
        state.started += 1;
        let mut process = Process::new(request.clone(), program.clone(), pid);
        process.add_watch(to_watch);
        let attached = attached.map(|(stream, to)| {
            process.add_client(to);
            stream
        });
        let exec = request.exec.clone();
        if let Program::Exits { code, output } = program {
            process.tell_clients(&Frame::Stdout(output));
            process.end(code);
        }
        state.processes.insert(exec.clone(), process);
        if state
            .processes
            .get(&exec)
            .is_some_and(|process| !process.runs())
        {
            state.ended(&exec);
        }
        self.shared.changed.notify_all();
        Ok(Started {
            pid,
            watch,
            attached,
        })
    }

    /// Sends a signal to all processes of a container, to the first one last.
    fn signal_all(&self, init: &ExecId, id: &ContainerId, signal: i32) -> Result<(), HostError> {
        let mut state = self.shared.lock();
        state.running(init)?;
        for process in state.running_in(id) {
            if process.seen.request.exec != *init {
                process.signal(signal);
            }
        }
        if state.running(init)?.signal(signal) {
            state.ended(init);
        }
        self.shared.changed.notify_all();
        Ok(())
    }
}

fn program_of(state: &State, request: &StartRequest) -> Result<Program, StartFailure> {
    let name = request.process.argv.first().cloned().unwrap_or_default();
    match state.programs.get(&name) {
        Some(Program::NotExecutable) => Err(StartFailure {
            code: 126,
            message: format!("'{name}' can't be executed: permission denied"),
        }),
        Some(program) => Ok(program.clone()),
        None => Err(StartFailure {
            code: 127,
            message: format!("'{name}' was not found in the container"),
        }),
    }
}

fn not_yet<T>() -> Result<T, HostError> {
    Err(HostError::Unsupported(
        "this is not available yet".to_owned(),
    ))
}

fn failed(
    action: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> HostError {
    HostError::Failed {
        action,
        source: source.into(),
    }
}

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

    fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        self.called(Op::Start, &request.exec)?;
        self.start_program(request)
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
                let pid = process.seen.pid;
                Probe::Running {
                    pid,
                    watch,
                    paused: false,
                }
            }
            Stage::Exited(status) => Probe::Exited(status.clone()),
            Stage::Lost => Probe::Lost,
        })
    }

    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        self.called(Op::Signal, format!("{exec} {signal}"))?;
        let mut state = self.shared.lock();
        if state.running(exec)?.signal(signal) {
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

#[cfg(test)]
mod tests;
