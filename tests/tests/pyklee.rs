//! A client that nobody here wrote: `kleene-cli` from PyPI speaks the original's protocol, and its
//! users' habits must keep working. It is installed into a virtual environment beside the build.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts the client under test"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use kleene_tests::{Daemon, Room};

const VERSION: &str = "kleene-cli==0.1.0rc4";

/// The client, installed once.
fn client() -> &'static PathBuf {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let tests = std::env::current_exe().unwrap();
        let directory = tests
            .parent()
            .and_then(|deps| deps.parent())
            .unwrap()
            .join("kleene-cli");
        let klee = directory.join("bin/klee");
        if !klee.exists() {
            let python = |arguments: &[&str]| {
                let status = Command::new("python3").args(arguments).status().unwrap();
                assert!(
                    status.success(),
                    "python3 {arguments:?}: install python3-venv"
                );
            };
            python(&["-m", "venv", directory.to_str().unwrap()]);
            let pip = directory.join("bin/pip");
            let status = Command::new(pip)
                .args(["install", "--quiet", VERSION])
                .status()
                .unwrap();
            assert!(status.success(), "{VERSION} can't be installed from PyPI");
        }
        klee
    })
}

/// Runs the client; answers what it printed (it tells errors there too).
fn klee(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = Command::new(client())
        .args([
            "--theme",
            "simple",
            "--host",
            &format!("http://{}", daemon.socket().display()),
        ])
        .args(arguments)
        .env("COLUMNS", "200")
        .current_dir(daemon.directory())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("Traceback"),
        "klee {arguments:?}:\n{errors}"
    );
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn volumes_mounts_containers_and_images() {
    volumes(&Daemon::new(Room::Zfs));
    mounts_and_containers(&Daemon::new(Room::Dir));
    images(&Daemon::empty(Room::Dir));
}

fn volumes(daemon: &Daemon) {
    assert_eq!(
        klee(daemon, &["volume", "create", "my-vol"]).trim(),
        "my-vol"
    );
    assert!(klee(daemon, &["lsv"]).contains("my-vol"));
    let inspected = json(&klee(daemon, &["volume", "inspect", "my-vol"]));
    assert_eq!(inspected["volume"]["name"], "my-vol");
    assert_eq!(inspected["mountpoints"], serde_json::json!([]));
    assert_eq!(klee(daemon, &["volume", "rm", "my-vol"]).trim(), "my-vol");
    assert!(klee(daemon, &["volume", "rm", "my-vol"]).contains("No such volume"));
    klee(daemon, &["volume", "create", "unused"]);
    assert!(klee(daemon, &["volume", "prune", "-f"]).contains("unused"));
}

fn mounts_and_containers(daemon: &Daemon) {
    let www = "nginx-vol:/usr/local/www/nginx";
    let seen = klee(
        daemon,
        &[
            "run",
            "--name",
            "web",
            "--mount",
            www,
            "nginx",
            "ls",
            "/usr/local/www/nginx",
        ],
    );
    assert!(seen.contains("created execution instance"), "{seen}");
    assert!(
        seen.contains("50x.html") && seen.contains("index.html"),
        "{seen}"
    );
    assert!(
        seen.contains("and its container exited with exit-code 0"),
        "{seen}"
    );
    let inspected = json(&klee(daemon, &["container", "inspect", "web"]));
    assert_eq!(inspected["container_mountpoints"][0]["source"], "nginx-vol");
    assert!(klee(daemon, &["lsc", "-a"]).contains("web"));
    klee(
        daemon,
        &[
            "run",
            "-d",
            "--name",
            "box",
            "-m",
            "nginx-vol:/data:ro",
            "nginx",
            "sleep",
            "600",
        ],
    );
    let running = json(&klee(daemon, &["container", "inspect", "box"]));
    assert_eq!(running["container"]["running"], true);
    let seen = klee(daemon, &["exec", "box", "cat", "/data/index.html"]);
    assert!(
        seen.contains("Welcome to nginx!") && seen.contains("has exited with exit-code 0"),
        "{seen}"
    );
    let seen = klee(daemon, &["exec", "box", "touch", "/data/x"]);
    assert!(
        seen.contains("Read-only") && seen.contains("exit-code 1"),
        "{seen}"
    );
    let missing = klee(daemon, &["exec", "box", "no-such-program"]);
    assert!(missing.contains("no-such-program"), "{missing}");
    assert!(klee(daemon, &["rmc", "box"]).contains("you cannot remove a running container"));
    let id = running["container"]["id"].as_str().unwrap();
    assert_eq!(
        klee(daemon, &["restart", "box"])
            .lines()
            .next()
            .unwrap()
            .trim(),
        id
    );
    assert_eq!(klee(daemon, &["stop", "box"]).trim(), id);
    klee(daemon, &["container", "rename", "box", "crate"]);
    assert_eq!(klee(daemon, &["rmc", "crate"]).trim(), id);
    assert!(klee(daemon, &["create", "--name", "x y", "nginx"]).contains("name"));
    assert!(klee(daemon, &["create", "-m", "/no/such:/a", "nginx"]).contains("/no/such"));
    assert!(klee(daemon, &["create", "nope"]).contains("no such image"));
    assert!(klee(daemon, &["rmc", "web"]).len() >= 12);
}

fn images(daemon: &Daemon) {
    let url = format!(
        "file://{}",
        kleene_tests::archive(daemon.directory()).display()
    );
    let seen = klee(
        daemon,
        &["image", "create", "-t", "base:one", "fetch", &url],
    );
    assert!(seen.contains("image created"), "{seen}");
    assert!(klee(daemon, &["lsi"]).contains("base"));
    let image = json(&klee(daemon, &["image", "inspect", "base:one"]));
    let id = image["id"].as_str().unwrap();
    assert_eq!(klee(daemon, &["image", "tag", id, "other:two"]).trim(), id);
    assert!(klee(daemon, &["image", "inspect", "base:one"]).contains("image not found"));
    let failed = klee(daemon, &["image", "create", "fetch", "file:///no/such.tar"]);
    assert!(failed.contains("failed"), "{failed}");
    assert_eq!(klee(daemon, &["rmi", "other:two"]).trim(), id);
    assert!(klee(daemon, &["lsn"]).len() < 400, "networks can be listed");
}
