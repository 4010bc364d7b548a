//! The life of containers: limits, restarts, health, stopping, init, jail parameters.

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

use kleene_tests::{Daemon, Leaks, Room};
use serde_json::Value;

fn container(daemon: &Daemon, name: &str) -> Value {
    daemon.inspect("container", name)["container"].clone()
}

/// Waits until an event of this action has happened to the container; answers its attributes.
fn await_event(
    daemon: &Daemon,
    name: &str,
    action: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let mut command = daemon.command(&["events", "--since", "1h", "--format", "json"]);
    let mut stream = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut fitting = events.filter(|event| {
        event["name"] == name && event["action"] == action && wanted(&event["attributes"])
    });
    let event = fitting.next().unwrap();
    stream.kill().unwrap();
    stream.wait().unwrap();
    event["attributes"].clone()
}

#[test]
fn limits_are_enforced_and_told() {
    let daemon = Daemon::new(Room::Dir);
    // A limit of memory: the shell's pipe buffer grows until it is killed.
    let hog = "x=$(yes 0123456789abcdef | head -c 200000000); echo survived";
    let outcome = daemon.klee(&[
        "run",
        "--name",
        "hog",
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        "FreeBSD",
        "sh",
        "-c",
        hog,
    ]);
    assert!(!outcome.stdout.contains("survived"), "{}", outcome.stdout);
    assert_eq!(outcome.code, 137, "{}{}", outcome.stdout, outcome.stderr);
    assert!(
        outcome.stdout.contains("out of memory"),
        "{}",
        outcome.stdout
    );
    assert_eq!(container(&daemon, "hog")["out_of_memory"], true);
    assert_eq!(container(&daemon, "hog")["limits"]["memory"], 32 << 20);
    assert!(daemon.klee(&["ls", "-a"]).ok().contains("out of memory"));

    let many = "for i in $(seq 50); do sleep 10 & done; wait";
    let outcome = daemon.klee(&[
        "run",
        "-q",
        "--rm",
        "--pids-limit",
        "10",
        "FreeBSD",
        "sh",
        "-c",
        many,
    ]);
    assert!(outcome.stderr.contains("fork"), "{}", outcome.stderr);

    let limits = daemon
        .klee(&[
            "run",
            "-q",
            "--rm",
            "--ulimit",
            "nofile=64:128",
            "FreeBSD",
            "sh",
            "-c",
            "ulimit -n; ulimit -Hn",
        ])
        .ok();
    assert_eq!(limits, "64\n128\n");
    let shm = daemon
        .klee(&[
            "run",
            "-q",
            "--rm",
            "--shm-size",
            "8m",
            "FreeBSD",
            "df",
            "-k",
            "/dev/shm",
        ])
        .ok();
    assert!(shm.contains(" 8192 "), "{shm}");
    let set = [
        "run",
        "-q",
        "--rm",
        "--cpuset",
        "0",
        "FreeBSD",
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    ];
    assert!(daemon.klee(&set).ok().ends_with("\t0\n"));
}

#[test]
fn limits_that_can_not_be_are_refused_before_anything_is_made() {
    let daemon = Daemon::new(Room::Dir);
    for (flag, value, part) in [
        ("--memory", "10Q", "10Q"),
        ("--memory", "1k", "1k"),
        ("--memory", "900t", "900t"),
        ("--cpus", "0", "cpus"),
        ("--cpus", "4096", "4096"),
        ("--cpuset", "3-1", "3-1"),
        ("--cpuset", "60000", "60000"),
        ("--pids-limit", "-3", "-3"),
        ("--pids-limit", "9999999999", "9999999999"),
        ("--io-weight", "0.5", "0.5"),
        ("--ulimit", "files=3", "nofile"),
        ("--ulimit", "nofile=9:3", "soft"),
        ("--shm-size", "900t", "900t"),
        ("--storage-quota", "1g", "quota"),
        ("--memory-swap", "1g", "memory"),
        ("--restart", "sometimes", "unless-stopped"),
        ("--stop-signal", "NOPE", "NOPE"),
        ("--stop-timeout", "soon", "soon"),
        ("--health-interval", "1s", "health-cmd"),
        ("--init", "both", "both"),
        ("--workdir", "relative", "relative"),
        ("-J", "allow.flying=1", "allow.flying"),
        ("-J", "osrelease=1", "osrelease"),
    ] {
        let outcome = daemon.klee(&["create", flag, value, "FreeBSD", "true"]);
        assert!(
            outcome.code == 125 || outcome.code == 1 || outcome.code == 2,
            "{flag} {value}: {outcome:?}"
        );
        assert!(
            outcome.stderr.contains(part),
            "{flag} {value}: {}",
            outcome.stderr
        );
        assert!(!outcome.stderr.contains("panic"), "{}", outcome.stderr);
    }
    assert!(daemon.containers().is_empty());
}

