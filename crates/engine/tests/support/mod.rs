//! A world in memory: storage, host and userland share one tree of files; records are in a real
//! database file, so that a second engine finds what the first one left behind.
//!
//! With `KLEENE_TEST_ROOM=freebsd` in the environment the host is the FreeBSD room over a simulated
//! machine, whose processes and files are those of the host in memory.

#![allow(dead_code, reason = "every test file uses a part of this")]

pub mod dying;
pub mod images;
pub mod interrupt;

use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use kleene_doors::frames::Frame;
use kleene_doors::host::{Host, Stdin};
use kleene_doors::storage::{Dataset, Storage};
use kleene_doors::userland::{
    Defaults, Downloaded, Extras, ProgressSink, Release, Source, Userland, UserlandError,
};
use kleene_engine::{
    ContainerState, ContainerView, Doors, Engine, EngineError, ExecStart, ImageSource, Later,
    ListOptions, NewContainer, NewExec, NewImage, Supervisor,
};
use kleene_host::fake::{FakeHost, Program};
use kleene_host::freebsd::simulated::{Machine, SimulatedHost};
use kleene_oci::fake::FakeDistribution;
use kleene_storage::memory::MemoryStorage;
use kleene_store::{NetworkDriver, Store};
use kleene_tree::memory::MemFs;
use kleene_types::{
    Checksum, ContainerId, ExecId, ImageId, MountSpec, Resources, RestartPolicy, VolumeName,
};

/// Writes a few files in the place of a download.
pub struct FakeUserland(pub MemFs);

impl Userland for FakeUserland {
    fn fill(
        &self,
        source: &Source,
        _extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        let step = kleene_doors::userland::Progress {
            step: "writing".into(),
            done: 0,
            total: None,
        };
        if let ControlFlow::Break(()) = progress(step) {
            return Err(UserlandError::Cancelled);
        }
        match source {
            Source::Archive { url } if url.contains("broken") => {
                self.0.write(&into.join("half"), b"written");
                return Err(UserlandError::Invalid(format!("{url} is truncated")));
            }
            Source::Auto | Source::Bootstrap => {
                return Err(UserlandError::Unsupported("use fetch or host".into()));
            }
            _ => {}
        }
        for (path, text) in [
            ("bin/sh", "#!"),
            ("usr/local/www/nginx/index.html", "welcome"),
            ("usr/local/www/nginx/50x.html", "sorry"),
            ("usr/local/www/nginx/.hidden", "dot"),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ] {
            let path = into.join(path);
            self.0.create_dir_all(path.parent().unwrap());
            self.0.write(&path, text.as_bytes());
        }
        Ok(Defaults {
            cmd: vec!["/bin/sh".into()],
            env: vec!["PATH=/bin".parse().unwrap()],
            name: None,
        })
    }

    fn fill_from(
        &self,
        from: &mut dyn Read,
        extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError> {
        let mut url = String::new();
        let read = from.read_to_string(&mut url);
        read.map_err(|error| UserlandError::Failed {
            action: "reading the archive".into(),
            source: error.into(),
        })?;
        self.fill(&Source::Archive { url }, extras, into, progress)
    }

    fn release(&self) -> Result<Release, UserlandError> {
        Err(UserlandError::Unsupported("use fetch or host".into()))
    }

    fn download(
        &self,
        url: &str,
        _checksum: Option<&Checksum>,
        _into: &Path,
        _progress: ProgressSink<'_>,
    ) -> Result<Downloaded, UserlandError> {
        Err(UserlandError::Invalid(format!("nothing is at {url}")))
    }
}

/// How long what must come is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Watches every process in a thread of its own, as the daemon does in tasks. What the engine wants
/// to be called for later is kept for the test to do.
#[derive(Default)]
pub struct Threads {
    engine: Mutex<Weak<Engine>>,
    later: Mutex<Vec<(Duration, Later)>>,
    called: Condvar,
}

impl Supervisor for Threads {
    fn watch(&self, exec: ExecId, mut watch: UnixStream) {
        let engine = self.engine.lock().unwrap().clone();
        std::thread::spawn(move || {
            let status = match Frame::read(&mut watch) {
                Ok(Some(Frame::Exited(status))) => Some(status),
                _ => None,
            };
            if let Some(engine) = engine.upgrade() {
                let _ = engine.exec_ended(&exec, status);
            }
        });
    }

