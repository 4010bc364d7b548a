//! What happens while a build runs: clients and daemons that are killed, other builds, removals.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts clients that it kills"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use kleene_tests::{Context, Daemon, Found, Leaks, Room, Traces, until};

/// A client that builds.
struct Building {
    client: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Building {
    fn start(daemon: &Daemon, context: &Context, options: &[&str]) -> Self {
        let path = context.path().display().to_string();
        let words = [&["build"], options, &[&path]].concat();
        let mut client = daemon
            .command(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        Self { client, lines }
    }

    /// Waits for a line that begins like this.
    fn tells(&mut self, beginning: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with(beginning));
        line.unwrap_or_else(|| panic!("nothing begins with '{beginning}'"))
    }

    /// The client's exit code.
    fn ends(mut self) -> i32 {
        self.lines.by_ref().for_each(drop);
        self.client.wait().unwrap().code().unwrap_or(-1)
    }

    fn kill(mut self) {
        self.client.kill().unwrap();
        self.client.wait().unwrap();
    }
}

/// What of the machine belongs to a build: nothing after it.
fn nothing_is_left(daemon: &Daemon, process: &Found) {
    let root = daemon.mountpoint();
    assert!(!process.is_there(), "{process:?}");
    let groups = Leaks::look(&root, std::slice::from_ref(&process.container)).cgroups();
    assert!(groups.is_empty(), "{groups:?}");
    let traces = Traces::look(&root);
    assert!(traces.instances().is_empty(), "{traces:?}");
    assert!(traces.pids().is_empty(), "{traces:?}");
    let images: std::collections::BTreeSet<String> = daemon.images().into_iter().collect();
    assert_eq!(traces.datasets("image"), images);
    let work = root.join("metadata/build");
    let left = std::fs::read_dir(&work).into_iter().flatten().count();
    assert_eq!(left, 0, "{}", work.display());
}

/// Lesson 13: a client that goes away takes its build along.
#[test]
fn a_client_that_is_killed() {
    for (room, sleep) in [(Room::Dir, "sleep 71301"), (Room::Zfs, "sleep 71302")] {
        let daemon = Daemon::new(room);
        let context = Context::new(&format!(
            "FROM FreeBSD\nCOPY file /\nRUN --mount=type=tmpfs,target=/a \
             --mount=type=bind,target=/b {sleep} & wait\n"
        ));
        context.file("file", "");
        for options in [
            &["-t", "app"][..],
            &["-t", "app", "--upload"],
            &["-q", "--rm"],
        ] {
            let before = Traces::look(&daemon.mountpoint()).without_images();
            let building = Building::start(&daemon, &context, options);
            let process = Found::wait_for(sleep);
            building.kill();
            until("the build ends", || {
                Traces::look(&daemon.mountpoint()).without_images() == before
                    && daemon.log().contains("cancel") | !process.is_there()
            });
            until("its image goes", || {
                Traces::look(&daemon.mountpoint()).datasets("image").len() == daemon.images().len()
            });
            nothing_is_left(&daemon, &process);
            assert_ne!(daemon.klee(&["image", "inspect", "app"]).code, 0);
        }
        // The same again, with an end.
        context.dockerfile("FROM FreeBSD\nCOPY file /\nRUN true\n");
        daemon.build(&context, &["-t", "app"]).ok();
    }
}

/// The daemon is killed while a command of the build runs.
#[test]
fn a_daemon_that_is_killed_during_run() {
    for (room, sleep) in [(Room::Dir, "sleep 71303"), (Room::Zfs, "sleep 71304")] {
        let mut daemon = Daemon::new(room);
        let before = Traces::look(&daemon.mountpoint());
        let context = Context::new(&format!(
            "FROM FreeBSD\nCOPY file /\nRUN --mount=type=secret,id=s --mount=type=cache,target=/c \
             > /half; {sleep} & wait\n"
        ));
        context.file("file", "").file("s", "secret");
        let secret = format!("id=s,src={}", context.join("s").display());
        let building = Building::start(&daemon, &context, &["-t", "app", "--secret", &secret]);
        let process = Found::wait_for(sleep);
        daemon.kill();
        assert_ne!(building.ends(), 0);
        daemon.start();
        nothing_is_left(&daemon, &process);
        assert_eq!(Traces::look(&daemon.mountpoint()), before);
        assert!(daemon.klee(&["image", "inspect", "app"]).code != 0);
        context.dockerfile("FROM FreeBSD\nCOPY file /\nRUN > /whole\n");
        daemon.build(&context, &["-t", "app"]).ok();
        assert_eq!(
            daemon.sh("app", "cd /; ls half whole 2>/dev/null; true"),
            "whole\n"
        );
    }
}

/// The daemon is killed while files are copied, and between two steps.
#[test]
fn a_daemon_that_is_killed_between_commands() {
    let mut daemon = Daemon::new(Room::Dir);
    let before = Traces::look(&daemon.mountpoint());
    let context = Context::new("FROM FreeBSD\nRUN > /one\nCOPY many /many\nRUN > /two\n");
    for number in 0..3000 {
        context.file(&format!("many/{number}"), "x");
    }
    for line in ["Step 3/4", "--> Snapshot created", "Step 4/4"] {
        let mut building = Building::start(&daemon, &context, &["-t", "app", "--no-cache"]);
        building.tells(line);
        daemon.kill();
        building.ends();
        daemon.start();
        assert_eq!(Traces::look(&daemon.mountpoint()), before, "{line}");
        assert!(
            !daemon.mountpoint().join("metadata/build").exists(),
            "{line}"
        );
        assert_eq!(daemon.images().len(), 2, "{line}");
    }
    daemon.build(&context, &["-t", "app"]).ok();
    assert_eq!(daemon.sh("app", "ls /many | wc -l").trim(), "3000");
    assert!(
        !daemon.log().contains("could not be put right"),
        "{}",
        daemon.log()
    );
}

/// Two builds of one Dockerfile at once, and of two that share their beginning.
#[test]
fn builds_at_once() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let context = Context::new("FROM FreeBSD\nCOPY Dockerfile /\nRUN > /one\nRUN > /two\n");
        let names = ["a", "b", "c"];
        let builds = names.map(|name| Building::start(&daemon, &context, &["-t", name]));
        assert_eq!(builds.map(Building::ends), [0; 3]);
        for name in names {
            assert_eq!(
                daemon.sh(name, "cd /; ls one two Dockerfile"),
                "Dockerfile\none\ntwo\n"
            );
        }
        let other = Context::new("FROM FreeBSD\nRUN touch /shared\nRUN > /a\n");
        let builds = names.map(|name| {
            other.dockerfile(&format!("FROM FreeBSD\nRUN touch /shared\nRUN > /{name}\n"));
            let mut building = Building::start(&daemon, &other, &["-t", name]);
            building.tells("Step 1/3");
            building
        });
        assert_eq!(builds.map(Building::ends), [0; 3]);
        for name in names {
            assert_eq!(
                daemon
                    .sh(name, &format!("ls /shared /{name}"))
                    .lines()
                    .count(),
                2
            );
        }
    }
}

