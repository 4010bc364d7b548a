//! The daemon as its administrators meet it: configuration, sockets, a second one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts daemons that are to fail"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use kleene_tests::{Daemon, Room, built, until};

/// Runs a daemon that must refuse to start; answers what it said.
fn refused(arguments: &[&str]) -> String {
    let output = Command::new(built("kleened"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

fn with_config(directory: &Path, text: &str) -> String {
    let file = directory.join("config.yaml");
    fs::write(&file, text).unwrap();
    refused(&["--config", file.to_str().unwrap()])
}

#[test]
fn mistakes_in_the_configuration_are_told_with_file_line_and_key() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let message = with_config(directory, "log_level: info\nkleene_rot: /x\n");
    for part in ["config.yaml", "2", "kleene_rot", "kleene_root"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = with_config(directory, "log_level: loud\n");
    assert!(
        message.contains("log_level") && message.contains("loud"),
        "{message}"
    );
    let message = with_config(directory, "kleene_root: [a\n");
    assert!(message.contains("config.yaml"), "{message}");
    let message = with_config(directory, "kleene_root: relative/../x\n");
    assert!(message.contains("relative/../x"), "{message}");
    let message = with_config(
        directory,
        "storage_driver: dir\nkleene_root: zroot/kleene\n",
    );
    assert!(message.contains("zroot/kleene"), "{message}");
    let message = refused(&["--config", "/no/such/config.yaml"]);
    assert!(message.contains("/no/such/config.yaml"), "{message}");
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused() {
    let daemon = Daemon::empty(Room::Dir);
    let root = daemon.kleene_root();
    let socket = daemon.directory().join("other.sock");
    let message = refused(&["--root", &root, "--socket", socket.to_str().unwrap()]);
    assert!(
        message.contains(&daemon.pid().to_string()),
        "the other one is named: {message}"
    );
    assert!(!socket.exists());
    daemon.klee(&["volume", "ls"]).ok();
}

#[test]
fn a_socket_that_is_in_use_is_not_taken_over() {
    let daemon = Daemon::empty(Room::Dir);
    let root = daemon.directory().join("other-root");
    let socket = daemon.socket();
    let message = refused(&[
        "--root",
        root.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
    ]);
    assert!(message.contains("kleened.sock"), "{message}");
    daemon.klee(&["volume", "ls"]).ok();
}

#[test]
fn the_socket_belongs_to_the_configured_group() {
    let daemon = Daemon::with_config(Room::Dir, "socket_group: daemon\n");
    let meta = fs::metadata(daemon.socket()).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    let groups = fs::read_to_string("/etc/group").unwrap();
    let line = groups
        .lines()
        .find(|line| line.starts_with("daemon:"))
        .unwrap();
    assert_eq!(meta.gid().to_string(), line.split(':').nth(2).unwrap());
}

#[test]
fn a_stale_socket_is_replaced() {
    let mut daemon = Daemon::empty(Room::Dir);
    daemon.kill();
    assert!(
        daemon.socket().exists(),
        "a killed daemon leaves its socket"
    );
    daemon.start();
    daemon.klee(&["volume", "ls"]).ok();
    assert_eq!(daemon.terminate(), 0);
    daemon.start();
}

/// Other transports than Unix sockets.
#[test]
fn tcp_sockets() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let extra = format!("  - address: \"http://127.0.0.1:{port}\"\n");
    let daemon = Daemon::with_config(Room::Dir, &extra);
    let host = format!("http://127.0.0.1:{port}");
    daemon
        .klee(&["--host", &host, "volume", "create", "by-tcp"])
        .ok();
    assert!(
        daemon
            .klee(&["--host", &host, "lsv", "-q"])
            .ok()
            .contains("by-tcp")
    );
}

/// `--check-config` says what the start would say, as far as that can be known.
#[test]
fn checking_a_configuration_checks_its_sense() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("config.yaml");
    for (text, part) in [
        ("storage_driver: zfs\nkleene_root: /var/lib/kleene\n", "zfs"),
        ("socket_group: no-such-group\n", "no-such-group"),
        ("oci_runtime: /no/such/runtime\n", "/no/such/runtime"),
    ] {
        fs::write(&file, text).unwrap();
        let message = refused(&["--check-config", "--config", file.to_str().unwrap()]);
        assert!(message.contains(part), "{message}");
    }
}

/// Rewrites the configuration, has the daemon read it again, and waits until it has.
fn reload(daemon: &Daemon, from: &str, to: &str, said: &str) {
    let file = daemon.directory().join("config.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&file, text.replace(from, to)).unwrap();
    let pid = rustix::process::Pid::from_raw(daemon.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until(said, || daemon.log().contains(said));
}

#[test]
fn sighup_takes_up_the_log_level_and_names_what_needs_a_restart() {
    let daemon = Daemon::with_config(Room::Dir, "log_level: info\n");
    reload(&daemon, "level: info", "level: loud", "goes on as it was");
    reload(
        &daemon,
        "level: loud",
        "level: debug\nsocket_group: 0",
        "socket_group has changed",
    );
    assert!(daemon.log().contains("level=debug"), "{}", daemon.log());
    daemon.klee(&["volume", "ls"]).ok();
}

/// As a log is rotated: the file is renamed, and the daemon told to open it again.
#[test]
fn the_log_file_is_opened_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, old) = (scratch.path().join("k.log"), scratch.path().join("k.log.0"));
    let config = scratch.path().join("config.yaml");
    fs::write(&config, "").unwrap();
    let mut child = Command::new(built("kleened"))
        .arg("--root")
        .arg(scratch.path().join("root"))
        .arg("--socket")
        .arg(scratch.path().join("k.sock"))
        .arg("--config")
        .arg(&config)
        .arg("--log-file")
        .arg(&log)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let says =
        |file: &Path, what: &str| fs::read_to_string(file).is_ok_and(|text| text.contains(what));
    until("it listens", || says(&log, "listening on"));
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::rename(&log, &old).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until("it says so in a new file", || says(&log, "read again"));
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(says(&log, "has stopped") && !says(&old, "read again"));
}
