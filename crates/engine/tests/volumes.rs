//! Volumes: their life, their first contents, and who may remove them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use kleene_doors::host::HostError;
use kleene_engine::EngineError;
use kleene_host::fake::Op;
use support::{World, container, named, show, start, vol};

const WWW: &str = "/usr/local/www/nginx";

#[test]
fn a_volume_is_created_listed_inspected_and_removed() {
    let world = World::new();
    let engine = world.engine();
    engine.volume_create(vol("my-vol")).unwrap();
    engine.volume_create(vol("my-vol")).unwrap();
    engine.volume_create(vol("second")).unwrap();
    let names: Vec<_> = engine
        .volume_list()
        .unwrap()
        .into_iter()
        .map(|v| v.record.name.to_string())
        .collect();
    assert_eq!(names, ["second", "my-vol"]);
    let (view, mounts) = engine.volume_inspect("my-vol").unwrap();
    assert!(mounts.is_empty());
    assert_eq!(view.mountpoint, world.volume("my-vol"));
    engine.volume_remove("my-vol").unwrap();
    assert!(matches!(
        engine.volume_remove("my-vol"),
        Err(EngineError::VolumeNotFound(_))
    ));
    assert_eq!(world.datasets(), ["volumes/second"]);
}

#[test]
fn creating_a_volume_that_exists_keeps_its_data() {
    let world = World::new();
    let engine = world.engine();
    engine.volume_create(vol("v")).unwrap();
    world.fs.write(&world.volume("v").join("data"), b"mine");
    engine.volume_create(vol("v")).unwrap();
    assert_eq!(world.in_volume("v"), ["data"]);
}

#[test]
fn a_dataset_without_a_record_is_neither_taken_over_nor_destroyed() {
    use kleene_doors::storage::{Dataset, Storage};
    let world = World::new();
    let (engine, _) = world.with_image();
    world.storage.create(&Dataset::Volume(vol("v"))).unwrap();
    world.fs.write(&world.volume("v").join("data"), b"precious");
    assert!(matches!(
        engine.volume_create(vol("v")),
        Err(EngineError::Conflict(_))
    ));
    assert!(engine.container_create(container(&["v:/app"])).is_err());
    assert_eq!(world.in_volume("v"), ["data"]);
}

/// Lessons 1 and 2: a new volume gets everything that the container has there, dot files too.
#[test]
fn a_new_volume_is_populated_whole() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine
        .container_create(container(&[&format!("web:{WWW}")]))
        .unwrap()
        .id;
    assert_eq!(
        world.in_volume("web"),
        [".hidden", "50x.html", "index.html"]
    );
    let (_, mounts) = engine.volume_inspect("web").unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0].0, id);
}

/// Lesson 1: a second container with other defaults never overwrites what is in the volume.
#[test]
fn a_volume_with_data_is_never_populated() {
    let world = World::new();
    let (engine, _) = world.with_image();
    engine.volume_create(vol("web")).unwrap();
    let mine = world.volume("web").join("index.html");
    world.fs.write(&mine, b"mine");
    engine
        .container_create(container(&[&format!("web:{WWW}")]))
        .unwrap();
    assert_eq!(world.in_volume("web"), ["index.html"]);
    assert_eq!(world.fs.read(&mine).unwrap(), b"mine");
}

/// Lesson 1, "exactly once": what a user has deleted from a populated volume doesn't come back.
#[test]
fn a_volume_is_populated_once_only() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let spec = format!("web:{WWW}");
    engine.container_create(container(&[&spec])).unwrap();
    for name in world.in_volume("web") {
        world.fs.remove_all(&world.volume("web").join(name));
    }
    engine.container_create(container(&[&spec])).unwrap();
    assert!(world.in_volume("web").is_empty());
}

