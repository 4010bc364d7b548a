//! Looking at containers and reaching into them, as a user: logs, attach, wait, top, stats, events, cp,
//! diff, pause, kill.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts clients"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Child, Stdio};

use kleene_tests::{Daemon, Room};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A client whose output is read while it runs.
fn client(daemon: &Daemon, arguments: &[&str]) -> Child {
    let mut command = daemon.command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn logs_keep_what_detached_processes_print() {
    let daemon = Daemon::new(Room::Dir);
    let script = "echo one; echo two >&2; echo three";
    daemon
        .klee(&[
            "run", "-d", "--name", "talker", "FreeBSD", "sh", "-c", script,
        ])
        .ok();
    assert_eq!(daemon.klee(&["wait", "talker"]).ok().trim(), "0");
    let all = daemon.klee(&["logs", "talker"]);
    assert_eq!(
        (all.stdout.as_str(), all.stderr.as_str()),
        ("one\nthree\n", "two\n")
    );
    daemon
        .klee(&["run", "-q", "--name", "single", "FreeBSD", "seq", "5"])
        .ok();
    assert_eq!(daemon.klee(&["logs", "-n", "2", "single"]).ok(), "4\n5\n");
    let stamped = daemon.klee(&["logs", "-t", "talker"]).ok();
    let (time, text) = stamped.lines().next().unwrap().split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(text, "one");
    assert_eq!(
        daemon.klee(&["logs", "--since", "1h", "talker"]).ok(),
        "one\nthree\n"
    );
    assert_eq!(daemon.klee(&["logs", "--until", "1h", "talker"]).ok(), "");
    // The next run's output follows that of the first.
    daemon.klee(&["start", "-d", "talker"]).ok();
    daemon.klee(&["wait", "talker"]).ok();
    assert_eq!(
        daemon.klee(&["logs", "talker"]).ok(),
        "one\nthree\none\nthree\n"
    );
    let missing = daemon.klee(&["logs", "nobody"]).fails(1);
    assert!(
        missing.contains("nobody") || missing.contains("not found"),
        "{missing}"
    );
}

#[test]
fn logs_are_followed_until_the_end() {
    let daemon = Daemon::new(Room::Dir);
    let script = "echo begin; while [ ! -e /go ]; do sleep 0.05; done; seq 5; exit 3";
    daemon
        .klee(&[
            "run", "-d", "--name", "talker", "FreeBSD", "sh", "-c", script,
        ])
        .ok();
    let mut follower = client(&daemon, &["logs", "-f", "talker"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "begin");
    daemon.klee(&["exec", "-q", "talker", "touch", "/go"]).ok();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["1", "2", "3", "4", "5"]);
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

/// What is printed just before the end is never lost, nor mixed up.
#[test]
fn a_burst_before_the_end_arrives_whole() {
    let daemon = Daemon::new(Room::Dir);
    let script = "yes 0123456789abcde | head -c 100000000; echo done >&2";
    let mut client = client(
        &daemon,
        &["run", "-q", "--rm", "FreeBSD", "sh", "-c", script],
    );
    drop(client.stdin.take());
    let mut stdout = client.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
        loop {
            match stdout.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    });
    let mut errors = String::new();
    client
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert_eq!(reader.join().unwrap(), 100_000_000);
    assert_eq!(errors, "done\n");
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn logs_are_bounded() {
    let daemon = Daemon::new(Room::Dir);
    let script = "yes 0123456789abcde | head -c 20000000";
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "talker",
            "--log-limit",
            "1m",
            "FreeBSD",
            "sh",
            "-c",
            script,
        ])
        .ok();
    daemon.klee(&["wait", "talker"]).ok();
    let kept = daemon.klee(&["logs", "talker"]).ok();
    assert!(
        kept.len() > 200_000 && kept.len() <= 1 << 20,
        "{}",
        kept.len()
    );
    assert!(kept.ends_with("0123456789abcde\n"));
    let lines = kept.lines().skip(1);
    assert!(lines.clone().all(|line| line == "0123456789abcde"));
}

