//! Monitors: they live without a daemon, serve several clients, and are small.
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
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, World, await_end, await_that, monitor_of, private_memory, process};
use kleene_doors::frames::Frame;
use kleene_doors::host::{Host, HostError, Probe, Process, Stdin};
use kleene_types::ExecId;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Clock ticks of processor time that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn limit_open_files(pid: u32, current: u64) -> u64 {
    let process = Pid::from_raw(i32::try_from(pid).unwrap());
    let before = prlimit(process, Resource::Nofile, getrlimit(Resource::Nofile)).unwrap();
    let limit = Rlimit {
        current: Some(current),
        maximum: before.maximum,
    };
    prlimit(process, Resource::Nofile, limit).unwrap();
    before.current.unwrap()
}

/// A monitor that can't take a connection goes on, and takes it when it can.
#[test]
fn a_shortage_of_descriptors_ends_nothing() {
    let world = World::new();
    let container = world.container();
    let script = "echo ready; while read line; do sleep 1; echo $line; done";
    let wanted = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", script])
    };
    let mut running = container.start(wanted).unwrap();
    assert_eq!(running.read_line(), "ready");
    let monitor = monitor_of(running.pid);
    // Not fewer: poll(2) takes as many at most.
    let open = |fd: &u64| Path::new(&format!("/proc/{monitor}/fd/{fd}")).exists();
    let before = limit_open_files(monitor, (0..).find(|fd| !open(fd)).unwrap());

    let late = world.tmp.path().join("run").join(running.exec.as_str());
    let mut late = UnixStream::connect(late.join("attach.sock")).unwrap();
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    Frame::Watch.write(&mut late).unwrap();
    let used = ticks(monitor);
    running.type_in("one\n");
    assert_eq!(running.read_line(), "one");
    // Of the hundred in a second: it waits.
    assert!(ticks(monitor) - used < 30, "the monitor is busy waiting");

    limit_open_files(monitor, before);
    let answer = Frame::read(&mut late).unwrap();
    assert_eq!(answer, Some(Frame::Started(running.pid)));
    running.send(&Frame::StdinEnd);
    assert_eq!(running.finish().code, Some(0));
    assert!(matches!(Frame::read(&mut late), Ok(Some(Frame::Exited(_)))));
    world.host.clean(&container.id).unwrap();
}

#[test]
fn containers_outlive_the_daemon() {
    let mut world = World::new();
    let (exec, id) = {
        let container = world.container();
        let script =
            "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done";
        let mut running = container.start(process(&["sh", "-c", script])).unwrap();
        assert_eq!(running.read_line(), "ready");
        (running.exec.clone(), container.id.clone())
    };
    // Both of the daemon's connections are closed now; a new daemon comes.
    world.restart();
    let Probe::Running { mut watch, .. } = world.host.probe(&exec).unwrap() else {
        panic!()
    };
    let mut attached = world.host.attach(&exec).unwrap();
    // It is known to be attached once it is answered to; a second one shows that.
    let Probe::Running { pid, .. } = world.host.probe(&exec).unwrap() else {
        panic!()
    };
    let monitor = monitor_of(pid);
    world.host.terminate(&id, &exec).unwrap();
    let first = Frame::read(&mut attached).unwrap();
    assert_eq!(first, Some(Frame::Stdout(b"bye\n".to_vec())));
    for stream in [&mut attached, &mut watch] {
        let Some(Frame::Exited(status)) = Frame::read(stream).unwrap() else {
            panic!()
        };
        assert_eq!(status.code, 5);
    }
    assert!(matches!(world.host.probe(&exec).unwrap(), Probe::Exited(status) if status.code == 5));
    assert!(matches!(
        world.host.attach(&exec),
        Err(HostError::NotRunning(_))
    ));
    await_end(monitor);
    world.host.forget(&exec).unwrap();
    assert!(matches!(world.host.probe(&exec).unwrap(), Probe::Lost));
    world.host.clean(&id).unwrap();
}

#[test]
fn a_killed_monitor_takes_its_container_along() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    let monitor = monitor_of(init.pid);
    let pid = Pid::from_raw(monitor.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let mut watch = &init.watch;
    assert_eq!(Frame::read(&mut watch).unwrap(), None);
    assert!(matches!(world.host.probe(&init.exec).unwrap(), Probe::Lost));
    await_end(init.pid);
    let deadline = Instant::now() + PATIENCE;
    while fs::exists(format!("/proc/{monitor}")).unwrap() {
        assert!(Instant::now() < deadline, "the monitor isn't reaped");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(
        world.host.signal(&init.exec, 15),
        Err(HostError::NotRunning(exec)) if exec == init.exec
    ));
    world.host.clean(&container.id).unwrap();
}

