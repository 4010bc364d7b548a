//! Many at once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kleene_engine::{Engine, EngineError, ListOptions, NewExec};
use kleene_types::ContainerId;
use support::{ALL, DETACHED, World, container, exec, named, show, start};

const GRACE: Option<Duration> = Some(Duration::from_secs(20));

fn new_exec(container: &ContainerId) -> NewExec {
    NewExec {
        container: container.to_string(),
        cmd: vec!["true".into()],
        env: Vec::new(),
        user: String::new(),
        tty: false,
        working_dir: None,
    }
}

/// Runs a process in a container that somebody may remove at any moment; whether it ran.
fn try_exec(engine: &Engine, container: &ContainerId) -> bool {
    let ran = engine
        .exec_create(new_exec(container))
        .and_then(|exec| engine.exec_start(exec.as_str(), DETACHED));
    match ran {
        Ok(_) => true,
        Err(
            EngineError::ContainerNotFound(_)
            | EngineError::ContainerNotRunning(_)
            | EngineError::ExecNotFound(_),
        ) => false,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn two_hundred_containers_by_sixteen_clients() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    let next = AtomicUsize::new(0);
    let clients = |work: &(dyn Fn(usize) + Sync)| {
        next.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        match next.fetch_add(1, Ordering::SeqCst) {
                            number @ 0..200 => work(number),
                            _ => return,
                        }
                    }
                });
            }
        });
    };
    clients(&|number| {
        let new = named(&format!("c{number}"), &["shared:/v"]);
        let id = engine.container_create(new).unwrap().id;
        start(&engine, &id);
        assert!(try_exec(&engine, &id));
    });
    assert_eq!(engine.container_list(ALL).unwrap().len(), 200);
    clients(&|number| {
        let name = format!("c{number}");
        engine.container_stop(&name, GRACE).unwrap();
        engine.container_remove(&name, false).unwrap();
    });
    assert!(engine.container_list(ALL).unwrap().is_empty());
    engine.volume_remove("shared").unwrap();
    assert_eq!(world.datasets(), before);
    assert!(world.host.running().is_empty());
}

/// Who joins a container while it is stopped and removed hears that it is gone, and leaves nothing.
#[test]
fn joining_what_is_being_removed() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    for _ in 0..20 {
        let id = engine.container_create(container(&[])).unwrap().id;
        start(&engine, &id);
        let removed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let join_only = kleene_engine::ExecStart {
                        start_container: false,
                        ..DETACHED
                    };
                    while !removed.load(Ordering::SeqCst) {
                        let Ok(exec) = engine.exec_create(new_exec(&id)) else {
                            return;
                        };
                        match engine.exec_start(exec.as_str(), join_only) {
                            Ok(_)
                            | Err(
                                EngineError::ContainerNotFound(_)
                                | EngineError::ContainerNotRunning(_)
                                | EngineError::ExecNotFound(_),
                            ) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                });
            }
            engine.container_stop(id.as_str(), GRACE).unwrap();
            engine.container_remove(id.as_str(), false).unwrap();
            removed.store(true, Ordering::SeqCst);
        });
        assert!(matches!(
            engine.exec_create(new_exec(&id)),
            Err(EngineError::ContainerNotFound(_))
        ));
    }
    assert_eq!(world.datasets(), before);
    while !world.host.known().is_empty() {
        // The watches of the last ones may still be read; each forgets its process.
        std::thread::yield_now();
    }
}

#[test]
fn one_instance_is_started_by_one_of_many() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(container(&[])).unwrap().id;
    start(&engine, &id);
    for _ in 0..20 {
        let instance = exec(&engine, &id, &["true"]);
        let started = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| engine.exec_start(instance.as_str(), DETACHED)))
                .collect();
            let results = threads.into_iter().map(|thread| thread.join().unwrap());
            results
                .filter(|result| match result {
                    Ok(_) => true,
                    Err(EngineError::Conflict(_)) => false,
                    Err(other) => panic!("{other:?}"),
                })
                .count()
        });
        assert_eq!(started, 1);
    }
    assert!(show(&engine, &id).number.is_some());
}

/// A forced removal has one outcome, whoever starts the container at the same time.
#[test]
fn starting_what_is_being_removed() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    for _ in 0..20 {
        let id = engine.container_create(container(&[])).unwrap().id;
        let removed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !removed.load(Ordering::SeqCst) {
                        match engine.container_restart(id.as_str(), GRACE) {
                            Ok(_)
                            | Err(EngineError::ContainerNotFound(_) | EngineError::Conflict(_)) => {
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                });
            }
            // It is removed in the middle of restarts.
            while engine
                .container_list(ListOptions::default())
                .unwrap()
                .is_empty()
            {
                std::thread::yield_now();
            }
            let result = engine.container_remove(id.as_str(), true);
            removed.store(true, Ordering::SeqCst);
            result.unwrap();
        });
        assert!(matches!(
            engine.container_remove(id.as_str(), true),
            Err(EngineError::ContainerNotFound(_))
        ));
    }
    assert_eq!(world.datasets(), before);
}
