//! Containers, execution instances and images.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use kleene_doors::host::{HostError, Network, Place, StartFailure};
use kleene_doors::userland::Source;
use kleene_engine::{ContainerChanges, Engine, EngineError, ExecStart, ImagePrune, NewContainer};
use kleene_host::fake::{Op, Program};
use kleene_store::NetworkDriver;
use support::{
    ALL, DETACHED, World, container, exec, image_from, make_image, named, run, show, start,
};

fn refused(engine: &Engine, new: NewContainer) -> String {
    engine.container_create(new).unwrap_err().to_string()
}

#[test]
fn a_container_runs_and_reports_its_exit_code() {
    let world = World::new();
    let (engine, image) = world.with_image();
    world.host.program(
        "three",
        Program::Exits {
            code: 3,
            output: b"out".to_vec(),
        },
    );
    let id = engine.container_create(named("web", &[])).unwrap().id;
    assert_eq!(run(&engine, &id, &["three"]), 3);
    let view = show(&engine, &id);
    assert_eq!(view.record.last_run.unwrap().ended.unwrap().1, 3);
    assert_eq!(view.record.image, image);
    assert_eq!(view.image.unwrap().0.as_str(), "base");
    assert!(view.number.is_none());
    assert!(
        engine
            .container_list(kleene_engine::ListOptions::default())
            .unwrap()
            .is_empty()
    );
    assert_eq!(engine.container_list(ALL).unwrap().len(), 1);
}

#[test]
fn further_processes_join_and_end_alone() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("web", &[])).unwrap().id;
    let init = start(&engine, &id);
    assert_eq!(run(&engine, &id, &["false"]), 1);
    assert!(
        show(&engine, &id).number.is_some(),
        "the container lives on"
    );
    let joined = exec(&engine, &id, &["sleep"]);
    engine.exec_start(joined.as_str(), DETACHED).unwrap();
    let request = world.host.seen(&joined).unwrap().request;
    assert_eq!(request.place, Place::Running { init });
    let stopped = engine
        .container_stop("web", Some(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(stopped, id);
    assert!(show(&engine, &id).number.is_none());
}

#[test]
fn an_execution_instance_starts_once() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(container(&[])).unwrap().id;
    let first = start(&engine, &id);
    assert!(matches!(
        engine.exec_start(first.as_str(), DETACHED),
        Err(EngineError::Conflict(_))
    ));
    assert!(matches!(
        engine.exec_start("000000000000", DETACHED),
        Err(EngineError::ExecNotFound(_))
    ));
}

#[test]
fn joining_does_not_start_a_container_unasked() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(container(&[])).unwrap().id;
    let instance = exec(&engine, &id, &["true"]);
    let join_only = ExecStart {
        start_container: false,
        ..DETACHED
    };
    let error = engine.exec_start(instance.as_str(), join_only).unwrap_err();
    assert!(matches!(error, EngineError::ContainerNotRunning(_)));
}

/// Lesson 14: a failure to start is told, also detached, and the container stays for inspection.
#[test]
fn a_failed_start_is_told_and_leaves_the_container() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(container(&[])).unwrap().id;
    let instance = exec(&engine, &id, &["no-such-program"]);
    match engine.exec_start(instance.as_str(), DETACHED) {
        Err(EngineError::Start(StartFailure { code: 127, .. })) => {}
        other => panic!("{other:?}"),
    }
    assert!(show(&engine, &id).number.is_none());
    start(&engine, &id);
}

/// Lesson 4: a mount that can't be made fails the start.
#[test]
fn a_source_that_has_gone_fails_the_start() {
    let world = World::new();
    let (engine, _) = world.with_image();
    world.fs.create_dir_all(Path::new("/srv/data"));
    let id = engine
        .container_create(container(&["/srv/data:/data:ro"]))
        .unwrap()
        .id;
    world.fs.remove_all(Path::new("/srv/data"));
    let instance = exec(&engine, &id, &[]);
    let error = engine
        .exec_start(instance.as_str(), DETACHED)
        .unwrap_err()
        .to_string();
    assert!(error.contains("/srv/data"), "{error}");
    assert!(
        !world.fs.exists(Path::new("/srv/data")),
        "sources are never created"
    );
    assert!(world.host.running().is_empty());
}

