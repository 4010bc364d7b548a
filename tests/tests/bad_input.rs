//! What is refused: each with a 4xx and a message a person understands; nothing created, nothing lost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::fs;
use std::path::Path;

use kleene_tests::{Daemon, Room};

/// The request is refused with a 4xx whose message holds `part`.
#[track_caller]
fn refused(daemon: &Daemon, method: &str, path: &str, body: &str, part: &str) {
    let (status, answer) = daemon.request(method, path, body);
    assert!(
        (400..500).contains(&status),
        "{method} {path} {body}: {status} {answer}"
    );
    let parsed: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    let message = parsed["message"].as_str().unwrap_or_default();
    assert!(message.contains(part), "{method} {path} {body}: {answer}");
}

fn create(mounts: &str) -> String {
    format!(r#"{{"image":"FreeBSD","network_driver":"host","mounts":[{mounts}]}}"#)
}

fn mount(kind: &str, source: &str, destination: &str) -> String {
    format!(r#"{{"type":"{kind}","source":"{source}","destination":"{destination}"}}"#)
}

#[test]
fn requests() {
    let daemon = Daemon::new(Room::Dir);
    let long = "x".repeat(300);
    for name in [
        "", "a/b", "a@b", "..", ".", "a b", "-r", r"a\u0007", &long, "é",
    ] {
        let body = format!(r#"{{"name":"{name}"}}"#);
        refused(&daemon, "POST", "/volumes/create", &body, "name");
        if !name.is_empty() {
            let body = format!(r#"{{"image":"FreeBSD","network_driver":"host","name":"{name}"}}"#);
            refused(&daemon, "POST", "/containers/create", &body, "name");
        }
    }
    let long_destination = format!("/{}", "d/".repeat(2000));
    for (bad, part) in [
        (mount("volume", "v", "relative"), "relative"),
        (mount("volume", "v", ""), "empty"),
        (mount("volume", "v", "/"), "'/'"),
        (mount("volume", "v", "/a/../b"), "'..'"),
        (mount("volume", "v", &long_destination), "long"),
        (mount("volume", "", "/a"), "empty"),
        (mount("volume", "../x", "/a"), "../x"),
        (mount("volume", "/abs", "/a"), "volume"),
        (mount("nullfs", "rel", "/a"), "rel"),
        (mount("nullfs", "/no/such/dir", "/a"), "/no/such/dir"),
        (mount("nullfs", "/dev/null", "/a"), "/dev/null"),
        (mount("other", "v", "/a"), "other"),
        (
            format!(
                "{},{}",
                mount("volume", "v", "/a"),
                mount("volume", "w", "/a/")
            ),
            "'/a'",
        ),
    ] {
        refused(&daemon, "POST", "/containers/create", &create(&bad), part);
    }
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        r#"{"name":1}"#,
        r#"{"nmae":"x"}"#,
        "{\"name\":\"a\"} x",
    ] {
        refused(&daemon, "POST", "/volumes/create", body, "");
    }
    refused(
        &daemon,
        "POST",
        "/volumes/create",
        r#"{"name":"a","size":1}"#,
        "size",
    );
    refused(
        &daemon,
        "POST",
        "/containers/create",
        r#"{"image":"FreeBSD","cmd":"ls"}"#,
        "cmd",
    );
    refused(
        &daemon,
        "POST",
        "/containers/create",
        r#"{"network_driver":"host"}"#,
        "image",
    );
    refused(
        &daemon,
        "POST",
        "/containers/create",
        r#"{"image":"nope","network_driver":"host"}"#,
        "no such image 'nope'",
    );
    refused(
        &daemon,
        "GET",
        "/containers/nope/inspect",
        "",
        "container not found",
    );
    refused(
        &daemon,
        "DELETE",
        "/containers/nope",
        "",
        "no such container",
    );
    refused(
        &daemon,
        "GET",
        "/volumes/..%2f..%2fetc/inspect",
        "",
        "No such volume",
    );
    refused(&daemon, "DELETE", "/volumes/nope", "", "No such volume");
    refused(
        &daemon,
        "GET",
        "/images/nope/inspect",
        "",
        "image not found",
    );
    refused(
        &daemon,
        "POST",
        "/exec/create",
        r#"{"container_id":"nope"}"#,
        "container not found",
    );
    refused(&daemon, "POST", "/exec/nope/stop", "", "");
    refused(&daemon, "GET", "/nowhere", "", "");
    refused(&daemon, "PUT", "/volumes/list", "", "");
    assert_eq!(daemon.request("GET", "/volumes/list", "").1.trim(), "[]");
    assert_eq!(
        daemon
            .request("GET", "/containers/list?all=true", "")
            .1
            .trim(),
        "[]"
    );
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn mounts_on_the_command_line() {
    let daemon = Daemon::new(Room::Dir);
    for mount in [
        "v",
        "v:/a:ro:x",
        "v:/a:xx",
        ":/a",
        "v:",
        "v:rel",
        "../x:/a",
        "v:/",
        "-r:/a",
        "v:/a/..",
    ] {
        let outcome = daemon.klee(&["create", &format!("--mount={mount}"), "FreeBSD"]);
        assert_eq!(outcome.code, 125, "{mount}: {outcome:?}");
        assert!(!outcome.stderr.is_empty());
    }
    assert_eq!(daemon.klee(&["volume", "ls", "-q"]).ok(), "");
}

/// Damaged and hostile archives leave no image and touch nothing.
#[test]
fn archives() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::empty(room);
        let directory = daemon.directory().to_owned();
        let good = kleene_tests::archive(&directory);
        let bytes = fs::read(&good).unwrap();
        let outside = directory.join("outside");
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("truncated", bytes[..bytes.len() / 2].to_vec()),
            ("empty", Vec::new()),
            ("text", b"<html>not found</html>".repeat(100)),
            (
                "absolute",
                hostile(|tar| file(tar, outside.to_str().unwrap())),
            ),
            ("climbing", hostile(|tar| file(tar, "../../outside"))),
            (
                "through-a-link",
                hostile(|tar| {
                    link(tar, "out", directory.to_str().unwrap());
                    file(tar, "out/outside");
                }),
            ),
            (
                "hard-link-out",
                hostile(|tar| hard_link(tar, "x", "../../../../../../etc/passwd")),
            ),
        ];
        for (name, bytes) in cases {
            let path = directory.join(format!("{name}.tar"));
            fs::write(&path, bytes).unwrap();
            let url = format!("file://{}", path.display());
            let outcome = daemon.klee(&["image", "create", "-t", name, "fetch", &url]);
            if name != "through-a-link" {
                assert!(outcome.code != 0, "{name}: {outcome:?}");
                assert!(outcome.stderr.len() > 10, "{name}: {outcome:?}");
                assert!(daemon.klee(&["image", "inspect", name]).code != 0, "{name}");
            }
            assert!(!outside.exists(), "{name} has written outside");
        }
        daemon.klee(&["image", "prune", "-a", "-f"]).ok();
        assert_eq!(daemon.klee(&["image", "ls", "-q"]).ok(), "");
        for url in [
            "file:///no/such/file",
            "relative.tar",
            "ftp://x/y",
            "http://127.0.0.1:1/x",
            "",
        ] {
            let outcome = daemon.klee(&["image", "create", "fetch", url]);
            assert!(
                outcome.code != 0 && !outcome.stderr.contains("panicked"),
                "{url}: {outcome:?}"
            );
        }
        let message = daemon.klee(&["image", "create", "fetch-auto"]);
        assert!(
            message.code != 0 && message.stderr.contains("host"),
            "{message:?}"
        );
    }
}

fn hostile(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut tar = Vec::new();
    fill(&mut tar);
    tar.extend([0; 1024]);
    tar
}

/// A header that the tar library would refuse to write.
fn header(tar: &mut Vec<u8>, name: &str, kind: u8, target: &str, size: usize) {
    let mut block = [0_u8; 512];
    let put = |block: &mut [u8; 512], at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(&mut block, 0, &name[..name.len().min(100)]);
    put(&mut block, 100, "0000644\0");
    put(&mut block, 108, "0000000\0");
    put(&mut block, 116, "0000000\0");
    put(&mut block, 124, &format!("{size:011o}\0"));
    put(&mut block, 136, "00000000000\0");
    put(&mut block, 148, "        ");
    block[156] = kind;
    put(&mut block, 157, target);
    put(&mut block, 257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block, 148, &format!("{sum:06o}\0 "));
    tar.extend(block);
}

fn file(tar: &mut Vec<u8>, name: &str) {
    header(tar, name, b'0', "", 5);
    let mut data = [0; 512];
    data[..5].copy_from_slice(b"owned");
    tar.extend(data);
}

fn link(tar: &mut Vec<u8>, name: &str, target: &str) {
    header(tar, name, b'2', target, 0);
}

fn hard_link(tar: &mut Vec<u8>, name: &str, target: &str) {
    header(tar, name, b'1', target, 0);
}

/// A full disk is a clear error, and what was there stays.
#[test]
fn a_full_disk() {
    let daemon = Daemon::empty(Room::Dir);
    let small = daemon.directory().join("small");
    fs::create_dir(&small).unwrap();
    let options = Some(c"size=3m");
    rustix::mount::mount(
        "none",
        &small,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        options,
    )
    .unwrap();
    let guard = Unmount(&small);
    let other = Daemon::with_root(&small.join("root"));
    other.klee(&["volume", "create", "kept"]).ok();
    let big = other.directory().join("big.tar");
    let mut tar = tar::Builder::new(fs::File::create(&big).unwrap());
    let mut head = tar::Header::new_gnu();
    head.set_size(8 << 20);
    head.set_mode(0o644);
    tar.append_data(
        &mut head,
        "big",
        std::io::Read::take(std::io::repeat(7), 8 << 20),
    )
    .unwrap();
    tar.into_inner().unwrap();
    let url = format!("file://{}", big.display());
    let outcome = other.klee(&["image", "create", "-t", "big", "fetch", &url]);
    assert!(
        outcome.code != 0 && outcome.stderr.contains("space"),
        "{outcome:?}"
    );
    assert_eq!(other.klee(&["image", "ls", "-q"]).ok(), "");
    assert_eq!(other.klee(&["volume", "ls", "-q"]).ok(), "kept\n");
    drop(other);
    drop(guard);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
