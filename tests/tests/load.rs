//! Many at once: containers, clients, execution instances, output.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts clients"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use kleene_tests::{Daemon, Leaks, Room, Traces};

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Has 16 clients do `work` with each number below `count`.
fn by_sixteen(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

#[test]
fn two_hundred_containers_come_and_go() {
    let daemon = Daemon::new(Room::Dir);
    let root = daemon.mountpoint();
    let before = Traces::look(&root);
    by_sixteen(200, |number| {
        let name = format!("c{number}");
        let volume = format!("v{}:/data", number % 10);
        daemon
            .klee(&[
                "run", "-d", "--name", &name, "-m", &volume, "FreeBSD", "sleep", "1000",
            ])
            .ok();
    });
    assert_eq!(daemon.klee(&["ls", "-q"]).ok().lines().count(), 200);
    let stats = daemon
        .klee(&["stats", "--no-stream", "--format", "json"])
        .ok();
    assert_eq!(stats.lines().count(), 200, "{stats}");
    let ids = daemon.containers();
    by_sixteen(200, |number| {
        daemon.klee(&["rm", "-f", &format!("c{number}")]).ok();
    });
    assert!(daemon.containers().is_empty());
    daemon.klee(&["volume", "prune", "-f"]).ok();
    assert_eq!(Traces::look(&root), before);
    let leaks = Leaks::look(&root, &ids);
    assert!(leaks.is_empty(), "{leaks:?}");
    assert!(
        resident(daemon.pid()) < 200 << 10,
        "{} KiB",
        resident(daemon.pid())
    );
}

#[test]
fn sixty_four_processes_print_at_once() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&["run", "-d", "--name", "box", "FreeBSD", "sleep", "1000"])
        .ok();
    std::thread::scope(|scope| {
        for number in 0..64 {
            let daemon = &daemon;
            scope.spawn(move || {
                let script = format!("yes line-{number} | head -c 10000000");
                let output = daemon
                    .klee(&["exec", "-q", "box", "sh", "-c", &script])
                    .ok();
                assert_eq!(output.len(), 10_000_000);
                let line = format!("line-{number}");
                assert!(output.lines().rev().skip(1).all(|text| text == line));
            });
        }
    });
    let shown = daemon.inspect("container", "box");
    let running = shown["container_execs"].as_array().unwrap().iter();
    assert_eq!(running.filter(|exec| exec["running"] == true).count(), 1);
}

/// Some of a hundred clients read slowly. The process waits for them; nobody loses anything, and
/// neither daemon nor monitor keeps what waits.
#[test]
fn a_hundred_clients_watch_one_container() {
    let daemon = Daemon::new(Room::Dir);
    let script = "read go; yes 0123456789abcde | head -c 4000000; echo end";
    daemon
        .klee(&["create", "--name", "box", "FreeBSD", "sh", "-c", script])
        .ok();
    let mut first = daemon
        .command(&["start", "-qi", "box"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut all = first.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        all.read_to_end(&mut text).unwrap();
        text.len()
    });
    // A container that runs can be attached to.
    while daemon.inspect("container", "box")["container"]["running"] != true {
        std::thread::yield_now();
    }
    let before = resident(daemon.pid());
    let clients: Vec<_> = (0..100)
        .map(|number| {
            let mut child = daemon
                .command(&["attach", "--no-stdin", "box"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdout = BufReader::with_capacity(4 << 10, child.stdout.take().unwrap());
            std::thread::spawn(move || {
                let (mut last, mut line) = (String::new(), String::new());
                let mut count = 0;
                while stdout.read_line(&mut line).unwrap() > 0 {
                    count += line.len();
                    if number % 10 == 0 && count % (1 << 16) < 16 {
                        // A slow one, in every sense of the test: others go on meanwhile.
                        std::thread::yield_now();
                    }
                    last = std::mem::take(&mut line);
                }
                child.wait().unwrap();
                (count, last)
            })
        })
        .collect();
    // All are there when the monitor has as many connections.
    first.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(reader.join().unwrap(), 4_000_004);
    for client in clients {
        let (count, last) = client.join().unwrap();
        // Those that came late have missed the beginning, never the end.
        assert!(count <= 4_000_004);
        assert!(count == 0 || last == "end\n", "{count} {last:?}");
    }
    first.wait().unwrap();
    let grown = resident(daemon.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "the daemon grew by {grown} KiB");
}
