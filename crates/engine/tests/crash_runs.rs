//! The daemon dies at every step of what it does with runs of containers: starting, stopping,
//! restarting, changing and checking them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::time::Duration;

use kleene_engine::{
    ContainerChanges, ContainerState, Engine, EngineError, LimitChanges, NewContainer,
};
use kleene_host::fake::{Op, Program};
use kleene_types::{ByteSize, ContainerId, HealthCheck, Resources, RestartPolicy, Signal, Span};
use support::interrupt::at_every_step;
use support::{DETACHED, World, exec, named, show, start};

const GRACE: Option<Duration> = Some(Duration::from_secs(5));

fn size(text: &str) -> Option<ByteSize> {
    Some(text.parse().unwrap())
}

fn with(policy: RestartPolicy, params: &[&str]) -> NewContainer {
    NewContainer {
        restart_policy: policy,
        jail_params: params.iter().map(|&param| param.to_owned()).collect(),
        ..named("cc", &[])
    }
}

fn id(engine: &Engine) -> ContainerId {
    engine.container_inspect("cc").unwrap().record.id
}

/// How often a command of the host was run.
fn count(world: &World, command: &str) -> usize {
    let calls = world.host.calls().into_iter();
    let calls = calls.filter(|call| call.op == Op::RunHostCommand);
    calls.filter(|call| call.object.ends_with(command)).count()
}

fn start_by_hand(engine: &Engine) -> Result<(), EngineError> {
    let instance = exec(engine, &id(engine), &[]);
    engine.exec_start(instance.as_str(), DETACHED).map(drop)
}

/// What the host runs and what the records say agree; nothing else is left on the host.
fn agrees(world: &World, engine: &Engine, state: ContainerState) {
    let view = engine.container_inspect("cc").unwrap();
    assert_eq!(view.state, state);
    let running = usize::from(state == ContainerState::Running);
    assert_eq!(world.host.running().len(), running);
    let known: Vec<_> = engine.container_execs(&view.record.id).unwrap();
    let mut known: Vec<_> = known.into_iter().map(|exec| exec.id).collect();
    known.sort();
    assert_eq!(world.host.known(), known);
}

#[test]
fn creating_with_a_quota() {
    at_every_step(
        |_, _| {},
        |_, engine| {
            let new = NewContainer {
                resources: Resources {
                    storage_quota: size("1G"),
                    ..Resources::default()
                },
                ..named("cc", &[])
            };
            engine.container_create(new).map(drop)
        },
        |_, engine, survived| assert_eq!(engine.container_inspect("cc").is_ok(), survived),
    );
}

/// A start that wasn't told to be done is undone, with what is run after a container's end.
#[test]
fn starting_with_hooks() {
    at_every_step(
        |_, engine| {
            let params = [
                "exec.prestart=before",
                "exec.poststart=after",
                "exec.poststop=over",
            ];
            let new = with(RestartPolicy::No, &params);
            engine.container_create(new).unwrap();
        },
        |_, engine| start_by_hand(engine),
        |world, engine, survived| {
            let state = engine.container_inspect("cc").unwrap().state;
            if survived {
                assert_eq!(count(world, "after"), 1);
                agrees(world, engine, ContainerState::Running);
            } else {
                assert_ne!(state, ContainerState::Running);
                agrees(world, engine, state);
                assert!(count(world, "over") >= 1 || count(world, "before") == 0);
                start(engine, &id(engine));
            }
        },
    );
}

/// A stop that has begun is finished, and no policy undoes it.
#[test]
fn stopping() {
    for policy in [RestartPolicy::No, RestartPolicy::UnlessStopped] {
        at_every_step(
            |world, engine| {
                let params = [
                    "exec.prestop=stopping",
                    "exec.stop=bye",
                    "exec.poststop=over",
                ];
                world.host.program("bye", Program::Signals(1));
                engine.container_create(with(policy, &params)).unwrap();
                start(engine, &id(engine));
            },
            |_, engine| engine.container_stop("cc", GRACE).map(drop),
            |world, engine, _| {
                agrees(world, engine, ContainerState::Exited);
                assert!(engine.start_on_startup().is_empty());
                assert!(count(world, "over") >= 1);
            },
        );
    }
}

