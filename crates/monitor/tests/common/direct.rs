//! Monitors started by the tests themselves, with messages of their own.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;

use kleene_command::spawn::{Companion, spawn};
use kleene_doors::frames::Frame;
use kleene_doors::host::{Place, Process, StartFailure, StartRequest, Started};
use kleene_host::linux::seccomp::ensure_filter;
use kleene_monitor::nursery::empty_mount_namespace;
use kleene_monitor::proto::{CgroupPlan, InitProcess, Jail, Setting, StartMessage};
use kleene_monitor::sealed::seal_program;
use kleene_monitor::status::Status;
use kleene_types::ContainerId;

use super::{Container, PATIENCE, Running, World, await_that};

/// What monitors are started with. Ends them with itself.
pub struct Direct<'w> {
    world: &'w World,
    program: OwnedFd,
    nursery: OwnedFd,
    monitors: RefCell<Vec<Child>>,
}

impl<'w> Direct<'w> {
    pub fn new(world: &'w World) -> Self {
        let program = File::open(env!("CARGO_BIN_EXE_kleene-monitor")).unwrap();
        Self {
            world,
            program: seal_program(program).unwrap(),
            nursery: empty_mount_namespace().unwrap(),
            monitors: RefCell::default(),
        }
    }

    /// For the first process of a container.
    pub fn message(&self, container: &Container<'_>, process: Process) -> StartMessage {
        let filter = ensure_filter(&self.world.tmp.path().join("cache")).unwrap();
        let nursery = self.nursery.as_raw_fd();
        let request = container.request(process);
        StartMessage {
            directory: self.directory(&request),
            request,
            seccomp: filter,
            nursery: format!("/proc/{}/fd/{nursery}", std::process::id()).into(),
            cgroups: CgroupPlan::default(),
            jail: Jail::default(),
            join: None,
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap()
                .trim()
                .to_owned(),
            outside: None,
        }
    }

    /// For a further process of a running container, to which `like` has led.
    pub fn joining(
        &self,
        init: &Running<'_>,
        like: &StartMessage,
        process: Process,
    ) -> StartMessage {
        let directory = self.world.tmp.path().join("run").join(init.exec.as_str());
        let status = Status::read(&directory).unwrap().unwrap();
        let request = init.join_request(process);
        StartMessage {
            directory: self.directory(&request),
            request,
            join: Some(InitProcess {
                pid: status.pid,
                start_time: status.start_time,
            }),
            ..like.clone()
        }
    }

    fn directory(&self, request: &StartRequest) -> PathBuf {
        let run = self.world.tmp.path().join("run");
        run.join(request.exec.as_str())
    }

    /// Sends a monitor the message as it is.
    pub fn answer(&self, message: &[u8]) -> (Frame, UnixStream, UnixStream) {
        let (mut control, theirs) = UnixStream::pair().unwrap();
        let (attached, their_attached) = UnixStream::pair().unwrap();
        let monitor = spawn(Companion {
            program: Path::new(&format!("/proc/self/fd/{}", self.program.as_raw_fd())),
            argv: &["kleene-monitor", "directly-started"],
            directory: Path::new("/"),
            stdin: theirs.into(),
            stdout: their_attached.into(),
        });
        self.monitors.borrow_mut().push(monitor.unwrap());
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        Frame::Start(message.to_vec()).write(&mut control).unwrap();
        let answer = Frame::read(&mut control).unwrap();
        (answer.expect("a monitor that answers"), control, attached)
    }

    pub fn try_start(&self, message: &StartMessage) -> Result<Running<'w>, StartFailure> {
        let request = &message.request;
        fs::create_dir_all(&message.directory).unwrap();
        let bytes = serde_json::to_vec(message).unwrap();
        match self.answer(&bytes) {
            (Frame::Started(pid), watch, attached) => {
                let attached = Some(attached);
                let started = Started {
                    pid,
                    watch,
                    attached,
                };
                let (container, exec) = (request.container.clone(), request.exec.clone());
                Ok(Running::new(self.world, container, exec, started))
            }
            (Frame::Failed(failure), ..) => Err(failure),
            (other, ..) => panic!("{other:?}"),
        }
    }

    pub fn start(&self, message: &StartMessage) -> Running<'w> {
        let started = self.try_start(message);
        started.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The failure of a start, which must be one.
    pub fn refused(&self, message: &StartMessage) -> StartFailure {
        match self.try_start(message) {
            Err(failure) => failure,
            Ok(running) => panic!("it runs: {}", running.pid),
        }
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        for monitor in self.monitors.get_mut() {
            // Its process ends with it.
            drop(monitor.kill());
            drop(monitor.wait());
        }
    }
}

/// Whether the host has control groups of version 2 alone.
fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A container's control groups for memory and processes. Removed with this.
pub struct Limited {
    pub plan: CgroupPlan,
}

impl Limited {
    pub fn new(container: &ContainerId) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        let name = format!("kleene-test-{container}");
        if is_unified() {
            let group = top.join(name);
            let controllers = Setting {
                what: "controllers".to_owned(),
                file: top.join("cgroup.subtree_control"),
                value: "+memory +pids".to_owned(),
            };
            return Self {
                plan: CgroupPlan {
                    out_of_memory: Some(group.join("memory.events")),
                    unified: Some(group),
                    settings: vec![controllers],
                    ..CgroupPlan::default()
                },
            };
        }
        let of = |controller: &str| top.join(controller).join(&name);
        Self {
            plan: CgroupPlan {
                legacy: vec![of("memory"), of("pids")],
                out_of_memory: Some(of("memory").join("memory.oom_control")),
                ..CgroupPlan::default()
            },
        }
    }

    /// The file of a limit by its names in version 2 and 1.
    fn file(&self, new: &str, (controller, old): (&str, &str)) -> PathBuf {
        let is_of =
            |path: &&PathBuf| path.starts_with(Path::new("/sys/fs/cgroup").join(controller));
        match &self.plan.unified {
            Some(group) => group.join(new),
            None => self.plan.legacy.iter().find(is_of).unwrap().join(old),
        }
    }

    pub fn limit_processes(&mut self, number: &str) {
        let file = self.file("pids.max", ("pids", "pids.max"));
        self.set(format!("limit of {number} processes"), file, number);
    }

    pub fn limit_memory(&mut self, bytes: &str) {
        let file = self.file("memory.max", ("memory", "memory.limit_in_bytes"));
        self.set(format!("memory limit {bytes}"), file, bytes);
    }

    fn set(&mut self, what: String, file: PathBuf, value: &str) {
        let value = value.to_owned();
        self.plan.settings.push(Setting { what, file, value });
    }

    /// Ids of the processes in each of the groups.
    pub fn members(&self) -> Vec<Vec<u32>> {
        let members = |group: &PathBuf| {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap();
            text.lines().map(|line| line.parse().unwrap()).collect()
        };
        self.plan.directories().map(members).collect()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        for group in self.plan.directories() {
            await_that("a control group stays", || {
                !group.exists() || fs::remove_dir(group).is_ok()
            });
        }
    }
}

/// Where a request leads.
pub fn setup_of(message: &mut StartMessage) -> &mut kleene_doors::host::ContainerSetup {
    match &mut message.request.place {
        Place::New(setup) => setup,
        Place::Running { .. } => panic!("it joins"),
    }
}