    fn call_later(&self, delay: Duration, call: Later) {
        self.later.lock().unwrap().push((delay, call));
        self.called.notify_all();
    }

    fn happened(&self) {}
}

/// Whether the host is the FreeBSD room.
pub fn on_freebsd() -> bool {
    match std::env::var("KLEENE_TEST_ROOM") {
        Err(_) => false,
        Ok(room) if room == "freebsd" => true,
        Ok(room) => panic!("there is no room '{room}': KLEENE_TEST_ROOM is freebsd or not set"),
    }
}

/// One machine; engines come and go on it.
pub struct World {
    pub fs: MemFs,
    pub storage: Arc<MemoryStorage>,
    /// The host, or the processes and files of the simulated one.
    pub host: FakeHost,
    /// The simulated FreeBSD, if that is the host.
    pub machine: Option<Machine>,
    pub distribution: Arc<FakeDistribution>,
    directory: tempfile::TempDir,
    /// That of the last engine.
    supervisor: Mutex<Arc<Threads>>,
}

impl World {
    pub fn new() -> Self {
        let fs = MemFs::new();
        let host = FakeHost::new(fs.clone());
        for (name, code) in [("true", 0), ("false", 1)] {
            host.program(
                name,
                Program::Exits {
                    code,
                    output: Vec::new(),
                },
            );
        }
        host.program("sleep", Program::Runs);
        host.program("stubborn", Program::Stubborn);
        let machine = on_freebsd().then(|| Machine::with_processes(host.clone()));
        if let Some(machine) = &machine {
            machine.with_programs();
        }
        Self {
            storage: Arc::new(MemoryStorage::new(fs.clone())),
            fs,
            host,
            machine,
            distribution: Arc::new(FakeDistribution::new()),
            directory: tempfile::tempdir().unwrap(),
            supervisor: Mutex::default(),
        }
    }

    /// The records' file.
    pub fn database(&self) -> PathBuf {
        self.directory.path().join("metadata.sqlite")
    }

    /// A daemon starts: a new engine over what is there.
    pub fn engine(&self) -> Arc<Engine> {
        self.engine_over(self.storage.clone(), self.host_door())
    }

    /// The host as a daemon that starts finds it.
    pub fn host_door(&self) -> Arc<dyn Host> {
        match &self.machine {
            None => Arc::new(self.host.clone()),
            Some(machine) => {
                let state = self.directory.path().join("run");
                Arc::new(SimulatedHost::open(machine, &state).unwrap())
            }
        }
    }

    pub fn engine_over(&self, storage: Arc<dyn Storage>, host: Arc<dyn Host>) -> Arc<Engine> {
        let store = Store::open(&self.database()).unwrap();
        let userland = Arc::new(FakeUserland(self.fs.clone()));
        let threads = Arc::new(Threads::default());
        let engine = Arc::new(Engine::new(
            Doors {
                storage,
                host,
                userland,
                distribution: self.distribution.clone(),
            },
            store,
            threads.clone(),
        ));
        *threads.engine.lock().unwrap() = Arc::downgrade(&engine);
        *self.supervisor.lock().unwrap() = threads;
        engine
    }

    /// What the last engine wants to be called for, and hasn't been yet; taken.
    pub fn later(&self) -> Vec<(Duration, Later)> {
        let supervisor = self.supervisor.lock().unwrap().clone();
        std::mem::take(&mut *supervisor.later.lock().unwrap())
    }

    /// The next call that the last engine wants, as soon as it does; taken.
    pub fn next_later(&self) -> (Duration, Later) {
        let supervisor = self.supervisor.lock().unwrap().clone();
        let later = supervisor.later.lock().unwrap();
        let (mut later, _) = supervisor
            .called
            .wait_timeout_while(later, PATIENCE, |later| later.is_empty())
            .unwrap();
        assert!(!later.is_empty(), "the engine wants no call");
        later.remove(0)
    }

    /// Does what the last engine wants to be called for at once.
    pub fn do_urgent(&self, engine: &Engine) {
        for (delay, call) in self.later() {
            if delay.is_zero() {
                engine.due(call).unwrap();
            }
        }
    }

    /// An engine with the image `base:latest`.
    pub fn with_image(&self) -> (Arc<Engine>, ImageId) {
        let engine = self.engine();
        engine.reconcile().unwrap();
        let image = make_image(&engine, "base").unwrap();
        (engine, image)
    }

