//! Chapters of the guide that can be followed word for word are: their files are written, their
//! commands run, in the order in which they stand there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic and start programs"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kleene_tests::{Daemon, Room};

/// Behind a command of which the guide shows that it fails.
const FAILS: &str = "# fails";

/// Where the guide's registry is.
const REGISTRY: &str = "localhost:5000";

/// What a chapter has its reader do.
#[derive(Debug)]
enum Deed<'a> {
    Write { file: &'a str, text: String },
    Run(&'a str),
}

/// Files follow a comment with their name; commands begin with `$`.
fn deeds(chapter: &str) -> Vec<Deed<'_>> {
    let mut deeds = Vec::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("<!-- file: ") {
            assert!(lines.next().unwrap().starts_with("```"), "{line}");
            let block = lines.by_ref().take_while(|line| *line != "```");
            deeds.push(Deed::Write {
                file: name.strip_suffix(" -->").unwrap(),
                text: block.map(|line| format!("{line}\n")).collect(),
            });
        } else if let Some(command) = line.strip_prefix("$ ") {
            deeds.push(Deed::Run(command));
        }
    }
    deeds
}

/// Follows a chapter; the guide's registry is at `registry`.
fn follow(daemon: &Daemon, chapter: &str, registry: &str) {
    let directory = daemon.directory().join("reader");
    fs::create_dir(&directory).unwrap();
    let mut run = 0;
    for deed in deeds(chapter) {
        let line = match deed {
            Deed::Write { file, text } => {
                let path = directory.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
                continue;
            }
            Deed::Run(line) => line.replace(REGISTRY, registry),
        };
        let output = shell(daemon, &directory, &line);
        let wanted = !line.contains(FAILS);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.success(), wanted, "{line}\n{text}");
        run += 1;
    }
    assert!(run > 5, "{run}");
}

/// Runs a line as the reader's shell does.
fn shell(daemon: &Daemon, directory: &Path, line: &str) -> std::process::Output {
    let klee = kleene_tests::built("klee");
    let path = std::env::var("PATH").unwrap();
    Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .env(
            "PATH",
            format!("{}:{path}", klee.parent().unwrap().display()),
        )
        .env("HOME", daemon.directory())
        .env("KLEE_HOST", format!("http://{}", daemon.socket().display()))
        .env_remove("KLEE_CONFIG")
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A registry; ended when dropped.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    /// Starts one that keeps things in `directory`, and waits until it listens.
    fn start(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let config = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0', secret: test}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n",
            directory.join("data").display()
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry isn't installed");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = loop {
            let line = log.next().expect("docker-registry doesn't start").unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address = rest.split('"').next().unwrap();
                break address.rsplit(':').next().unwrap().to_owned();
            }
        };
        // Read to its end, so that the registry never waits for us.
        std::thread::spawn(move || log.for_each(drop));
        Self {
            child,
            address: format!("localhost:{port}"),
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn building_images() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::empty(room);
        follow(
            &daemon,
            include_str!("../../docs/guide/builds.md"),
            REGISTRY,
        );
    }
}

#[test]
fn registries() {
    let daemon = Daemon::empty(Room::Dir);
    let registry = Registry::start(&daemon.directory().join("registry"));
    let chapter = include_str!("../../docs/guide/registries.md");
    follow(&daemon, chapter, &registry.address);
}

#[test]
fn images_in_archives() {
    let daemon = Daemon::empty(Room::Dir);
    let chapter = include_str!("../../docs/guide/moving-images.md");
    follow(&daemon, chapter, REGISTRY);
}
