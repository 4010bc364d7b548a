//! Limits, pauses and observation on the real kernel: processes in real control groups, but without
//! a monitor. Needs root, as the daemon does.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use kleene_doors::observe::CpuUsage;
use kleene_monitor::status::{Status, start_time};
use kleene_types::SwapLimit;
use tempfile::TempDir;

use crate::linux::cgroup::Controller;
use crate::linux::*;

/// No answer takes that long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that has entered the groups of a container, and waits for a line to end.
struct Contained {
    host: LinuxHost,
    container: ContainerId,
    exec: ExecId,
    child: Child,
    output: BufReader<ChildStdout>,
    _dir: TempDir,
}

impl Contained {
    /// What the monitor does, with a shell's script as the container's process.
    fn start(limits: &Limits, script: &str) -> Self {
        Self::start_by("exec sh -c \"$0\"", limits, script)
    }

    #[expect(
        clippy::disallowed_types,
        reason = "a process in the groups stands for a monitor's"
    )]
    fn start_by(by: &str, limits: &Limits, script: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root"
        );
        let dir = tempfile::tempdir().unwrap();
        let host = LinuxHost::new(&LinuxHostConfig {
            state_dir: dir.path().join("run"),
            cache_dir: dir.path().join("cache"),
            monitor: "/bin/true".into(),
            oci_runtime: None,
            allow_host_commands: false,
        })
        .unwrap();
        let (container, exec) = (ContainerId::random(), ExecId::random());
        let plan = host.hierarchies.plan(&container, limits).unwrap();
        for group in plan.directories() {
            fs::create_dir_all(group).unwrap();
        }
        for setting in &plan.settings {
            fs::write(&setting.file, &setting.value).unwrap();
        }
        let unified = plan.unified.iter().map(|group| group.join("cgroup.procs"));
        let legacy = plan.legacy.iter().map(|group| group.join("tasks"));
        let enter = format!("for group; do echo 0 > \"$group\" || exit 9; done; {by}");
        let mut child = std::process::Command::new("sh")
            .args(["-c", &enter, script])
            .args(unified.chain(legacy))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        host.state.create(&exec).unwrap();
        let status = Status {
            container: container.clone(),
            pid: child.id(),
            start_time: start_time(child.id()).unwrap().unwrap(),
            boot_id: host.state.boot_id().to_owned(),
            exit: None,
            left: false,
        };
        status.write(&host.state.path(&exec)).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            host,
            container,
            exec,
            child,
            output,
            _dir: dir,
        }
    }

    /// Waits until the script says this.
    fn await_line(&mut self, wanted: &str) {
        let mut line = String::new();
        while line.trim_end() != wanted {
            line.clear();
            let read = self.output.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the script has ended before it said '{wanted}'");
        }
    }

    fn stats(&self) -> Stats {
        self.host.stats(&self.container, &self.exec).unwrap()
    }

    fn cpu(&self) -> CpuUsage {
        self.stats().cpu.unwrap()
    }

    /// Waits for something that nobody announces.
    fn until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "it never happens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn update(&self, limits: &Limits) -> Result<(), String> {
        let updated = self.host.update_limits(&self.container, &self.exec, limits);
        updated.map_err(|error| error.to_string())
    }

    /// A line of the process's status.
    fn allowed(&self) -> String {
        let status = process_status(self.child.id());
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    }

    /// The container's groups in the controllers that are there.
    fn group(&self, controller: Controller) -> PathBuf {
        let home = self.host.hierarchies.home(controller);
        home.expect("this host has the controller")
            .group(&self.container)
    }

    fn groups_left(&self) -> Vec<PathBuf> {
        let all = [
            Controller::Cpu,
            Controller::Cpuacct,
            Controller::Cpuset,
            Controller::Memory,
            Controller::Devices,
            Controller::Freezer,
            Controller::Io,
            Controller::Pids,
        ];
        let homes = all
            .iter()
            .filter_map(|one| self.host.hierarchies.home(*one));
        let unified = self.host.hierarchies.unified_group(&self.container);
        homes
            .map(|home| home.group(&self.container))
            .chain(unified)
            .filter(|group| group.exists())
            .collect()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        drop(self.host.kill(&self.container, &self.exec));
        drop(self.child.stdin.take());
        let cleaned = self.host.clean(&self.container);
        drop(self.child.wait());
        if !std::thread::panicking() {
            cleaned.unwrap();
            assert_eq!(self.groups_left(), Vec::<PathBuf>::new());
        }
    }
}

fn process_status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

fn memory(size: &str) -> Limits {
    Limits {
        memory: Some(size.parse().unwrap()),
        memory_swap: Some(SwapLimit::Total(size.parse().unwrap())),
        ..Limits::default()
    }
}