    pub fn read(&self, path: &str) -> Option<String> {
        self.fs
            .read(Path::new(path))
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.storage
            .mountpoint(&Dataset::Volume(name.parse().unwrap()))
    }

    pub fn in_volume(&self, name: &str) -> Vec<String> {
        let mut names = self.fs.list(&self.volume(name));
        names.sort();
        names
    }

    /// Names of all datasets.
    pub fn datasets(&self) -> Vec<String> {
        let kinds = kleene_doors::storage::DatasetKind::ALL.into_iter();
        let mut all: Vec<String> = kinds
            .flat_map(|kind| self.storage.list(kind).unwrap())
            .map(|d| d.to_string())
            .collect();
        all.sort();
        all
    }
}

pub fn make_image(engine: &Engine, name: &str) -> Result<ImageId, EngineError> {
    image_from(engine, name, Source::Host { add: Vec::new() })
}

pub fn image_from(engine: &Engine, name: &str, source: Source) -> Result<ImageId, EngineError> {
    let new = NewImage {
        source: ImageSource::Userland(source),
        reference: Some((name.parse().unwrap(), "latest".parse().unwrap())),
        extras: Extras::default(),
        autotag: false,
    };
    engine.image_create(new, &mut |_| ControlFlow::Continue(()))
}

pub fn container(mounts: &[&str]) -> NewContainer {
    NewContainer {
        name: None,
        image: "base".parse().unwrap(),
        cmd: vec!["sleep".into()],
        entrypoint: None,
        user: String::new(),
        env: Vec::new(),
        mounts: mounts
            .iter()
            .map(|text| text.parse::<MountSpec>().unwrap())
            .collect(),
        jail_params: Vec::new(),
        network_driver: NetworkDriver::Host,
        published_ports: 0,
        restart_policy: RestartPolicy::No,
        persist: false,
        auto_remove: false,
        resources: Resources::default(),
        init: None,
        health_check: None,
        stop_signal: None,
        stop_timeout: None,
        working_dir: None,
    }
}

pub fn named(name: &str, mounts: &[&str]) -> NewContainer {
    NewContainer {
        name: Some(name.parse().unwrap()),
        ..container(mounts)
    }
}

pub fn exec(engine: &Engine, container: &ContainerId, cmd: &[&str]) -> ExecId {
    let new = NewExec {
        container: container.to_string(),
        cmd: cmd.iter().map(|&argument| argument.to_owned()).collect(),
        env: Vec::new(),
        user: String::new(),
        tty: false,
        working_dir: None,
    };
    engine.exec_create(new).unwrap()
}

/// All containers, without their sizes.
pub const ALL: ListOptions = ListOptions {
    all: true,
    size: false,
};

pub const DETACHED: ExecStart = ExecStart {
    attach: false,
    start_container: true,
    stdin: Stdin::Null,
    window: None,
};

/// Starts a container with its own command, detached.
pub fn start(engine: &Engine, container: &ContainerId) -> ExecId {
    let id = exec(engine, container, &[]);
    engine.exec_start(id.as_str(), DETACHED).unwrap().id
}

/// Runs a container's process to its end, attached.
pub fn run(engine: &Engine, container: &ContainerId, cmd: &[&str]) -> i32 {
    let id = exec(engine, container, cmd);
    let start = ExecStart {
        attach: true,
        ..DETACHED
    };
    let mut stream = engine
        .exec_start(id.as_str(), start)
        .unwrap()
        .attached
        .unwrap();
    loop {
        match Frame::read(&mut stream).unwrap() {
            Some(Frame::Exited(status)) => {
                return engine.exec_ended(&id, Some(status)).unwrap().exit_code;
            }
            Some(_) => {}
            None => panic!("the stream ended without a status"),
        }
    }
}

/// Waits until a container is in this state.
pub fn wait_for(engine: &Engine, container: &ContainerId, state: ContainerState) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = show(engine, container).state;
        if found == state {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?}, not {state:?}");
        std::thread::yield_now();
    }
}

/// What has happened to a container, oldest first.
pub fn actions(engine: &Engine, container: &ContainerId) -> Vec<String> {
    let events = engine.events_after(0).into_iter();
    let events = events.filter(|event| event.id == container.as_str());
    events.map(|event| event.action).collect()
}

pub fn show(engine: &Engine, container: &ContainerId) -> ContainerView {
    engine.container_inspect(container.as_str()).unwrap()
}

pub fn vol(name: &str) -> VolumeName {
    name.parse().unwrap()
}