#[test]
fn stopping_a_stubborn_one() {
    at_every_step(
        |_, engine| {
            let new = NewContainer {
                cmd: vec!["stubborn".into()],
                stop_timeout: Some(Span::from_millis(1)),
                ..with(RestartPolicy::UnlessStopped, &[])
            };
            engine.container_create(new).unwrap();
            start(engine, &id(engine));
        },
        |_, engine| engine.container_stop("cc", None).map(drop),
        |world, engine, _| agrees(world, engine, ContainerState::Exited),
    );
}

#[test]
fn stopping_a_paused_one() {
    at_every_step(
        |_, engine| {
            engine
                .container_create(with(RestartPolicy::No, &[]))
                .unwrap();
            start(engine, &id(engine));
            engine.container_pause("cc").unwrap();
        },
        |_, engine| engine.container_stop("cc", GRACE).map(drop),
        |world, engine, _| agrees(world, engine, ContainerState::Exited),
    );
}

/// A restart that has begun is finished.
#[test]
fn restarting() {
    for policy in [RestartPolicy::No, RestartPolicy::UnlessStopped] {
        at_every_step(
            |_, engine| {
                engine.container_create(with(policy, &[])).unwrap();
                start(engine, &id(engine));
            },
            |_, engine| engine.container_restart("cc", GRACE).map(drop),
            |world, engine, _| {
                agrees(world, engine, ContainerState::Running);
                let view = engine.container_inspect("cc").unwrap();
                assert!(!view.record.stopped_by_user);
                let runs = engine.container_execs(&view.record.id).unwrap();
                assert_eq!(runs.iter().filter(|exec| exec.first).count(), 2);
            },
        );
    }
}

/// The host, the storage and the records have the same limits.
#[test]
fn changing_limits() {
    let limits = |memory: &str| LimitChanges {
        memory: Some(size(memory)),
        ..LimitChanges::default()
    };
    at_every_step(
        |_, engine| {
            let mut new = named("cc", &[]);
            new.resources.storage_quota = size("1G");
            new.resources.limits.memory = size("8M");
            engine.container_create(new).unwrap();
            start(engine, &id(engine));
            // So that the host's answer is the same however it was set.
            let changes = ContainerChanges {
                limits: limits("64M"),
                ..ContainerChanges::default()
            };
            engine.container_update("cc", changes).unwrap();
        },
        |_, engine| {
            let changes = ContainerChanges {
                limits: limits("128M"),
                storage_quota: Some(size("2G")),
                ..ContainerChanges::default()
            };
            engine.container_update("cc", changes).map(drop)
        },
        |world, engine, survived| {
            agrees(world, engine, ContainerState::Running);
            let record = engine.container_inspect("cc").unwrap().record;
            let resources = record.resources;
            let run = record.last_run.unwrap().init;
            let allowed = world.host.seen(&run).unwrap().limits;
            assert_eq!(allowed, resources.limits);
            assert_eq!(world.storage.quota(&record.id), resources.storage_quota);
            let memory = if survived { "128M" } else { "64M" };
            assert_eq!(resources.limits.memory, size(memory));
        },
    );
}

#[test]
fn checking_health() {
    at_every_step(
        |world, engine| {
            let exits = Program::Exits {
                code: 0,
                output: b"fine".to_vec(),
            };
            world.host.program("check", exits);
            let new = NewContainer {
                health_check: Some(Some(HealthCheck {
                    cmd: vec!["check".into()],
                    interval: Span::from_millis(1000),
                    timeout: Span::from_millis(60_000),
                    start_period: Span::default(),
                    retries: 1,
                })),
                ..named("cc", &[])
            };
            engine.container_create(new).unwrap();
            start(engine, &id(engine));
        },
        |world, engine| {
            let (_, check) = world.next_later();
            engine.due(check)
        },
        |world, engine, _| agrees(world, engine, ContainerState::Running),
    );
}

