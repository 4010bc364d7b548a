//! Looking at containers, and reaching into them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use kleene_doors::files::{PathKind, UnpackOptions};
use kleene_doors::frames::Frame;
use kleene_doors::host::Stdin;
use kleene_doors::observe::{CpuUsage, Stats};
use kleene_doors::storage::{Change, ChangeKind, Dataset, Storage};
use kleene_engine::{ContainerState, Engine, EngineError, ExecStart, Exit};
use kleene_host::fake::{Op, Program};
use kleene_types::{ContainerId, ExecId};
use support::{World, container, exec, named, start, wait_for};

/// A container of this name that runs, and its first process.
fn running(engine: &Engine, name: &str) -> (ContainerId, ExecId) {
    let id = engine.container_create(named(name, &[])).unwrap().id;
    let init = start(engine, &id);
    (id, init)
}

fn finish(world: &World, engine: &Engine, id: &ContainerId, init: &ExecId, code: i32) {
    world.host.finish(init, code);
    wait_for(engine, id, ContainerState::Exited);
}

fn not_running<T: std::fmt::Debug>(result: Result<T, EngineError>, name: &str) {
    match result.unwrap_err() {
        EngineError::ContainerNotRunning(told) => assert_eq!(told, name),
        other => panic!("{other:?}"),
    }
}

fn not_found<T: std::fmt::Debug>(result: Result<T, EngineError>) {
    match result.unwrap_err() {
        EngineError::ContainerNotFound(told) => assert_eq!(told, "nobody"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stats_of_those_that_run() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let (old, _) = running(&engine, "old");
    let (new, _) = running(&engine, "new");
    let stopped = engine.container_create(named("stopped", &[])).unwrap().id;
    let used = Stats {
        cpu: Some(CpuUsage {
            total_us: 5,
            ..CpuUsage::default()
        }),
        ..Stats::default()
    };
    world.host.set_stats(&old, used.clone());
    let names = |references: &[&str]| {
        let references: Vec<String> = references.iter().map(|r| (*r).to_owned()).collect();
        let views = engine.container_stats(&references);
        views.map(|views| views.iter().map(|v| v.name.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]).unwrap(), ["new", "old"]);
    assert_eq!(
        names(&["old", "new", old.as_str()]).unwrap(),
        ["old", "new"]
    );
    not_running(names(&["old", stopped.as_str()]), "stopped");
    not_found(names(&["old", "nobody"]));
    let view = engine.container_stats(&["old".into()]).unwrap().remove(0);
    assert_eq!((view.id, view.stats), (old, used));
    // One that has ended, but nobody has noticed yet.
    let gone = || kleene_doors::host::HostError::NotRunning(ExecId::random());
    world.host.fail_next_with(Op::Stats, gone());
    assert_eq!(names(&[]).unwrap(), ["old"]);
    world.host.fail_next_with(Op::Stats, gone());
    not_running(names(&[new.as_str()]), "new");
}

#[test]
fn processes_of_a_container() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let (id, _) = running(&engine, "web");
    let joined = exec(&engine, &id, &["sleep", "9"]);
    engine
        .exec_start(joined.as_str(), support::DETACHED)
        .unwrap();
    let processes = engine.container_top("web").unwrap();
    let commands: Vec<&str> = processes.iter().map(|p| p.command.as_str()).collect();
    assert_eq!(commands, ["sleep", "sleep 9"]);
    engine.container_create(named("stopped", &[])).unwrap();
    not_running(engine.container_top("stopped"), "stopped");
    not_found(engine.container_top("nobody"));
}

#[test]
fn changes_of_a_container() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("web", &[])).unwrap().id;
    assert_eq!(engine.container_changes("web").unwrap(), []);
    let root = world.storage.mountpoint(&Dataset::Container(id));
    world.fs.write(&root.join("etc/motd"), b"hello");
    let added = Change {
        path: "/etc/motd".into(),
        kind: ChangeKind::Added,
    };
    assert!(engine.container_changes("web").unwrap().contains(&added));
    not_found(engine.container_changes("nobody"));
}

