//! Daemons that die at every step.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kleene_doors::files::FilesOf;
use kleene_doors::frames::Frame;
use kleene_doors::host::{Host, StartRequest};
use kleene_doors::storage::Root;
use kleene_host::freebsd::simulated::Moment;

use crate::failures::everything;
use crate::world::{CONTAINER, VOLUME, World, container, frame, mount};

/// Dies before and after the first, second… step of an operation, until it gets through; a new daemon
/// starts each time, and `check`s. Answers at how many moments a daemon has died.
fn at_every_step<T>(
    prepare: impl Fn(&World) -> T,
    operation: impl Fn(&World, &T),
    check: impl Fn(&World, &T, &str),
) -> usize {
    for moments in 0.. {
        let mut world = World::new();
        let prepared = prepare(&world);
        let left = Arc::new(AtomicUsize::new(moments));
        let counting = Arc::clone(&left);
        world.machine.watch(move |_: Moment, _: &str| {
            let died = counting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
            assert!(died.is_ok(), "killed");
        });
        world.commands();
        let survived = catch_unwind(AssertUnwindSafe(|| operation(&world, &prepared)));
        world.machine.unwatch();
        if survived.is_ok() {
            return moments;
        }
        let last = world.commands().pop().unwrap();
        world.reopen();
        check(&world, &prepared, &last);
    }
    unreachable!()
}

/// Nothing but what runs is left, and that can be ended as always.
fn end_what_runs(world: &World) -> usize {
    let running = world.processes().running();
    for exec in &running {
        assert_eq!(world.probe(exec), "runs");
        world.room.kill(&container(), exec).unwrap();
        world.room.clean(&container()).unwrap();
    }
    // The engine forgets instances that don't run.
    for exec in world.room.instances().unwrap() {
        world.room.forget(&exec).unwrap();
    }
    running.len()
}

#[test]
fn dying_while_a_container_starts() {
    let ran = Cell::new(0);
    let moments = at_every_step(
        |_| (),
        |world, ()| drop(world.start(&everything()).unwrap()),
        |world, (), last| {
            ran.set(ran.get() + end_what_runs(world));
            assert_eq!(world.traces(), Vec::<String>::new(), "{last}");
            let again = everything();
            world.start(&again).unwrap();
            world.end(&again.exec);
        },
    );
    assert!(moments > 20, "{moments}");
    assert_eq!(ran.get(), 1, "only after the monitor's start");
}

#[test]
fn dying_while_a_container_is_taken_away() {
    let ended = |world: &World| {
        let request = everything();
        world.start(&request).unwrap();
        world.processes().finish(&request.exec, 0);
        request
    };
    let clean = |world: &World, _: &StartRequest| world.room.clean(&container()).unwrap();
    let moments = at_every_step(ended, clean, |world, request, last| {
        assert_eq!(world.probe(&request.exec), "exited 0");
        world.room.forget(&request.exec).unwrap();
        assert_eq!(world.traces(), Vec::<String>::new(), "{last}");
    });
    assert!(moments > 8, "{moments}");
}

#[test]
fn dying_while_a_container_is_paused() {
    let running = |world: &World| {
        let request = everything();
        world.start(&request).unwrap();
        request
    };
    let pause = |world: &World, it: &StartRequest| {
        world.room.pause(&container(), &it.exec).unwrap();
        world.room.unpause(&container(), &it.exec).unwrap();
    };
    at_every_step(running, pause, |world, request, last| {
        // It may be stopped or not: it is known as paused, so that whoever lets it go on can.
        assert_eq!(world.probe(&request.exec), "is paused", "{last}");
        world.room.unpause(&container(), &request.exec).unwrap();
        assert_eq!(world.probe(&request.exec), "runs");
        world.end(&request.exec);
    });
}

#[test]
fn dying_while_files_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let moments = at_every_step(
        |world| world.machine.fs().create_dir_all(&root),
        |world, ()| {
            let of = FilesOf::Stopped {
                root: Root::Directory { path: root.clone() },
                mounts: vec![mount(VOLUME, "/data", false)],
            };
            world.room.stat_path(&of, Path::new("/data")).unwrap();
        },
        |world, (), last| assert_eq!(world.traces(), Vec::<String>::new(), "{last}"),
    );
    assert!(moments > 10, "{moments}");
}

/// The record of a look that couldn't be ended says nothing of the container that runs there since.
#[test]
fn left_over_records_take_no_mounts_from_what_runs() {
    let mut world = World::new();
    let request = everything();
    world.start(&request).unwrap();
    let (running, left) = (CONTAINER, "c0ffee0000ff");
    world.copy_record(running, left);
    let before = world.machine.traces();
    world.reopen();
    assert_eq!(world.machine.traces(), before);
    assert!(!world.traces().contains(&format!("record {left}")));
    world.end(&request.exec);
    assert_eq!(world.traces(), Vec::<String>::new());
}

/// What can't be read of a container is no reason to leave what it has.
#[test]
fn a_record_is_damaged() {
    let world = World::new();
    let request = everything();
    let mut watch = world.start(&request).unwrap().watch;
    world.damage_record(CONTAINER);
    world.room.kill(&container(), &request.exec).unwrap();
    assert!(matches!(frame(&mut watch), Frame::Exited(_)));
    world.tidy();
}