/// What a build uses can't be removed under it.
#[test]
fn bases_and_volumes_that_are_removed_meanwhile() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let gate = daemon.directory().join("gate");
        std::fs::create_dir(&gate).unwrap();
        let mount = format!("{}:/gate", gate.display());
        let context = Context::new(
            "FROM nginx\nRUN echo begun; until test -e /gate/open; do sleep 0.02; done\nRUN > /two\n",
        );
        let options = ["-t", "app", "-m", &mount, "-m", "used:/used"];
        let mut building = Building::start(&daemon, &context, &options);
        building.tells("begun");
        let volume = daemon.klee(&["volume", "rm", "used"]);
        let volumes = daemon.klee(&["volume", "prune", "-f"]);
        let refused = daemon.klee(&["image", "rm", "nginx"]);
        let pruned = daemon.klee(&["image", "prune", "-a", "-f"]);
        std::fs::write(gate.join("open"), "").unwrap();
        assert_eq!(building.ends(), 0, "{refused:?} {pruned:?}");
        assert!(volume.fails(1).contains("used"));
        assert_eq!(volumes.ok().trim(), "");
        daemon.klee(&["volume", "rm", "used"]).ok();
        let message = refused.fails(1);
        assert!(message.contains("depends on it"), "{message}");
        let found = daemon.sh("app", "cd /; ls two; cat usr/local/www/nginx/index.html");
        assert!(
            found.starts_with("two\n") && found.contains("Welcome"),
            "{found}"
        );
    }
}

/// Stages that don't need each other are built side by side: each of these waits for the other.
#[test]
fn stages_at_once() {
    let daemon = Daemon::new(Room::Dir);
    let wait = |own: &str, other: &str| {
        format!(
            "RUN > /s/{own}; until test -e /s/{other}; do sleep 0.02; done; echo {own} > /{own}\n"
        )
    };
    let context = Context::new(&format!(
        "FROM FreeBSD AS a\n{}FROM FreeBSD AS b\n{}\
         FROM FreeBSD AS unneeded\nRUN exit 1\n\
         FROM FreeBSD\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        wait("a", "b"),
        wait("b", "a")
    ));
    let told = daemon
        .build(&context, &["-t", "app", "-m", "meeting:/s"])
        .ok();
    assert!(!told.contains("exit 1") && told.contains("/7 : "), "{told}");
    assert_eq!(daemon.runs("app", &["cat", "/a", "/b"]), "a\nb\n");
    // One that fails ends the other.
    let sleep = "sleep 71305";
    context.dockerfile(&format!(
        "FROM FreeBSD AS a\nRUN > /s/sleeps; {sleep}\n\
         FROM FreeBSD AS b\nRUN until test -e /s/sleeps; do sleep 0.02; done; exit 5\n\
         FROM FreeBSD\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    ));
    let failed = daemon.build(&context, &["-t", "bad", "-m", "meeting:/s"]);
    assert_eq!(failed.code, 1);
    assert!(
        failed.stdout.contains("returned a non-zero code: 5"),
        "{failed:?}"
    );
    let traces = Traces::look(&daemon.mountpoint());
    assert!(traces.instances().is_empty(), "{traces:?}");
}