#[test]
fn removing_one_that_waits_for_its_restart() {
    at_every_step(
        |_, engine| {
            engine
                .container_create(with(RestartPolicy::Always, &[]))
                .unwrap();
            let run = start(engine, &id(engine));
            // Its end is noted when the daemon starts.
            drop(run);
        },
        |world, engine| {
            let run = show(engine, &id(engine)).record.last_run.unwrap();
            if run.ended.is_none() {
                world.host.finish(&run.init, 1);
                engine.exec_ended(&run.init, None)?;
            }
            engine.container_remove("cc", false).map(drop)
        },
        |world, engine, survived| {
            if let Ok(view) = engine.container_inspect("cc") {
                assert!(!survived);
                agrees(world, engine, view.state);
                assert_eq!(engine.start_on_startup().len(), 1);
                agrees(world, engine, ContainerState::Running);
            } else {
                assert!(world.host.known().is_empty());
            }
        },
    );
}

/// An end is recorded with its code, and the hook after it isn't left out.
#[test]
fn ending() {
    at_every_step(
        |_, engine| {
            let new = with(
                RestartPolicy::OnFailure { limit: None },
                &["exec.poststop=over"],
            );
            engine.container_create(new).unwrap();
            start(engine, &id(engine));
        },
        |world, engine| {
            let run = show(engine, &id(engine)).record.last_run.unwrap().init;
            world.host.finish(&run, 7);
            engine.exec_ended(&run, None).map(drop)
        },
        |world, engine, _| {
            let run = show(engine, &id(engine)).record.last_run.unwrap();
            assert_eq!(run.ended.unwrap().1, 7);
            assert!(count(world, "over") >= 1);
            assert_eq!(engine.start_on_startup().len(), 1);
            agrees(world, engine, ContainerState::Running);
        },
    );
}

/// A restart by a policy happens, at the latest with the next daemon.
#[test]
fn restarting_by_policy() {
    at_every_step(
        |_, engine| {
            let new = with(RestartPolicy::Always, &["exec.prestart=before"]);
            engine.container_create(new).unwrap();
            start(engine, &id(engine));
        },
        |world, engine| {
            let run = show(engine, &id(engine)).record.last_run.unwrap().init;
            world.host.finish(&run, 7);
            engine.exec_ended(&run, None)?;
            let (_, restart) = world.next_later();
            engine.due(restart)
        },
        |world, engine, _| {
            engine.start_on_startup();
            agrees(world, engine, ContainerState::Running);
        },
    );
}

#[test]
fn killing() {
    at_every_step(
        |_, engine| {
            engine
                .container_create(with(RestartPolicy::Always, &[]))
                .unwrap();
            start(engine, &id(engine));
        },
        |_, engine| engine.container_kill("cc", Signal::KILL).map(drop),
        |world, engine, survived| {
            let view = engine.container_inspect("cc").unwrap();
            assert!(view.record.stopped_by_user, "no policy restarts it");
            if survived {
                agrees(world, engine, ContainerState::Exited);
            } else {
                agrees(world, engine, view.state);
            }
        },
    );
}

#[test]
fn a_process_that_joins() {
    at_every_step(
        |_, engine| {
            engine
                .container_create(with(RestartPolicy::No, &[]))
                .unwrap();
            start(engine, &id(engine));
        },
        |world, engine| {
            let joined = exec(engine, &id(engine), &["sleep"]);
            engine.exec_start(joined.as_str(), DETACHED)?;
            world.host.finish(&joined, 4);
            engine.exec_ended(&joined, None).map(drop)
        },
        |world, engine, survived| {
            agrees(world, engine, ContainerState::Running);
            let execs = engine.container_execs(&id(engine)).unwrap();
            let code = |code| {
                execs
                    .iter()
                    .any(|e| e.ended.is_some_and(|(_, c)| c == code))
            };
            assert!(!survived || code(4));
        },
    );
}

/// One that removes itself is gone afterwards, however far its run or its removal had come.
#[test]
fn one_that_removes_itself() {
    at_every_step(
        |_, engine| {
            let new = NewContainer {
                auto_remove: true,
                ..with(RestartPolicy::No, &["exec.poststop=over"])
            };
            engine.container_create(new).unwrap();
            start(engine, &id(engine));
        },
        |world, engine| {
            let run = show(engine, &id(engine)).record.last_run.unwrap().init;
            world.host.finish(&run, 7);
            engine.exec_ended(&run, None).map(drop)
        },
        |world, engine, _| {
            assert!(engine.container_inspect("cc").is_err());
            assert!(world.host.known().is_empty());
        },
    );
}