#[test]
fn a_quota_bounds_the_root_on_zfs() {
    let daemon = Daemon::new(Room::Zfs);
    let fill = "dd if=/dev/zero of=/file bs=1M count=30 conv=fsync 2>&1; ls -l /file";
    let outcome = daemon.klee(&[
        "run",
        "--name",
        "box",
        "--storage-quota",
        "10m",
        "FreeBSD",
        "sh",
        "-c",
        fill,
    ]);
    assert!(
        outcome.stdout.contains("quota") || outcome.stdout.contains("space"),
        "{outcome:?}"
    );
    assert_eq!(
        container(&daemon, "box")["limits"]["storage_quota"],
        10 << 20
    );
    let refused = daemon.klee(&["update", "--storage-quota", "1m", "box"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    daemon
        .klee(&["update", "--storage-quota", "100m", "box"])
        .ok();
    daemon.klee(&["start", "-q", "box"]).ok();
    assert!(
        daemon
            .klee(&["logs", "-n", "1", "box"])
            .ok()
            .contains("31457280")
    );
}

#[test]
fn limits_change_while_a_container_runs() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "box",
            "--pids-limit",
            "100",
            "FreeBSD",
            "sleep",
            "1000",
        ])
        .ok();
    let update = daemon.klee(&["update", "--pids-limit", "7", "--env", "A=1", "box"]);
    assert_eq!(update.code, 0, "{}", update.stderr);
    assert!(update.stderr.contains("next start"), "{}", update.stderr);
    let stats = daemon
        .klee(&["stats", "--no-stream", "--format", "json", "box"])
        .ok();
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let stats = stats.as_array().map_or(&stats, |list| &list[0]);
    assert_eq!(stats["pids"]["limit"], 7, "{stats}");
    daemon
        .klee(&["update", "--pids-limit", "unlimited", "box"])
        .ok();
    assert_eq!(container(&daemon, "box")["limits"]["pids"], Value::Null);
    let refused = daemon.klee(&["update", "--memory", "10Q", "box"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("10Q"), "{}", refused.stderr);
}

#[test]
fn failing_containers_are_restarted() {
    let daemon = Daemon::new(Room::Dir);
    let script = "echo run >> /runs; exit 3";
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "job",
            "--restart",
            "on-failure:2",
            "FreeBSD",
            "sh",
            "-c",
            script,
        ])
        .ok();
    // The first run and two more.
    for _ in 0..3 {
        daemon.klee(&["wait", "--condition", "not-running", "job"]);
    }
    await_event(&daemon, "job", "die", |_| true);
    let deadline = Instant::now() + Duration::from_secs(30);
    while container(&daemon, "job")["status"] != "exited" {
        assert!(Instant::now() < deadline, "{}", container(&daemon, "job"));
        std::thread::yield_now();
    }
    let shown = container(&daemon, "job");
    assert_eq!(
        (&shown["restart_count"], &shown["exit_code"]),
        (&2.into(), &3.into())
    );
    let copied = daemon.command(&["cp", "job:/runs", "-"]).output().unwrap();
    let text = String::from_utf8_lossy(&copied.stdout).into_owned();
    assert_eq!(text.matches("run\n").count(), 3, "{text}");
}