#[test]
fn logs_of_runs_and_instances() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("web", &[])).unwrap().id;
    let logged = || -> Vec<ExecId> {
        let view = engine.container_log("web").unwrap();
        view.execs.into_iter().map(|exec| exec.id).collect()
    };
    assert!(logged().is_empty());
    let mut runs = Vec::new();
    for _ in 0..3 {
        let init = start(&engine, &id);
        let joined = exec(&engine, &id, &["true"]);
        engine
            .exec_start(joined.as_str(), support::DETACHED)
            .unwrap();
        world.host.print(&init, b"output");
        finish(&world, &engine, &id, &init, 0);
        runs.push(init);
    }
    exec(&engine, &id, &["true"]);
    assert_eq!(
        logged(),
        runs,
        "the oldest first, and only what was started"
    );
    for init in &runs {
        let mut files = engine.log_files(init).unwrap();
        let mut bytes = Vec::new();
        files.pop().unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"output"));
        let view = engine.exec_log(init.as_str()).unwrap();
        assert_eq!(view.execs[0].id, *init);
        assert!(engine.log_follow(init).unwrap().is_none());
    }
    let init = start(&engine, &id);
    let mut news = engine.log_follow(&init).unwrap().unwrap();
    let mut next = || Frame::read(&mut news).unwrap();
    assert!(matches!(next(), Some(Frame::Started(_))));
    world.host.print(&init, b"more");
    assert_eq!(next(), Some(Frame::Grown));
    world.host.finish(&init, 0);
    assert!(matches!(next(), Some(Frame::Exited(_))));
    not_found(engine.container_log("nobody"));
    let nobody = engine.exec_log("0123456789ab").unwrap_err();
    assert!(matches!(nobody, EngineError::ExecNotFound(_)));
}

#[test]
fn streams_of_running_processes() {
    let world = World::new();
    world.host.program("echo", Program::Echoes);
    let (engine, _) = world.with_image();
    let mut echo = named("web", &[]);
    echo.cmd = vec!["echo".into()];
    let id = engine.container_create(echo).unwrap().id;
    not_running(engine.container_attach("web"), "web");
    let waiting = exec(&engine, &id, &[]);
    let early = engine.exec_attach(waiting.as_str()).unwrap_err();
    assert!(early.to_string().contains("is not running: start it"));
    let with_input = ExecStart {
        attach: true,
        stdin: Stdin::Stream,
        ..support::DETACHED
    };
    engine.exec_start(waiting.as_str(), with_input).unwrap();
    let mut first = engine.container_attach("web").unwrap();
    let mut second = engine.exec_attach(waiting.as_str()).unwrap();
    assert_eq!((&first.id, &second.id), (&waiting, &waiting));
    let to = first.attached.as_mut().unwrap();
    Frame::Stdin(b"hello".to_vec()).write(to).unwrap();
    for started in [&mut first, &mut second] {
        let frame = Frame::read(started.attached.as_mut().unwrap()).unwrap();
        assert_eq!(frame, Some(Frame::Stdout(b"hello".to_vec())));
    }
    finish(&world, &engine, &id, &waiting, 3);
    let late = engine.exec_attach(waiting.as_str()).unwrap_err();
    assert!(matches!(late, EngineError::Conflict(_)));
    assert!(late.to_string().contains("has ended with exit code 3"));
    not_found(engine.container_attach("nobody"));
}

