//! Health checks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kleene_engine::{
    ContainerChanges, ContainerState, Engine, EngineError, Health, HealthStatus, Later,
    NewContainer,
};
use kleene_host::fake::{Op, Program};
use kleene_types::{ContainerId, ExecId, HealthCheck, Span};
use support::{World, actions, named, show, start, wait_for};

fn check(program: &str) -> HealthCheck {
    HealthCheck {
        cmd: vec![program.to_owned()],
        interval: Span::from_millis(5000),
        timeout: Span::from_millis(60_000),
        start_period: Span::from_millis(0),
        retries: 2,
    }
}

fn exits(code: i32) -> Program {
    Program::Exits {
        code,
        output: b"status".to_vec(),
    }
}

/// A world with a running container that is checked.
fn running(check: HealthCheck) -> (World, Arc<Engine>, ContainerId, ExecId) {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = NewContainer {
        health_check: Some(Some(check)),
        ..named("cc", &[])
    };
    let id = engine.container_create(new).unwrap().id;
    let init = start(&engine, &id);
    (world, engine, id, init)
}

fn health(engine: &Engine, id: &ContainerId) -> Health {
    show(engine, id).health.unwrap()
}

#[test]
fn checks_come_one_after_the_other() {
    let (world, engine, id, init) = running(check("check"));
    assert_eq!(health(&engine, &id).status, HealthStatus::Starting);
    let turns = [0, 1, 1, 1, 0, 0, 0].map(exits).to_vec();
    world.host.program("check", Program::InTurn(turns));
    let mut seen = Vec::new();
    for _ in 0..7 {
        let (delay, call) = world.next_later();
        assert_eq!(delay, Duration::from_secs(5));
        engine.due(call).unwrap();
        let health = health(&engine, &id);
        seen.push((health.status.as_str(), health.failing_streak));
        assert_eq!(world.host.known(), std::slice::from_ref(&init));
    }
    let expected = [
        ("healthy", 0),
        ("healthy", 1),
        ("unhealthy", 2),
        ("unhealthy", 3),
        ("healthy", 0),
        ("healthy", 0),
        ("healthy", 0),
    ];
    assert_eq!(seen, expected);
    let log = health(&engine, &id).log;
    let codes: Vec<_> = log.iter().map(|result| result.exit_code.unwrap()).collect();
    assert_eq!(codes, [1, 1, 0, 0, 0], "the last five");
    assert!(log.iter().all(|result| result.output == "status"));
    assert_eq!(
        actions(&engine, &id),
        ["create", "start", "health", "health", "health"]
    );
    assert_eq!(engine.container_execs(&id).unwrap().len(), 1);
}

#[test]
fn a_check_that_hangs_is_ended_and_has_failed() {
    let hanging = HealthCheck {
        timeout: Span::from_millis(10),
        retries: 1,
        ..check("stubborn")
    };
    let (world, engine, id, init) = running(hanging);
    engine.due(world.next_later().1).unwrap();
    let health = health(&engine, &id);
    assert_eq!(health.status, HealthStatus::Unhealthy);
    assert_eq!(health.log[0].exit_code, None);
    assert!(health.log[0].output.contains("longer than 10ms"));
    assert_eq!(world.host.known(), [init]);
}

/// What a check has started in the background must not pile up.
#[test]
fn nothing_of_a_check_is_left() {
    let hasty = HealthCheck {
        timeout: Span::from_millis(10),
        ..check("check")
    };
    let (world, engine, _, init) = running(hasty);
    let turns = vec![exits(0), exits(1), Program::Stubborn];
    world.host.program("check", Program::InTurn(turns));
    for _ in 0..3 {
        engine.due(world.next_later().1).unwrap();
    }
    let objects = |op| {
        let calls = world.host.calls().into_iter();
        let calls = calls.filter(move |call| call.op == op);
        calls.map(|call| call.object).collect::<Vec<_>>()
    };
    let (ended, forgotten) = (objects(Op::EndSession), objects(Op::Forget));
    assert_eq!((ended.len(), ended), (3, forgotten));
    assert_eq!(world.host.known(), [init]);
}

#[test]
fn a_check_that_cannot_be_run_has_failed() {
    let (world, engine, id, _) = running(check("missing"));
    engine.due(world.next_later().1).unwrap();
    let log = health(&engine, &id).log;
    assert!(log[0].output.contains("'missing'"), "{}", log[0].output);
    assert_eq!(world.later().len(), 1, "it is tried again");
}

#[test]
fn long_output_is_cut() {
    let (world, engine, id, _) = running(check("check"));
    let output = b"x".repeat(100_000);
    world
        .host
        .program("check", Program::Exits { code: 0, output });
    engine.due(world.next_later().1).unwrap();
    assert_eq!(health(&engine, &id).log[0].output.len(), 4096);
}

