//! A FreeBSD in memory, for tests of what uses the tools of one: a [`Runner`] that behaves as they do
//! on FreeBSD 14.2, with jails, a table of mounts and rules behind it.
//!
//! Processes are scripted, as those of [`FakeHost`]; files lie in its tree. A test reads which commands
//! were run, and has single ones fail.
//!
//! ```
//! use kleene_command::{Argv, Runner};
//! use kleene_host::freebsd::simulated::Machine;
//! let machine = Machine::new(kleene_tree::memory::MemFs::new());
//! machine.run(&Argv::new("jail").args(["-R", "web"])).unwrap_err();
//! assert_eq!(machine.commands(), ["jail -R web"]);
//! ```

mod host;
mod jail;
mod mount;
mod seams;
mod tools;
mod words;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kleene_command::{Argv, CommandError, Output, Runner, Told};
use kleene_doors::host::HostError;
use kleene_tree::memory::MemFs;

use super::FreeBsdHost;
use crate::fake::FakeHost;
pub use host::SimulatedHost;
use jail::Jails;
use mount::Table;
use tools::Rules;
use words::Reply;

/// What goes wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing, and fails with this exit status and complaint.
    Fails(i32, String),
    /// It does nothing, until its time is up.
    Hangs,
    /// It does what it is to do, and doesn't end then, until its time is up.
    HangsAfterwards,
    /// It does what it is to do, and answers this.
    Says(String),
    /// The program isn't there.
    IsMissing,
}

/// When a test is told of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it is taken.
    Before,
    /// After that.
    After,
}

type Watcher = Arc<dyn Fn(Moment, &str) + Send + Sync>;

/// The machine. Clones are the same one.
#[derive(Clone)]
pub struct Machine {
    processes: FakeHost,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Every step so far: a command as a person would type it, or what a monitor was told.
    steps: Vec<String>,
    faults: Vec<(When, Fault)>,
    watcher: Option<Watcher>,
    jails: Jails,
    table: Table,
    rules: Rules,
    /// How often the machine was restarted, as far as it has been noticed.
    restarts: u32,
    /// Whether other programs than the modelled ones are there. They do nothing.
    has_programs: bool,
}

/// Which step a fault is for.
enum When {
    Step(usize),
    Begins(String),
}

/// What the test does to the machine.
impl Machine {
    /// A machine with these files, on which nothing runs.
    pub fn new(fs: MemFs) -> Self {
        Self::with_processes(FakeHost::new(fs))
    }

    /// A machine whose processes and files are those of a host in memory.
    pub fn with_processes(processes: FakeHost) -> Self {
        let state = State {
            steps: Vec::new(),
            faults: Vec::new(),
            watcher: None,
            jails: Jails::default(),
            table: Table::new(),
            rules: Rules::default(),
            restarts: processes.restarts(),
            has_programs: false,
        };
        Self {
            processes,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Its processes.
    pub fn processes(&self) -> &FakeHost {
        &self.processes
    }

    /// Its files, without what is mounted over them.
    pub fn fs(&self) -> &MemFs {
        self.processes.fs()
    }

    /// From now on there are all programs that somebody may want to run on the host; they do nothing.
    pub fn with_programs(&self) {
        self.lock().has_programs = true;
    }

    /// The FreeBSD room over this machine, which may run commands of jail parameters on the host.
    /// `state_dir` is a directory of the real host.
    ///
    /// # Errors
    /// As [`FreeBsdHost::open`].
    pub fn room(&self, state_dir: &Path) -> Result<FreeBsdHost, HostError> {
        FreeBsdHost::open(
            state_dir,
            Arc::new(self.clone()),
            Box::new(self.clone()),
            Box::new(self.clone()),
            true,
        )
    }

    /// The commands that were run and the monitors that were started, in their order, as a person would
    /// type them, with the lines that they were given to read; taken.
    pub fn commands(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().steps)
    }

    /// The step after `steps` others has this fault.
    pub fn fault_after(&self, steps: usize, fault: Fault) {
        let mut state = self.lock();
        let step = state.steps.len() + steps;
        state.faults.push((When::Step(step), fault));
    }

    /// The next command that begins like this has this fault. May be called several times.
    pub fn fault_at(&self, beginning: &str, fault: Fault) {
        let when = When::Begins(beginning.to_owned());
        self.lock().faults.push((when, fault));
    }

    /// Forgets faults that haven't come to pass; whether there were any.
    pub fn without_faults(&self) -> bool {
        !std::mem::take(&mut self.lock().faults).is_empty()
    }

    /// Calls `watcher` before and after each step with the command, in place of the last watcher.
    pub fn watch(&self, watcher: impl Fn(Moment, &str) + Send + Sync + 'static) {
        self.lock().watcher = Some(Arc::new(watcher));
    }

    /// Calls no watcher any more.
    pub fn unwatch(&self) {
        self.lock().watcher = None;
    }

    /// What is there of containers: jails, mounts and rules, each as a person would say it.
    pub fn traces(&self) -> Vec<String> {
        let mut state = self.settled();
        let State {
            jails,
            table,
            rules,
            ..
        } = &mut *state;
        let jails = jails.all().iter();
        let jails = jails.map(|jail| format!("jail {} at {}", jail.name, jail.path.display()));
        let mounts = table.made_later();
        let mounts = mounts.map(|mount| format!("{} on {}", mount.kind, mount.place.display()));
        let rules = rules.limits.iter().map(|rule| format!("rule {rule}"));
        jails.chain(mounts).chain(rules).collect()
    }

    /// Mounts something at a place as whoever has set the machine up did, a dataset say.
    pub fn mount(&self, source: &str, place: &Path, kind: &str) {
        self.fs().create_dir_all(place);
        self.lock().table.set_up(source, place, kind);
    }

    /// The next `times` that somebody wants to unmount this place, it is in use.
    pub fn keep_busy(&self, place: &Path, times: usize) {
        self.lock().table.keep_busy(place, times);
    }

    /// Whether the kernel counts what jails use.
    pub fn count(&self, counts: bool) {
        self.lock().rules.counts = counts;
    }

    /// What the `/dev` of a jail shows: the rules that its ruleset had when the jail was made.
    pub fn devices(&self, jail: &str) -> Option<Vec<String>> {
        let state = self.settled();
        let found = state.jails.all().iter().find(|it| it.name == jail)?;
        found.devices.clone()
    }

    /// The processors that a jail may use, as they were given.
    pub fn processors(&self, jail: &str) -> Option<String> {
        let state = self.settled();
        let found = state.jails.all().iter().find(|it| it.name == jail)?;
        found.cpuset.clone()
    }

    /// The path in [`Machine::fs`] of what is seen at a path, which has no links on its way.
    pub fn behind(&self, path: &Path) -> Option<PathBuf> {
        self.lock().table.behind(path)
    }
}

impl Machine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, in which all has happened that the ends of processes entail.
    fn settled(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let restarts = self.processes.restarts();
        if state.restarts != restarts {
            state.restarts = restarts;
            state.jails.clear();
            state.table.restart();
            state.rules = Rules::default();
        }
        state.jails.settle(&self.processes);
        state
    }

