//! What is installed on FreeBSD beside the programs: scripts that a shell can read, and files that
//! agree with each other.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "tests may panic, and these start shells"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kleened::config::Defaults;

const PREFIX: &str = "/usr/local";

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/freebsd")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(packaging().join(name)).expect(name)
}

fn shell(arguments: &[&str]) -> Output {
    Command::new("sh").args(arguments).output().unwrap()
}

#[test]
fn shells_can_read_the_scripts() {
    for script in ["rc.d/kleened", "sysutils/kleene/files/kleened.in"] {
        let path = packaging().join(script);
        let output = shell(&["-n", path.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && said.is_empty(),
            "{script}: {said}"
        );
    }
}

#[test]
fn the_script_is_that_of_the_port() {
    let port = read("sysutils/kleene/files/kleened.in");
    assert_eq!(read("rc.d/kleened"), port.replace("%%PREFIX%%", PREFIX));
}

/// The script with an rc.subr that only tells what it was given. As the real one, it prefers a program
/// that is named after the service to `command`.
fn told(arguments: &[&str], settings: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let subr = directory.path().join("rc.subr");
    let stand_in = format!(
        "load_rc_config() {{ {settings}\n}}\n\
         run_rc_command() {{\n\
         echo \"rcvar=$rcvar\"\necho \"flags=$kleened_flags\"\necho \"pidfile=$pidfile\"\n\
         echo \"command=${{kleened_program:-$command}}\" $command_args\n}}\n"
    );
    std::fs::write(&subr, stand_in).unwrap();
    let script = directory.path().join("kleened");
    let text = read("rc.d/kleened").replace("/etc/rc.subr", subr.to_str().unwrap());
    std::fs::write(&script, text).unwrap();
    let output = shell(&[&["-eu", script.to_str().unwrap()], arguments].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn flags_are_the_daemons_and_not_those_of_its_keeper() {
    let text = told(&["start"], "kleened_flags='--root /k'");
    let config = Defaults::FREEBSD.file;
    let wanted = format!(
        "rcvar=kleened_enable\nflags=\npidfile=/var/run/kleened.pid\n\
         command=/usr/sbin/daemon -f -m 0 -p /var/run/kleened.pid {PREFIX}/sbin/kleened \
         --log-file /var/log/kleened.log --config {config} --root /k\n"
    );
    assert_eq!(text, wanted);
    // What enables the service can't ask for that first.
    assert!(told(&["init"], ":").starts_with("rcvar=\n"));
}

#[test]
fn the_log_that_is_rotated_is_that_of_the_daemon() {
    let told = told(&["start"], ":");
    let rotation = read("newsyslog.conf");
    let entry = rotation
        .lines()
        .find(|line| !line.starts_with('#'))
        .unwrap();
    let fields: Vec<&str> = entry.split_whitespace().collect();
    let (log, pid) = (fields.first().unwrap(), fields.last().unwrap());
    assert!(told.contains(&format!("--log-file {log} ")), "{told}");
    assert!(told.contains(&format!("-p {pid} ")), "{told}");
}

#[test]
fn what_the_port_installs_is_in_its_list() {
    let makefile = read("sysutils/kleene/Makefile");
    for line in read("sysutils/kleene/pkg-plist").lines() {
        let file = line.rsplit('/').next().unwrap();
        assert!(makefile.contains(file), "{line}");
    }
    let version = format!("DISTVERSION=\t{}\n", env!("CARGO_PKG_VERSION"));
    assert!(makefile.contains(&version));
}