#[test]
fn failures_in_the_start_period_do_not_count() {
    let patient = HealthCheck {
        start_period: Span::from_millis(3_600_000),
        retries: 1,
        ..check("false")
    };
    let (world, engine, id, _) = running(patient);
    for _ in 0..3 {
        engine.due(world.next_later().1).unwrap();
    }
    assert_eq!(health(&engine, &id).status, HealthStatus::Starting);
}

#[test]
fn paused_and_ended_containers_are_not_checked() {
    let (world, engine, id, init) = running(check("true"));
    engine.container_pause("cc").unwrap();
    engine.due(world.next_later().1).unwrap();
    assert_eq!(health(&engine, &id).log, []);
    engine.container_unpause("cc").unwrap();
    let (_, call) = world.next_later();
    engine.due(call.clone()).unwrap();
    assert_eq!(health(&engine, &id).log.len(), 1);
    world.later();
    world.host.finish(&init, 0);
    wait_for(&engine, &id, ContainerState::Exited);
    assert_eq!(show(&engine, &id).health, None);
    engine.due(call.clone()).unwrap();
    assert!(world.later().is_empty(), "no further check");
    // The next run is another one.
    start(&engine, &id);
    engine.due(call).unwrap();
    assert_eq!(health(&engine, &id).log, []);
    assert_eq!(world.later().len(), 1);
}

#[test]
fn a_container_that_ends_in_the_middle_of_a_check() {
    let (world, engine, id, init) = running(check("sleep"));
    let (_, call) = world.next_later();
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| engine.due(call));
        let checker = loop {
            let known = world.host.known();
            if let Some(checker) = known.into_iter().find(|exec| *exec != init) {
                break checker;
            }
            std::thread::yield_now();
        };
        assert!(world.host.wait_until(&checker, |_| true));
        // Nothing waits for a check: not an update, not the container's end.
        engine.container_pause("cc").unwrap();
        engine.container_unpause("cc").unwrap();
        world.host.finish(&init, 0);
        checking.join().unwrap().unwrap();
    });
    wait_for(&engine, &id, ContainerState::Exited);
    assert_eq!(world.host.known(), [init]);
    assert!(
        actions(&engine, &id)
            .iter()
            .all(|action| action != "health")
    );
}

#[test]
fn checks_can_be_changed() {
    let (world, engine, id, _) = running(check("false"));
    let change = |check: Option<HealthCheck>| {
        let changes = ContainerChanges {
            health_check: Some(check),
            ..ContainerChanges::default()
        };
        engine.container_update("cc", changes).unwrap();
    };
    let (_, old) = world.next_later();
    change(None);
    assert_eq!(show(&engine, &id).health, None);
    engine.due(old.clone()).unwrap();
    change(Some(check("true")));
    engine.due(old).unwrap();
    let calls = world.later();
    assert_eq!(calls.len(), 1, "one check after the other, not two");
    engine.due(calls[0].1.clone()).unwrap();
    assert_eq!(health(&engine, &id).status, HealthStatus::Healthy);
}

/// What a daemon that dies leaves of a check is ended by the next one, which goes on checking.
#[test]
fn a_new_daemon_goes_on() {
    let (world, engine, id, init) = running(check("sleep"));
    let (_, call) = world.next_later();
    std::thread::spawn({
        let engine = Arc::clone(&engine);
        move || engine.due(call)
    });
    while world.host.known().len() == 1 {
        std::thread::yield_now();
    }
    drop(engine);
    let engine = world.engine();
    engine.reconcile().unwrap();
    assert_eq!(world.host.known(), std::slice::from_ref(&init));
    assert_eq!(health(&engine, &id).status, HealthStatus::Starting);
    let (_, call) = world.next_later();
    assert!(matches!(&call, Later::CheckHealth { run, .. } if *run == init));
    world.host.program("sleep", exits(0));
    engine.due(call).unwrap();
    assert_eq!(health(&engine, &id).status, HealthStatus::Healthy);
}

#[test]
fn checks_that_make_no_sense_are_refused() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let bad = [
        HealthCheck {
            cmd: Vec::new(),
            ..check("x")
        },
        HealthCheck {
            interval: Span::default(),
            ..check("x")
        },
        HealthCheck {
            timeout: Span::default(),
            ..check("x")
        },
        HealthCheck {
            retries: 0,
            ..check("x")
        },
    ];
    for health_check in bad {
        let new = NewContainer {
            health_check: Some(Some(health_check.clone())),
            ..named("cc", &[])
        };
        let error = engine.container_create(new).unwrap_err();
        assert!(matches!(error, EngineError::Invalid(_)), "{error}");
        let id = engine.container_create(named("cc", &[])).unwrap().id;
        let changes = ContainerChanges {
            health_check: Some(Some(health_check)),
            ..ContainerChanges::default()
        };
        let error = engine.container_update("cc", changes).unwrap_err();
        assert!(matches!(error, EngineError::Invalid(_)), "{error}");
        engine.container_remove(id.as_str(), false).unwrap();
    }
}
