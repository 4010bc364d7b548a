//! Restart policies.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kleene_doors::host::{ExitStatus, HostError};
use kleene_engine::{ContainerChanges, ContainerState, Engine, EngineError, Later, NewContainer};
use kleene_host::fake::{Op, Program};
use kleene_types::{ContainerId, ExecId, RestartPolicy, Timestamp};
use support::{DETACHED, World, actions, container, exec, named, show, start, wait_for};

const GRACE: Option<Duration> = Some(Duration::from_secs(20));

fn policy(text: &str) -> NewContainer {
    NewContainer {
        restart_policy: text.parse().unwrap(),
        ..named("cc", &[])
    }
}

/// A world with a running container of this policy.
fn running(text: &str) -> (World, Arc<Engine>, ContainerId, ExecId) {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(policy(text)).unwrap().id;
    let init = start(&engine, &id);
    (world, engine, id, init)
}

fn init(engine: &Engine, id: &ContainerId) -> ExecId {
    show(engine, id).record.last_run.unwrap().init
}

fn restarts(engine: &Engine, id: &ContainerId) -> u32 {
    show(engine, id).record.restarts
}

#[test]
fn the_time_until_a_restart_doubles() {
    let (world, engine, id, mut run) = running("always");
    for round in 0..12 {
        world.host.finish(&run, 0);
        let (delay, call) = world.next_later();
        assert_eq!(delay.as_millis(), (100 << round).min(60_000));
        let wanted = Later::Restart {
            container: id.clone(),
            ended: run.clone(),
        };
        assert_eq!(call, wanted);
        wait_for(&engine, &id, ContainerState::Restarting);
        assert_eq!(restarts(&engine, &id), round);
        engine.due(call.clone()).unwrap();
        assert_eq!(show(&engine, &id).state, ContainerState::Running);
        run = init(&engine, &id);
        // A call that comes twice does nothing.
        engine.due(call).unwrap();
        assert_eq!(init(&engine, &id), run);
    }
    assert_eq!(restarts(&engine, &id), 12);
    // A long run is a success.
    let later = Timestamp::now().microseconds() + 11_000_000;
    let status = ExitStatus {
        code: 1,
        finished: Timestamp::from_microseconds(later).unwrap(),
        out_of_memory: false,
    };
    engine.exec_ended(&run, Some(status)).unwrap();
    assert_eq!(world.next_later().0.as_millis(), 100);
}

#[test]
fn a_start_by_hand_begins_anew() {
    let (world, engine, id, run) = running("always");
    world.host.finish(&run, 1);
    engine.due(world.next_later().1).unwrap();
    world.host.finish(&init(&engine, &id), 1);
    let (delay, call) = world.next_later();
    assert_eq!(delay.as_millis(), 200);
    wait_for(&engine, &id, ContainerState::Restarting);
    let run = start(&engine, &id);
    assert_eq!(restarts(&engine, &id), 0);
    engine.due(call).unwrap();
    assert_eq!(init(&engine, &id), run, "it doesn't wait any more");
    world.host.finish(&run, 1);
    assert_eq!(world.next_later().0.as_millis(), 100);
}

#[test]
fn on_failure_counts_failures_in_a_row() {
    let (world, engine, id, mut run) = running("on-failure:2");
    for _ in 0..2 {
        world.host.finish(&run, 7);
        engine.due(world.next_later().1).unwrap();
        run = init(&engine, &id);
    }
    world.host.finish(&run, 7);
    wait_for(&engine, &id, ContainerState::Exited);
    assert_eq!(restarts(&engine, &id), 2);
    let run = start(&engine, &id);
    world.host.finish(&run, 0);
    wait_for(&engine, &id, ContainerState::Exited);
    assert!(world.later().is_empty());
}

#[test]
fn without_a_policy_nothing_is_restarted() {
    for text in ["no", "on-startup"] {
        let (world, engine, id, run) = running(text);
        world.host.finish(&run, 1);
        wait_for(&engine, &id, ContainerState::Exited);
        assert!(world.later().is_empty());
    }
}

#[test]
fn stopped_containers_stay_stopped() {
    for text in ["always", "unless-stopped", "on-failure"] {
        let (world, engine, id, run) = running(text);
        engine.container_stop("cc", GRACE).unwrap();
        assert_eq!(show(&engine, &id).state, ContainerState::Exited);
        assert!(world.later().is_empty());
        // Also while it waits for its restart.
        let again = start(&engine, &id);
        assert_ne!(again, run);
        world.host.finish(&again, 1);
        let (_, call) = world.next_later();
        wait_for(&engine, &id, ContainerState::Restarting);
        engine.container_stop("cc", GRACE).unwrap();
        assert_eq!(show(&engine, &id).state, ContainerState::Exited);
        engine.due(call).unwrap();
        assert_eq!(show(&engine, &id).state, ContainerState::Exited);
        assert!(matches!(
            engine.container_stop("cc", GRACE),
            Err(EngineError::ContainerNotRunning(_))
        ));
    }
}

