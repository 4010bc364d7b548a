//! The program itself: what it says and returns when it can't start.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts the daemon"
)]

use std::path::Path;
use std::process::{Command, Output};

use kleened::lock::DaemonLock;

fn kleened(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kleened"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn write(directory: &Path, text: &str) -> String {
    let file = directory.join("config.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_bad_configuration_is_one_line_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "kleene_root: /k\nlog_levl: info\n");
    for arguments in [
        vec!["--config", &file],
        vec!["--config", &file, "--check-config"],
    ] {
        let output = kleened(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let wanted =
            format!("kleened: {file}:2: unknown key 'log_levl': did you mean 'log_level'?\n");
        assert_eq!(stderr(&output), wanted);
    }
    let output = kleened(&["--config", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/no/such/file"));
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "log_level: debug\n");
    let output = kleened(&["--config", &file, "--check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("is good")
    );
}

#[test]
fn a_second_daemon_on_a_root_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = directory.path().join("metadata");
    std::fs::create_dir(&metadata).unwrap();
    let _lock = DaemonLock::take(&metadata).unwrap();
    let root = directory.path().to_str().unwrap();
    let socket = directory.path().join("k.sock");
    let output = kleened(&["--root", root, "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(
        message.contains(&format!("process {}", std::process::id())),
        "{message}"
    );
    assert!(message.contains("kleened.lock"), "{message}");
    assert!(!socket.exists());
}

#[test]
fn help_and_version_and_openapi() {
    let help = kleened(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success() && text.contains("Examples:"),
        "{text}"
    );
    let version = kleened(&["--version"]);
    let wanted = format!("kleened {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), wanted);
    let openapi = kleened(&["--openapi"]);
    assert_eq!(
        String::from_utf8(openapi.stdout).unwrap(),
        kleened::http::openapi::DOCUMENT
    );
    assert_eq!(kleened(&["--no-such-option"]).status.code(), Some(2));
}
