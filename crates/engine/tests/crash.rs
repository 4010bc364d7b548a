//! The daemon dies at every step of every operation; the next one puts things right (lessons 10, 11).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use support::interrupt::at_every_step;
use support::{World, container, exec, make_image, named, show, start, vol};

const WWW: &str = "web:/usr/local/www/nginx";

#[test]
fn creating_a_container_with_volumes() {
    at_every_step(
        |_, engine| {
            engine.volume_create(vol("web")).unwrap();
        },
        |_, engine| {
            engine
                .container_create(named("cc", &[WWW, "new:/new"]))
                .map(|_| ())
        },
        |world, engine, survived| {
            assert_eq!(engine.container_inspect("cc").is_ok(), survived);
            assert_eq!(engine.volume_inspect("new").is_ok(), survived);
            let files = world.in_volume("web").len();
            assert!(files == 0 || files == 3, "all or nothing, not {files}");
            // Whatever happened, trying again gives the whole.
            if !survived {
                engine
                    .container_create(named("cc", &[WWW, "new:/new"]))
                    .unwrap();
            }
            assert_eq!(world.in_volume("web").len(), 3);
        },
    );
}

#[test]
fn creating_a_volume() {
    at_every_step(
        |_, _| {},
        |_, engine| engine.volume_create(vol("v")).map(|_| ()),
        |_, engine, survived| {
            assert_eq!(engine.volume_inspect("v").is_ok(), survived);
            engine.volume_create(vol("v")).unwrap();
        },
    );
}

#[test]
fn removing_a_volume() {
    at_every_step(
        |_, engine| {
            engine.volume_create(vol("v")).unwrap();
        },
        |_, engine| engine.volume_remove("v").map(|_| ()),
        |_, engine, _| {
            assert!(
                engine.volume_inspect("v").is_err(),
                "a begun removal is finished"
            )
        },
    );
}

#[test]
fn removing_a_container() {
    at_every_step(
        |_, engine| {
            let id = engine.container_create(named("cc", &[WWW])).unwrap().id;
            assert_eq!(support::run(engine, &id, &["true"]), 0);
        },
        |_, engine| engine.container_remove("cc", false).map(|_| ()),
        |world, engine, _| {
            assert!(
                engine.container_inspect("cc").is_err(),
                "a begun removal is finished"
            );
            assert_eq!(world.in_volume("web").len(), 3, "its volume keeps its data");
            assert!(world.host.known().is_empty());
        },
    );
}

#[test]
fn creating_an_image() {
    at_every_step(
        |_, _| {},
        |_, engine| make_image(engine, "other").map(|_| ()),
        |_, engine, survived| {
            assert_eq!(engine.image_inspect("other").is_ok(), survived);
            assert!(engine.image_inspect("base").is_ok());
        },
    );
}

#[test]
fn removing_an_image() {
    at_every_step(
        |_, _| {},
        |_, engine| engine.image_remove("base").map(|_| ()),
        |_, engine, _| assert!(engine.image_inspect("base").is_err()),
    );
}

/// A process that was started but never recorded is ended; one that was recorded is found again.
#[test]
fn starting_a_container() {
    at_every_step(
        |_, engine| {
            engine.container_create(named("cc", &[])).unwrap();
        },
        |_, engine| {
            let id = engine.container_inspect("cc")?.record.id;
            let instance = exec(engine, &id, &[]);
            engine
                .exec_start(instance.as_str(), support::DETACHED)
                .map(|_| ())
        },
        |world, engine, survived| {
            let view = engine.container_inspect("cc").unwrap();
            assert_eq!(view.number.is_some(), survived);
            assert_eq!(world.host.running().len(), usize::from(survived));
            if !survived {
                start(engine, &view.record.id);
            }
            engine
                .container_stop("cc", Some(std::time::Duration::from_secs(5)))
                .unwrap();
        },
    );
}

