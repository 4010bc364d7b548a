//! Operations of the engine on real rooms, in a process of their own that is killed at a given step.
//!
//! The test's own program is started again with [`STEP`] in its environment; it opens the Kleene root
//! as the daemon does, and kills itself with SIGKILL at that step. Afterwards a real daemon is started
//! on the root.

use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use kleene_doors::distribution::{Compression, Distribution};
use kleene_doors::distribution::{ImageConfig, OutgoingImage};
use kleene_doors::frames::Frame;
use kleene_doors::host::Stdin;
use kleene_doors::testkit::{SteppedHost, SteppedStorage, Steps};
use kleene_doors::userland::{Extras, Source};
use kleene_engine::{
    BuildContainer, BuildContext, BuildOutput, Cancel, Changes, ContainerChanges, DockerfileSource,
    Doors, Engine, EngineError, ExecStart, ImageSource, Later, NewBuild, NewCommit, NewContainer,
    NewExec, NewImage, NewPull, PullPolicy, Secrets, Supervisor,
};
use kleene_host::linux::{LinuxHost, LinuxHostConfig};
use kleene_oci::fake::FakeDistribution;
use kleene_storage::select::Driver;
use kleene_store::{NetworkDriver, Store};
use kleene_types::{ExecId, Resources};
use kleene_userland::SystemUserland;

use crate::built;

/// Names the step at which the process kills itself; from 0.
pub const STEP: &str = "KLEENE_TEST_STEP";
/// Names the operation.
pub const OPERATION: &str = "KLEENE_TEST_OPERATION";
/// Names the Kleene root, as the configuration does.
pub const ROOT: &str = "KLEENE_TEST_ROOT";

/// What is interrupted. The Kleene root holds the images `base` (for the child processes of the
/// tests) and, by operation, what [`Operation::prepare`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Operation {
    /// Create a container with a new volume, which is populated.
    Create,
    /// Start the container `box`.
    Start,
    /// Stop the running container `box`.
    Stop,
    /// Stop and start the running container `box`.
    Restart,
    /// Change limits and name of the running container `box`.
    Update,
    /// Remove the container `box`.
    RemoveContainer,
    /// Create a volume.
    CreateVolume,
    /// Remove the volume `data`.
    RemoveVolume,
    /// Create an image.
    CreateImage,
    /// Remove the image `spare`.
    RemoveImage,
    /// Build the image `made`.
    Build,
    /// Pull the image `made`, of two layers.
    Pull,
    /// Load the image `made` from an archive.
    Load,
    /// Make the image `made` of the running container `box`.
    Commit,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 14] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Update,
        Self::RemoveContainer,
        Self::CreateVolume,
        Self::RemoveVolume,
        Self::CreateImage,
        Self::RemoveImage,
        Self::Build,
        Self::Pull,
        Self::Load,
        Self::Commit,
    ];

    /// Whether it makes or removes images.
    pub fn is_of_images(self) -> bool {
        self >= Self::CreateImage
    }

    /// Its word.
    pub fn word(self) -> String {
        format!("{self:?}")
    }

    /// Command lines of `klee` that bring about what the operation needs.
    pub fn prepare(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Create | Self::CreateVolume | Self::CreateImage => &[],
            Self::Build | Self::Pull | Self::Load => &[],
            Self::Start | Self::RemoveContainer => &[&[
                "create",
                "--name",
                "box",
                "-m",
                "data:/data",
                "base",
                "sleep",
                "1000",
            ]],
            Self::Stop | Self::Restart | Self::Update | Self::Commit => &[&[
                "run",
                "-d",
                "--name",
                "box",
                "-m",
                "data:/data",
                "base",
                "sleep",
                "1000",
            ]],
            Self::RemoveVolume => &[&["volume", "create", "data"]],
            Self::RemoveImage => &[&["image", "tag", "spare", "spare:latest"]],
        }
    }

    fn work(self, engine: &Engine, registry: &FakeDistribution) -> Result<(), EngineError> {
        match self {
            Self::Create => engine.container_create(new_container()).map(drop),
            Self::Start => start(engine),
            Self::Stop => engine.container_stop("box", Some(GRACE)).map(drop),
            Self::Restart => engine.container_restart("box", Some(GRACE)).map(drop),
            Self::Update => engine.container_update("box", changes()).map(drop),
            Self::RemoveContainer => engine.container_remove("box", false).map(drop),
            Self::CreateVolume => engine.volume_create("fresh".parse().unwrap()).map(drop),
            Self::RemoveVolume => engine.volume_remove("data").map(drop),
            Self::CreateImage => {
                let new = NewImage {
                    source: ImageSource::Userland(Source::Host { add: Vec::new() }),
                    reference: Some(("made".parse().unwrap(), "latest".parse().unwrap())),
                    extras: Extras {
                        resolv_conf: false,
                        localtime: false,
                        update: false,
                    },
                    autotag: false,
                };
                let go_on = &mut |_| ControlFlow::Continue(());
                engine.image_create(new, go_on).map(drop)
            }
            Self::RemoveImage => engine.image_remove("spare").map(drop),
            Self::Build => {
                let built = engine.image_build(&new_build(), &Silent, &Cancel::default());
                built.map(drop).map_err(|failed| failed.error)
            }
            Self::Pull => {
                let config = ImageConfig {
                    os: "linux".to_owned(),
                    architecture: kleene_types::Platform::host().architecture().to_owned(),
                    ..ImageConfig::default()
                };
                let reference = "registry.example/made:1";
                registry.add_image(&reference.parse().unwrap(), &config, &layers());
                let pull = NewPull {
                    reference: reference.to_owned(),
                    platform: None,
                    name: Some(("made".parse().unwrap(), "latest".parse().unwrap())),
                    identity: None,
                };
                engine
                    .image_pull(&pull, &mut |_| ControlFlow::Continue(()))
                    .map(drop)
            }
            Self::Load => {
                let archive = saved(registry);
                let go_on = &mut |_| ControlFlow::Continue(());
                engine
                    .image_load(&mut archive.as_slice(), None, go_on)
                    .map(drop)
            }
            Self::Commit => engine
                .container_commit(&NewCommit {
                    container: "box".to_owned(),
                    name: Some(("made".parse().unwrap(), "latest".parse().unwrap())),
                    comment: String::new(),
                    pause: true,
                    changes: Changes::default(),
                })
                .map(drop),
        }
    }
}

