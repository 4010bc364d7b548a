//! The same containers by an outside OCI runtime, and that they are the same.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, their helpers included"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{
    Container, World, check_meeting_mounts, check_nosuid_mounts, groups, mounted_beneath, process,
    terminal,
};
use kleene_doors::frames::Frame;
use kleene_doors::host::{Host, Probe, Process, Stdin, WindowSize};
use kleene_types::{ByteSize, Init};

const RUNC: &str = "/usr/sbin/runc";
const CRUN: &str = "/usr/bin/crun";

fn runc() -> World {
    assert!(
        Path::new(RUNC).exists(),
        "install the package runc: {RUNC} is missing"
    );
    World::outside(RUNC)
}

/// Nothing is left of a container that was cleaned up after.
fn assert_gone(world: &World, container: &Container<'_>) {
    assert_eq!(groups(&container.id), Vec::<std::path::PathBuf>::new());
    let record = world
        .tmp
        .path()
        .join("run/outside")
        .join(container.id.as_str());
    assert!(!record.exists(), "{record:?}");
    assert_eq!(mounted_beneath(world.tmp.path()), Vec::<String>::new());
}

#[test]
fn streams_and_exit_codes_are_passed_on() {
    let world = runc();
    let container = world.container();
    let echo = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", "cat; echo err >&2; exit 7"])
    };
    let mut running = container.start(echo).unwrap();
    running.type_in("typed\n");
    running.send(&Frame::StdinEnd);
    let seen = running.finish();
    assert_eq!(
        (seen.stdout().as_str(), seen.stderr().as_str(), seen.code),
        ("typed\n", "err\n", Some(7))
    );
    world.host.clean(&container.id).unwrap();
    assert_gone(&world, &container);

    let killed = container.run(&["sh", "-c", "kill -9 $$; echo alive"]);
    // Process 1 is deaf to its own namespace.
    assert_eq!(killed.stdout(), "alive\n");
    assert_gone(&world, &container);
}

#[test]
fn mounts_that_would_hide_each_other_are_refused() {
    check_meeting_mounts(&runc());
}

#[test]
fn nosuid_mounts_are_so_recursively() {
    check_nosuid_mounts(&runc());
}

#[test]
fn containers_are_joined_signalled_and_killed() {
    let world = runc();
    let container = world.container();
    let init = container.idle();
    assert_eq!(init.exec("hostname; exit 4").stdout(), "tester\n");
    assert_eq!(init.exec("exit 4").code, Some(4));
    let sleeping = init.join(process(&["sleep", "1000"]));
    let pid = sleeping.pid;
    assert!(init.exec("ps").ok().contains("sleep 1000"));
    let link = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(link(pid), link(init.pid));
    let wrong = init.join_request(process(&["nosuch"]));
    let failure = world.host.start(&wrong).unwrap_err().to_string();
    assert!(failure.contains("nosuch"), "{failure}");
    init.kill();
    assert_eq!(sleeping.finish().code, Some(137));
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_gone(&world, &container);

    let handling = container.idle();
    world.host.terminate(&container.id, &handling.exec).unwrap();
    assert_eq!(handling.finish().code, Some(3));
    world.host.clean(&container.id).unwrap();
    assert_gone(&world, &container);
}

#[test]
fn terminals_have_their_size() {
    let world = runc();
    let container = world.container();
    let script = "tty; stty size; read line; stty size; echo got $line";
    let mut running = container
        .start(terminal(&["sh", "-c", script], 12, 34))
        .unwrap();
    assert_eq!(running.read_line(), "/dev/pts/0");
    assert_eq!(running.read_line(), "12 34");
    running.send(&Frame::Resize(WindowSize {
        rows: 5,
        columns: 67,
    }));
    running.type_in("word\n");
    assert_eq!(running.read_line(), "word");
    assert_eq!(running.read_line(), "5 67");
    assert_eq!(running.read_line(), "got word");
    assert_eq!(running.finish().code, Some(0));
    world.host.clean(&container.id).unwrap();

    let init = container.idle();
    let mut joined = init.join(terminal(&["stty", "size"], 9, 8));
    assert_eq!(joined.read_line(), "9 8");
    assert_eq!(joined.finish().code, Some(0));
    init.kill();
    assert_gone(&world, &container);
}

#[test]
fn failed_starts_say_why_and_leave_nothing() {
    let world = runc();
    for (argv, code, text) in [
        ("nosuch", 127, "nosuch"),
        ("/no/such", 127, "/no/such"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let container = world.container();
        let failure = container.refused(process(&[argv]));
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(text), "{failure}");
        assert_gone(&world, &container);
    }
    let nobody = Process {
        user: "nobody".into(),
        ..process(&["true"])
    };
    let container = world.container();
    let failure = container.refused(nobody);
    assert!(
        failure.message.contains("user 'nobody' is unknown"),
        "{failure}"
    );
    let container = world.container().mount("/no/such/source", "/data", false);
    let failure = container.refused(process(&["true"]));
    assert!(failure.message.contains("/no/such/source"), "{failure}");
    assert_gone(&world, &container);
}