#[test]
fn how_a_container_ended() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("web", &[])).unwrap().id;
    assert_eq!(engine.container_exit("web").unwrap(), None);
    let init = start(&engine, &id);
    assert_eq!(engine.container_exit("web").unwrap(), None);
    finish(&world, &engine, &id, &init, 3);
    let wanted = |exit_code, out_of_memory| Exit {
        id: id.clone(),
        exit_code,
        out_of_memory,
    };
    assert_eq!(
        engine.container_exit("web").unwrap(),
        Some(wanted(3, false))
    );
    let init = start(&engine, &id);
    assert_eq!(engine.container_exit("web").unwrap(), None);
    world.host.finish_out_of_memory(&init);
    wait_for(&engine, &id, ContainerState::Exited);
    assert_eq!(
        engine.container_exit("web").unwrap(),
        Some(wanted(137, true))
    );
    not_found(engine.container_exit("nobody"));
}

fn pack(engine: &Engine, path: &str) -> Result<Vec<u8>, EngineError> {
    let mut archive = Vec::new();
    engine.read_archive("web", Path::new(path), &mut archive)?;
    Ok(archive)
}

fn unpack(engine: &Engine, path: &str, archive: &[u8]) -> Result<(), EngineError> {
    let mut archive = Cursor::new(archive);
    engine.write_archive(
        "web",
        Path::new(path),
        &mut archive,
        UnpackOptions::default(),
    )
}

#[test]
fn files_of_containers_that_run_and_that_do_not() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let mounts = &["data:/data", "fixed:/fixed:ro"];
    let id = engine.container_create(named("web", mounts)).unwrap().id;
    let root = world.storage.mountpoint(&Dataset::Container(id.clone()));
    for round in ["stopped", "running"] {
        if round == "running" {
            start(&engine, &id);
        }
        let found = engine
            .stat_path("web", Path::new("/bin/sh"))
            .unwrap()
            .unwrap();
        assert_eq!(
            (found.name.as_str(), found.kind, found.size),
            ("sh", PathKind::File, 2)
        );
        assert_eq!(
            engine.stat_path("web", Path::new("/nowhere")).unwrap(),
            None
        );
        let archive = pack(&engine, "/bin/sh").unwrap();
        unpack(&engine, "/etc", &archive).unwrap();
        assert_eq!(world.fs.read(&root.join("etc/sh")).unwrap(), b"#!");
        world.fs.remove_all(&root.join("etc/sh"));
        unpack(&engine, "/data", &archive).unwrap();
        assert_eq!(world.in_volume("data"), ["sh"], "{round}");
        let refused = unpack(&engine, "/fixed", &archive).unwrap_err();
        assert!(matches!(refused, EngineError::Conflict(_)), "{refused:?}");
        assert_eq!(
            refused.to_string(),
            "'/fixed' in container 'web' can't be written to: the mount at '/fixed' is read-only"
        );
        for path in ["/nowhere", "relative"] {
            let missing = pack(&engine, path).unwrap_err();
            assert!(matches!(missing, EngineError::Invalid(_)), "{missing:?}");
        }
        let bad = unpack(&engine, "/etc", b"nonsense").unwrap_err();
        assert!(matches!(bad, EngineError::Invalid(_)), "{bad:?}");
    }
    not_found(engine.stat_path("nobody", Path::new("/")));
}

#[test]
fn files_of_a_container_that_has_just_ended() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("web", &[])).unwrap().id;
    for _ in 0..50 {
        let init = start(&engine, &id);
        world.host.finish(&init, 0);
        // Its end may or may not have been noticed.
        assert!(
            engine
                .stat_path("web", Path::new("/bin/sh"))
                .unwrap()
                .is_some()
        );
        wait_for(&engine, &id, ContainerState::Exited);
    }
}

/// An archive that is written or read as slowly as the test wants.
struct Slow<F: FnMut()> {
    data: Cursor<Vec<u8>>,
    pause: F,
}

impl<F: FnMut()> Read for Slow<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (self.pause)();
        self.data.read(into)
    }
}

impl<F: FnMut()> Write for Slow<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (self.pause)();
        self.data.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `work` with an archive in whose middle `other` is begun in a thread; `other` must not get