#[test]
fn what_somebody_stops_stays_stopped() {
    let mut daemon = Daemon::new(Room::Dir);
    for (name, policy) in [
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("startup", "on-startup"),
    ] {
        daemon
            .klee(&[
                "run",
                "-d",
                "--name",
                name,
                "--restart",
                policy,
                "FreeBSD",
                "sleep",
                "1000",
            ])
            .ok();
        daemon.klee(&["stop", name]).ok();
        assert_eq!(container(&daemon, name)["status"], "exited", "{name}");
    }
    daemon.terminate();
    daemon.start();
    await_event(&daemon, "always", "start", |_| {
        container(&daemon, "always")["running"] == true
    });
    await_event(&daemon, "startup", "start", |_| {
        container(&daemon, "startup")["running"] == true
    });
    assert_eq!(container(&daemon, "unless")["running"], false);
    // One that is waiting for its restart can be stopped, too.
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "loop",
            "--restart",
            "always",
            "FreeBSD",
            "false",
        ])
        .ok();
    await_event(&daemon, "loop", "die", |_| true);
    daemon.klee(&["stop", "loop"]).ok();
    assert_eq!(container(&daemon, "loop")["status"], "exited");
}

#[test]
fn health_is_checked_and_shown() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "box",
            "--health-cmd",
            "test -e /healthy",
            "--health-interval",
            "100ms",
            "--health-retries",
            "2",
            "FreeBSD",
            "sleep",
            "1000",
        ])
        .ok();
    await_event(&daemon, "box", "health", |attributes| {
        attributes["health"] == "unhealthy"
    });
    assert!(daemon.klee(&["ls"]).ok().contains("unhealthy"));
    daemon
        .klee(&["exec", "-q", "box", "touch", "/healthy"])
        .ok();
    await_event(&daemon, "box", "health", |attributes| {
        attributes["health"] == "healthy"
    });
    let shown = container(&daemon, "box");
    assert_eq!(shown["health"]["status"], "healthy", "{shown}");
    assert_eq!(shown["health"]["failing_streak"], 0);
    assert!(!shown["health"]["log"].as_array().unwrap().is_empty());
}

#[test]
fn stopping_asks_then_insists() {
    let daemon = Daemon::new(Room::Dir);
    let polite = "trap 'echo bye; exit 7' TERM; echo ready; while true; do sleep 0.05; done";
    daemon
        .klee(&[
            "run", "-d", "--name", "polite", "FreeBSD", "sh", "-c", polite,
        ])
        .ok();
    await_line(&daemon, "polite", "ready");
    daemon.klee(&["stop", "polite"]).ok();
    assert_eq!(container(&daemon, "polite")["exit_code"], 7);
    assert_eq!(daemon.klee(&["logs", "polite"]).ok(), "ready\nbye\n");

    let deaf = "trap '' TERM; echo ready; while true; do sleep 0.05; done";
    daemon
        .klee(&["run", "-d", "--name", "deaf", "FreeBSD", "sh", "-c", deaf])
        .ok();
    await_line(&daemon, "deaf", "ready");
    daemon.klee(&["stop", "--time", "300ms", "deaf"]).ok();
    assert_eq!(container(&daemon, "deaf")["exit_code"], 137);

    let own = "trap 'exit 8' USR1; echo ready; while true; do sleep 0.05; done";
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "own",
            "--stop-signal",
            "USR1",
            "FreeBSD",
            "sh",
            "-c",
            own,
        ])
        .ok();
    await_line(&daemon, "own", "ready");
    daemon.klee(&["stop", "own"]).ok();
    assert_eq!(container(&daemon, "own")["exit_code"], 8);

    let asked = "echo ready; while [ ! -e /stop ]; do sleep 0.05; done; exit 9";
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "asked",
            "-J",
            "exec.stop=touch /stop; sleep 10",
            "-J",
            "stop.timeout=60",
            "FreeBSD",
            "sh",
            "-c",
            asked,
        ])
        .ok();
    await_line(&daemon, "asked", "ready");
    daemon.klee(&["stop", "asked"]).ok();
    assert_eq!(container(&daemon, "asked")["exit_code"], 9);
    let ids = daemon.containers();
    let leaks = Leaks::look(daemon.directory(), &ids);
    assert!(leaks.is_empty(), "{leaks:?}");
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

