//! Containers as their users see them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::process::Stdio;

use kleene_tests::{Daemon, Room};

fn quiet(daemon: &Daemon, options: &[&str], command: &[&str]) -> kleene_tests::Outcome {
    let mut words = vec!["run", "-q", "--rm"];
    words.extend(options);
    words.push("FreeBSD");
    words.extend(command);
    daemon.klee(&words)
}

/// Lesson 15: the exit code is the command's own.
#[test]
fn exit_codes() {
    let daemon = Daemon::new(Room::Dir);
    let code = |command: &[&str]| quiet(&daemon, &[], command).code;
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["sh", "-c", "exit 42"]), 42);
    assert_eq!(code(&["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]), 137);
}

#[test]
fn exit_codes_of_failures() {
    let daemon = Daemon::new(Room::Dir);
    let missing = quiet(&daemon, &[], &["no-such-program"]);
    assert!(missing.fails(127).contains("no-such-program"));
    assert!(
        quiet(&daemon, &[], &["/etc/passwd"])
            .fails(126)
            .contains("/etc/passwd")
    );
    assert!(
        quiet(&daemon, &["-u", "nobody-here"], &["true"])
            .fails(125)
            .contains("nobody-here")
    );
    daemon.klee(&["run", "nope", "true"]).fails(125);
    assert!(
        daemon.containers().is_empty(),
        "--rm also after a failed start"
    );
}

#[test]
fn signals_in_the_exit_code() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&["run", "-d", "--name", "box", "FreeBSD", "sleep", "600"])
        .ok();
    let killed = daemon.klee(&["exec", "-q", "box", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(killed.code, 137);
    let terminated = daemon.klee(&["exec", "-q", "box", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(terminated.code, 143);
}

/// Lesson 16: the two streams stay apart, and nothing is lost of a burst before the end.
#[test]
fn streams_stay_apart_and_whole() {
    let daemon = Daemon::new(Room::Dir);
    let outcome = quiet(&daemon, &[], &["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    let burst = quiet(
        &daemon,
        &[],
        &["sh", "-c", "yes 0123456789abcde | head -c 33554432"],
    );
    assert_eq!(burst.stdout.len(), 32 << 20);
}

#[test]
fn input_reaches_the_process_only_when_asked_for() {
    let daemon = Daemon::new(Room::Dir);
    let input = vec![b'x'; 3 << 20];
    let words = ["run", "-q", "-i", "--rm", "FreeBSD", "wc", "-c"];
    assert_eq!(
        daemon.klee_with_input(&words, &input).ok().trim(),
        (3 << 20).to_string()
    );
    let words = ["run", "-q", "--rm", "FreeBSD", "wc", "-c"];
    assert_eq!(daemon.klee_with_input(&words, b"ignored").ok().trim(), "0");
}

#[test]
fn users_and_environment() {
    let daemon = Daemon::new(Room::Dir);
    let id = |user: &str| quiet(&daemon, &["-u", user], &["id"]).ok();
    let www = id("www");
    assert!(www.contains("uid=80(www) gid=80(www)"), "{www}");
    assert!(
        www.contains("80(www)") && www.contains("50(staff)"),
        "{www}"
    );
    assert!(id("80:staff").contains("uid=80(www) gid=50(staff)"));
    assert!(id("1234").contains("uid=1234 gid=0(root)"));
    assert!(id("").contains("uid=0(root)"));
    let env = quiet(&daemon, &["-e", "A=1", "-e", "B=x y=z"], &["env"]).ok();
    assert!(
        env.contains("A=1\n") && env.contains("B=x y=z\n") && env.contains("PATH="),
        "{env}"
    );
    daemon
        .klee(&[
            "run", "-d", "--name", "box", "-e", "A=1", "FreeBSD", "sleep", "600",
        ])
        .ok();
    let env = daemon.klee(&["exec", "-q", "-e", "A=2", "box", "env"]).ok();
    assert!(env.contains("A=2\n") && !env.contains("A=1"), "{env}");
    assert_eq!(
        daemon
            .klee(&["exec", "-q", "-u", "www", "box", "whoami"])
            .ok(),
        "www\n"
    );
}

#[test]
fn a_container_is_closed_off() {
    let daemon = Daemon::new(Room::Dir);
    let sh = |script: &str| quiet(&daemon, &[], &["sh", "-c", script]);
    assert_eq!(sh("echo $$").ok(), "1\n");
    let status = sh("cat /proc/self/status").ok();
    assert!(
        status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"),
        "{status}"
    );
    assert_ne!(sh("mount -t tmpfs none /mnt").code, 0);
    assert_ne!(sh("echo 1 > /proc/sys/kernel/hostname").code, 0);
    assert_ne!(sh("cat /proc/kcore | head -c 1 | grep .").code, 0);
    let devices = sh("ls /dev").ok();
    for device in ["sda", "vda", "mem", "kmsg", "fuse", "loop0"] {
        assert!(!devices.lines().any(|name| name == device), "{devices}");
    }
    let processes = sh("ps | wc -l").ok();
    assert!(processes.trim().parse::<u32>().unwrap() <= 5, "{processes}");
    let descriptors = sh("ls /proc/$$/fd; true").ok();
    assert!(
        descriptors
            .split_whitespace()
            .all(|fd| ["0", "1", "2", "10"].contains(&fd)),
        "{descriptors}"
    );
    let named = quiet(&daemon, &["--name", "my-box"], &["hostname"]).ok();
    assert_eq!(named, "my-box\n");
}

#[test]
fn network_drivers() {
    let daemon = Daemon::new(Room::Dir);
    let interfaces = "cat /proc/net/dev | wc -l";
    let own = quiet(&daemon, &["-l", "disabled"], &["sh", "-c", interfaces]).ok();
    assert_eq!(own.trim(), "3", "two header lines and lo");
    quiet(&daemon, &["-l", "host"], &["true"]).ok();
    let message = quiet(&daemon, &["-l", "vnet"], &["true"]).fails(125);
    assert!(message.contains("'host' or 'disabled'"), "{message}");
    assert!(daemon.containers().is_empty());
}

#[test]
fn names_and_beginnings_of_ids() {
    let daemon = Daemon::new(Room::Dir);
    let id = daemon
        .klee(&["create", "--name", "web", "FreeBSD", "sleep", "600"])
        .ok();
    let id = id.trim();
    for reference in [id, &id[..11], "web", "/web"] {
        assert_eq!(
            daemon.inspect("container", reference)["container"]["id"],
            id
        );
    }
    assert!(
        daemon
            .klee(&["create", "--name", "web", "FreeBSD"])
            .fails(1)
            .contains("taken")
    );
    assert!(daemon.klee(&["inspect", "wbe"]).code != 0);
    let random = daemon.klee(&["create", "FreeBSD"]).ok();
    let name = daemon.inspect("container", random.trim())["container"]["name"].clone();
    assert!(name.as_str().unwrap().contains('_'), "{name}");
}

#[test]
fn start_stop_restart_and_the_listing() {
    let daemon = Daemon::new(Room::Dir);
    let id = daemon
        .klee(&["create", "--name", "web", "FreeBSD", "sleep", "600"])
        .ok();
    let id = id.trim();
    assert_eq!(daemon.klee(&["lsc"]).ok().matches(id).count(), 0);
    assert!(daemon.klee(&["lsc", "-a"]).ok().contains(id));
    daemon.klee(&["start", "-d", "web"]).ok();
    let listing: serde_json::Value =
        serde_json::from_str(&daemon.klee(&["lsc", "--format", "json"]).ok()).unwrap();
    assert_eq!(listing[0]["running"], true);
    let pid = listing[0]["jid"].as_u64().unwrap();
    daemon.klee(&["restart", "web"]).ok();
    let listing: serde_json::Value =
        serde_json::from_str(&daemon.klee(&["lsc", "--format", "json"]).ok()).unwrap();
    assert_ne!(listing[0]["jid"].as_u64().unwrap(), pid);
    assert!(
        daemon
            .klee(&["rmc", "web"])
            .fails(1)
            .contains("running container")
    );
    assert_eq!(daemon.klee(&["stop", "web"]).ok().trim(), id);
    assert!(
        daemon
            .klee(&["stop", "web"])
            .fails(1)
            .contains("not running")
    );
    // Lesson 15: several on a command line; it goes on past a failure and exits with 1.
    daemon.klee(&["create", "--name", "second", "FreeBSD"]).ok();
    let outcome = daemon.klee(&["rmc", "web", "missing", "second"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("missing"));
    assert!(daemon.containers().is_empty());
}

/// Containers live on when the daemon stops, and a new one finds them again (lesson 11).
#[test]
fn containers_outlive_the_daemon() {
    for room in [Room::Dir, Room::Zfs] {
        let mut daemon = Daemon::new(room);
        daemon
            .klee(&[
                "run", "-d", "--name", "lives", "-m", "v:/v", "FreeBSD", "sleep", "600",
            ])
            .ok();
        let script = "until test -e /v/end; do sleep 0.05; done; exit 7";
        daemon
            .klee(&[
                "run", "-d", "--name", "ends", "-m", "v:/v", "FreeBSD", "sh", "-c", script,
            ])
            .ok();
        let mut waiting = daemon.command(&[
            "exec",
            "-q",
            "lives",
            "sh",
            "-c",
            "until test -e /v/gone; do sleep 0.05; done",
        ]);
        let mut waiting = waiting
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = daemon.inspect("container", "lives")["container"]["running"].clone();
        assert_eq!(pid, true);
        assert_eq!(daemon.terminate(), 0, "SIGTERM ends the daemon cleanly");
        std::fs::write(daemon.mountpoint().join("volumes/v/end"), "").unwrap();
        waiting.wait().unwrap();
        daemon.start();
        daemon.klee(&["exec", "-q", "lives", "true"]).ok();
        let ended = || daemon.inspect("container", "ends")["container"].clone();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while ended()["running"] == true && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(ended()["exit_code"], 7);
        daemon.kill();
        daemon.start();
        daemon.klee(&["exec", "-q", "lives", "true"]).ok();
        daemon.klee(&["stop", "lives"]).ok();
    }
}

#[test]
fn a_client_that_goes_away_ends_its_process_only() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&[
            "run", "-d", "--name", "box", "-m", "v:/v", "FreeBSD", "sleep", "600",
        ])
        .ok();
    let script =
        "trap 'echo ended > /v/ended; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut client = daemon.command(&["exec", "-q", "box", "sh", "-c", script]);
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut ready).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let wait = "until test -e /v/ended; do sleep 0.05; done";
    daemon.klee(&["exec", "-q", "box", "sh", "-c", wait]).ok();
    assert_eq!(
        daemon.inspect("container", "box")["container"]["running"],
        true
    );
}

#[test]
fn the_host_method_makes_a_working_userland() {
    let daemon = Daemon::empty(Room::Dir);
    let scratch = tempfile::tempdir().unwrap();
    let www = scratch.path().join("www");
    std::fs::create_dir(&www).unwrap();
    std::fs::write(www.join("index.html"), "hello").unwrap();
    let add = www.display().to_string();
    daemon
        .klee(&["image", "create", "-t", "base", "--add", &add, "host"])
        .ok();
    let script = format!("id -un; sed --version | head -n 1; cat {add}/index.html");
    let seen = daemon
        .klee(&["run", "-q", "--rm", "base", "sh", "-c", &script])
        .ok();
    assert!(
        seen.starts_with("root\n") && seen.ends_with("hello"),
        "{seen}"
    );
    let mount = format!("w:{add}");
    daemon
        .klee(&["run", "-q", "--rm", "-m", &mount, "base", "true"])
        .ok();
    let volume = daemon.inspect("volume", "w");
    let mountpoint = volume["volume"]["mountpoint"].as_str().unwrap();
    assert_eq!(
        std::fs::read_to_string(format!("{mountpoint}/index.html")).unwrap(),
        "hello"
    );
}

/// Images out of datasets that were there before: a clone depends on its origin, a copy doesn't.
#[test]
fn images_from_zfs_datasets() {
    let daemon = Daemon::empty(Room::Zfs);
    let dataset = daemon.foreign_dataset("userland");
    for method in ["zfs-clone", "zfs-copy"] {
        daemon
            .klee(&["image", "create", "-t", method, method, &dataset])
            .ok();
        let seen = daemon
            .klee(&["run", "-q", "--rm", method, "cat", "/etc/group"])
            .ok();
        assert!(seen.contains("staff"), "{seen}");
    }
    let message = daemon.klee(&["image", "create", "zfs-clone", "no/such/dataset"]);
    assert!(
        message.code != 0 && message.stderr.contains("no/such/dataset"),
        "{message:?}"
    );
    let message = daemon.klee(&["image", "create", "zfs-copy", &daemon.kleene_root()]);
    assert!(
        message.code != 0,
        "the Kleene root itself is refused: {message:?}"
    );
    daemon.klee(&["image", "rm", "zfs-clone", "zfs-copy"]).ok();
    let on_dir = Daemon::empty(Room::Dir);
    let message = on_dir.klee(&["image", "create", "zfs-clone", &dataset]);
    assert!(
        message.code != 0 && message.stderr.contains("ZFS"),
        "{message:?}"
    );
}
