//! The monitor that is started before there is anything for it to do.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, their helpers included"
)]

mod common;

use std::fs;

use common::{World, await_that, process};
use kleene_doors::host::Host;
use kleene_monitor::process::NOBODYS;
use kleene_types::ExecId;
use rustix::process::{Pid, Signal, kill_process};

/// More processes than it takes for a spare monitor to be used.
const MANY: usize = 50;

/// This process's children by their ids, with their arguments; those that have ended have none.
fn children() -> Vec<(u32, String)> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let ids = tasks.flat_map(|task| {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let ids = children.split_whitespace().map(|id| id.parse().unwrap());
        ids.collect::<Vec<u32>>()
    });
    let arguments = |id: u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        line.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    ids.map(|id| (id, arguments(id))).collect()
}

/// The spare monitor, if there is one.
fn spare() -> Option<u32> {
    let mut all = children().into_iter();
    all.find_map(|(id, line)| line.ends_with(NOBODYS).then_some(id))
}

fn await_spare() -> u32 {
    await_that("there is no spare monitor", || spare().is_some());
    spare().unwrap()
}

/// The monitor of an execution instance, which says so.
fn await_monitor_of(exec: &ExecId) -> u32 {
    let name = format!("kleene-monitor {exec}");
    let find = || children().into_iter().find(|(_, line)| *line == name);
    await_that("it doesn't say whose monitor it is", || find().is_some());
    find().unwrap().0
}

/// One test, because the children are those of the whole process.
#[test]
fn a_spare_monitor_is_used_and_replaced_and_ends_with_its_daemon() {
    let world = World::new();
    let container = world.container();
    let running = container.idle();
    let monitor = await_monitor_of(&running.exec);
    let directory = fs::read_link(format!("/proc/{monitor}/cwd")).unwrap();
    assert!(directory.ends_with(running.exec.as_str()), "{directory:?}");
    // A spare one may be there, but not ready, when somebody comes: then another is started.
    let used = (0..MANY).any(|_| {
        let spare = await_spare();
        let joined = running.join(process(&["sleep", "1000"]));
        let used = await_monitor_of(&joined.exec) == spare;
        world
            .host
            .signal(&joined.exec, Signal::KILL.as_raw())
            .unwrap();
        joined.finish();
        used
    });
    assert!(used, "no spare monitor was ever used");

    let second = await_spare();
    let pid = Pid::from_raw(second.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    await_that("the spare monitor doesn't end", || {
        children().iter().all(|(id, _)| *id != second)
    });
    let script = process(&["sh", "-c", "echo joined; exit 4"]);
    let outcome = running.join(script).finish();
    assert_eq!(outcome.stdout(), "joined\n");
    assert_eq!(outcome.code, Some(4));

    await_spare();
    let (id, exec) = (container.id.clone(), running.exec.clone());
    world.host.kill(&id, &exec).unwrap();
    running.finish();
    world.host.clean(&id).unwrap();
    drop(world);
    await_that("a spare monitor outlives its daemon", || spare().is_none());
}