#[test]
fn memory_has_an_end() {
    let script = "head -c 64m /dev/zero | tail -n 1 > /dev/null; echo over; read line";
    let mut contained = Contained::start(&memory("16m"), script);
    contained.await_line("over");
    let usage = contained.stats().memory.unwrap();
    assert_eq!((usage.oom_kills, usage.limit), (1, 16 << 20));
    assert!(usage.used <= 16 << 20, "{usage:?}");
    assert!(usage.peak > 12 << 20, "{usage:?}");
}

#[test]
fn processes_have_an_end() {
    let limits = Limits {
        pids: Some(5),
        ..Limits::default()
    };
    let forks = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
    let script = format!("({forks}) 2> /dev/null; echo over; read line");
    let mut contained = Contained::start(&limits, &script);
    contained.await_line("over");
    let pids = contained.stats().pids.unwrap();
    assert!((2..=5).contains(&pids.current), "{pids:?}");
    assert_eq!(pids.limit, Some(5));
}

#[test]
fn processors_time_has_an_end() {
    let limits = Limits {
        cpus: Some("0.1".parse().unwrap()),
        cpuset: Some("0".parse().unwrap()),
        ..Limits::default()
    };
    let mut contained = Contained::start(&limits, "echo ready; while :; do :; done");
    contained.await_line("ready");
    assert_eq!(contained.allowed(), "0");
    contained.until(|contained| contained.cpu().throttled_us > 0);
    let cpu = contained.cpu();
    assert_eq!(cpu.online, 1);
    assert!(cpu.total_us > 0, "{cpu:?}");
}

#[test]
fn limits_of_running_containers_change() {
    let mut contained = Contained::start(
        &Limits::default(),
        "sleep 1000 & echo ready; while :; do :; done",
    );
    contained.await_line("ready");
    let before = contained.allowed();
    assert_eq!(contained.stats().pids.unwrap().limit, None);
    let limits = Limits {
        cpus: Some("0.1".parse().unwrap()),
        cpuset: Some("0".parse().unwrap()),
        pids: Some(20),
        io_weight: Some(50.try_into().unwrap()),
        ..memory("64m")
    };
    contained.update(&limits).unwrap();
    assert_eq!(contained.allowed(), "0");
    let stats = contained.stats();
    assert_eq!(stats.memory.unwrap().limit, 64 << 20);
    assert_eq!(stats.pids.unwrap().limit, Some(20));
    contained.until(|contained| contained.cpu().throttled_us > 0);
    // The child, too.
    let everybody = contained.host.hierarchies.processes(&contained.container);
    let mut everybody = everybody.unwrap().unwrap();
    everybody.sort_unstable();
    let cpu = fs::read_to_string(contained.group(Controller::Cpu).join("cgroup.procs")).unwrap();
    let mut in_cpu: Vec<u32> = cpu.lines().map(|line| line.parse().unwrap()).collect();
    in_cpu.sort_unstable();
    assert_eq!((in_cpu.len(), in_cpu), (2, everybody));

    contained.update(&Limits::default()).unwrap();
    assert_eq!(contained.allowed(), before);
    let stats = contained.stats();
    assert_eq!(stats.memory.unwrap().limit, clock::machine_memory());
    assert_eq!(stats.pids.unwrap().limit, None);
}

#[test]
fn memory_limits_move_in_every_direction() {
    let mut contained = Contained::start(&memory("64m"), "echo ready; read line");
    contained.await_line("ready");
    let limit = |contained: &Contained| contained.stats().memory.unwrap().limit;
    let unlimited_swap = Limits {
        memory_swap: Some(SwapLimit::Unlimited),
        ..memory("16m")
    };
    for (limits, expected) in [
        (memory("128m"), 128 << 20),
        (memory("32m"), 32 << 20),
        (unlimited_swap, 16 << 20),
        (memory("200m"), 200 << 20),
        (Limits::default(), clock::machine_memory()),
        (memory("20m"), 20 << 20),
    ] {
        contained.update(&limits).unwrap();
        assert_eq!(limit(&contained), expected);
    }
}

#[test]
fn memory_in_use_isnt_taken_away() {
    let holder = "(head -c 40m /dev/zero; echo ready >&2; read line) | tail -n 1 > /dev/null";
    let script = format!("exec 2>&1; {{ {holder}; }} 3>&1");
    let mut contained = Contained::start(&Limits::default(), &script);
    contained.await_line("ready");
    // All of it has gone through the pipe but the last bit, which it holds.
    contained.until(|contained| contained.stats().memory.unwrap().used > 38 << 20);
    let swappiness = contained
        .group(Controller::Memory)
        .join("memory.swappiness");
    if swappiness.exists() {
        fs::write(swappiness, "0").unwrap();
    }
    let limits = Limits {
        pids: Some(30),
        ..memory("8m")
    };
    let message = contained.update(&limits).unwrap_err();
    assert!(message.contains("memory limit 8m"), "{message}");
    assert!(message.contains("Nothing has changed"), "{message}");
    let stats = contained.stats();
    assert_eq!(stats.memory.unwrap().limit, clock::machine_memory());
    assert_eq!(stats.memory.unwrap().oom_kills, 0);
    assert_eq!(stats.pids.unwrap().limit, None);
}