/// The container's process takes no notice of SIGTERM as process 1, so this doesn't matter.
const GRACE: Duration = Duration::from_secs(5);

fn new_container() -> NewContainer {
    NewContainer {
        name: Some("box".parse().unwrap()),
        entrypoint: None,
        image: "base".parse().unwrap(),
        cmd: vec!["sleep".to_owned(), "1000".to_owned()],
        user: String::new(),
        env: Vec::new(),
        mounts: vec!["www:/usr/local/www/nginx".parse().unwrap()],
        jail_params: Vec::new(),
        network_driver: NetworkDriver::Host,
        published_ports: 0,
        restart_policy: Default::default(),
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

/// Says nothing to nobody.
struct Silent;

impl BuildOutput for Silent {
    fn started(&self, _image: &kleene_types::ImageId) {}

    fn text(&self, _data: &[u8]) {}
}

fn new_build() -> NewBuild {
    let dockerfile = "FROM base\nCOPY Cargo.toml /\nRUN > /done\n";
    NewBuild {
        dockerfile: DockerfileSource::Text(dockerfile.to_owned()),
        context: BuildContext::Directory(env!("CARGO_MANIFEST_DIR").into()),
        name: Some(("made".parse().unwrap(), "latest".parse().unwrap())),
        args: Default::default(),
        target: None,
        labels: Default::default(),
        no_cache: true,
        cleanup: true,
        quiet: false,
        secrets: Secrets::default(),
        pull: PullPolicy::Never,
        credentials: Default::default(),
        from: None,
        container: BuildContainer {
            user: String::new(),
            env: Vec::new(),
            mounts: Vec::new(),
            jail_params: Vec::new(),
            network_driver: NetworkDriver::Host,
            resources: Resources::default(),
            init: Default::default(),
        },
    }
}

/// Two layers with a file each.
fn layers() -> Vec<Vec<u8>> {
    let layer = |name: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &b"data"[..]).unwrap();
        tar.into_inner().unwrap()
    };
    vec![layer("one"), layer("done")]
}