#[test]
fn a_restart_that_fails_is_tried_again() {
    let (world, engine, id, run) = running("on-failure:3");
    world.host.finish(&run, 1);
    let (mut delay, mut call) = world.next_later();
    wait_for(&engine, &id, ContainerState::Restarting);
    for expected in [200, 400] {
        world
            .host
            .fail_next_with(Op::Start, HostError::Source("/srv is gone".into()));
        engine.due(call).unwrap();
        assert_eq!(show(&engine, &id).state, ContainerState::Restarting);
        (delay, call) = world.next_later();
        assert_eq!(delay.as_millis(), expected);
    }
    world.host.fail_next(Op::Start);
    engine.due(call).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Exited);
    assert_eq!((restarts(&engine, &id), world.later().len()), (3, 0));
    assert_eq!(delay.as_millis(), 400);
    let told = actions(&engine, &id);
    assert_eq!(told[2..], ["die", "restart", "restart", "restart"]);
    assert_eq!(engine.container_execs(&id).unwrap().len(), 1);
    assert_eq!(world.host.known(), [run], "the log of the last run stays");
}

#[test]
fn a_failing_poststart_is_a_failing_restart() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = NewContainer {
        jail_params: vec!["exec.poststart=after".into()],
        ..policy("always")
    };
    let id = engine.container_create(new).unwrap().id;
    let run = start(&engine, &id);
    world.host.finish(&run, 1);
    let (_, call) = world.next_later();
    world.host.fail_next(Op::RunHostCommand);
    engine.due(call).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Restarting);
    assert_eq!(world.later().len(), 1, "one call, not two");
    assert_eq!(restarts(&engine, &id), 1);
}

#[test]
fn a_policy_can_change_while_a_restart_is_awaited() {
    let change = |text: &str| ContainerChanges {
        restart_policy: Some(text.parse().unwrap()),
        ..ContainerChanges::default()
    };
    let (world, engine, id, run) = running("always");
    world.host.finish(&run, 0);
    let (_, call) = world.next_later();
    wait_for(&engine, &id, ContainerState::Restarting);
    engine
        .container_update("cc", change("unless-stopped"))
        .unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Restarting);
    engine.container_update("cc", change("on-failure")).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Exited, "code 0");
    engine.container_update("cc", change("always")).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Exited);
    engine.due(call).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Exited);
}

#[test]
fn a_container_that_waits_is_listed_and_not_pruned_but_can_be_removed() {
    let (world, engine, id, run) = running("always");
    world.host.finish(&run, 0);
    let (_, call) = world.next_later();
    wait_for(&engine, &id, ContainerState::Restarting);
    let running = engine.container_list(kleene_engine::ListOptions::default());
    assert_eq!(running.unwrap().len(), 1);
    assert!(engine.container_prune().unwrap().is_empty());
    assert_eq!(engine.container_exit("cc").unwrap(), None);
    engine.container_remove("cc", false).unwrap();
    engine.due(call).unwrap();
    assert!(world.host.known().is_empty());
}

#[test]
fn removal_and_restart_exclude_each_other() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = NewContainer {
        auto_remove: true,
        ..policy("always")
    };
    let error = engine.container_create(new).unwrap_err();
    assert!(matches!(error, EngineError::Invalid(_)), "{error}");
    let new = NewContainer {
        auto_remove: true,
        ..policy("no")
    };
    engine.container_create(new).unwrap();
    let changes = ContainerChanges {
        restart_policy: Some(RestartPolicy::Always),
        ..ContainerChanges::default()
    };
    let error = engine.container_update("cc", changes).unwrap_err();
    assert!(matches!(error, EngineError::Invalid(_)), "{error}");
}

