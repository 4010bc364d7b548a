//! Stopping, restarting, signalling and pausing containers, and the hooks around their lives.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::time::Duration;

use kleene_doors::host::HostError;
use kleene_engine::{ContainerState, Engine, EngineError, NewContainer};
use kleene_host::fake::{FakeHost, Op, Program};
use kleene_store::Store;
use kleene_types::{ContainerId, ExecId, RestartPolicy, Signal};
use support::{DETACHED, World, actions, exec, named, show, start, wait_for};

const GRACE: Option<Duration> = Some(Duration::from_secs(20));

fn with_params(params: &[&str]) -> NewContainer {
    NewContainer {
        jail_params: params.iter().map(|&param| param.to_owned()).collect(),
        ..named("cc", &[])
    }
}

/// The commands of the host that were run, in order.
fn commands(host: &FakeHost) -> Vec<String> {
    let calls = host.calls().into_iter();
    let calls = calls.filter(|call| call.op == Op::RunHostCommand);
    // A container's id and a space stand before the command.
    calls.map(|call| call.object[13..].to_owned()).collect()
}

fn ended(engine: &Engine, id: &ContainerId) -> i32 {
    show(engine, id).record.last_run.unwrap().ended.unwrap().1
}

fn signals(world: &World, exec: &ExecId) -> Vec<i32> {
    world.host.seen(exec).unwrap().signals
}

#[test]
fn hooks_are_run_around_a_life() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = with_params(&[
        "exec.prestart=before 1",
        "exec.prestart=before 2",
        "exec.poststart=after",
        "exec.prestop=stopping",
        "exec.stop=bye",
        "exec.poststop=over",
    ]);
    world.host.program("bye", Program::Signals(15));
    let id = engine.container_create(new).unwrap().id;
    let init = start(&engine, &id);
    assert_eq!(commands(&world.host), ["before 1", "before 2", "after"]);
    engine.container_stop("cc", GRACE).unwrap();
    assert_eq!(
        commands(&world.host)[3..],
        ["stopping".to_owned(), "over".to_owned()]
    );
    assert_eq!(signals(&world, &init), [15], "exec.stop has stopped it");
    assert_eq!(world.host.known(), [init], "nothing of exec.stop is left");
    assert_eq!(actions(&engine, &id), ["create", "start", "die", "stop"]);
}

#[test]
fn poststop_is_run_also_when_a_container_ends_by_itself() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine
        .container_create(with_params(&["exec.poststop=over"]))
        .unwrap()
        .id;
    let init = start(&engine, &id);
    world.host.finish(&init, 3);
    wait_for(&engine, &id, ContainerState::Exited);
    assert_eq!(commands(&world.host), ["over"]);
    assert_eq!(ended(&engine, &id), 3);
}

#[test]
fn a_failing_prestart_fails_the_start() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = with_params(&["exec.prestart=before", "exec.poststop=over"]);
    let id = engine.container_create(new).unwrap().id;
    world.host.fail_next(Op::RunHostCommand);
    let instance = exec(&engine, &id, &[]);
    match engine.exec_start(instance.as_str(), DETACHED) {
        Err(EngineError::Start(failure)) => {
            assert_eq!(failure.code, 125);
            assert!(failure.message.contains("exec.prestart"), "{failure}");
            assert!(failure.message.contains("injected"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(commands(&world.host), ["before", "over"]);
    assert!(world.host.known().is_empty());
    assert_eq!(show(&engine, &id).state, ContainerState::Created);
    start(&engine, &id);
}

#[test]
fn a_failing_poststart_ends_the_container() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = NewContainer {
        restart_policy: RestartPolicy::Always,
        ..with_params(&["exec.poststart=after", "exec.poststop=over"])
    };
    let id = engine.container_create(new).unwrap().id;
    world.host.fail_next(Op::RunHostCommand);
    let instance = exec(&engine, &id, &[]);
    let error = engine.exec_start(instance.as_str(), DETACHED).unwrap_err();
    assert!(error.to_string().contains("exec.poststart"), "{error}");
    assert_eq!(show(&engine, &id).state, ContainerState::Exited);
    assert!(world.host.running().is_empty());
    assert_eq!(commands(&world.host), ["after", "over"]);
    assert!(world.later().is_empty(), "whoever started it is told");
}

/// A hook that fails can't keep a container from stopping.
#[test]
fn failing_hooks_stop_nothing() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = with_params(&[
        "exec.prestop=stopping",
        "exec.stop=missing",
        "exec.poststop=over",
    ]);
    let id = engine.container_create(new).unwrap().id;
    start(&engine, &id);
    world.host.fail_next(Op::RunHostCommand);
    world.host.fail_next(Op::RunHostCommand);
    engine.container_stop("cc", GRACE).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Exited);
}

