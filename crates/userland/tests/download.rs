//! Files for builds, from a server that is scripted.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod common;
#[path = "common/server.rs"]
mod server;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use common::{Room, SmallDisk, names, noise};
use kleene_doors::userland::{Downloaded, Userland, UserlandError};
use kleene_types::Checksum;
use kleene_userland::SystemUserland;
use server::{Answer, Server};

/// `printf hello | sha256sum`, and the others.
const SHA256: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const SHA384: &str = "sha384:59e1748777448c69de6b800d7a33bbfb9ff1b463e44354c3553bcdb9c666fa90\
                      125a3c79f90397bdf5f6a13de828684f";
const SHA512: &str = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7\
                      2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";

/// The directory that files go to.
fn into(room: &Room) -> PathBuf {
    let dir = room.dir.path().join("build");
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn download_with(
    userland: &SystemUserland,
    room: &Room,
    url: &str,
    checksum: Option<&str>,
) -> Result<Downloaded, UserlandError> {
    let checksum = checksum.map(|text| text.parse::<Checksum>().unwrap());
    let mut sink = |_| ControlFlow::Continue(());
    userland.download(url, checksum.as_ref(), &into(room), &mut sink)
}

fn download(room: &Room, url: &str, checksum: Option<&str>) -> Result<Downloaded, UserlandError> {
    download_with(&SystemUserland::new(room.cache()), room, url, checksum)
}

fn invalid(result: Result<Downloaded, UserlandError>) -> String {
    match result {
        Err(UserlandError::Invalid(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_with_all_that_is_known_of_them() {
    let server = Server::start(|_, _| {
        Answer::ok("hello").header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
    });
    let room = Room::new();
    let got = download(&room, &server.url("/a/he%20llo.txt?x=/y"), None).unwrap();
    let expected = Downloaded {
        path: into(&room).join("he llo.txt"),
        name: "he llo.txt".into(),
        bytes: 5,
        sha256: SHA256.parse().unwrap(),
        last_modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_600)),
    };
    assert_eq!(got, expected);
    assert_eq!(fs::read_to_string(&got.path).unwrap(), "hello");
    let mode = fs::metadata(&got.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(names(&into(&room)), ["he llo.txt"]);
    assert!(room.parts().is_empty());
}

#[test]
fn checksums_are_checked_before_there_is_a_file() {
    let server = Server::start(|_, _| Answer::ok("hello").header("ETag", "\"1\""));
    let url = server.url("/file");
    for checksum in [SHA256, SHA384, SHA512] {
        let room = Room::new();
        let got = download(&room, &url, Some(checksum)).unwrap();
        assert_eq!(got.sha256.to_string(), SHA256);
        let end = if checksum.ends_with('0') { "1" } else { "0" };
        let wrong = format!("{}{end}", &checksum[..checksum.len() - 1]);
        let room = Room::new();
        let message = invalid(download(&room, &url, Some(&wrong)));
        assert!(
            message.contains(&wrong) && message.contains(checksum),
            "{message}"
        );
        assert_eq!(names(&into(&room)), [""; 0]);
        assert!(room.parts().is_empty());
    }
}

#[test]
fn names_dont_lead_out_of_the_directory() {
    let server = Server::start(|_, request| {
        let name = match request.path.as_str() {
            "/bad/" => "..",
            _ => "../../etc/escaped",
        };
        Answer::ok("hello").header(
            "Content-Disposition",
            &format!("attachment; filename=\"{name}\""),
        )
    });
    let room = Room::new();
    for (path, name) in [
        ("/x/..%2f..%2fup", "up"),
        ("/good/", "escaped"),
        ("/bad/", "download"),
    ] {
        let got = download(&room, &server.url(path), None).unwrap();
        assert_eq!(got.path, into(&room).join(name));
    }
    assert_eq!(names(&into(&room)), ["download", "escaped", "up"]);
}

#[test]
fn files_that_are_there_are_replaced() {
    let server = Server::start(|_, _| Answer::ok("hello"));
    let room = Room::new();
    let outside = room.file("outside", b"precious");
    std::os::unix::fs::symlink(&outside, into(&room).join("file")).unwrap();
    let got = download(&room, &server.url("/file"), None).unwrap();
    assert!(fs::symlink_metadata(&got.path).unwrap().is_file());
    assert_eq!(fs::read(outside).unwrap(), b"precious");
}

#[test]
fn the_next_call_goes_on() {
    let file = noise(300_000);
    let answer = file.clone();
    let server = Server::start(move |number, request| {
        let answer = Answer::file(request, &answer, "\"1\"");
        if number == 0 {
            answer.cut_after(100_000)
        } else {
            answer
        }
    });
    let room = Room::new();
    let url = server.url("/file");
    let mut sink = |progress: kleene_doors::userland::Progress| match progress
        .step
        .starts_with("trying again")
    {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let userland = SystemUserland::new(room.cache());
    let result = userland.download(&url, None, &into(&room), &mut sink);
    assert!(
        matches!(result, Err(UserlandError::Cancelled)),
        "{result:?}"
    );
    assert_eq!(names(&into(&room)), [""; 0]);
    let got = download(&room, &url, None).unwrap();
    assert!(fs::read(got.path).unwrap() == file);
    assert_eq!(server.requests()[1].range(), Some(100_000));
}

#[test]
fn what_is_too_large_is_not_taken() {
    // With its size said, and without.
    for chunked in [false, true] {
        let server = Server::start(move |_, _| {
            let answer = Answer::ok(noise(50_000)).header("ETag", "\"1\"");
            if chunked { answer.chunked() } else { answer }
        });
        let room = Room::new();
        let url = server.url("/file");
        let exact = SystemUserland::new(room.cache()).max_download(50_000);
        download_with(&exact, &room, &url, None).unwrap();
        let room = Room::new();
        let small = SystemUserland::new(room.cache()).max_download(49_999);
        let message = invalid(download_with(&small, &room, &url, None));
        assert!(message.contains("larger than 49999 bytes"), "{message}");
        assert_eq!(names(&into(&room)), [""; 0]);
        assert!(room.parts().is_empty());
    }
}

#[test]
fn redirects_are_followed_but_not_forever() {
    let server = Server::start(|_, request| match request.path.as_str() {
        "/once/a" => Answer::new("302 Found", "").header("Location", "/elsewhere/b"),
        "/elsewhere/b" => Answer::ok("hello"),
        _ => Answer::new("302 Found", "").header("Location", "/circle"),
    });
    let room = Room::new();
    // The name is that of the URL that the user gave.
    assert_eq!(
        download(&room, &server.url("/once/a"), None).unwrap().name,
        "a"
    );
    let message = invalid(download(&room, &server.url("/circle"), None));
    assert!(
        message.contains("redirects more than 10 times"),
        "{message}"
    );
}

#[test]
fn only_the_network_is_asked() {
    let room = Room::new();
    for url in ["file:///etc/passwd", "/etc/passwd", "ftp://h/x", "x", ""] {
        let message = invalid(download(&room, url, None));
        assert!(
            message.contains("http://") || url.is_empty(),
            "{url}: {message}"
        );
    }
    let server = Server::start(|_, _| Answer::new("404 Not Found", ""));
    let message = invalid(download(&room, &server.url("/file"), None));
    assert!(message.contains("404"), "{message}");
}

#[test]
fn the_directory_may_be_on_another_file_system() {
    let data = noise(100_000);
    let file = data.clone();
    let server = Server::start(move |_, request| Answer::file(request, &file, "\"1\""));
    let room = Room::new();
    let url = server.url("/file");
    let userland = SystemUserland::new(room.cache());
    let mut sink = |_| ControlFlow::Continue(());
    let small = SmallDisk::new("64k");
    let result = userland.download(&url, None, small.path(), &mut sink);
    assert!(
        matches!(result, Err(UserlandError::NoSpace(_))),
        "{result:?}"
    );
    assert_eq!(names(small.path()), [""; 0]);
    let large = SmallDisk::new("1m");
    let got = userland
        .download(&url, None, large.path(), &mut sink)
        .unwrap();
    assert!(fs::read(&got.path).unwrap() == data);
    let mode = fs::metadata(&got.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(names(large.path()), ["file"]);
    assert!(room.parts().is_empty());
    // What was complete wasn't fetched again.
    assert_eq!(server.requests()[1].range(), Some(99_999));
}