#[test]
fn a_minimal_init_reaps_and_forwards() {
    let daemon = Daemon::new(Room::Dir);
    let orphans = "for i in 1 2 3; do (sleep 0.01 &) ; done; echo ready; while [ ! -e /go ]; do sleep 0.05; done; ps -o stat,comm | grep -c ^Z; exit 6";
    daemon
        .klee(&[
            "run", "-d", "--name", "box", "--init", "FreeBSD", "sh", "-c", orphans,
        ])
        .ok();
    await_line(&daemon, "box", "ready");
    daemon.klee(&["exec", "-q", "box", "touch", "/go"]).ok();
    assert_eq!(daemon.klee(&["wait", "box"]).ok().trim(), "6");
    assert_eq!(daemon.klee(&["logs", "box"]).ok(), "ready\n0\n");
    // Without a handler of its own, process 1 would not hear of SIGTERM.
    daemon
        .klee(&[
            "run", "-d", "--name", "sleeper", "--init", "FreeBSD", "sleep", "1000",
        ])
        .ok();
    daemon.klee(&["kill", "-s", "TERM", "sleeper"]).ok();
    assert_eq!(daemon.klee(&["wait", "sleeper"]).ok().trim(), "143");
}

/// As a jail's: the container lives while any of its processes does.
#[test]
fn a_container_of_services_lives_until_the_last_one_ends() {
    let daemon = Daemon::new(Room::Dir);
    let rc = "while [ ! -e /stop ]; do sleep 0.05; done & exit 5";
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "box",
            "--init=all",
            "FreeBSD",
            "sh",
            "-c",
            rc,
        ])
        .ok();
    daemon.klee(&["exec", "-q", "box", "true"]).ok();
    assert_eq!(container(&daemon, "box")["running"], true);
    daemon.klee(&["exec", "-q", "box", "touch", "/stop"]).ok();
    assert_eq!(daemon.klee(&["wait", "box"]).ok().trim(), "5");
}

#[test]
fn jail_parameters_do_what_they_say() {
    let daemon = Daemon::new(Room::Dir);
    let run = |params: &[&str], command: &str| {
        let mut words = vec!["run", "-q", "--rm"];
        words.extend(params.iter().flat_map(|param| ["-J", *param]));
        words.extend(["FreeBSD", "sh", "-c", command]);
        daemon.klee(&words)
    };
    assert_eq!(run(&["host.hostname=mars"], "hostname").ok(), "mars\n");
    assert_eq!(run(&["exec.jail_user=www"], "id -un").ok(), "www\n");
    assert_eq!(run(&["mount.nodevfs"], "ls /dev").ok(), "");
    assert_ne!(run(&["mount.devfs"], "ls /dev").ok(), "");
    let capabilities = |params: &[&str]| {
        let text = run(params, "grep CapBnd /proc/self/status").ok();
        u64::from_str_radix(text.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let net_raw = 1 << 13;
    assert_ne!(capabilities(&[]) & net_raw, 0);
    assert_eq!(capabilities(&["allow.noraw_sockets"]) & net_raw, 0);
    let refused = run(&["exec.prestart=touch /tmp/kleene-was-here"], "true");
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("allow_host_commands"),
        "{}",
        refused.stderr
    );
    assert!(!std::path::Path::new("/tmp/kleene-was-here").exists());
}

#[test]
fn host_commands_run_where_they_are_allowed() {
    let daemon = Daemon::with_config(Room::Dir, "allow_host_commands: true\n");
    let archive = kleene_tests::archive(daemon.directory());
    let url = format!("file://{}", archive.display());
    daemon
        .klee(&["image", "create", "-t", "base", "fetch", &url])
        .ok();
    let file = |name: &str| daemon.directory().join(name).display().to_string();
    let hooks = ["prestart", "poststart", "prestop", "poststop"];
    let params: Vec<String> = hooks
        .iter()
        .map(|hook| format!("exec.{hook}=touch '{}'", file(hook)))
        .collect();
    let mut words = vec!["run", "-d", "--name", "box"];
    words.extend(params.iter().flat_map(|param| ["-J", param.as_str()]));
    words.extend(["base", "sleep", "1000"]);
    daemon.klee(&words).ok();
    let exists = |hook: &&&str| std::path::Path::new(&file(hook)).exists();
    let made: Vec<&&str> = hooks.iter().filter(exists).collect();
    assert_eq!(made, [&"prestart", &"poststart"]);
    daemon.klee(&["stop", "box"]).ok();
    assert_eq!(hooks.iter().filter(exists).count(), 4);
    let failing = daemon.klee(&[
        "run",
        "-q",
        "--rm",
        "-J",
        "exec.prestart=false",
        "base",
        "true",
    ]);
    assert!(
        failing.clone().fails(125).contains("exec.prestart") || failing.stderr.contains("false"),
        "{}",
        failing.stderr
    );
}