/// What exec.stop runs is waited for as long as the container gets, not longer.
#[test]
fn an_exec_stop_that_hangs_is_ended() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = with_params(&["exec.stop=sleep", "exec.timeout=0.01"]);
    let id = engine.container_create(new).unwrap().id;
    let init = start(&engine, &id);
    engine.container_stop("cc", GRACE).unwrap();
    assert_eq!(world.host.known(), std::slice::from_ref(&init));
    assert_eq!(signals(&world, &init), [15]);
}

#[test]
fn a_container_has_its_own_stop_signal_and_time() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let stop_signal: Signal = "USR1".parse().unwrap();
    let new = NewContainer {
        stop_signal: Some(stop_signal),
        stop_timeout: Some("0.01".parse().unwrap()),
        cmd: vec!["stubborn".into()],
        ..named("cc", &[])
    };
    let id = engine.container_create(new).unwrap().id;
    let init = start(&engine, &id);
    engine.container_stop("cc", None).unwrap();
    assert_eq!(signals(&world, &init), [stop_signal.number(), 9]);
    assert_eq!(ended(&engine, &id), 137);
}

#[test]
fn the_jail_parameter_says_how_long_to_wait() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = NewContainer {
        cmd: vec!["stubborn".into()],
        ..with_params(&["stop.timeout=0.01"])
    };
    let id = engine.container_create(new).unwrap().id;
    start(&engine, &id);
    engine.container_stop("cc", None).unwrap();
    assert_eq!(ended(&engine, &id), 137);
}

#[test]
fn paused_containers() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("cc", &[])).unwrap().id;
    assert!(matches!(
        engine.container_pause("cc"),
        Err(EngineError::ContainerNotRunning(_))
    ));
    let init = start(&engine, &id);
    engine.container_pause("cc").unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Paused);
    assert!(matches!(
        engine.container_pause("cc"),
        Err(EngineError::Conflict(_))
    ));
    let joined = exec(&engine, &id, &["true"]);
    let error = engine.exec_start(joined.as_str(), DETACHED).unwrap_err();
    assert!(error.to_string().contains("unpause it first"), "{error}");
    let error = engine.container_remove("cc", false).unwrap_err();
    assert!(matches!(error, EngineError::InUse(_)), "{error}");
    assert!(error.to_string().contains("paused"), "{error}");
    engine.container_unpause("cc").unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Running);
    assert!(matches!(
        engine.container_unpause("cc"),
        Err(EngineError::Conflict(_))
    ));
    engine.container_pause("cc").unwrap();
    assert_eq!(
        actions(&engine, &id),
        ["create", "start", "pause", "unpause", "pause"]
    );
    drop(engine);
    world.host.disconnect();
    // A new daemon finds it paused, and it can be stopped.
    let engine = world.engine();
    engine.reconcile().unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Paused);
    engine.container_stop("cc", GRACE).unwrap();
    assert_eq!(signals(&world, &init), [15]);
    assert_eq!(actions(&engine, &id), ["die", "stop"]);
}

#[test]
fn signals_reach_the_first_process() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("cc", &[])).unwrap().id;
    let kill = |signal: &str| engine.container_kill("cc", signal.parse().unwrap());
    assert!(matches!(
        kill("KILL"),
        Err(EngineError::ContainerNotRunning(_))
    ));
    let init = start(&engine, &id);
    kill("WINCH").unwrap();
    assert_eq!(signals(&world, &init), [28]);
    let as_it_is = format!("{init} 28");
    let mut calls = world.host.calls().into_iter();
    assert!(calls.any(|call| call.op == Op::SendSignal && call.object == as_it_is));
    assert!(!show(&engine, &id).record.stopped_by_user);
    kill("KILL").unwrap();
    wait_for(&engine, &id, ContainerState::Exited);
    assert_eq!(ended(&engine, &id), 137);
    assert!(show(&engine, &id).record.stopped_by_user);
    assert_eq!(
        actions(&engine, &id),
        ["create", "start", "kill", "kill", "die"]
    );
}