#[test]
fn paused_processes_stand_still() {
    let mut contained = Contained::start(&Limits::default(), "echo ready; while :; do :; done");
    contained.await_line("ready");
    let Contained {
        host,
        container,
        exec,
        ..
    } = &contained;
    assert!(!host.is_paused(exec).unwrap());
    host.unpause(container, exec).unwrap();
    for _ in 0..2 {
        host.pause(container, exec).unwrap();
        assert!(host.is_paused(exec).unwrap());
    }
    let ticks = |contained: &Contained| contained.cpu().total_us;
    let before = ticks(&contained);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(ticks(&contained), before);
    let refused = host.refuse_paused(container).unwrap_err().to_string();
    assert!(refused.contains("unpause it first"), "{refused}");
    for _ in 0..2 {
        host.unpause(container, exec).unwrap();
        assert!(!host.is_paused(exec).unwrap());
    }
    contained.until(|contained| ticks(contained) > before);
}

#[test]
fn paused_containers_can_be_stopped() {
    let script = "trap 'exit 7' TERM; echo ready; while :; do :; done";
    let mut contained = Contained::start(&Limits::default(), script);
    contained.await_line("ready");
    let (container, exec) = (contained.container.clone(), contained.exec.clone());
    contained.host.pause(&container, &exec).unwrap();
    contained.host.terminate(&container, &exec).unwrap();
    assert_eq!(contained.child.wait().unwrap().code(), Some(7));
    let gone = contained.host.pause(&container, &exec).unwrap_err();
    assert!(matches!(gone, HostError::NotRunning(_)), "{gone}");
}

#[test]
fn paused_containers_can_be_killed_and_removed_under_version_1() {
    for remove in [false, true] {
        let mut contained = Contained::start(&Limits::default(), "echo ready; read line");
        contained.await_line("ready");
        let container = contained.container.clone();
        let legacy = contained.host.hierarchies.without_unified();
        let freezer = legacy.freezer(&container).unwrap();
        assert!(matches!(freezer, Freezer::Legacy(_)));
        freezer.freeze().unwrap();
        assert!(freezer.is_frozen().unwrap());
        if remove {
            legacy.remove(&container).unwrap();
        } else {
            contained.child.kill().unwrap();
            legacy.let_die(&container).unwrap();
        }
        assert_eq!(contained.child.wait().unwrap().code(), None);
    }
}

#[test]
fn what_is_left_in_the_groups_is_ended() {
    let mut contained =
        Contained::start(&Limits::default(), "sleep 1000 & sleep 1000 & echo ready");
    contained.await_line("ready");
    contained.child.wait().unwrap();
    contained.host.clean(&contained.container).unwrap();
    assert_eq!(contained.groups_left(), Vec::<PathBuf>::new());
    contained.host.clean(&contained.container).unwrap();
}

#[test]
fn what_a_session_leaves_behind_is_ended() {
    let children = "sleep 1000 & (sleep 1000 & sleep 1000) & setsid sleep 2000 & echo ready";
    for script in [children.to_owned(), format!("{children}; read line")] {
        // As a monitor does: otherwise it would be in the session of whoever runs the tests.
        let mut contained =
            Contained::start_by("exec setsid sh -c \"$0\"", &Limits::default(), &script);
        contained.await_line("ready");
        let Contained {
            host,
            container,
            exec,
            ..
        } = &contained;
        let commands = || {
            let pids = host.hierarchies.processes(container).unwrap().unwrap();
            let line = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut lines: Vec<String> = pids.into_iter().map(line).collect();
            lines.retain(|line| line.starts_with("sleep"));
            lines.sort();
            lines
        };
        let (short, long) = ("sleep\x001000\0", "sleep\x002000\0");
        contained.until(|_| commands() == [short, short, short, long]);
        host.end_session(exec).unwrap();
        contained.until(|_| commands() == [long]);
        let ended = contained.child.wait().unwrap();
        assert_eq!(ended.success(), script == children);
        contained.host.end_session(&contained.exec).unwrap();
        contained.host.state.remove(&contained.exec).unwrap();
        contained.host.end_session(&contained.exec).unwrap();
    }
}

