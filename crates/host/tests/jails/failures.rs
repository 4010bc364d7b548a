//! Tools that fail, hang or answer something new, at every step.

use kleene_doors::host::{ContainerSetup, Host, HostError, StartRequest};
use kleene_host::freebsd::simulated::Fault;
use kleene_types::Limits;

use crate::world::{VOLUME, World, chain, container, first, mount, setup};

/// A container with something of everything.
pub fn everything() -> StartRequest {
    let limits = Limits {
        memory: Some("64m".parse().unwrap()),
        cpuset: Some("0".parse().unwrap()),
        pids: Some(100),
        ..Limits::default()
    };
    let mounts = vec![
        mount(VOLUME, "/data", false),
        mount("/etc/hosts", "/etc/hosts", true),
    ];
    let setup = ContainerSetup {
        limits,
        ..setup(mounts)
    };
    first(setup, &["sleep"])
}

/// Has the first, second… step of an operation fail in this way, until there are no more steps, and
/// `check`s each time, with the step that failed and the operation's result. Answers how many there were.
fn at_every_step<T>(
    fault: &Fault,
    prepare: impl Fn(&World) -> T,
    operation: impl Fn(&World, &T) -> Result<(), HostError>,
    check: impl Fn(&World, &T, &str, Result<(), HostError>),
) -> usize {
    for step in 0.. {
        let world = World::new();
        let prepared = prepare(&world);
        world.commands();
        world.machine.fault_after(step, fault.clone());
        let result = operation(&world, &prepared);
        if world.machine.without_faults() {
            result.unwrap();
            return step;
        }
        let commands = world.commands();
        check(&world, &prepared, &commands[step], result);
    }
    unreachable!()
}

fn nothing(_: &World) {}

fn start(world: &World, (): &()) -> Result<(), HostError> {
    world.start(&everything()).map(drop)
}

fn broken() -> Fault {
    Fault::Fails(71, "it is broken: Input/output error\n".to_owned())
}

/// The start fails and says which tool, with which arguments, has said what; and nothing is left.
#[test]
fn a_start_that_fails_leaves_nothing() {
    let missing = ["isn't installed", "monitoring"];
    for (fault, says) in [
        (broken(), &["it is broken: Input/output error"][..]),
        (Fault::Hangs, &["took longer than 60 s", "takes too long"]),
        (
            Fault::HangsAfterwards,
            &["took longer than 60 s", "takes too long"],
        ),
        (Fault::IsMissing, &missing),
    ] {
        let steps = at_every_step(&fault, nothing, start, |world, (), step, result| {
            let error = result.expect_err(step);
            let said = chain(&error);
            assert!(
                says.iter().any(|text| said.contains(text)),
                "{step}: {said}"
            );
            let tool = step.split(' ').next().unwrap();
            let command = step.split(" < ").next().unwrap();
            let named = match (step.starts_with('('), fault == Fault::IsMissing) {
                (true, _) => said.contains("monitoring execution instance"),
                (false, true) => said.contains(&format!("'{tool}'")),
                (false, false) => said.contains(&format!("`{command}`")),
            };
            assert!(named, "{step}: {said}");
            assert_eq!(world.traces(), Vec::<String>::new(), "{step}: {fault:?}");
            let again = everything();
            world.start(&again).unwrap();
            world.end(&again.exec);
        });
        assert!(steps > 10, "{steps}");
    }
}

/// An answer that nobody has seen so far is shown with the tool and its arguments, where it matters.
#[test]
fn a_start_with_a_new_answer() {
    let fault = Fault::Says("{\"what\": \"is this\"}".to_owned());
    let mut understood = std::cell::Cell::new(0);
    at_every_step(&fault, nothing, start, |world, (), step, result| {
        match result {
            Ok(()) => {
                // It wasn't asked for an answer.
                understood.set(understood.get() + 1);
                let running = world.processes().running();
                world.end(&running[0]);
            }
            Err(error) => {
                let said = chain(&error);
                let wanted = format!("`{step}` answered something new: {{\"what\": \"is this\"}}");
                assert!(said.contains(&wanted), "{said}");
                assert!(step.contains("--libxo json"), "{step}");
            }
        }
        assert_eq!(world.traces(), Vec::<String>::new(), "{step}");
    });
    assert!(*understood.get_mut() > 5);
}