#[test]
fn clients_attach_to_what_runs() {
    let daemon = Daemon::new(Room::Dir);
    let script = "while read line; do echo \"got $line\"; [ \"$line\" = end ] && exit 4; done";
    daemon
        .klee(&["create", "--name", "reader", "FreeBSD", "sh", "-c", script])
        .ok();
    let mut first = client(&daemon, &["start", "-qi", "reader"]);
    let mut input = first.stdin.take().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    input.write_all(b"a\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got a");
    let mut second = client(&daemon, &["attach", "--no-stdin", "reader"]);
    let mut seen = BufReader::new(second.stdout.take().unwrap()).lines();
    // Whether the second client has come is only known by what it sees.
    let mut number = 0;
    let (sender, receiver) = std::sync::mpsc::channel();
    let watcher = std::thread::spawn(move || {
        let first = seen.next().unwrap().unwrap();
        sender.send(first).unwrap();
        seen.map(Result::unwrap).last()
    });
    while receiver.try_recv().is_err() {
        number += 1;
        input.write_all(format!("{number}\n").as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("got {number}"));
    }
    input.write_all(b"end\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got end");
    assert_eq!(watcher.join().unwrap().as_deref(), Some("got end"));
    assert_eq!(first.wait().unwrap().code(), Some(4));
    assert_eq!(second.wait().unwrap().code(), Some(4));
    let refused = daemon.klee(&["attach", "reader"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("not running"), "{}", refused.stderr);
}

/// A client that was attached later goes away without ending anything.
#[test]
fn clients_go_away_without_harm() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&["run", "-d", "--name", "box", "FreeBSD", "sleep", "1000"])
        .ok();
    let mut attached = client(&daemon, &["attach", "box"]);
    attached.kill().unwrap();
    attached.wait().unwrap();
    daemon.klee(&["exec", "-q", "box", "true"]).ok();
    assert_eq!(
        daemon.inspect("container", "box")["container"]["running"],
        true
    );
}

#[test]
fn processes_and_usage_are_shown() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&["run", "-d", "--name", "box", "FreeBSD", "sleep", "1000"])
        .ok();
    daemon
        .klee(&["exec", "-d", "-u", "www", "box", "sleep", "2000"])
        .ok();
    let top = daemon.klee(&["top", "box"]).ok();
    let line = top
        .lines()
        .find(|line| line.contains("sleep 2000"))
        .unwrap();
    assert!(line.contains("www"), "{top}");
    assert!(top.contains("sleep 1000") && top.contains("root"), "{top}");
    let stats = json(
        &daemon
            .klee(&["stats", "--no-stream", "--format", "json", "box"])
            .ok(),
    );
    let stats = stats.as_array().map_or(&stats, |list| &list[0]);
    assert_eq!(stats["name"], "box");
    assert_eq!(stats["pids"]["current"], 2, "{stats}");
    assert!(stats["memory"]["used"].as_u64().unwrap() > 0, "{stats}");
    let table = daemon.klee(&["stats", "--no-stream"]).ok();
    assert!(table.contains("CPU") && table.contains("box"), "{table}");
    let error = daemon.klee(&["top", "nobody"]).fails(1);
    assert!(
        error.contains("not found") || error.contains("nobody"),
        "{error}"
    );
}

