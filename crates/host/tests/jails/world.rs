//! A machine with a few datasets, and daemons that come and go on it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_doors::frames::Frame;
use kleene_doors::host::{
    ContainerSetup, Host, HostError, Mount, Network, Place, Probe, Process, StartRequest, Started,
    Stdin,
};
use kleene_doors::storage::Root;
use kleene_host::fake::{FakeHost, Program};
use kleene_host::freebsd::FreeBsdHost;
use kleene_host::freebsd::simulated::Machine;
use kleene_tree::memory::MemFs;
use kleene_types::{ContainerId, ExecId};

/// The container that tests start.
pub const CONTAINER: &str = "c0ffee000001";
/// Its root.
pub const ROOT: &str = "/zroot/kleene/container/c0ffee000001";
/// A volume.
pub const VOLUME: &str = "/zroot/kleene/volumes/data";

pub struct World {
    pub machine: Machine,
    pub room: FreeBsdHost,
    directory: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let machine = Machine::new(MemFs::new());
        for (dataset, path) in [
            ("zroot/kleene", "/zroot/kleene"),
            ("zroot/kleene/volumes", "/zroot/kleene/volumes"),
            ("zroot/kleene/volumes/data", VOLUME),
            ("zroot/kleene/container", "/zroot/kleene/container"),
            ("zroot/kleene/container/c0ffee000001", ROOT),
        ] {
            machine.mount(dataset, Path::new(path), "zfs");
        }
        let fs = machine.fs();
        fs.create_dir_all(&Path::new(ROOT).join("dev"));
        fs.write(&Path::new(ROOT).join("etc/passwd"), b"");
        fs.write(Path::new("/etc/hosts"), b"::1 localhost\n");
        let processes = machine.processes();
        processes.program("sleep", Program::Runs);
        processes.program("stubborn", Program::Stubborn);
        let (code, output) = (3, b"hi\n".to_vec());
        processes.program("hello", Program::Exits { code, output });
        // The boot script starts a service and ends.
        processes.program("/etc/rc", Program::Runs);
        let directory = tempfile::tempdir().unwrap();
        Self {
            room: machine.room(directory.path()).unwrap(),
            machine,
            directory,
        }
    }

    /// The daemon ends, and another one starts.
    pub fn reopen(&mut self) {
        self.machine.processes().disconnect();
        self.room = self.machine.room(self.directory.path()).unwrap();
    }

    /// A second record of what a container has.
    pub fn copy_record(&self, of: &str, to: &str) {
        let records = self.directory.path().join("jails");
        fs::copy(records.join(of), records.join(to)).unwrap();
    }

    /// A power failure has left nothing of what was recorded of a container but its name.
    pub fn damage_record(&self, of: &str) {
        fs::write(self.directory.path().join("jails").join(of), "").unwrap();
    }

    pub fn processes(&self) -> &FakeHost {
        self.machine.processes()
    }

    pub fn commands(&self) -> Vec<String> {
        self.machine.commands()
    }

    /// What there is of containers: on the machine, and in the room's directory.
    pub fn traces(&self) -> Vec<String> {
        let names = |directory: PathBuf| {
            let entries = fs::read_dir(directory).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap())
        };
        let instances = names(self.directory.path().to_owned()).filter(|name| name != "jails");
        let instances = instances.map(|name| format!("instance {name}"));
        let records = names(self.directory.path().join("jails"));
        let records = records.map(|name| format!("record {name}"));
        let mut all = self.machine.traces();
        all.extend(instances.chain(records));
        all
    }

    pub fn start(&self, request: &StartRequest) -> Result<Started, HostError> {
        self.room.start(request)
    }

    /// What became of an instance, in a word.
    pub fn probe(&self, exec: &ExecId) -> String {
        match self.room.probe(exec).unwrap() {
            Probe::Running { paused: false, .. } => "runs".to_owned(),
            Probe::Running { paused: true, .. } => "is paused".to_owned(),
            Probe::Exited(status) => format!("exited {}", status.code),
            Probe::Lost => "is lost".to_owned(),
        }
    }

    /// Ends the container as a user does who has no patience, and takes everything away.
    pub fn end(&self, init: &ExecId) {
        self.room.kill(&container(), init).unwrap();
        self.tidy();
    }

    /// Takes away what isn't there any more, as the engine does.
    pub fn tidy(&self) {
        self.room.clean(&container()).unwrap();
        for exec in self.room.instances().unwrap() {
            self.room.forget(&exec).unwrap();
        }
        assert_eq!(self.traces(), Vec::<String>::new());
    }
}

pub fn container() -> ContainerId {
    CONTAINER.parse().unwrap()
}

pub fn mount(source: &str, destination: &str, read_only: bool) -> Mount {
    Mount {
        source: source.into(),
        destination: destination.parse().unwrap(),
        read_only,
        nosuid: false,
    }
}

pub fn setup(mounts: Vec<Mount>) -> ContainerSetup {
    ContainerSetup {
        hostname: "web".to_owned(),
        root: Root::Directory { path: ROOT.into() },
        mounts,
        network: Network::Host,
        limits: Default::default(),
        shm_size: None,
        init: Default::default(),
    }
}

fn ask(place: Place, argv: &[&str]) -> StartRequest {
    StartRequest {
        exec: ExecId::random(),
        container: container(),
        place,
        jail_params: Vec::new(),
        process: Process {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: Vec::new(),
            user: String::new(),
            cwd: None,
            ulimits: Vec::new(),
            tty: false,
            window: None,
            stdin: Stdin::Null,
        },
        log_limit: 1 << 20,
        attach: false,
    }
}

/// The container's first process.
pub fn first(setup: ContainerSetup, argv: &[&str]) -> StartRequest {
    ask(Place::New(Box::new(setup)), argv)
}

/// Another process of it.
pub fn joining(init: &ExecId, argv: &[&str]) -> StartRequest {
    ask(Place::Running { init: init.clone() }, argv)
}

/// The next frame of a stream, which comes.
pub fn frame(stream: &mut UnixStream) -> Frame {
    Frame::read(stream).unwrap().expect("a frame comes")
}

/// An error with its causes, as users see it.
pub fn chain(error: &HostError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