/// What can't be taken away now is taken away the next time.
#[test]
fn cleaning_that_fails_is_done_again() {
    let killed = |world: &World| {
        let request = everything();
        world.start(&request).unwrap();
        world.processes().finish(&request.exec, 0);
        request
    };
    let clean = |world: &World, _: &StartRequest| world.room.clean(&container());
    for fault in [
        broken(),
        Fault::Hangs,
        Fault::HangsAfterwards,
        Fault::IsMissing,
    ] {
        let steps = at_every_step(&fault, killed, clean, |world, _, step, result| {
            let error = result.expect_err(step);
            let said = chain(&error);
            let tool = step.split(' ').next().unwrap();
            assert!(said.contains(tool), "{step}: {said}");
            // The record is there until everything else is gone.
            let traces = world.traces();
            assert!(
                traces.iter().any(|it| it.starts_with("record")),
                "{traces:?}"
            );
            world.tidy();
        });
        assert!(steps > 4, "{steps}");
    }
}

/// A container that has been running goes on when something that is done to it fails, and can be ended.
#[test]
fn what_is_done_to_a_running_container_fails() {
    let running = |world: &World| {
        let request = everything();
        world.start(&request).unwrap();
        request
    };
    type Operation = fn(&World, &StartRequest) -> Result<(), HostError>;
    let operations: [(&str, Operation); 4] = [
        ("pause", |world, it| {
            world.room.pause(&container(), &it.exec)
        }),
        ("terminate", |world, it| {
            world.room.terminate(&container(), &it.exec)
        }),
        ("kill", |world, it| world.room.kill(&container(), &it.exec)),
        ("update", |world, it| {
            let limits = Limits {
                pids: Some(50),
                ..Limits::default()
            };
            world.room.update_limits(&container(), &it.exec, &limits)
        }),
    ];
    for (name, operation) in operations {
        for fault in [broken(), Fault::Hangs, Fault::HangsAfterwards] {
            let steps = at_every_step(&fault, running, operation, |world, it, step, result| {
                // How many processors there are isn't asked for twice.
                if result.is_ok() {
                    assert_eq!((name, step), ("update", "sysctl -n hw.physmem hw.ncpu"));
                }
                if name == "update" {
                    let traces = world.traces();
                    let is_limit = |trace: &&String| trace.contains(":maxproc:deny=");
                    let limits = traces.iter().filter(is_limit).count();
                    assert_eq!(limits, 1, "never without: {traces:?}");
                }
                let seen = world.processes().seen(&it.exec).unwrap();
                assert!(!seen.paused, "{name} {step}");
                assert_ne!(world.probe(&it.exec), "is paused", "{name} {step}");
                if world.probe(&it.exec) == "runs" {
                    world.room.kill(&container(), &it.exec).unwrap();
                }
                world.tidy();
            });
            assert!(steps > 0, "{name}");
        }
    }
}

/// One that can't be let go on stays paused, so that it can be tried again.
#[test]
fn letting_go_on_fails() {
    let paused = |world: &World| {
        let request = everything();
        world.start(&request).unwrap();
        world.room.pause(&container(), &request.exec).unwrap();
        request
    };
    let unpause = |world: &World, it: &StartRequest| world.room.unpause(&container(), &it.exec);
    for fault in [broken(), Fault::Hangs, Fault::HangsAfterwards] {
        let steps = at_every_step(&fault, paused, unpause, |world, it, step, result| {
            result.expect_err(step);
            assert_eq!(world.probe(&it.exec), "is paused");
            world.room.unpause(&container(), &it.exec).unwrap();
            assert_eq!(world.probe(&it.exec), "runs");
            world.end(&it.exec);
        });
        assert_eq!(steps, 1);
    }
}