#[test]
fn an_empty_volume_waits_for_a_container_that_has_something() {
    let world = World::new();
    let (engine, _) = world.with_image();
    engine.container_create(container(&["web:/empty"])).unwrap();
    assert!(world.in_volume("web").is_empty());
    engine
        .container_create(container(&[&format!("web:{WWW}:ro")]))
        .unwrap();
    assert_eq!(world.in_volume("web").len(), 3);
}

/// Lesson 1: several containers mounting one new volume at the same moment.
#[test]
fn simultaneous_containers_populate_once() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let spec = format!("web:{WWW}");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| engine.container_create(container(&[&spec])).unwrap().id);
        }
    });
    let copies = world
        .host
        .calls()
        .iter()
        .filter(|call| call.op == Op::CopyUp)
        .count();
    assert_eq!(copies, 1);
    assert_eq!(world.in_volume("web").len(), 3);
    assert_eq!(engine.volume_inspect("web").unwrap().1.len(), 8);
}

#[test]
fn a_populate_that_fails_leaves_nothing_and_can_be_tried_again() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    world
        .host
        .fail_next_with(Op::CopyUp, HostError::NoSpace("copying".into()));
    let spec = format!("web:{WWW}");
    let error = engine.container_create(container(&[&spec])).unwrap_err();
    assert!(matches!(error, EngineError::NoSpace(_)), "{error:?}");
    assert_eq!(world.datasets(), before);
    assert!(engine.volume_list().unwrap().is_empty());
    engine.container_create(container(&[&spec])).unwrap();
    assert_eq!(world.in_volume("web").len(), 3);
}

/// Lesson 3: in use means refused, with the containers named, whether they run or not.
#[test]
fn a_volume_in_use_is_neither_removed_nor_pruned() {
    let world = World::new();
    let (engine, _) = world.with_image();
    engine.volume_create(vol("unused")).unwrap();
    let stopped = engine
        .container_create(named("stopped", &["data:/data"]))
        .unwrap()
        .id;
    let running = engine
        .container_create(named("running", &["data:/data:ro"]))
        .unwrap()
        .id;
    start(&engine, &running);
    let message = engine.volume_remove("data").unwrap_err().to_string();
    assert!(
        message.contains(stopped.as_str()) && message.contains(running.as_str()),
        "{message}"
    );
    assert_eq!(engine.volume_prune().unwrap(), [vol("unused")]);
    assert!(engine.volume_inspect("data").is_ok());
    engine
        .container_stop("running", Some(std::time::Duration::from_secs(5)))
        .unwrap();
    engine.container_remove("running", false).unwrap();
    assert!(engine.volume_remove("data").is_err());
    engine.container_remove("stopped", false).unwrap();
    engine.volume_remove("data").unwrap();
}

#[test]
fn one_container_may_mount_a_volume_twice() {
    let world = World::new();
    let (engine, _) = world.with_image();
    engine
        .container_create(container(&["v:/a", "v:/b:ro"]))
        .unwrap();
    assert_eq!(engine.volume_inspect("v").unwrap().1.len(), 2);
    assert!(engine.volume_remove("v").is_err());
}

/// The container's own files stay in its root, hidden but untouched.
#[test]
fn a_mount_does_not_alter_what_it_hides() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine
        .container_create(container(&[&format!("web:{WWW}")]))
        .unwrap()
        .id;
    start(&engine, &id);
    let own = format!("/memory/container/{id}{WWW}/index.html");
    assert_eq!(world.read(&own).as_deref(), Some("welcome"));
    assert!(show(&engine, &id).number.is_some());
}

/// Also a volume within another mount gets what the container has at its own destination.
#[test]
fn volumes_within_mounts_are_populated() {
    let world = World::new();
    let (engine, _) = world.with_image();
    engine
        .container_create(container(&["outer:/usr/local", &format!("inner:{WWW}")]))
        .unwrap();
    assert_eq!(world.in_volume("inner").len(), 3);
    assert_eq!(world.in_volume("outer"), ["www"]);
}
