//! The daemon may die at any time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts clients"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kleene_tests::{Daemon, Leaks, Room, Traces};
use serde_json::Value;

/// Running containers are found again with everything that belongs to them.
#[test]
fn containers_are_found_again_after_a_kill() {
    let mut daemon = Daemon::new(Room::Dir);
    let script = "echo early; while [ ! -e /go ]; do sleep 0.02; done; echo late; exit 6";
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "job",
            "--pids-limit",
            "50",
            "FreeBSD",
            "sh",
            "-c",
            script,
        ])
        .ok();
    daemon
        .klee(&["run", "-d", "--name", "paused", "FreeBSD", "sleep", "1000"])
        .ok();
    daemon.klee(&["pause", "paused"]).ok();
    daemon.klee(&["exec", "-d", "job", "sleep", "1000"]).ok();
    daemon.kill();
    daemon.start();
    let shown = |name: &str| daemon.inspect("container", name)["container"].clone();
    assert_eq!(shown("job")["status"], "running");
    assert_eq!(shown("paused")["status"], "paused");
    assert!(daemon.klee(&["top", "job"]).ok().contains("sleep 1000"));
    let stats = daemon
        .klee(&["stats", "--no-stream", "--format", "json", "job"])
        .ok();
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(
        stats.as_array().map_or(&stats, |list| &list[0])["pids"]["limit"],
        50
    );
    let mut attached = daemon
        .command(&["attach", "--no-stdin", "job"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut follower = daemon
        .command(&["logs", "-f", "job"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "early");
    daemon.klee(&["exec", "-q", "job", "touch", "/go"]).ok();
    assert_eq!(lines.next().unwrap().unwrap(), "late");
    assert_eq!(attached.wait().unwrap().code(), Some(6));
    follower.wait().unwrap();
    assert_eq!(daemon.klee(&["wait", "job"]).ok().trim(), "6");
    daemon.klee(&["unpause", "paused"]).ok();
    daemon.klee(&["exec", "-q", "paused", "true"]).ok();
}

/// What ended while nobody was there is reported with its code.
#[test]
fn ends_without_a_daemon_are_reported() {
    let mut daemon = Daemon::new(Room::Dir);
    let flag = daemon.directory().join("flag");
    std::fs::create_dir(&flag).unwrap();
    let mount = format!("{}:/flag", flag.display());
    let script = "while [ ! -e /flag/go ]; do sleep 0.02; done; echo done; exit 9";
    daemon
        .klee(&[
            "run", "-d", "--name", "job", "-m", &mount, "FreeBSD", "sh", "-c", script,
        ])
        .ok();
    let id = daemon.containers()[0].clone();
    daemon.kill();
    std::fs::write(flag.join("go"), "").unwrap();
    // Its monitor ends when the status is written down.
    let deadline = Instant::now() + Duration::from_secs(30);
    let monitored = |daemon: &Daemon| format!("{:?}", Traces::look(&daemon.mountpoint()));
    while monitored(&daemon).contains("kleene-monitor") {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    daemon.start();
    let shown = daemon.inspect("container", "job")["container"].clone();
    assert_eq!(
        (&shown["status"], &shown["exit_code"]),
        (&"exited".into(), &9.into())
    );
    assert_eq!(daemon.klee(&["logs", "job"]).ok(), "done\n");
    let events = daemon
        .klee(&[
            "events", "--since", "1h", "--until", "0s", "--filter", "name=job", "--format", "json",
        ])
        .ok();
    assert!(
        events
            .lines()
            .any(|line| line.contains("\"die\"") && line.contains("\"9\"")),
        "{events}"
    );
    assert!(Leaks::look(&daemon.mountpoint(), &[id]).is_empty());
}

/// As after a power failure: daemon, monitors and processes are gone at once.
#[test]
fn a_machine_that_restarts_leaves_nothing() {
    let mut daemon = Daemon::new(Room::Dir);
    for (name, policy) in [("plain", "no"), ("kept", "always")] {
        daemon
            .klee(&[
                "run",
                "-d",
                "--name",
                name,
                "--restart",
                policy,
                "-m",
                "v:/v",
                "FreeBSD",
                "sleep",
                "1000",
            ])
            .ok();
    }
    let root = daemon.mountpoint();
    daemon.kill();
    // Killing a monitor kills its process, as the machine's end does.
    for pid in Traces::look(&root).pids() {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    daemon.start();
    let shown = |name: &str| daemon.inspect("container", name)["container"].clone();
    assert_eq!(shown("plain")["status"], "exited");
    assert_eq!(shown("plain")["exit_code"], 137);
    let deadline = Instant::now() + Duration::from_secs(30);
    while shown("kept")["status"] != "running" {
        assert!(Instant::now() < deadline, "{}", shown("kept"));
        std::thread::yield_now();
    }
    daemon.klee(&["exec", "-q", "kept", "true"]).ok();
    let ids = daemon.containers();
    for id in &ids {
        daemon.klee(&["rm", "-f", id]).ok();
    }
    assert!(Leaks::look(&root, &ids).is_empty());
    assert!(Traces::look(&root).instances().is_empty());
}

/// Clients do all kinds of things while the daemon is killed again and again.
#[test]
fn a_daemon_that_is_killed_in_the_middle_of_everything() {
    let mut daemon = Daemon::new(Room::Dir);
    let root = daemon.mountpoint();
    let before = Traces::look(&root);
    let mut ids = BTreeSet::new();
    for round in 0..8_usize {
        let done = AtomicUsize::new(0);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..6_usize {
                let (daemon, done, over) = (&daemon, &done, &over);
                scope.spawn(move || {
                    let mut number = 0;
                    while !over.load(Ordering::SeqCst) {
                        let name = format!("c{client}-{}", number % 3);
                        let volume = format!("v{}:/usr/local/www/nginx", number % 4);
                        // Whatever the daemon answers, or doesn't.
                        for command in [
                            &[
                                "run", "-d", "--name", &name, "-m", &volume, "FreeBSD", "sleep",
                                "9",
                            ][..],
                            &["exec", "-q", &name, "true"],
                            &["restart", "--time", "0", &name],
                            &["stop", "--time", "0", &name],
                            &["rm", "-f", &name],
                            &["volume", "rm", &format!("v{}", number % 4)],
                        ] {
                            daemon.klee(command);
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                        number += 1;
                    }
                });
            }
            // The moment differs from round to round.
            while done.load(Ordering::SeqCst) < 5 + 3 * round {
                std::thread::yield_now();
            }
            let pid = i32::try_from(daemon.pid()).unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            over.store(true, Ordering::SeqCst);
        });
        daemon.kill();
        daemon.start();
        let containers: BTreeSet<String> = daemon.containers().into_iter().collect();
        assert_eq!(
            Traces::look(&root).datasets("container"),
            containers,
            "round {round}"
        );
        ids.extend(containers);
    }
    for id in daemon.containers() {
        daemon.klee(&["rm", "-f", &id]).ok();
    }
    daemon.klee(&["volume", "prune", "-f"]).ok();
    assert_eq!(Traces::look(&root), before);
    let ids: Vec<String> = ids.into_iter().collect();
    assert!(Leaks::look(&root, &ids).is_empty());
}