#[test]
fn users_are_those_of_mounted_files() {
    let world = runc();
    let passwd = world.tmp.path().join("passwd");
    fs::write(&passwd, "other:x:1234:81::/there:/bin/sh\n").unwrap();
    let container = world.container().mount(&passwd, "/etc/passwd", true);
    let other = Process {
        user: "other".into(),
        ..process(&["sh", "-c", "id -u; id -g; echo $HOME"])
    };
    assert_eq!(container.run_process(other).ok(), "1234\n81\n/there\n");
    assert_gone(&world, &container);
}

#[test]
fn running_containers_outlive_daemon_and_setting() {
    let mut world = runc();
    let id = {
        let container = world.container();
        let init = container.idle();
        (container.id.clone(), init.exec.clone())
    };
    // The next daemon has no outside runtime configured.
    world.restart();
    let (container, exec) = id;
    let probe = world.host.probe(&exec).unwrap();
    assert!(matches!(probe, Probe::Running { .. }), "{probe:?}");
    world.host.kill(&container, &exec).unwrap();
    let Probe::Running { mut watch, .. } = probe else {
        panic!("checked before");
    };
    let ended = Frame::read(&mut watch).unwrap();
    assert!(
        matches!(&ended, Some(Frame::Exited(status)) if status.code == 137),
        "{ended:?}"
    );
    world.host.clean(&container).unwrap();
    assert_eq!(groups(&container), Vec::<std::path::PathBuf>::new());
    assert!(
        !world
            .tmp
            .path()
            .join("run/outside")
            .join(container.as_str())
            .exists()
    );
}

/// crun refuses hosts with both versions of control groups, and says so; elsewhere it works.
#[test]
fn crun_works_or_says_why_not() {
    assert!(
        Path::new(CRUN).exists(),
        "install the package crun: {CRUN} is missing"
    );
    let world = World::outside(CRUN);
    let container = world.container();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_hybrid = [" - cgroup cgroup ", " - cgroup2 "].map(|kind| mounts.contains(kind));
    if is_hybrid == [true, true] {
        let failure = container.refused(process(&["true"]));
        assert_eq!(failure.code, 125, "{failure}");
        for words in ["/usr/bin/crun", "hybrid", "without the setting oci_runtime"] {
            assert!(failure.message.contains(words), "{failure}");
        }
    } else {
        assert_eq!(container.run(&["hostname"]).ok(), "tester\n");
        let init = container.idle();
        assert_eq!(init.exec("exit 4").code, Some(4));
        // The monitor sets the size of a joined terminal: crun has started the program by then.
        let mut joined = init.join(terminal(&["sh", "-c", "read x; stty size"], 9, 8));
        joined.type_in("\n");
        while joined.received.code.is_none() {
            joined.receive();
        }
        assert!(
            joined.received.stdout().contains("9 8"),
            "{:?}",
            joined.received
        );
        init.kill();
        let failure = container.refused(process(&["nosuch"]));
        assert_eq!(failure.code, 127, "{failure}");
    }
    assert_gone(&world, &container);
}

#[test]
fn limits_and_directories_are_passed_on() {
    let world = runc();
    let mut container = world.container();
    container.setup.shm_size = Some(ByteSize::new(3 << 20));
    let limited = |directory: &str| Process {
        cwd: Some(directory.parse().unwrap()),
        ulimits: vec!["nofile=77:99".parse().unwrap(), "core=0".parse().unwrap()],
        ..process(&[
            "sh",
            "-c",
            "pwd; ulimit -Sn; ulimit -Hn; ulimit -c; df -k /dev/shm | grep -c 3072",
        ])
    };
    let seen = container.run_process(limited("/srv/first")).ok();
    assert_eq!(seen, "/srv/first\n77\n99\n0\n1\n");
    let init = container.idle();
    let seen = init.join(limited("/srv/first")).finish().ok();
    assert_eq!(seen, "/srv/first\n77\n99\n0\n1\n");
    init.kill();
    assert_gone(&world, &container);
}

#[test]
fn what_it_has_not_got_is_refused() {
    let world = runc();
    let mut container = world.container();
    container.setup.init = Init::Main;
    let failure = container.refused(process(&["true"]));
    assert_eq!(failure.code, 125);
    assert_eq!(
        failure.message,
        "an init process can't be had of an outside OCI runtime: leave it out, or the setting \
         oci_runtime"
    );
    assert_gone(&world, &container);
}

#[test]
fn control_groups_have_their_limits() {
    let world = runc();
    let mut container = world.container();
    container.setup.limits.pids = Some(40);
    container.setup.limits.memory = Some(ByteSize::new(64 << 20));
    let init = container.idle();
    let top = Path::new("/sys/fs/cgroup");
    let value = |old: &str, new: &str| {
        let old = old.replace("ID", container.id.as_str());
        let old = fs::read_to_string(top.join(old));
        let new = top.join("kleene").join(container.id.as_str()).join(new);
        old.or_else(|_| fs::read_to_string(new)).unwrap()
    };
    assert_eq!(value("pids/kleene/ID/pids.max", "pids.max"), "40\n");
    let memory = value("memory/kleene/ID/memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, "67108864\n");
    let status = fs::read_to_string(format!("/proc/{}/cgroup", init.pid)).unwrap();
    assert!(status.contains(container.id.as_str()), "{status}");
    init.kill();
    assert_gone(&world, &container);
}