/// Lesson 10: a bad second mount leaves nothing behind.
#[test]
fn bad_mounts_leave_nothing_behind() {
    let world = World::new();
    let (engine, _) = world.with_image();
    world.fs.create_dir_all(Path::new("/srv"));
    let before = world.datasets();
    for mounts in [
        ["new:/data", "/missing:/x"],
        ["new:/data", "other:/data"],
        ["new:/data", "/srv:/etc/passwd"],
    ] {
        assert!(
            engine.container_create(container(&mounts)).is_err(),
            "{mounts:?}"
        );
        assert_eq!(world.datasets(), before, "{mounts:?}");
        assert!(engine.volume_list().unwrap().is_empty());
        assert!(engine.container_list(ALL).unwrap().is_empty());
    }
}

#[test]
fn deeper_mounts_come_later() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine
        .container_create(container(&["b:/data/deep/er", "a:/data"]))
        .unwrap()
        .id;
    let init = start(&engine, &id);
    let Place::New(setup) = world.host.seen(&init).unwrap().request.place else {
        panic!()
    };
    let order: Vec<_> = setup
        .mounts
        .iter()
        .map(|m| m.destination.as_str())
        .collect();
    assert_eq!(order, ["/data", "/data/deep/er"]);
    assert_eq!(setup.network, Network::Host);
}

#[test]
fn what_is_not_there_yet_is_said_before_anything_is_created() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    for driver in [NetworkDriver::Ipnet, NetworkDriver::Vnet] {
        let new = NewContainer {
            network_driver: driver,
            ..container(&["v:/v"])
        };
        assert!(refused(&engine, new).contains("use 'host' or 'disabled'"));
    }
    let new = NewContainer {
        published_ports: 1,
        ..container(&["v:/v"])
    };
    assert!(refused(&engine, new).contains("publishing ports"));
    let new = NewContainer {
        cmd: vec!["a\0".into()],
        ..container(&[])
    };
    assert!(refused(&engine, new).contains("NUL"));
    let new = NewContainer {
        cmd: vec!["x".repeat(200_000)],
        ..container(&[])
    };
    assert!(refused(&engine, new).contains("argument"));
    let new = NewContainer {
        user: "a\0".into(),
        ..container(&[])
    };
    assert!(refused(&engine, new).contains("user"));
    assert!(refused(&engine, named("0123456789ab", &[])).contains("form of an id"));
    let new = NewContainer {
        image: "nope".parse().unwrap(),
        ..container(&[])
    };
    assert_eq!(refused(&engine, new), "no such image 'nope'");
    assert_eq!(world.datasets(), before);
}

/// Lesson 12: one name twice is an error that says so.
#[test]
fn a_name_is_taken_once() {
    let world = World::new();
    let (engine, _) = world.with_image();
    engine.container_create(named("web", &[])).unwrap();
    let before = world.datasets();
    assert!(refused(&engine, named("web", &["v:/v"])).contains("'web' is taken"));
    let other = engine.container_create(named("other", &[])).unwrap().id;
    let rename = |name: &str| ContainerChanges {
        name: Some(name.parse().unwrap()),
        ..ContainerChanges::default()
    };
    assert!(matches!(
        engine.container_update(other.as_str(), rename("web")),
        Err(EngineError::Conflict(_))
    ));
    engine.container_update("other", rename("third")).unwrap();
    assert_eq!(engine.container_inspect("third").unwrap().record.id, other);
    assert_eq!(world.datasets().len(), before.len() + 1);
}

/// Lesson 12: of two containers of one name at the same moment, one is made.
#[test]
fn simultaneous_creations_of_one_name() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| engine.container_create(named("web", &["v:/v"])).is_ok()))
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .filter(|made| *made)
            .count()
    });
    assert_eq!(made, 1);
    let containers = world
        .datasets()
        .into_iter()
        .filter(|name| name.starts_with("container/"));
    assert_eq!(containers.count(), 1);
}

