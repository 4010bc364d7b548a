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

mod archive;
mod calls;
mod copy_in;
mod door;
mod files;
mod hooks;
mod jailed;
mod layers;
mod log;
mod mounts;
mod process;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kleene_doors::frames::Frame;
use kleene_doors::host::{ContainerSetup, HostError, Place, StartFailure, StartRequest, Started};
use kleene_doors::log::Stream;
use kleene_doors::observe::{ProcessInfo, Stats};
use kleene_tree::memory::MemFs;
use kleene_types::{ContainerId, ExecId};

pub use calls::{Call, Op};
use process::Process;
pub use process::{Program, Seen, Stage};

/// How long [`FakeHost::wait_until`] waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first process id; any number above the usual ones will do.
const FIRST_PID: u32 = 70_000;

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
    turns: BTreeMap<String, usize>,
    limit_warnings: Vec<String>,
    stats: BTreeMap<ContainerId, Stats>,
    process_lists: BTreeMap<ContainerId, Vec<ProcessInfo>>,
    /// Containers that go on without processes.
    kept: BTreeSet<ContainerId>,
    /// How often the machine was restarted.
    restarts: u32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What goes with the end of a process, if it has ended: with the container's first one, all others
    /// in it end, unless that waits for the others.
    fn ended(&mut self, exec: &ExecId) {
        let Some(process) = self.processes.get(exec).filter(|it| !it.lives()) else {
            return;
        };
        let container = process.seen.request.container.clone();
        if process.is_first() && !process.waits_for_all() {
            for other in self.running_in(&container) {
                other.end(137);
            }
        }
        self.settle(&container);
    }

    /// Ends a first process that has waited for the others, when there are none any more.
    fn settle(&mut self, container: &ContainerId) {
        let goes_on =
            self.kept.contains(container) || self.running_in(container).any(|it| it.lives());
        for waiting in self.running_in(container).filter(|it| !it.lives()) {
            match goes_on {
                true => waiting.leave(),
                false => waiting.finish(),
            }
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
        let mut state = self.shared.lock();
        state.turns.remove(name);
        state.programs.insert(name.to_owned(), program);
    }

    /// What every check of limits warns of from now on. A refusal is a failure: see
    /// [`Self::fail_next_with`].
    pub fn warn_of_limits(&self, warnings: &[&str]) {
        let warnings = warnings.iter().map(|text| (*text).to_owned()).collect();
        self.shared.lock().limit_warnings = warnings;
    }

    /// What a container has used, from now on; otherwise nothing but the number of its processes.
    pub fn set_stats(&self, container: &ContainerId, stats: Stats) {
        let mut state = self.shared.lock();
        state.stats.insert(container.clone(), stats);
    }

    /// A container's processes, from now on; otherwise one for each execution instance.
    pub fn set_processes(&self, container: &ContainerId, processes: Vec<ProcessInfo>) {
        let mut state = self.shared.lock();
        state.process_lists.insert(container.clone(), processes);
    }

    /// Begins a new file of a process's log with its next output; of earlier files only the last
    /// one stays.
    pub fn rotate_log(&self, exec: &ExecId) {
        if let Some(process) = self.shared.lock().processes.get_mut(exec) {
            process.log.rotate();
        }
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
            process.output(Stream::Stdout, output);
        }
    }

    /// Prints on a process's standard error.
    pub fn print_error(&self, exec: &ExecId, output: &[u8]) {
        if let Some(process) = self.shared.lock().processes.get_mut(exec) {
            process.output(Stream::Stderr, output);
        }
    }

    /// Ends a process with this exit code.
    pub fn finish(&self, exec: &ExecId, code: i32) {
        self.finish_with(exec, code, false);
    }

    /// Ends a process (137) because its container has no memory left.
    pub fn finish_out_of_memory(&self, exec: &ExecId) {
        self.finish_with(exec, 137, true);
    }

    fn finish_with(&self, exec: &ExecId, code: i32, out_of_memory: bool) {
        let mut state = self.shared.lock();
        if let Some(process) = state.processes.get_mut(exec) {
            process.end_with(code, out_of_memory);
        }
        state.ended(exec);
        self.shared.changed.notify_all();
    }

    /// Loses a process: its streams end without a word and nobody knows how it ended, as when its
    /// monitor is killed.
    pub fn lose(&self, exec: &ExecId) {
        let mut state = self.shared.lock();
        if let Some(process) = state.processes.get_mut(exec) {
            process.hang_up();
            process.seen.stage = Stage::Lost;
            let container = process.seen.request.container.clone();
            state.settle(&container);
        }
        self.shared.changed.notify_all();
    }

    /// Restarts the machine: every process that runs is lost.
    pub fn reboot(&self) {
        self.shared.lock().restarts += 1;
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

    /// Starts a scripted process. `prepare` makes its container's root and mounts; what becomes of it is
    /// recorded in `directory`, if there is one.
    fn start_program(
        &self,
        request: &StartRequest,
        directory: Option<&Path>,
        prepare: impl FnOnce(&ContainerSetup) -> Result<(), HostError>,
    ) -> Result<Started, HostError> {
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
                prepare(setup)?;
            }
            Place::New(_) => {
                let message = format!("container {} runs already", request.container);
                return Err(StartFailure { code: 125, message }.into());
            }
            Place::Running { init } => drop(state.running(init)?),
        }
        let program = program_of(&mut state, request)?;
        let pid = FIRST_PID + state.started;
        state.started += 1;
        let mut process = Process::new(request.clone(), program.clone(), pid);
        if let Some(directory) = directory {
            process.record_in(directory);
        }
        process.add_watch(to_watch);
        let attached = attached.map(|(stream, to)| {
            process.add_client(to);
            stream
        });
        let exec = request.exec.clone();
        match program {
            Program::Exits { code, output } => {
                process.output(Stream::Stdout, &output);
                process.end(code);
            }
            Program::Signals(signal) => {
                process.end(0);
                if let Place::Running { init } = &request.place
                    && state.running(init)?.signal(signal)
                {
                    state.ended(init);
                }
            }
            _ => {}
        }
        state.processes.insert(exec.clone(), process);
        state.ended(&exec);
        self.shared.changed.notify_all();
        Ok(Started {
            pid,
            watch,
            attached,
        })
    }

    /// Sends a signal to a process.
    fn signal_one(&self, exec: &ExecId, signal: i32) -> Result<(), HostError> {
        let mut state = self.shared.lock();
        if state.running(exec)?.signal(signal) {
            state.ended(exec);
        }
        self.shared.changed.notify_all();
        Ok(())
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
        state.running(init)?.signal(signal);
        state.ended(init);
        self.shared.changed.notify_all();
        Ok(())
    }
}

fn program_of(state: &mut State, request: &StartRequest) -> Result<Program, StartFailure> {
    let argv: Vec<&str> = request.process.argv.iter().map(String::as_str).collect();
    let name = match argv.as_slice() {
        // A shell that the test doesn't know runs what it is told to.
        [shell @ "/bin/sh", "-c", text] if !state.programs.contains_key(*shell) => {
            text.split_whitespace().next().unwrap_or_default()
        }
        [name, ..] => name,
        [] => "",
    };
    let name = name.to_owned();
    let program = match state.programs.get(&name) {
        Some(Program::InTurn(programs)) => {
            let turn = state.turns.entry(name.clone()).or_default();
            let program = programs.get(*turn).or(programs.last());
            *turn += 1;
            program
        }
        program => program,
    };
    match program {
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

fn failed(
    action: String,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> HostError {
    HostError::Failed {
        action,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