#[test]
fn killing_by_hand_keeps_the_policy_from_restarting() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = NewContainer {
        restart_policy: RestartPolicy::Always,
        ..named("cc", &[])
    };
    let id = engine.container_create(new).unwrap().id;
    let init = start(&engine, &id);
    engine.container_kill("cc", "HUP".parse().unwrap()).unwrap();
    // HUP is no wish for an end, though it may be the end.
    wait_for(&engine, &id, ContainerState::Restarting);
    assert_eq!(signals(&world, &init), [1]);
    start(&engine, &id);
    engine.container_kill("cc", Signal::TERM).unwrap();
    wait_for(&engine, &id, ContainerState::Exited);
}

#[test]
fn restarting() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = NewContainer {
        auto_remove: true,
        ..named("cc", &[])
    };
    let id = engine.container_create(new).unwrap().id;
    let first = start(&engine, &id);
    engine.container_restart("cc", GRACE).unwrap();
    let record = show(&engine, &id).record;
    assert!(record.last_run.is_some_and(|run| run.init != first));
    assert!(!record.stopped_by_user);
    assert_eq!(show(&engine, &id).state, ContainerState::Running);
    assert_eq!(
        actions(&engine, &id),
        ["create", "start", "die", "stop", "start", "restart"]
    );
    engine.container_stop("cc", GRACE).unwrap();
    assert!(engine.container_inspect("cc").is_err(), "removed at last");
    // One that doesn't run is just started.
    let id = engine.container_create(named("dd", &[])).unwrap().id;
    engine.container_restart("dd", GRACE).unwrap();
    assert_eq!(show(&engine, &id).state, ContainerState::Running);
    // A program that is gone is told, and the container is stopped.
    world
        .host
        .fail_next_with(Op::Start, HostError::Source("/srv is gone".into()));
    let error = engine.container_restart("dd", GRACE).unwrap_err();
    assert!(error.to_string().contains("/srv is gone"));
    assert_eq!(show(&engine, &id).state, ContainerState::Exited);
}

/// Everybody who stops a container at the same time is told that it has stopped; hooks run once.
#[test]
fn many_stop_one_container() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = with_params(&["exec.prestop=stopping", "exec.poststop=over"]);
    let id = engine.container_create(new).unwrap().id;
    for _ in 0..20 {
        start(&engine, &id);
        let stopped = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| engine.container_stop("cc", GRACE)))
                .collect();
            let results = threads.into_iter().map(|thread| thread.join().unwrap());
            results
                .filter(|result| match result {
                    Ok(_) => true,
                    Err(EngineError::ContainerNotRunning(_)) => false,
                    Err(other) => panic!("{other}"),
                })
                .count()
        });
        assert!(stopped >= 1);
        assert_eq!(show(&engine, &id).state, ContainerState::Exited);
    }
    assert_eq!(commands(&world.host).len(), 40);
}

/// The execution instance that isn't the container's first one, as soon as it runs.
fn other_than(world: &World, init: &ExecId) -> ExecId {
    loop {
        let running = world.host.running();
        if let Some(other) = running.into_iter().find(|exec| exec != init) {
            return other;
        }
        std::thread::yield_now();
    }
}

/// A running container that nothing but `SIGKILL` ends, and whose `exec.stop` takes its time.
fn slow_to_stop(engine: &Engine) -> (ContainerId, ExecId) {
    let new = NewContainer {
        cmd: vec!["stubborn".into()],
        ..with_params(&["exec.stop=sleep"])
    };
    let id = engine.container_create(new).unwrap().id;
    let init = start(engine, &id);
    (id, init)
}