/// Lesson 12: a beginning that fits several ids is an error that names them.
#[test]
fn ambiguous_beginnings_are_refused() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let mut ids = Vec::new();
    // Seventeen ids can't all begin with different digits.
    for _ in 0..17 {
        ids.push(
            engine
                .container_create(container(&[]))
                .unwrap()
                .id
                .to_string(),
        );
    }
    let shared = ids
        .iter()
        .map(|id| &id[..1])
        .find(|first| ids.iter().filter(|id| id.starts_with(*first)).count() > 1)
        .unwrap();
    let error = engine.container_inspect(shared).unwrap_err();
    assert!(matches!(error, EngineError::Ambiguous { .. }), "{error}");
    let unique = &ids[0];
    assert_eq!(
        engine
            .container_inspect(&unique[..11])
            .unwrap()
            .record
            .id
            .to_string(),
        *unique
    );
    for nonsense in ["", "zzz", "../x", "%", "_"] {
        let error = engine.container_inspect(nonsense).unwrap_err();
        assert!(
            matches!(error, EngineError::ContainerNotFound(_)),
            "{nonsense}: {error}"
        );
    }
}

#[test]
fn running_containers_are_not_removed() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("web", &["v:/v"])).unwrap().id;
    start(&engine, &id);
    let error = engine.container_remove("web", false).unwrap_err();
    assert_eq!(error.to_string(), "you cannot remove a running container");
    assert!(engine.container_prune().unwrap().is_empty());
    engine
        .container_stop("web", Some(Duration::from_secs(5)))
        .unwrap();
    assert!(matches!(
        engine.container_stop("web", Some(Duration::ZERO)),
        Err(EngineError::ContainerNotRunning(_))
    ));
    engine.container_remove("web", false).unwrap();
    assert!(engine.volume_inspect("v").is_ok(), "volumes stay");
    assert!(
        !world
            .datasets()
            .iter()
            .any(|name| name.starts_with("container/"))
    );
    assert!(
        world.host.known().is_empty(),
        "nothing is kept of its processes"
    );
}

#[test]
fn a_stubborn_process_is_killed_after_the_grace_time() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("web", &[])).unwrap().id;
    let instance = exec(&engine, &id, &["stubborn"]);
    engine.exec_start(instance.as_str(), DETACHED).unwrap();
    engine
        .container_stop("web", Some(Duration::from_millis(1)))
        .unwrap();
    assert_eq!(
        show(&engine, &id).record.last_run.unwrap().ended.unwrap().1,
        137
    );
}

#[test]
fn prune_leaves_persistent_containers() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let kept = engine
        .container_create(NewContainer {
            persist: true,
            ..container(&[])
        })
        .unwrap()
        .id;
    let first = engine.container_create(container(&[])).unwrap().id;
    let second = engine.container_create(container(&[])).unwrap().id;
    assert_eq!(engine.container_prune().unwrap(), [first, second]);
    assert!(engine.container_inspect(kept.as_str()).is_ok());
}

#[test]
fn auto_remove_removes_when_the_container_stops() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    let new = || NewContainer {
        auto_remove: true,
        ..container(&[])
    };
    let id = engine.container_create(new()).unwrap().id;
    assert_eq!(run(&engine, &id, &["false"]), 1);
    assert!(engine.container_inspect(id.as_str()).is_err());
    let id = engine.container_create(new()).unwrap().id;
    let instance = exec(&engine, &id, &["no-such-program"]);
    assert!(engine.exec_start(instance.as_str(), DETACHED).is_err());
    assert!(engine.container_inspect(id.as_str()).is_err());
    assert_eq!(world.datasets(), before);
}

#[test]
fn the_end_is_told_alike_to_all_who_ask() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(container(&[])).unwrap().id;
    let init = start(&engine, &id);
    let answers: Vec<_> = std::thread::scope(|scope| {
        world.host.finish(&init, 9);
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| engine.exec_ended(&init, None).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        answers
            .iter()
            .all(|ended| ended.exit_code == 9 && ended.container_stopped)
    );
}