/// Lesson 11: a new daemon finds running containers again, with what ended in between.
#[test]
fn a_new_daemon_finds_what_runs_and_what_has_ended() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let running = engine.container_create(named("running", &[])).unwrap().id;
    let ended = engine.container_create(named("ended", &[])).unwrap().id;
    let init = start(&engine, &running);
    let other = start(&engine, &ended);
    let joined = exec(&engine, &running, &["sleep"]);
    engine
        .exec_start(joined.as_str(), support::DETACHED)
        .unwrap();
    drop(engine);
    world.host.disconnect();
    world.host.finish(&other, 7);
    let engine = world.engine();
    let result = engine.reconcile().unwrap();
    assert_eq!((result.running, result.ended), (2, 1), "{result:?}");
    assert!(show(&engine, &running).number.is_some());
    assert_eq!(
        show(&engine, &ended)
            .record
            .last_run
            .unwrap()
            .ended
            .unwrap()
            .1,
        7
    );
    world.host.finish(&init, 4);
    assert!(
        engine
            .container_stop("running", Some(std::time::Duration::from_secs(5)))
            .is_ok()
            || show(&engine, &running).number.is_none()
    );
}

/// Lesson 11: after a restart of the machine nothing runs, and everything can be started again.
#[test]
fn after_a_reboot_nothing_runs() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("cc", &["v:/v"])).unwrap().id;
    start(&engine, &id);
    drop(engine);
    world.host.disconnect();
    world.host.reboot();
    let engine = world.engine();
    assert_eq!(engine.reconcile().unwrap().ended, 1);
    let view = show(&engine, &id);
    assert!(view.number.is_none());
    assert_eq!(view.record.last_run.unwrap().ended.unwrap().1, 137);
    start(&engine, &id);
}

#[test]
fn containers_with_a_policy_are_started_with_the_daemon() {
    use kleene_engine::NewContainer;
    use kleene_types::RestartPolicy;
    let world = World::new();
    let (engine, _) = world.with_image();
    let wanted = NewContainer {
        restart_policy: RestartPolicy::OnStartup,
        ..named("wanted", &[])
    };
    let id = engine.container_create(wanted).unwrap().id;
    engine.container_create(container(&[])).unwrap();
    drop(engine);
    let engine = world.engine();
    engine.reconcile().unwrap();
    let started = engine.start_on_startup();
    assert_eq!(started.len(), 1);
    assert!(started[0].1.is_ok());
    assert!(show(&engine, &id).number.is_some());
    assert!(engine.start_on_startup().is_empty());
}

/// Its client went away between creating and starting it.
#[test]
fn a_container_that_was_to_remove_itself_is_removed_at_the_next_start() {
    use kleene_engine::NewContainer;
    let world = World::new();
    let (engine, _) = world.with_image();
    let before = world.datasets();
    let fleeting = NewContainer {
        auto_remove: true,
        ..container(&[])
    };
    engine.container_create(fleeting).unwrap();
    drop(engine);
    let engine = world.engine();
    assert!(engine.reconcile().unwrap().problems.is_empty());
    assert_eq!(world.datasets(), before);
}

/// A removal that is left in the journal takes nothing that is used, and one that has succeeded
/// leaves no entry that could take another volume of the same name.
#[test]
fn removals_take_only_what_they_were_asked_to() {
    use kleene_store::{Step, Store};
    let world = World::new();
    let (engine, _) = world.with_image();
    engine.volume_create(vol("v")).unwrap();
    engine.volume_remove("v").unwrap();
    engine.container_create(named("cc", &[WWW])).unwrap();
    drop(engine);
    let store = Store::open(&world.database()).unwrap();
    assert_eq!(store.journal().unwrap(), []);
    store.begin(&[Step::RemoveVolume(vol("web"))]).unwrap();
    drop(store);
    let engine = world.engine();
    assert!(engine.reconcile().unwrap().problems.is_empty());
    assert!(engine.volume_inspect("web").is_ok());
    assert_eq!(world.in_volume("web").len(), 3);
}