#[test]
fn events_tell_what_happened() {
    let mut daemon = Daemon::new(Room::Dir);
    let since = "1h";
    daemon
        .klee(&[
            "run", "-q", "--name", "short", "-m", "v:/v", "FreeBSD", "sh", "-c", "exit 3",
        ])
        .fails(3);
    daemon.klee(&["rename", "short", "other"]).ok();
    daemon.klee(&["rmc", "other"]).ok();
    let actions = |daemon: &Daemon| -> Vec<String> {
        let filter = [
            "events", "--since", since, "--until", "0s", "--format", "json",
        ];
        let text = daemon.klee(&filter).ok();
        text.lines()
            .map(json)
            .filter(|event| event["kind"] == "container")
            .map(|event| {
                let code = event["attributes"]["exit_code"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned();
                format!("{} {code}", event["action"].as_str().unwrap())
                    .trim()
                    .to_owned()
            })
            .collect()
    };
    let wanted = ["create", "start", "die 3", "rename", "remove"];
    assert_eq!(actions(&daemon), wanted);
    // Also those of a daemon that was killed.
    daemon.kill();
    daemon.start();
    assert_eq!(actions(&daemon), wanted);
    let mut stream = client(
        &daemon,
        &["events", "--filter", "kind=volume", "--format", "json"],
    );
    let mut lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    // Events of before aren't shown, so one is made until the stream shows one.
    let (sender, receiver) = std::sync::mpsc::channel();
    let watcher = std::thread::spawn(move || sender.send(lines.next().unwrap().unwrap()));
    let mut number = 0;
    let event = loop {
        number += 1;
        daemon
            .klee(&["volume", "create", &format!("v{number}")])
            .ok();
        if let Ok(line) = receiver.try_recv() {
            break json(&line);
        }
    };
    watcher.join().unwrap().unwrap();
    assert_eq!(
        (event["kind"].as_str(), event["action"].as_str()),
        (Some("volume"), Some("create"))
    );
    stream.kill().unwrap();
    stream.wait().unwrap();
}

#[test]
fn files_are_copied_in_and_out() {
    copies(Room::Dir);
}

#[test]
fn files_are_copied_in_and_out_on_zfs() {
    copies(Room::Zfs);
}

fn copies(room: Room) {
    let daemon = Daemon::new(room);
    let here = daemon.directory().join("here");
    fs::create_dir_all(here.join("sub")).unwrap();
    fs::write(here.join("file"), "data").unwrap();
    fs::write(here.join("sub/deep"), "deep").unwrap();
    symlink("/etc/passwd", here.join("link")).unwrap();
    daemon
        .klee(&[
            "create", "--name", "box", "-m", "v:/data", "FreeBSD", "sleep", "1000",
        ])
        .ok();
    for running in [false, true] {
        if running {
            daemon.klee(&["start", "-d", "box"]).ok();
        }
        let inside = format!("box:/data/copy-{running}");
        daemon.klee(&["cp", here.to_str().unwrap(), &inside]).ok();
        let back = daemon.directory().join(format!("back-{running}"));
        daemon.klee(&["cp", &inside, back.to_str().unwrap()]).ok();
        assert_eq!(fs::read_to_string(back.join("file")).unwrap(), "data");
        assert_eq!(fs::read_to_string(back.join("sub/deep")).unwrap(), "deep");
        assert_eq!(
            fs::read_link(back.join("link")).unwrap().to_str(),
            Some("/etc/passwd")
        );
    }
    // The volume was reached, not what lies beneath it.
    let listing = daemon
        .klee(&["run", "-q", "--rm", "-m", "v:/w", "FreeBSD", "ls", "/w"])
        .ok();
    assert_eq!(listing, "copy-false\ncopy-true\n");
    let tar = daemon
        .command(&["cp", "box:/data/copy-true", "-"])
        .output()
        .unwrap();
    let mut archive = tar::Archive::new(tar.stdout.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert!(
        names.contains(&"copy-true/sub/deep".to_owned()),
        "{names:?}"
    );
    let error = daemon.klee(&["cp", "box:/nothing", "."]).fails(1);
    assert!(error.contains("/nothing"), "{error}");
}

/// Links in the image lead to the host's /etc in this image: nothing of the host is read or written.
#[test]
fn copying_never_leaves_the_container() {
    let daemon = Daemon::new(Room::Dir);
    let victim = daemon.directory().join("victim");
    fs::write(&victim, "mine").unwrap();
    daemon
        .klee(&["run", "-d", "--name", "box", "FreeBSD", "sleep", "1000"])
        .ok();
    let before = fs::metadata("/etc").unwrap().mtime();
    daemon
        .klee(&["cp", victim.to_str().unwrap(), "box:/climb/victim"])
        .ok();
    daemon
        .klee(&["cp", victim.to_str().unwrap(), "box:/trap/victim2"])
        .ok();
    assert_eq!(fs::metadata("/etc").unwrap().mtime(), before);
    let listing = daemon.klee(&["exec", "-q", "box", "ls", "/etc"]).ok();
    assert!(
        listing.contains("victim\n") && listing.contains("victim2"),
        "{listing}"
    );
    let passwd = daemon.directory().join("passwd");
    daemon
        .klee(&["cp", "box:/climb/passwd", passwd.to_str().unwrap()])
        .ok();
    assert!(
        fs::read_to_string(&passwd)
            .unwrap()
            .contains("/nonexistent")
    );
    for path in [
        "box:/proc/1/root/etc/passwd",
        "box:/proc/self/root/etc/passwd",
    ] {
        let out = daemon.directory().join("out");
        daemon.klee(&["cp", path, out.to_str().unwrap()]);
        let read = fs::read_to_string(&out).unwrap_or_default();
        assert!(!read.contains("daemon:"), "{path}: {read}");
    }
}

#[test]
fn differences_to_the_image_are_shown() {
    differences(Room::Dir);
}

#[test]
fn differences_to_the_image_are_shown_on_zfs() {
    differences(Room::Zfs);
}

fn differences(room: Room) {
    let daemon = Daemon::new(room);
    let script =
        "echo x > /new; rm /usr/local/www/nginx/50x.html; echo y >> /etc/passwd; mkdir -p /d/e";
    daemon
        .klee(&["run", "-q", "--name", "box", "FreeBSD", "sh", "-c", script])
        .ok();
    let diff = daemon.klee(&["diff", "box"]).ok();
    let lines: Vec<&str> = diff.lines().collect();
    for wanted in [
        "A /new",
        "D /usr/local/www/nginx/50x.html",
        "C /etc/passwd",
        "A /d",
        "A /d/e",
        "C /usr/local/www/nginx",
    ] {
        assert!(lines.contains(&wanted), "{wanted}: {diff}");
    }
    assert!(!lines.iter().any(|line| line.contains("/bin")), "{diff}");
}

#[test]
fn processes_are_paused_and_signalled() {
    let daemon = Daemon::new(Room::Dir);
    let script = "trap 'echo usr1' USR1; while true; do echo tick >> /ticks; sleep 0.02; done";
    daemon
        .klee(&["run", "-d", "--name", "box", "FreeBSD", "sh", "-c", script])
        .ok();
    daemon.klee(&["pause", "box"]).ok();
    assert_eq!(
        daemon.inspect("container", "box")["container"]["status"],
        "paused"
    );
    assert!(daemon.klee(&["ls"]).ok().contains("paused"));
    let refused = daemon.klee(&["exec", "box", "true"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("paused"), "{}", refused.stderr);
    assert!(daemon.klee(&["pause", "box"]).fails(1).contains("paused"));
    daemon.klee(&["unpause", "box"]).ok();
    assert!(daemon.klee(&["unpause", "box"]).fails(1).contains("paused"));
    daemon.klee(&["kill", "-s", "USR1", "box"]).ok();
    let mut follower = client(&daemon, &["logs", "-f", "box"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "usr1");
    for (signal, part) in [("NOPE", "NOPE"), ("0", "0"), ("99999", "99999")] {
        let error = daemon.klee(&["kill", "-s", signal, "box"]);
        assert_ne!(error.code, 0);
        assert!(error.stderr.contains(part), "{}", error.stderr);
    }
    // A paused container can be stopped and killed.
    daemon.klee(&["pause", "box"]).ok();
    daemon.klee(&["kill", "box"]).ok();
    assert_eq!(daemon.klee(&["wait", "box"]).ok().trim(), "137");
    follower.wait().unwrap();
    assert!(
        daemon
            .klee(&["kill", "box"])
            .fails(1)
            .contains("not running")
    );
}

#[test]
fn listings_are_filtered_and_formatted() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&[
            "run", "-d", "--name", "web", "-m", "v:/v", "nginx", "sleep", "1000",
        ])
        .ok();
    daemon
        .klee(&[
            "run", "-q", "--name", "job", "FreeBSD", "sh", "-c", "exit 5",
        ])
        .fails(5);
    let names = |filters: &[&str]| -> Vec<String> {
        let mut arguments = vec!["ls", "-a", "--format", "{{.name}}"];
        arguments.extend(filters.iter().flat_map(|filter| ["--filter", *filter]));
        daemon
            .klee(&arguments)
            .ok()
            .lines()
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(names(&[]), ["job", "web"]);
    assert_eq!(names(&["status=running"]), ["web"]);
    assert_eq!(names(&["exited=5"]), ["job"]);
    assert_eq!(names(&["volume=v"]), ["web"]);
    assert_eq!(names(&["image=nginx"]), ["web"]);
    assert_eq!(names(&["name=job", "name=web"]), ["job", "web"]);
    assert_eq!(names(&["name=job", "status=running"]), [""; 0]);
    let error = daemon.klee(&["ls", "--filter", "colour=red"]);
    assert_ne!(error.code, 0);
    assert!(
        error.stderr.contains("colour") && error.stderr.contains("status"),
        "{}",
        error.stderr
    );
    assert!(daemon.klee(&["ls", "-as"]).ok().contains("SIZE"));
    let shown = daemon
        .klee(&[
            "container",
            "inspect",
            "--format",
            "{{.container.name}} {{.container.exit_code}}",
            "job",
        ])
        .ok();
    assert_eq!(shown, "job 5\n");
    let broken = daemon.klee(&["container", "inspect", "--format", "{{.container", "job"]);
    assert_ne!(broken.code, 0);
}