#[test]
fn images_are_tagged_and_removed_when_unused() {
    let world = World::new();
    let (engine, first) = world.with_image();
    let second = make_image(&engine, "base").unwrap();
    assert_eq!(engine.image_inspect("base").unwrap().record.id, second);
    assert!(
        engine
            .image_inspect(first.as_str())
            .unwrap()
            .record
            .reference
            .is_none()
    );
    let tag = |name: &str| (name.parse().unwrap(), "v1".parse().unwrap());
    let (name, version) = tag("old");
    engine
        .image_tag(&first.as_str()[..11], name, version)
        .unwrap();
    assert_eq!(engine.image_inspect("old:v1").unwrap().record.id, first);
    assert!(engine.image_inspect("old").is_err(), "no tag means latest");
    let id = engine.container_create(container(&[])).unwrap().id;
    let message = engine.image_remove("base").unwrap_err().to_string();
    assert_eq!(
        message,
        format!("could not remove image {second} since it is used for containers:\n{id}")
    );
    let all = ImagePrune {
        all: true,
        ..ImagePrune::default()
    };
    assert_eq!(engine.image_prune(&all).unwrap().images, [first]);
    engine.container_remove(id.as_str(), false).unwrap();
    let unnamed = engine.image_prune(&ImagePrune::default()).unwrap();
    assert!(unnamed.images.is_empty());
    engine.image_remove("base:latest").unwrap();
    assert!(world.datasets().is_empty());
}

#[test]
fn a_failed_image_leaves_nothing() {
    let world = World::new();
    let (engine, image) = world.with_image();
    let before = world.datasets();
    let broken = Source::Archive {
        url: "http://x/broken.tar".into(),
    };
    assert!(matches!(
        image_from(&engine, "base", broken),
        Err(EngineError::Invalid(_))
    ));
    assert!(matches!(
        image_from(&engine, "base", Source::Auto),
        Err(EngineError::NotYet(_))
    ));
    assert_eq!(world.datasets(), before);
    assert_eq!(engine.image_inspect("base").unwrap().record.id, image);
}

#[test]
fn a_failure_of_the_host_is_undone_and_reported() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    world.host.fail_next(Op::CheckDestination);
    let error = engine.container_create(container(&["v:/v"])).unwrap_err();
    assert!(matches!(error, EngineError::Internal { .. }));
    assert!(
        error.to_string().contains("injected"),
        "the causes are told: {error}"
    );
    assert_eq!(world.datasets(), before);
    world
        .host
        .fail_next_with(Op::Start, HostError::Unsupported("no".into()));
    let id = engine.container_create(container(&[])).unwrap().id;
    let instance = exec(&engine, &id, &[]);
    assert!(matches!(
        engine.exec_start(instance.as_str(), DETACHED),
        Err(EngineError::NotYet(_))
    ));
}

#[test]
fn instances_that_nobody_starts_do_not_pile_up() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(container(&[])).unwrap().id;
    let first = exec(&engine, &id, &["true"]);
    for _ in 0..300 {
        exec(&engine, &id, &["true"]);
    }
    assert!(engine.exec_inspect(first.as_str()).is_err());
    start(&engine, &id);
}

/// Nobody gets another container than the one whose id they have begun to type.
#[test]
fn names_are_not_the_beginnings_of_ids() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let first = engine.container_create(named("first", &[])).unwrap().id;
    let beginning = &first.as_str()[..6];
    let error = engine.container_create(named(beginning, &[])).unwrap_err();
    assert!(matches!(error, EngineError::Conflict(_)), "{error}");
    assert!(error.to_string().contains("'first'"), "{error}");
    let renamed = ContainerChanges {
        name: Some(beginning.parse().unwrap()),
        ..ContainerChanges::default()
    };
    assert!(engine.container_update("first", renamed).is_err());
    assert_eq!(engine.container_list(ALL).unwrap().len(), 1);
}