#[test]
fn a_second_stop_waits_for_the_first() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let (id, init) = slow_to_stop(&engine);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| engine.container_stop("cc", GRACE));
        let exec_stop = other_than(&world, &init);
        let second = scope.spawn(|| engine.container_stop("cc", None));
        let third = scope.spawn(|| engine.container_stop("cc", GRACE));
        // Each writes down its intention before it waits.
        let path = world.database();
        while Store::open(&path).unwrap().journal().unwrap().len() < 3 {
            std::thread::yield_now();
        }
        assert!(world.host.running().contains(&exec_stop));
        world.host.finish(&exec_stop, 0);
        assert!(world.host.wait_until(&init, |seen| seen.signals == [15]));
        world.host.finish(&init, 0);
        for stop in [first, second, third] {
            stop.join().unwrap().unwrap();
        }
    });
    assert_eq!(signals(&world, &init), [15]);
    assert_eq!(ended(&engine, &id), 0);
}

#[test]
fn a_second_stop_may_hurry() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let (id, init) = slow_to_stop(&engine);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| engine.container_stop("cc", GRACE));
        other_than(&world, &init);
        engine.container_stop("cc", Some(Duration::ZERO)).unwrap();
        first.join().unwrap().unwrap();
    });
    assert_eq!(signals(&world, &init), [9]);
    assert_eq!(ended(&engine, &id), 137);
}

#[test]
fn a_stop_that_failed_is_taken_up_by_the_next() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let new = with_params(&["exec.prestop=stopping"]);
    let id = engine.container_create(new).unwrap().id;
    let init = start(&engine, &id);
    world.host.fail_next(Op::Terminate);
    engine.container_stop("cc", GRACE).unwrap_err();
    engine.container_stop("cc", GRACE).unwrap();
    assert_eq!(signals(&world, &init), [15]);
    assert_eq!(commands(&world.host), ["stopping"], "once");
}

#[test]
fn an_out_of_memory_kill_is_told() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("cc", &[])).unwrap().id;
    let init = start(&engine, &id);
    world.host.finish_out_of_memory(&init);
    wait_for(&engine, &id, ContainerState::Exited);
    assert!(show(&engine, &id).record.last_run.unwrap().out_of_memory);
    let ended = engine.exec_ended(&init, None).unwrap();
    assert!(ended.out_of_memory && ended.exit_code == 137);
    assert_eq!(actions(&engine, &id), ["create", "start", "oom", "die"]);
}

#[test]
fn an_out_of_memory_kill_of_a_joined_process_is_told() {
    let world = World::new();
    let (engine, _) = world.with_image();
    let id = engine.container_create(named("cc", &[])).unwrap().id;
    let init = start(&engine, &id);
    let run = |out_of_memory: bool| {
        let joined = exec(&engine, &id, &["sleep"]);
        engine.exec_start(joined.as_str(), DETACHED).unwrap();
        match out_of_memory {
            true => world.host.finish_out_of_memory(&joined),
            false => world.host.finish(&joined, 0),
        }
        let ended = engine.exec_ended(&joined, None).unwrap();
        assert_eq!(ended.out_of_memory, out_of_memory);
        let record = engine.exec_inspect(joined.as_str()).unwrap();
        assert_eq!(record.out_of_memory, out_of_memory);
        let mut events = engine.events_after(0).into_iter();
        let told = events.find(|event| event.id == joined.as_str() && event.action == "die");
        let told = told.unwrap().attributes;
        assert_eq!(told.contains_key("out_of_memory"), out_of_memory);
        show(&engine, &id).record.last_run.unwrap().out_of_memory
    };
    assert!(!run(false));
    assert!(run(true));
    assert_eq!(actions(&engine, &id), ["create", "start", "oom"]);
    assert!(run(false), "the run has had it");
    // Its own end was another one.
    world.host.finish(&init, 0);
    wait_for(&engine, &id, ContainerState::Exited);
    assert!(!engine.exec_ended(&init, None).unwrap().out_of_memory);
    assert!(show(&engine, &id).record.last_run.unwrap().out_of_memory);
    assert_eq!(actions(&engine, &id), ["create", "start", "oom", "die"]);
    start(&engine, &id);
    assert!(!show(&engine, &id).record.last_run.unwrap().out_of_memory);
}