/// anywhere until the archive is done with.
fn held_up(
    world: &World,
    engine: &Arc<Engine>,
    op: Op,
    archive: Vec<u8>,
    work: impl FnOnce(&Engine, &mut Slow<&mut dyn FnMut()>),
    other: impl FnOnce(&Engine) + Send + 'static,
) {
    let done = |host: &kleene_host::fake::FakeHost| host.calls().iter().any(|c| c.op == op);
    let (mut other, mut thread) = (Some(other), None);
    let (begun, begins) = channel();
    let mut pause = || {
        let Some(other) = other.take() else {
            return;
        };
        let (engine, begun) = (Arc::clone(engine), begun.clone());
        thread = Some(std::thread::spawn(move || {
            begun.send(()).unwrap();
            other(&engine);
        }));
        begins.recv().unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        while Instant::now() < deadline {
            assert!(!done(&world.host), "{op:?} didn't wait");
            std::thread::yield_now();
        }
    };
    let mut slow = Slow {
        data: Cursor::new(archive),
        pause: &mut pause as &mut dyn FnMut(),
    };
    work(engine, &mut slow);
    thread.unwrap().join().unwrap();
    assert!(done(&world.host));
}

#[test]
fn nothing_happens_to_a_container_whose_files_are_in_use() {
    for remove in [false, true] {
        for write in [false, true] {
            let world = World::new();
            let (engine, _) = world.with_image();
            let id = engine.container_create(named("web", &[])).unwrap().id;
            let archive = pack(&engine, "/bin/sh").unwrap();
            let (op, data) = (if remove { Op::Clean } else { Op::Start }, archive.clone());
            held_up(
                &world,
                &engine,
                op,
                if write { data } else { Vec::new() },
                |engine, slow| match write {
                    true => engine
                        .write_archive("web", Path::new("/etc"), slow, UnpackOptions::default())
                        .unwrap(),
                    false => engine
                        .read_archive("web", Path::new("/bin/sh"), slow)
                        .unwrap(),
                },
                move |engine| match remove {
                    true => drop(engine.container_remove("web", false).unwrap()),
                    false => drop(start(engine, &id)),
                },
            );
        }
    }
}

#[test]
fn a_running_container_ends_while_its_files_are_read() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let (id, init) = running(&engine, "web");
    let mut ended = false;
    let mut pause = || {
        if !std::mem::replace(&mut ended, true) {
            finish(&world, &engine, &id, &init, 0);
        }
    };
    let mut slow = Slow {
        data: Cursor::new(Vec::new()),
        pause: &mut pause as &mut dyn FnMut(),
    };
    engine
        .read_archive("web", Path::new("/bin/sh"), &mut slow)
        .unwrap();
    assert!(ended, "its end was recorded meanwhile");
}

#[test]
fn events_count_up_and_name_what_happened() {
    let world = World::new();
    let (engine, image) = world.with_image();
    let id = engine
        .container_create(named("web", &["data:/bin"]))
        .unwrap()
        .id;
    engine.container_remove(id.as_str(), false).unwrap();
    engine.volume_remove("data").unwrap();
    engine.image_remove(image.as_str()).unwrap();
    let events = engine.events_after(0);
    for (event, number) in events.iter().zip(1..) {
        assert_eq!(event.sequence, number);
    }
    let brief: Vec<String> = events
        .iter()
        .map(|e| format!("{} {} {}", e.kind, e.action, e.name))
        .collect();
    assert_eq!(
        brief,
        [
            "daemon start ",
            "image create base:latest",
            "volume create data",
            "volume populate data",
            "container create web",
            "container remove web",
            "volume remove data",
            "image remove base:latest",
        ]
    );
    assert_eq!(events[1].id, image.as_str());
    assert_eq!(engine.events_after(6), events[6..]);
    assert_eq!(engine.last_event(), 8);
    // What fails is no event.
    engine.container_create(container(&[])).unwrap_err();
    engine.volume_remove("data").unwrap_err();
    assert_eq!(engine.last_event(), 8);
}
