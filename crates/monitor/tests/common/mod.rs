//! A Linux host on temporary directories, a tiny image, and containers of it.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kleene_doors::frames::Frame;
use kleene_doors::host::{
    ContainerSetup, ExitStatus, Host, HostError, Mount, Network, Place, Process, StartFailure,
    StartRequest, Started, Stdin, WindowSize,
};
use kleene_doors::storage::Root;
use kleene_host::linux::{LinuxHost, LinuxHostConfig};
use kleene_monitor::status::{Status, start_time};
use kleene_types::{ContainerId, ExecId};
use tempfile::TempDir;

pub mod direct;

/// No answer takes that long on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const APPLETS: [&str; 37] = [
    "sh", "cat", "chmod", "chown", "dd", "df", "echo", "env", "false", "find", "grep", "head",
    "hostname", "id", "ip", "kill", "ls", "mkdir", "mknod", "mount", "ping", "printf", "ps",
    "readlink", "rm", "seq", "setsid", "sleep", "stat", "stty", "touch", "tr", "true", "tty",
    "umount", "vi", "wc",
];

/// A host and everything that containers on it are made of.
pub struct World {
    pub host: LinuxHost,
    pub image: PathBuf,
    pub tmp: TempDir,
}

pub fn config(tmp: &Path) -> LinuxHostConfig {
    LinuxHostConfig {
        state_dir: tmp.join("run"),
        cache_dir: tmp.join("cache"),
        monitor: env!("CARGO_BIN_EXE_kleene-monitor").into(),
        oci_runtime: None,
        allow_host_commands: false,
    }
}

impl World {
    pub fn new() -> Self {
        Self::configured(config)
    }

    /// With an outside OCI runtime.
    pub fn outside(program: &str) -> Self {
        Self::configured(|tmp| LinuxHostConfig {
            oci_runtime: Some(program.into()),
            ..config(tmp)
        })
    }

    fn configured(config: impl Fn(&Path) -> LinuxHostConfig) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root"
        );
        let tmp = tempfile::tempdir().unwrap();
        let host = LinuxHost::new(&config(tmp.path())).unwrap();
        let image = tmp.path().join("image");
        make_image(&image);
        Self { host, image, tmp }
    }

    /// A daemon that comes after this one.
    pub fn restart(&mut self) {
        self.host = LinuxHost::new(&config(self.tmp.path())).unwrap();
    }

    pub fn container(&self) -> Container<'_> {
        let id = ContainerId::random();
        let upper = self.tmp.path().join(format!("{id}/upper"));
        let work = self.tmp.path().join(format!("{id}/work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let setup = ContainerSetup {
            hostname: "tester".into(),
            root: Root::Overlay {
                lower: vec![self.image.clone()],
                upper,
                work,
            },
            mounts: Vec::new(),
            network: Network::Host,
            limits: Default::default(),
            shm_size: None,
            init: Default::default(),
        };
        Container {
            world: self,
            id,
            setup,
        }
    }

    /// Runs a script in a container of its own.
    pub fn sh(&self, script: &str) -> Outcome {
        self.container().run(&["sh", "-c", script])
    }
}

impl Drop for World {
    /// Ends what a failed test has left running.
    fn drop(&mut self) {
        for entry in fs::read_dir(self.tmp.path().join("run"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().into_string().unwrap_or_default();
            if let (Ok(Some(status)), Ok(exec)) = (Status::read(&entry.path()), name.parse()) {
                drop(self.host.kill(&status.container, &exec));
                drop(self.host.clean(&status.container));
            }
        }
    }
}

pub fn make_image(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("install the package busybox-static: /bin/busybox is missing");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:80:81::/tmp:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nwww:x:81:\nlogs:x:90:www\n",
    )
    .unwrap();
}

pub struct Container<'w> {
    pub world: &'w World,
    pub id: ContainerId,
    pub setup: ContainerSetup,
}

pub fn process(argv: &[&str]) -> Process {
    Process {
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/bin".parse().unwrap()],
        user: String::new(),
        cwd: None,
        ulimits: Vec::new(),
        tty: false,
        window: None,
        stdin: Stdin::Null,
    }
}

