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

use kleene_tests::{Context, Daemon, Found, Room, Traces, until};

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
    builds(&Daemon::new(Room::Dir));
    builds(&Daemon::new(Room::Zfs));
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

fn builds(daemon: &Daemon) {
    let context = Context::new(
        "ARG WHO=world\nFROM FreeBSD:latest\nARG WHO\nENV GREETING=\"hello $WHO\"\nCOPY file /srv/\n\
         RUN echo \"$GREETING\" > /srv/said; echo out\nUSER www\nWORKDIR /srv\nCMD [\"cat\", \"said\"]\n",
    );
    context.file("file", "content");
    let path = context.path().display().to_string();
    let build = |options: &[&str]| klee(daemon, &[&["build"], options, &[&path]].concat());
    let told = build(&["-t", "app:1", "--build-arg", "WHO=you"]);
    for line in [
        "Step 2/9 : FROM FreeBSD:latest",
        "Step 5/9 : COPY file /srv/",
        "--> Snapshot created: @",
        "out",
        "Step 9/9 : CMD [\"cat\", \"said\"]",
    ] {
        assert!(
            told.lines().any(|told| told.starts_with(line)),
            "{line}: {told}"
        );
    }
    let image = json(&klee(daemon, &["image", "inspect", "app:1"]));
    let id = image["id"].as_str().unwrap();
    assert!(told.contains(id), "{told}");
    assert_eq!(image["user"], "www");
    assert_eq!(image["cmd"], serde_json::json!(["cat", "said"]));
    let steps = image["instructions"].as_array().unwrap();
    let snapshot = steps
        .iter()
        .find(|step| step[0] == "COPY file /srv/")
        .unwrap()[1]
        .as_str()
        .unwrap();
    assert!(
        told.contains(&format!("--> Snapshot created: {snapshot}")),
        "{told}"
    );
    assert!(klee(daemon, &["run", "app:1"]).contains("hello you"));
    let seen = klee(daemon, &["run", &format!("app:1{snapshot}"), "ls", "/srv"]);
    assert!(seen.contains("file") && !seen.contains("said"), "{seen}");
    // Quietly; and on another image.
    let quiet = build(&["-q", "-t", "quiet"]);
    assert!(!quiet.contains("\nout\n"), "{quiet}");
    assert!(klee(daemon, &["lsi"]).contains("quiet"));
    assert!(!build(&["-t", "from", "--from", "nginx:latest"]).contains("failed"));
    // What fails says where, and is kept unless it shouldn't be.
    context.file("Bad", "FROM FreeBSD\nRUN echo one > /one\nRUN exit 3\n");
    let told = build(&["-t", "bad:1", "-f", "Bad"]);
    assert!(
        told.contains("The command '/bin/sh -c exit 3' returned a non-zero code: 3"),
        "{told}"
    );
    let last = told
        .lines()
        .find_map(|line| line.strip_prefix("--> Snapshot created: "))
        .unwrap();
    let said = told
        .lines()
        .any(|line| line.contains("Most recent snapshot is") && line.contains(last));
    assert!(said, "{told}");
    let seen = klee(
        daemon,
        &["run", &format!("bad:failed{last}"), "cat", "/one"],
    );
    assert!(seen.contains("one"), "{seen}");
    let told = build(&["-t", "worse:1", "--rm", "-f", "Bad"]);
    assert!(told.contains("non-zero code: 3"), "{told}");
    assert!(!klee(daemon, &["lsi"]).contains("worse"));
    context.file("Wrong", "FROM FreeBSD\nNONSENSE x\n");
    let told = build(&["-f", "Wrong"]);
    assert!(
        told.contains("error in 'NONSENSE x': invalid instruction"),
        "{told}"
    );
    context.file("Early", "RUN true\nFROM FreeBSD\n");
    let told = build(&["-f", "Early"]);
    assert!(
        told.contains("'RUN true' not permitted before a FROM instruction"),
        "{told}"
    );
    let told = build(&["-f", "Missing"]);
    assert!(told.contains("Missing"), "{told}");
    // What is in use stays.
    let told = klee(daemon, &["rmi", "app:1"]);
    assert!(
        told.contains(&format!(
            "could not remove image {id} since it is used for containers:"
        )),
        "{told}"
    );
    klee(daemon, &["container", "prune", "-f"]);
    let pruned = klee(daemon, &["image", "prune", "-a", "-f"]);
    assert!(pruned.contains(id), "{pruned}");
    gone(daemon);
}

/// A client that goes away takes its build along.
fn gone(daemon: &Daemon) {
    let context = Context::new("FROM scratch\n");
    let url = format!(
        "file://{}",
        kleene_tests::archive(daemon.directory()).display()
    );
    klee(daemon, &["image", "create", "-t", "base", "fetch", &url]);
    let sleep = format!("sleep {}", 720_000 + daemon.pid());
    context.dockerfile(&format!("FROM base\nRUN {sleep} & wait\n"));
    let mut client = Command::new(client())
        .args([
            "--host",
            &format!("http://{}", daemon.socket().display()),
            "build",
        ])
        .arg(context.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Found::wait_for(&sleep);
    client.kill().unwrap();
    client.wait().unwrap();
    until("the build ends", || {
        let traces = Traces::look(&daemon.mountpoint());
        !process.is_there() && traces.instances().is_empty() && traces.datasets("image").len() == 1
    });
}