#[test]
fn first_processes_without_handlers_hear_signals_only_of_those_who_insist() {
    // Not a shell, which may have handlers.
    let mut contained = Contained::start_by("exec unshare -pf cat", &Limits::default(), "");
    let first = |contained: &Contained| {
        let Contained {
            host,
            container,
            exec,
            ..
        } = contained;
        let mut all = host.processes(container, exec).unwrap().into_iter();
        all.find(|one| one.inside_pid == Some(1) && one.command == "cat")
    };
    contained.until(|contained| first(contained).is_some());
    let first = first(&contained).unwrap();
    let (host, container) = (&contained.host, &contained.container);
    let exec = ExecId::random();
    host.state.create(&exec).unwrap();
    let status = Status {
        container: container.clone(),
        pid: first.pid,
        start_time: start_time(first.pid).unwrap().unwrap(),
        boot_id: host.state.boot_id().to_owned(),
        exit: None,
        left: false,
    };
    status.write(&host.state.path(&exec)).unwrap();
    for signal in [Signal::HUP, Signal::INT, Signal::TERM, Signal::QUIT] {
        host.send_signal(&exec, signal.as_raw()).unwrap();
    }
    let mut stdin = contained.child.stdin.as_ref().unwrap();
    stdin.write_all(b"alive\n").unwrap();
    contained.await_line("alive");
    contained.host.signal(&exec, Signal::HUP.as_raw()).unwrap();
    assert!(!contained.child.wait().unwrap().success());
}

#[test]
fn own_networks_are_counted() {
    let script = "ip link add v0 type veth peer name v1 && echo ready; read line";
    let by = "exec unshare -n sh -c \"$0\"";
    let mut contained = Contained::start_by(by, &Limits::default(), script);
    contained.await_line("ready");
    let interfaces = contained.stats().network;
    let mut names: Vec<&str> = interfaces.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["v0", "v1"]);
}

#[test]
fn what_is_used_is_known() {
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo ready; read line";
    let mut contained = Contained::start(&Limits::default(), script);
    contained.await_line("ready");
    let Stats {
        cpu,
        memory,
        pids,
        io,
        network,
    } = contained.stats();
    let (cpu, memory) = (cpu.unwrap(), memory.unwrap());
    assert!(cpu.total_us > 0 && cpu.online > 0, "{cpu:?}");
    assert_eq!(cpu.throttled_us, 0);
    assert!(memory.used > 0 && memory.peak >= memory.used, "{memory:?}");
    assert_eq!(
        (memory.limit, memory.oom_kills),
        (clock::machine_memory(), 0)
    );
    assert_eq!(pids.unwrap().current, 1);
    assert!(io.is_some());
    assert_eq!(network, []);
}

#[test]
fn processes_are_listed_as_the_host_and_the_container_see_them() {
    let script = "sleep 1000 & echo ready; exec cat";
    let by = "exec unshare -pf sh -c \"$0\"";
    let mut contained = Contained::start_by(by, &Limits::default(), script);
    contained.await_line("ready");
    let list = |contained: &Contained| {
        let list = contained
            .host
            .processes(&contained.container, &contained.exec);
        list.unwrap()
    };
    contained.until(|contained| {
        let all = list(contained);
        let runs = |command: &str| all.iter().any(|one| one.command == command);
        runs("cat") && runs("sleep 1000")
    });
    let all = list(&contained);
    assert!(all.is_sorted_by_key(|one| one.pid), "{all:?}");
    let find = |command: &str| {
        let found = all.iter().find(|one| one.command.starts_with(command));
        found.unwrap_or_else(|| panic!("no {command} in {all:?}"))
    };
    let outer = find("unshare");
    assert_eq!((outer.pid, outer.inside_pid), (contained.child.id(), None));
    let first = find("cat");
    assert_eq!((first.parent, first.inside_pid), (outer.pid, Some(1)));
    assert_eq!(first.user, "root");
    assert!(first.resident > 0);
    let sleeper = find("sleep 1000");
    assert_eq!((sleeper.parent, sleeper.inside_pid), (first.pid, Some(2)));
}

#[test]
fn limits_that_the_kernel_refuses_change_nothing() {
    let mut contained = Contained::start(&Limits::default(), "echo ready; read line");
    contained.await_line("ready");
    let limits = Limits {
        pids: Some(30),
        cpuset: Some("60000".parse().unwrap()),
        ..Limits::default()
    };
    let message = contained.update(&limits).unwrap_err();
    assert!(message.contains("set of processors 60000"), "{message}");
    assert_eq!(contained.stats().pids.unwrap().limit, None);
    let cpuset = contained.group(Controller::Cpuset);
    assert!(!cpuset.join("tasks").exists(), "its group stays");
}
