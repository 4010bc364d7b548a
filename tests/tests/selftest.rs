//! The self-test that is made for FreeBSD, played here as far as it goes: the script itself must not rot.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts a shell"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use kleene_tests::built;

/// The script's directory in the sources.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../xtask/src/freebsd/selftest");

/// Puts programs and scripts into a directory, as the tar has them.
fn unpack(into: &Path) {
    for program in ["kleened", "klee", "kleene-monitor"] {
        fs::copy(built(program), into.join(program)).unwrap();
    }
    let scripts = Path::new(SCRIPTS);
    fs::create_dir(into.join("lib")).unwrap();
    fs::copy(scripts.join("selftest.sh"), into.join("selftest.sh")).unwrap();
    for part in fs::read_dir(scripts.join("lib")).unwrap().flatten() {
        fs::copy(part.path(), into.join("lib").join(part.file_name())).unwrap();
    }
}

fn play(programs: &Path, work: &Path, options: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .arg(programs.join("selftest.sh"))
        .arg("--work")
        .arg(work)
        .args(options)
        .output()
        .unwrap();
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[test]
fn the_common_part_holds() {
    let programs = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    unpack(programs.path());
    let (code, said) = play(programs.path(), work.path(), &[]);
    assert!(code == Some(0) && !said.contains("not ok"), "{said}");
    let points = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(points > 40, "{said}");
    assert!(said.contains(&format!("\n1..{points}\n")), "{said}");
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0, "{said}");
}

/// A point that fails is told with what was run, and nothing is left.
#[test]
fn failures_are_told() {
    let programs = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    unpack(programs.path());
    let part = programs.path().join("lib/volumes.sh");
    let text = fs::read_to_string(&part).unwrap();
    let broken = text.replacen("equals my-vol", "equals your-vol", 1);
    assert_ne!(text, broken);
    fs::write(&part, broken).unwrap();
    let (code, said) = play(programs.path(), work.path(), &["--only", "created, listed"]);
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "not ok 3 - dir: volumes are created",
        "command: k volume create my-vol",
        "stdout: my-vol",
        "1 of ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0, "{said}");
}
