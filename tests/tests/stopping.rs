//! How containers end whose first process takes no notice of signals, and what checks leave behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts clients"
)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use kleene_tests::{Daemon, Room};

fn run(daemon: &Daemon, name: &str, script: &str) {
    daemon
        .klee(&["run", "-d", "--name", name, "FreeBSD", "sh", "-c", script])
        .ok();
}

/// Waits until a container's output has this line.
fn await_line(daemon: &Daemon, name: &str, wanted: &str) {
    let mut command = daemon.command(&["logs", "-f", name]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let found = lines.map(Result::unwrap).any(|line| line == wanted);
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(found, "{name} never printed {wanted:?}");
}

/// A shell that waits for a server handles no signals: the server is asked, and gets its time.
#[test]
fn what_a_deaf_shell_has_started_ends_in_its_own_way() {
    let daemon = Daemon::new(Room::Dir);
    let server = "trap 'echo asked; sleep 0.3; echo clean; exit' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    run(
        &daemon,
        "wrapped",
        &format!("sh -c \"{server}\"; echo over"),
    );
    await_line(&daemon, "wrapped", "ready");
    daemon.klee(&["stop", "--time", "60", "wrapped"]).ok();
    let log = daemon.klee(&["logs", "wrapped"]).ok();
    assert!(log.starts_with("ready\nasked\nclean\n"), "{log}");
    // One that has nobody else is not waited for.
    run(&daemon, "alone", "echo ready; exec sleep 1000");
    await_line(&daemon, "alone", "ready");
    let start = Instant::now();
    daemon.klee(&["stop", "--time", "60", "alone"]).ok();
    assert!(start.elapsed() < Duration::from_secs(30));
}

/// Whoever watches a service and interrupts that doesn't end it.
#[test]
fn an_interrupted_guest_ends_nothing() {
    let daemon = Daemon::new(Room::Dir);
    run(&daemon, "service", "echo ready; exec sleep 1000");
    await_line(&daemon, "service", "ready");
    let mut command = daemon.command(&["attach", "service"]);
    let mut guest = command.stdin(Stdio::null()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&guest);
    // It is attached when it has sockets to the daemon; until then the signal ends the client alone.
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    while guest.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let _ = guest.kill();
    guest.wait().unwrap();
    daemon.klee(&["exec", "-q", "service", "true"]).ok();
}

/// Checks that take too long leave no zombies to a first process that waits for nobody.
#[test]
fn overdue_checks_leave_nothing() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "box",
            "--pids-limit",
            "12",
            "--health-cmd",
            "sleep 100; true",
            "--health-timeout",
            "100ms",
            "--health-interval",
            "50ms",
            "--health-retries",
            "1",
            "FreeBSD",
            "sleep",
            "1000",
        ])
        .ok();
    let checked = || {
        let shown = daemon.inspect("container", "box")["container"].clone();
        shown["health"]["failing_streak"].as_u64().unwrap_or(0)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while checked() < 15 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    let processes = daemon
        .klee(&[
            "exec",
            "-q",
            "box",
            "sh",
            "-c",
            "ls -d /proc/[0-9]* | wc -l",
        ])
        .ok();
    let count: usize = processes.trim().parse().unwrap();
    assert!(count <= 8, "{count} processes");
}