/// An archive with the image `made`.
fn saved(room: &FakeDistribution) -> Vec<u8> {
    let pack = |layer: &Vec<u8>| {
        let mut write = |to: &mut dyn std::io::Write| to.write_all(layer);
        room.add_layer(Compression::None, &mut write).unwrap()
    };
    let layers: Vec<_> = layers().iter().map(pack).collect();
    let config = ImageConfig {
        os: "linux".to_owned(),
        architecture: kleene_types::Platform::host().architecture().to_owned(),
        diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        ..ImageConfig::default()
    };
    let image = OutgoingImage {
        config_json: config.to_json(),
        layers,
        related: Vec::new(),
    };
    let mut archive = Vec::new();
    let name = "docker.io/library/made:latest".parse().unwrap();
    room.write_archive(&[(vec![name], image)], &mut archive)
        .unwrap();
    archive
}

fn changes() -> ContainerChanges {
    ContainerChanges {
        name: Some("renamed".parse().unwrap()),
        limits: kleene_engine::LimitChanges {
            pids: Some(Some(100)),
            ..Default::default()
        },
        ..ContainerChanges::default()
    }
}

fn start(engine: &Engine) -> Result<(), EngineError> {
    let exec = engine.exec_create(NewExec {
        container: "box".to_owned(),
        cmd: Vec::new(),
        env: Vec::new(),
        user: String::new(),
        tty: false,
        working_dir: None,
    })?;
    let detached = ExecStart {
        attach: false,
        start_container: true,
        stdin: Stdin::Null,
        window: None,
    };
    engine.exec_start(exec.as_str(), detached).map(drop)
}

/// Watches every process in a thread of its own.
#[derive(Default)]
struct Threads(Mutex<Weak<Engine>>);

impl Supervisor for Threads {
    fn watch(&self, exec: ExecId, mut watch: UnixStream) {
        let engine = self.0.lock().unwrap().clone();
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

    fn call_later(&self, _delay: Duration, _call: Later) {}

    fn happened(&self) {}
}

/// In the process that was started to be killed: does the operation, and doesn't return. In any
/// other process it returns at once.
pub fn if_child() {
    let Ok(step) = std::env::var(STEP) else {
        return;
    };
    let left = AtomicIsize::new(step.parse().unwrap());
    let root = std::env::var(ROOT).unwrap();
    let word = std::env::var(OPERATION).unwrap();
    let operation = Operation::ALL
        .into_iter()
        .find(|o| o.word() == word)
        .unwrap();
    let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let its = Arc::clone(&armed);
    let steps = Steps::new(move || {
        if its.load(Ordering::SeqCst) && left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            // The signal is on its way.
            std::thread::park();
        }
    });
    let registry = Arc::new(FakeDistribution::new());
    let engine = open(&root, steps, Arc::clone(&registry));
    engine.reconcile().unwrap();
    armed.store(true, Ordering::SeqCst);
    operation.work(&engine, &registry).unwrap();
    std::process::exit(0);
}

/// An engine on a Kleene root, as the daemon has it.
fn open(root: &str, steps: Steps, registry: Arc<FakeDistribution>) -> Arc<Engine> {
    let storage = kleene_storage::open(Driver::Auto, root).unwrap();
    let info = storage.info();
    let host = LinuxHost::new(&LinuxHostConfig {
        state_dir: info.metadata.join("run"),
        cache_dir: info.metadata.join("cache"),
        monitor: built("kleene-monitor"),
        oci_runtime: None,
        allow_host_commands: false,
    })
    .unwrap();
    let doors = Doors {
        storage: Arc::new(SteppedStorage {
            inner: storage,
            steps: steps.clone(),
        }),
        host: Arc::new(SteppedHost {
            inner: Arc::new(host),
            steps,
        }),
        userland: Arc::new(SystemUserland::new(info.metadata.join("downloads"))),
        distribution: registry,
    };
    let store = Store::open(&info.database).unwrap();
    let threads = Arc::new(Threads::default());
    let engine = Arc::new(Engine::new(doors, store, Arc::clone(&threads) as _));
    *threads.0.lock().unwrap() = Arc::downgrade(&engine);
    engine
}

/// Starts the test `name` of this program again so that it does `operation` on `root` and dies at
/// `step`. `false`: it had fewer steps, and has finished.
pub fn interrupted(name: &str, operation: Operation, root: &str, step: usize) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(STEP, step.to_string())
        .env(OPERATION, operation.word())
        .env(ROOT, root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => false,
        (_, Some(9)) => true,
        _ => panic!(
            "{operation:?}, step {step}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