impl Container<'_> {
    pub fn mount(mut self, source: impl Into<PathBuf>, destination: &str, read_only: bool) -> Self {
        let destination = destination.parse().unwrap();
        self.setup.mounts.push(Mount {
            source: source.into(),
            destination,
            read_only,
            nosuid: false,
        });
        self
    }

    /// Makes the mount that was asked for last a nosuid one.
    pub fn nosuid(mut self) -> Self {
        self.setup.mounts.last_mut().unwrap().nosuid = true;
        self
    }

    pub fn request(&self, process: Process) -> StartRequest {
        StartRequest {
            exec: ExecId::random(),
            container: self.id.clone(),
            place: Place::New(Box::new(self.setup.clone())),
            process,
            jail_params: Vec::new(),
            log_limit: kleene_doors::log::DEFAULT_LIMIT,
            attach: true,
        }
    }

    pub fn start(&self, process: Process) -> Result<Running<'_>, HostError> {
        let request = self.request(process);
        let started = self.world.host.start(&request)?;
        Ok(Running::new(
            self.world,
            self.id.clone(),
            request.exec,
            started,
        ))
    }

    pub fn run_process(&self, process: Process) -> Outcome {
        let outcome = self.start(process).unwrap().finish();
        self.world.host.clean(&self.id).unwrap();
        outcome
    }

    pub fn run(&self, argv: &[&str]) -> Outcome {
        self.run_process(process(argv))
    }

    /// A start that must fail.
    pub fn refused(&self, process: Process) -> StartFailure {
        let request = self.request(process);
        let failure = match self.world.host.start(&request) {
            Err(HostError::Start(failure)) => failure,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it started"),
        };
        let left = self
            .world
            .tmp
            .path()
            .join("run")
            .join(request.exec.as_str());
        assert!(!left.exists(), "a failed start leaves {left:?}");
        assert_eq!(groups(&self.id), Vec::<PathBuf>::new());
        failure
    }

    /// A container that waits for its end, and prints `ready` first.
    pub fn idle(&self) -> Running<'_> {
        let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait; done";
        let mut running = self.start(process(&["sh", "-c", script])).unwrap();
        assert_eq!(running.read_line(), "ready");
        running
    }
}

/// The container's control groups that are there.
pub fn groups(container: &ContainerId) -> Vec<PathBuf> {
    [
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/devices",
    ]
    .iter()
    .map(|hierarchy| Path::new(hierarchy).join("kleene").join(container.as_str()))
    .filter(|path| path.exists())
    .collect()
}

/// A started process with its attached stream.
pub struct Running<'w> {
    pub world: &'w World,
    pub container: ContainerId,
    pub exec: ExecId,
    pub pid: u32,
    pub watch: UnixStream,
    pub stream: UnixStream,
    pub received: Outcome,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: Option<i32>,
}

impl Outcome {
    pub fn stdout(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8(self.stderr.clone()).unwrap()
    }

    /// The lines of a process that succeeded.
    pub fn ok(&self) -> String {
        assert_eq!(
            (self.code, self.stderr()),
            (Some(0), String::new()),
            "{}",
            self.stdout()
        );
        self.stdout()
    }
}

impl<'w> Running<'w> {
    pub fn new(world: &'w World, container: ContainerId, exec: ExecId, started: Started) -> Self {
        let Started {
            pid,
            watch,
            attached,
        } = started;
        let stream = attached.expect("attached");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        watch.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            world,
            container,
            exec,
            pid,
            watch,
            stream,
            received: Outcome::default(),
        }
    }

    pub fn join_request(&self, process: Process) -> StartRequest {
        StartRequest {
            exec: ExecId::random(),
            container: self.container.clone(),
            place: Place::Running {
                init: self.exec.clone(),
            },
            process,
            jail_params: Vec::new(),
            log_limit: kleene_doors::log::DEFAULT_LIMIT,
            attach: true,
        }
    }

    pub fn join(&self, process: Process) -> Running<'w> {
        let request = self.join_request(process);
        let started = self.world.host.start(&request).unwrap();
        Running::new(self.world, self.container.clone(), request.exec, started)
    }

    pub fn exec(&self, script: &str) -> Outcome {
        self.join(process(&["sh", "-c", script])).finish()
    }

    pub fn send(&mut self, frame: &Frame) {
        frame.write(&mut self.stream).unwrap();
    }

    pub fn type_in(&mut self, text: &str) {
        self.send(&Frame::Stdin(text.as_bytes().to_vec()));
    }

    /// Takes one frame; whether there may be more.
    pub fn receive(&mut self) -> bool {
        let frame = Frame::read(&mut self.stream);
        let frame = frame.unwrap_or_else(|error| {
            let text = String::from_utf8_lossy(&self.received.stdout);
            panic!("{error}; so far {text:?}")
        });
        match frame {
            Some(Frame::Stdout(data)) => self.received.stdout.extend(data),
            Some(Frame::Stderr(data)) => self.received.stderr.extend(data),
            Some(Frame::Exited(ExitStatus { code, .. })) => {
                self.received.code = Some(code);
                return false;
            }
            None => panic!(
                "the stream ended without a word; so far {:?}",
                self.received
            ),
            Some(other) => panic!("{other:?}"),
        }
        true
    }

    /// The next line of standard output, without what ends it.
    pub fn read_line(&mut self) -> String {
        loop {
            if let Some(end) = self.received.stdout.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.stdout.split_off(end + 1);
                let line = std::mem::replace(&mut self.received.stdout, rest);
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            assert!(self.receive(), "no more lines: {:?}", self.received);
        }
    }

    /// Everything until the end, as both the attached client and the daemon see it.
    pub fn finish(mut self) -> Outcome {
        while self.receive() {}
        assert_eq!(Frame::read(&mut self.stream).unwrap(), None);
        assert_eq!(self.watched(), self.received.code);
        assert_eq!(Frame::read(&mut self.watch).unwrap(), None);
        self.received
    }

    /// The exit code that the daemon sees.
    pub fn watched(&mut self) -> Option<i32> {
        match Frame::read(&mut self.watch).unwrap() {
            Some(Frame::Exited(status)) => Some(status.code),
            other => panic!("{other:?}"),
        }
    }

    /// Kills the container and waits for its end.
    pub fn kill(self) {
        self.world.host.kill(&self.container, &self.exec).unwrap();
        let (world, container) = (self.world, self.container.clone());
        assert_eq!(self.finish().code, Some(137));
        world.host.clean(&container).unwrap();
        assert_eq!(groups(&container), Vec::<PathBuf>::new());
    }
}