    /// Begins a step: the watcher is told, and the fault is taken that the test wants in it.
    fn begin(&self, text: &str) -> Option<Fault> {
        let mut state = self.lock();
        let number = state.steps.len();
        state.steps.push(text.to_owned());
        let wanted = state.faults.iter().position(|(when, _)| match when {
            When::Step(step) => *step == number,
            When::Begins(beginning) => text.starts_with(beginning.as_str()),
        });
        let fault = wanted.map(|wanted| state.faults.remove(wanted).1);
        drop(state);
        self.tell(Moment::Before, text);
        fault
    }

    /// Tells the watcher, which may look at the machine meanwhile.
    fn tell(&self, moment: Moment, text: &str) {
        let watcher = self.lock().watcher.clone();
        if let Some(watcher) = watcher {
            watcher(moment, text);
        }
    }

    /// What a command does and says.
    fn answer(&self, command: &Argv) -> Reply {
        let lossy = |word: &std::ffi::OsStr| word.to_string_lossy().into_owned();
        let program = lossy(command.program());
        let words: Vec<String> = command.arguments().iter().map(|word| lossy(word)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut state = self.settled();
        let state = &mut *state;
        match program.as_str() {
            "jail" => jail::jail(state, &self.processes, &words, command.input()),
            "jls" => jail::jls(state, &words),
            "mount" => mount::mount(state, &words),
            "mount_nullfs" => mount::mount_nullfs(state, self.processes.fs(), &words),
            "umount" => mount::umount(state, self.processes.fs(), &words),
            "devfs" => tools::devfs(state, &words, command.input()),
            "rctl" => tools::rctl(state, &self.processes, &words),
            "cpuset" => tools::cpuset(state, &words),
            "pkill" => tools::pkill(state, &self.processes, &words),
            "ps" => tools::ps(state, &self.processes, &words),
            "sysctl" => tools::sysctl(state, &words),
            "kldstat" => tools::kldstat(&words),
            "kldload" => tools::kldload(&words),
            _ if state.has_programs => Reply::ok(""),
            _ => Reply::missing(),
        }
    }
}

impl Runner for Machine {
    fn run(&self, command: &Argv) -> Result<Output, CommandError> {
        let mut text = command.to_string();
        if let Some(input) = command.input() {
            let input = String::from_utf8_lossy(input);
            let lines: Vec<&str> = input.lines().collect();
            text = format!("{text} < {}", lines.join(", "));
        }
        let timed_out = || CommandError::TimedOut {
            command: command.to_string(),
            limit: command.limit(),
        };
        let result = match self.begin(&text) {
            None => self.answer(command).result(command),
            Some(Fault::Fails(status, said)) => Reply::fail(status, said).result(command),
            Some(Fault::Hangs) => Err(timed_out()),
            Some(Fault::HangsAfterwards) => {
                self.answer(command);
                Err(timed_out())
            }
            Some(Fault::Says(said)) => {
                self.answer(command);
                Reply::ok(said).result(command)
            }
            Some(Fault::IsMissing) => Reply::missing().result(command),
        };
        self.tell(Moment::After, &text);
        result
    }

    /// Nothing takes long here.
    fn follow(&self, command: &Argv, _told: Told<'_>) -> Result<Output, CommandError> {
        self.run(command)
    }

    /// There are no pipes here.
    fn pipe(&self, from: &Argv, to: &Argv) -> Result<Output, CommandError> {
        Err(CommandError::Unscripted {
            command: format!("{from} | {to}"),
            next: "single commands".to_owned(),
        })
    }
}