#[test]
fn several_clients_see_the_same() {
    let world = World::new();
    let container = world.container();
    let reading = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", "read x; echo $x; exit 9"])
    };
    let mut running = container.start(reading).unwrap();
    let mut others: Vec<_> = (0..5)
        .map(|_| world.host.attach(&running.exec).unwrap())
        .collect();
    let mut vanishing = world.host.attach(&running.exec).unwrap();
    vanishing
        .write_all(&Frame::Stdin(vec![b'l'; 3]).encode()[..4])
        .unwrap();
    drop(vanishing);
    let mut nonsense = world.host.attach(&running.exec).unwrap();
    nonsense.write_all(b"\xff\xff\xff\xff\xff\xff").unwrap();
    // Answered after all of those were accepted.
    assert!(matches!(
        world.host.probe(&running.exec).unwrap(),
        Probe::Running { .. }
    ));
    others[0]
        .write_all(&Frame::Stdin(b"hel".to_vec()).encode())
        .unwrap();
    Frame::Watch.write(&mut others[0]).unwrap();
    running.type_in("");
    others[0]
        .write_all(&Frame::Stdin(b"lo\n".to_vec()).encode())
        .unwrap();
    for other in &mut others {
        assert_eq!(
            Frame::read(other).unwrap(),
            Some(Frame::Stdout(b"hello\n".to_vec()))
        );
        assert!(matches!(Frame::read(other).unwrap(), Some(Frame::Exited(s)) if s.code == 9));
        assert_eq!(Frame::read(other).unwrap(), None);
    }
    let outcome = running.finish();
    assert_eq!(
        (outcome.stdout(), outcome.code),
        ("hello\n".into(), Some(9))
    );
}

#[test]
fn a_slow_client_slows_the_process_and_loses_nothing() {
    let world = World::new();
    let container = world.container();
    let script = "dd if=/dev/zero bs=64k count=160 2>/dev/null; echo written >&2; sleep 1000";
    let running = container.start(process(&["sh", "-c", script])).unwrap();
    let monitor = monitor_of(running.pid);
    // The program's own memory is that of all monitors of a daemon.
    let other = world.container();
    let other = other.idle();
    // Nobody reads: the process must come to a stand with the monitor's queue full.
    let deadline = Instant::now() + PATIENCE;
    while private_memory(monitor) < 1 << 20 {
        assert!(Instant::now() < deadline, "the queue doesn't fill");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(
        world.host.probe(&running.exec).unwrap(),
        Probe::Running { .. }
    ));
    assert!(
        private_memory(monitor) < 4 << 20,
        "{}",
        private_memory(monitor)
    );
    let mut running = running;
    while running.received.stdout.len() < 10 << 20 || running.received.stderr.is_empty() {
        assert!(running.receive());
    }
    assert_eq!(running.received.stdout.len(), 10 << 20);
    let is_small = || private_memory(monitor) <= 1 << 20;
    await_that("the queue's memory isn't given back", is_small);
    running.kill();
    other.kill();
}

#[test]
fn a_waiting_monitor_is_small() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    // The program's own memory is that of all monitors of a daemon.
    let other = world.container();
    let other = other.idle();
    let memory = private_memory(monitor_of(init.pid));
    println!("private memory of a monitor: {} KiB", memory >> 10);
    assert!(memory <= 1 << 20, "{memory}");
    init.kill();
    other.kill();
}

#[test]
fn background_processes_of_a_joined_one_do_not_hold_its_end() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    let outcome = init.exec("sleep 1000 & echo started");
    assert_eq!(outcome.ok(), "started\n");
    // It goes on in the container.
    assert!(init.exec("ps").ok().contains("sleep 1000"));
    init.kill();
}

#[test]
fn paths_longer_than_a_socket_address_work() {
    let world = World::new();
    let deep = world.tmp.path().join("d".repeat(120)).join("e".repeat(120));
    let host = kleene_host::linux::LinuxHost::new(&common::config(&deep)).unwrap();
    let container = world.container();
    let mut request = container.request(process(&["sleep", "1000"]));
    request.attach = false;
    let started = host.start(&request).unwrap();
    assert!(started.attached.is_none());
    assert!(
        matches!(host.probe(&request.exec).unwrap(), Probe::Running { pid, .. } if pid == started.pid)
    );
    host.kill(&container.id, &request.exec).unwrap();
    let mut watch = started.watch;
    assert!(matches!(Frame::read(&mut watch).unwrap(), Some(Frame::Exited(s)) if s.code == 137));
    host.clean(&container.id).unwrap();
}

#[test]
fn joining_what_does_not_run_is_an_error() {
    let world = World::new();
    let container = world.container();
    let mut request = container.request(process(&["true"]));
    let init = ExecId::random();
    request.place = kleene_doors::host::Place::Running { init: init.clone() };
    assert!(matches!(world.host.start(&request), Err(HostError::NotRunning(id)) if id == init));
}

/// It ends at any point of the way in: whoever joins runs for a moment, or is told that it is gone.
#[test]
fn joining_while_the_container_ends() {
    let world = World::new();
    let gone = |error: &HostError| match error {
        HostError::NotRunning(_) => true,
        HostError::Start(failure) => failure.code == 125 && failure.message.contains("not running"),
        _ => false,
    };
    for _ in 0..20 {
        let container = world.container();
        let init = container.idle();
        let request = |_| init.join_request(process(&["sleep", "1000"]));
        let requests: Vec<_> = (0..3).map(request).collect();
        std::thread::scope(|scope| {
            for request in &requests {
                scope.spawn(|| match world.host.start(request) {
                    Ok(started) => drop(started),
                    Err(error) => assert!(gone(&error), "{error:?}"),
                });
            }
            world.host.kill(&container.id, &init.exec).unwrap();
        });
        init.finish();
        world.host.clean(&container.id).unwrap();
    }
}
