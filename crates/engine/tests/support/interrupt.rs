//! Operations that are cut short at every step.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kleene_engine::{ContainerState, Engine, EngineError};

use super::World;
use super::dying::Countdown;

/// Runs `operation` on engines that die at step 0, 1, 2… until it gets through, and `check`s the
/// world each time with a fresh engine that has reconciled, and whether the operation was told to be
/// done.
pub fn at_every_step(
    prepare: impl Fn(&World, &Engine),
    operation: impl Fn(&World, &Engine) -> Result<(), EngineError>,
    check: impl Fn(&World, &Engine, bool),
) {
    for steps in 0.. {
        let world = World::new();
        let (engine, _) = world.with_image();
        prepare(&world, &engine);
        let_go(engine);
        let countdown = Countdown::after(steps);
        let dying = world.engine_over(
            countdown.storage(world.storage.clone()),
            countdown.host(world.host_door()),
        );
        let survived = catch_unwind(AssertUnwindSafe(|| {
            dying.reconcile().unwrap();
            operation(&world, &dying).unwrap();
        }));
        let_go(dying);
        let engine = world.engine();
        let reconciled = engine.reconcile().unwrap();
        assert_eq!(reconciled.problems, Vec::<String>::new(), "step {steps}");
        world.do_urgent(&engine);
        assert_eq!(
            engine.reconcile().unwrap().steps,
            0,
            "the journal is empty after one start"
        );
        agree(&world, &engine);
        check(&world, &engine, survived.is_ok());
        if !countdown.is_dead() {
            assert!(steps > 0, "the operation must have steps to die at");
            return;
        }
    }
}

/// Waits until no thread uses an engine any more, and drops it.
pub fn let_go(engine: Arc<Engine>) {
    while Arc::strong_count(&engine) > 1 {
        std::thread::yield_now();
    }
}

/// Records and datasets name the same things, and the host has nothing of containers that don't run.
fn agree(world: &World, engine: &Engine) {
    let containers = engine.container_list(super::ALL).unwrap();
    let images = engine.image_list(true).unwrap();
    let volumes = engine.volume_list().unwrap();
    let recorded: BTreeSet<String> = containers
        .iter()
        .map(|c| format!("container/{}", c.record.id))
        .chain(images.iter().map(|i| format!("image/{}", i.record.id)))
        .chain(volumes.iter().map(|v| format!("volumes/{}", v.record.name)))
        .collect();
    assert_eq!(recorded, world.datasets().into_iter().collect());
    let Some(machine) = &world.machine else {
        return;
    };
    let runs = |state| matches!(state, ContainerState::Running | ContainerState::Paused);
    let running = containers.iter().filter(|view| runs(view.state));
    let running: Vec<&str> = running.map(|view| view.record.id.as_str()).collect();
    for trace in machine.traces() {
        let is_ones = running.iter().any(|id| trace.contains(id));
        assert!(is_ones, "of a container that doesn't run there is {trace}");
    }
}