pub fn terminal(argv: &[&str], rows: u16, columns: u16) -> Process {
    let window = Some(WindowSize { rows, columns });
    Process {
        tty: true,
        window,
        stdin: Stdin::Stream,
        ..process(argv)
    }
}

/// Lines of the host's mount table that name the path.
pub fn mounted_beneath(path: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.to_str().unwrap();
    table
        .lines()
        .filter(|line| line.contains(path))
        .map(str::to_owned)
        .collect()
}

pub fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The monitor of a process: its parent.
pub fn monitor_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Waits until a process has ended, reaped or not.
pub fn await_end(pid: u32) {
    await_that("the process stays", || start_time(pid).unwrap().is_none());
}

/// Waits for what nothing announces.
pub fn await_that(complaint: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{complaint}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes of memory that only this process has.
pub fn private_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let kilobytes = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    text.lines()
        .filter(|line| line.starts_with("Private_"))
        .map(kilobytes)
        .sum::<u64>()
        << 10
}

/// Mounts whose destinations meet through a link in the image.
pub fn check_meeting_mounts(world: &World) {
    let [one, two] = ["one", "two"].map(|name| {
        let path = world.tmp.path().join(name);
        fs::create_dir_all(path.join("b")).unwrap();
        fs::write(path.join("here"), name).unwrap();
        path
    });
    fs::create_dir_all(world.image.join("a/b")).unwrap();
    symlink("/a/b", world.image.join("l")).unwrap();
    // One covers what the other lies in, or they are at one place; even with one source.
    for (second, first, upper) in [
        (&two, "/l", "/a"),
        (&two, "/l", "/a/b"),
        (&two, "/a/b", "/l"),
        (&one, "/l", "/a/b"),
    ] {
        let container = world
            .container()
            .mount(&one, first, false)
            .mount(&two, "/other", false)
            .mount(second, upper, false);
        let failure = container.refused(process(&["touch", "/l/lost"]));
        assert_eq!(failure.code, 125, "{failure}");
        let wanted = format!("the mount at '{first}' is hidden by the one at '{upper}'");
        assert!(failure.message.contains(&wanted), "{failure}");
        assert!(failure.message.contains("real paths"), "{failure}");
    }
    assert!(!two.join("b/lost").exists() && !one.join("lost").exists());
    assert_eq!(mounted_beneath(world.tmp.path()), Vec::<String>::new());

    // One in the other is as good as ever, by whatever name.
    let nested = world
        .container()
        .mount(&one, "/l", false)
        .mount(&two, "/a/b/in", false)
        .mount(&one, "/l/in/b", false)
        .mount(one.join("here"), "/l/in/b/b/file", false);
    let script = "cat /a/b/here /l/in/here /l/in/b/here /a/b/in/b/b/file";
    assert_eq!(nested.run(&["sh", "-c", script]).ok(), "onetwooneone");
}

/// Set-user-id programs, on a mount and on one beneath it, change the user unless it is nosuid.
#[expect(
    clippy::disallowed_types,
    reason = "a process of the host enters the container"
)]
pub fn check_nosuid_mounts(world: &World) {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    // The host's id(1) with its libraries: busybox gives up what it doesn't need.
    for libraries in ["lib", "lib64"] {
        symlink(format!("usr/{libraries}"), world.image.join(libraries)).unwrap();
    }
    let data = world.tmp.path().join("data");
    let inner = data.join("inner");
    for directory in [&data, &inner] {
        fs::create_dir(directory).unwrap();
        let size = c"size=1m,mode=755";
        mount("none", directory, "tmpfs", MountFlags::empty(), size).unwrap();
        let program = directory.join("id");
        fs::copy("/usr/bin/id", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    }
    let runs = [(false, false), (false, true), (true, true)].map(|(read_only, nosuid)| {
        let mut container = world.container().mount("/usr", "/usr", true);
        container = container.mount(&data, "/data", read_only);
        if nosuid {
            container = container.nosuid();
        }
        let running = container.idle();
        // A container's own processes never gain rights by a program. One of the host can.
        let ids = ["/data/id", "/data/inner/id"].map(|program| {
            let pid = running.pid.to_string();
            let output = std::process::Command::new("nsenter")
                .args([
                    "--target", &pid, "--mount", "--setgid", "81", "--setuid", "80",
                ])
                .args([program, "-u"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        });
        running.kill();
        ids
    });
    unmount(&data, UnmountFlags::DETACH).unwrap();
    assert_eq!(runs, [["0", "0"], ["80", "80"], ["80", "80"]]);
}