/// What a new daemon starts, by policy and by what had happened before.
#[test]
fn the_start_of_the_daemon() {
    let policies = ["no", "on-startup", "on-failure", "always", "unless-stopped"];
    let started = |prepare: &dyn Fn(&World, &Engine, &ContainerId)| -> Vec<&str> {
        let wanted = policies.into_iter().filter(|text| {
            let world = World::new();
            let (engine, _) = world.with_image();
            let id = engine.container_create(policy(text)).unwrap().id;
            prepare(&world, &engine, &id);
            drop(engine);
            world.host.disconnect();
            world.host.reboot();
            let engine = world.engine();
            engine.reconcile().unwrap();
            let started = engine.start_on_startup();
            assert!(started.iter().all(|(_, result)| result.is_ok()));
            let runs = show(&engine, &id).state == ContainerState::Running;
            assert_eq!(runs, started.len() == 1);
            for (_, call) in world.later() {
                engine.due(call).unwrap();
            }
            assert_eq!(world.host.running().len(), usize::from(runs), "once");
            runs
        });
        wanted.collect()
    };
    assert_eq!(started(&|_, _, _| {}), ["on-startup"]);
    let all = ["on-startup", "on-failure", "always", "unless-stopped"];
    assert_eq!(
        started(&|_, engine, id| drop(start(engine, id))),
        all,
        "what ran when the machine went down"
    );
    let stopped = |_: &World, engine: &Engine, id: &ContainerId| {
        start(engine, id);
        engine.container_stop("cc", GRACE).unwrap();
    };
    assert_eq!(started(&stopped), ["on-startup", "always"]);
    let failed = |world: &World, engine: &Engine, id: &ContainerId| {
        let run = start(engine, id);
        world.host.finish(&run, 1);
        engine.exec_ended(&run, None).unwrap();
    };
    assert_eq!(started(&failed), all);
    let succeeded = |world: &World, engine: &Engine, id: &ContainerId| {
        let run = start(engine, id);
        world.host.finish(&run, 0);
        engine.exec_ended(&run, None).unwrap();
    };
    assert_eq!(
        started(&succeeded),
        ["on-startup", "always", "unless-stopped"]
    );
}

/// A container that can't be started with the daemon is tried again.
#[test]
fn a_failing_start_with_the_daemon() {
    let (world, engine, id, _) = running("unless-stopped");
    drop(engine);
    world.host.disconnect();
    world.host.reboot();
    let engine = world.engine();
    engine.reconcile().unwrap();
    world.later();
    world.host.fail_next(Op::Start);
    let started = engine.start_on_startup();
    assert!(started[0].1.is_err());
    assert_eq!(show(&engine, &id).state, ContainerState::Restarting);
    engine.due(world.next_later().1).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Running);
}

#[test]
fn a_client_that_went_away_leaves_no_container() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = |name: &str| NewContainer {
        auto_remove: true,
        ..named(name, &[])
    };
    let left = engine.container_create(new("left")).unwrap().id;
    let (delay, call) = world.next_later();
    assert!(delay >= Duration::from_secs(60));
    let used = engine.container_create(new("used")).unwrap().id;
    start(&engine, &used);
    engine.due(call.clone()).unwrap();
    engine.due(call).unwrap();
    engine.due(world.next_later().1).unwrap();
    assert!(engine.container_inspect(left.as_str()).is_err());
    assert_eq!(show(&engine, &used).state, ContainerState::Running);
    engine.container_create(container(&[])).unwrap();
    assert!(world.later().is_empty());
}

/// The output of the last runs and of the last processes that joined is kept, and goes with the
/// container.
#[test]
fn output_is_kept_for_a_while() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("cc", &[])).unwrap().id;
    let mut runs = Vec::new();
    for _ in 0..7 {
        let run = start(&engine, &id);
        runs.push(run.clone());
        for _ in 0..10 {
            let joined = exec(&engine, &id, &["true"]);
            engine.exec_start(joined.as_str(), DETACHED).unwrap();
            engine.exec_ended(&joined, None).unwrap();
        }
        world.host.finish(&run, 0);
        engine.exec_ended(&run, None).unwrap();
    }
    let execs = engine.container_execs(&id).unwrap();
    let (first, joined): (Vec<_>, Vec<_>) = execs.into_iter().partition(|exec| exec.first);
    let first: Vec<ExecId> = first.into_iter().rev().map(|exec| exec.id).collect();
    assert_eq!(first, runs[2..]);
    assert_eq!((joined.len(), world.host.known().len()), (16, 21));
    engine.container_remove("cc", false).unwrap();
    assert!(world.host.known().is_empty());
}

/// A program that is there again after a while ends the back-off.
#[test]
fn a_crash_loop_ends() {
    let (world, engine, id, run) = running("always");
    let crash = Program::Exits {
        code: 1,
        output: b"no database yet".to_vec(),
    };
    world.host.program(
        "sleep",
        Program::InTurn(vec![crash.clone(), crash, Program::Runs]),
    );
    world.host.finish(&run, 1);
    for round in 0..3 {
        let (delay, call) = world.next_later();
        assert_eq!(delay.as_millis(), 100 << round);
        engine.due(call).unwrap();
    }
    assert_eq!(show(&engine, &id).state, ContainerState::Running);
    assert_eq!(restarts(&engine, &id), 3);
}
