//! The method `fetch` over HTTP, with a server that breaks off, forgets and lies.

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
use std::net::TcpListener;
use std::ops::ControlFlow;

use common::{Room, SmallDisk, gzip, rootfs};
use kleene_doors::userland::{Extras, Source, Userland, UserlandError};
use kleene_userland::SystemUserland;
use server::{Answer, Server};

const TAG: &str = "\"version one\"";

#[test]
fn whole_files_in_one_go() {
    let file = gzip(&rootfs("hello\n"));
    let size = file.len() as u64;
    let server = Server::start(move |_, request| Answer::file(request, &file, TAG));
    let room = Room::new();
    let outcome = room.fetch(&server.url("/base.tar.gz"));
    assert_eq!(outcome.result.as_ref().unwrap().cmd, ["/bin/sh"]);
    assert_eq!(room.read("etc/motd"), "hello\n");
    assert_eq!(room.parts(), [""; 0].map(std::path::PathBuf::from));
    let downloaded: Vec<_> = outcome
        .told
        .iter()
        .filter(|progress| progress.step == "downloading")
        .collect();
    let last = downloaded.last().unwrap();
    assert_eq!((last.done, last.total), (size, Some(size)));
    let requests = server.requests();
    assert_eq!(
        (requests.len(), requests[0].path.as_str()),
        (1, "/base.tar.gz")
    );
    assert_eq!(requests[0].header("range"), None);
}

#[test]
fn a_broken_connection_is_resumed() {
    let file = gzip(&rootfs("hello\n"));
    let server = Server::start(move |number, request| {
        let answer = Answer::file(request, &file, TAG);
        if number == 0 {
            answer.cut_after(100_000)
        } else {
            answer
        }
    });
    let room = Room::new();
    let outcome = room.fetch(&server.url("/base.tgz"));
    outcome.result.as_ref().unwrap();
    assert_eq!(room.read("etc/motd"), "hello\n");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].range(), Some(100_000));
    assert_eq!(requests[1].header("if-range"), Some(TAG));
    assert!(
        outcome
            .steps()
            .iter()
            .any(|step| step.starts_with("trying again"))
    );
    assert!(room.parts().is_empty());
}

#[test]
fn the_next_call_goes_on_where_the_last_was_cancelled() {
    let file = gzip(&rootfs("hello\n"));
    let server = Server::start(move |number, request| {
        let answer = Answer::file(request, &file, TAG);
        if number == 0 {
            answer.cut_after(100_000)
        } else {
            answer
        }
    });
    let room = Room::new();
    let url = server.url("/base.tgz");
    let outcome = room.fetch_until(&url, |progress| progress.step.starts_with("trying again"));
    assert!(
        matches!(outcome.result, Err(UserlandError::Cancelled)),
        "{:?}",
        outcome.result
    );
    assert!(!room.parts().is_empty());
    room.fetch(&url).result.unwrap();
    assert_eq!(server.requests()[1].range(), Some(100_000));
    assert_eq!(room.read("etc/motd"), "hello\n");
    assert!(room.parts().is_empty());
}

#[test]
fn a_file_that_changes_meanwhile_is_begun_again() {
    let old = gzip(&rootfs("old\n"));
    let new = gzip(&rootfs("new, and longer\n"));
    let server = Server::start(move |number, request| match number {
        0 => Answer::file(request, &old, TAG).cut_after(100_000),
        _ => Answer::file(request, &new, "\"version two\""),
    });
    let room = Room::new();
    room.fetch(&server.url("/base.tgz")).result.unwrap();
    assert_eq!(room.read("etc/motd"), "new, and longer\n");
    assert_eq!(server.requests().len(), 2);
}

/// Servers that know ranges but not `If-Range` would mix two versions.
#[test]
fn a_part_of_another_version_is_not_taken() {
    let old = gzip(&rootfs("old\n"));
    let new = gzip(&rootfs("new\n"));
    assert_eq!(old.len(), new.len());
    let server = Server::start(move |number, request| {
        let file = if number == 0 { &old } else { &new };
        let answer = match request.range() {
            None => Answer::ok(file.as_slice()),
            Some(start) => Answer::new("206 Partial Content", &file[start..]).header(
                "Content-Range",
                &format!("bytes {start}-{}/{}", file.len() - 1, file.len()),
            ),
        };
        let tag = if number == 0 { TAG } else { "\"version two\"" };
        let answer = answer.header("ETag", tag);
        if number == 0 {
            answer.cut_after(100_000)
        } else {
            answer
        }
    });
    let room = Room::new();
    room.fetch(&server.url("/base.tgz")).result.unwrap();
    assert_eq!(room.read("etc/motd"), "new\n");
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(
        (requests[1].range(), requests[2].range()),
        (Some(100_000), None)
    );
}

#[test]
fn without_a_tag_or_date_the_file_is_begun_again() {
    let file = gzip(&rootfs("hello\n"));
    let server = Server::start(move |number, _| {
        let answer = Answer::ok(file.as_slice());
        if number == 0 {
            answer.cut_after(100_000)
        } else {
            answer
        }
    });
    let room = Room::new();
    room.fetch(&server.url("/base.tgz")).result.unwrap();
    assert_eq!(room.read("etc/motd"), "hello\n");
    let requests = server.requests();
    assert_eq!((requests.len(), requests[1].header("range")), (2, None));
}

/// Takes as long as the pauses between the tries: four seconds.
#[test]
fn a_server_that_always_breaks_off_is_given_up() {
    let file = gzip(&rootfs("hello\n"));
    let server = Server::start(move |_, request| Answer::file(request, &file, TAG).cut_after(1000));
    let room = Room::new();
    let url = server.url("/base.tgz");
    let message = room.fetch(&url).invalid();
    assert!(
        message.contains(&url) && message.contains("try again"),
        "{message}"
    );
    // Once, and again after each of three pauses; what has arrived is kept for the next call.
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(server::Request::range)
        .collect();
    assert_eq!(ranges, [None, Some(1000), Some(2000), Some(3000)]);
    assert!(message.contains("4000 bytes"), "{message}");
    assert_eq!(room.parts().len(), 2);
}

#[test]
fn chunked_answers() {
    let file = gzip(&rootfs("hello\n"));
    let server = Server::start(move |number, _| {
        let answer = Answer::ok(file.as_slice()).chunked();
        if number == 0 {
            answer.cut_after(100_000)
        } else {
            answer
        }
    });
    let room = Room::new();
    room.fetch(&server.url("/base.tgz")).result.unwrap();
    assert_eq!(room.read("etc/motd"), "hello\n");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn errors_name_status_and_url() {
    let server = Server::start(|_, _| Answer::new("404 Not Found", "<html>no such page"));
    let room = Room::new();
    let url = server.url("/missing.tar");
    let message = room.fetch(&url).invalid();
    assert!(
        message.contains("404 Not Found") && message.contains(&url),
        "{message}"
    );
    assert_eq!(server.requests().len(), 1, "asking again doesn't help");
    assert!(room.parts().is_empty());
}

#[test]
fn a_busy_server_is_asked_again() {
    let file = rootfs("hello\n");
    let server = Server::start(move |number, request| match number {
        0 => Answer::new("503 Service Unavailable", "later"),
        _ => Answer::file(request, &file, TAG),
    });
    let room = Room::new();
    room.fetch(&server.url("/base.tar")).result.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let file = rootfs("hello\n");
    let server = Server::start(move |_, request| match request.path.as_str() {
        "/latest" => Answer::new("302 Found", "").header("Location", "/v1/base.tar"),
        "/v1/base.tar" => Answer::file(request, &file, TAG),
        _ => Answer::new("302 Found", "").header("Location", "/loop"),
    });
    let room = Room::new();
    room.fetch(&server.url("/latest")).result.unwrap();
    assert_eq!(room.read("etc/motd"), "hello\n");
    let message = room.fetch(&server.url("/loop")).invalid();
    assert!(
        message.contains("redirects") && message.contains("/loop"),
        "{message}"
    );
    assert!(server.requests().len() < 20);
}

#[test]
fn web_pages_are_told_apart() {
    let page = "<!DOCTYPE html>\n<html><title>Sign in</title></html>";
    let server = Server::start(move |_, _| Answer::ok(page).header("ETag", TAG));
    let room = Room::new();
    let message = room.fetch(&server.url("/base.txz")).invalid();
    assert!(
        message.contains("HTML") && message.contains("/base.txz"),
        "{message}"
    );
    assert!(
        room.parts().is_empty(),
        "what is no archive must not be kept"
    );
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://me:secret@{address}/base.tar");
    let message = Room::new().fetch(&url).invalid();
    assert!(message.contains("refuses the connection"), "{message}");
    assert!(
        message.contains(&address.to_string()) && !message.contains("secret"),
        "{message}"
    );
}

/// A server that speaks no TLS.
#[test]
fn https_is_spoken_where_it_is_asked_for() {
    let server = Server::start(|_, _| Answer::ok("x"));
    let url = server.url("/base.tar").replace("http:", "https:");
    let message = Room::new().fetch(&url).invalid();
    assert!(message.contains("can't be downloaded"), "{message}");
    assert!(
        server.requests().is_empty(),
        "the request was sent unencrypted"
    );
}

#[test]
fn what_could_not_be_unpacked_need_not_be_downloaded_again() {
    let file = gzip(&rootfs("hello\n"));
    let size = file.len();
    let server = Server::start(move |_, request| Answer::file(request, &file, TAG));
    let room = Room::new();
    let url = server.url("/base.tgz");
    let disk = SmallDisk::new("256k");
    let mut sink = |_| ControlFlow::Continue(());
    let source = Source::Archive { url: url.clone() };
    let result =
        SystemUserland::new(room.cache()).fill(&source, Extras::default(), disk.path(), &mut sink);
    assert!(
        matches!(result, Err(UserlandError::NoSpace(_))),
        "{result:?}"
    );
    assert_eq!(room.parts().len(), 2);
    room.fetch(&url).result.unwrap();
    assert_eq!(room.read("etc/motd"), "hello\n");
    // The last byte only, to see that the file is still the same.
    assert_eq!(server.requests()[1].range(), Some(size - 1));
    assert!(room.parts().is_empty());
}

#[test]
fn a_full_cache_is_told_and_emptied() {
    let file = gzip(&rootfs("hello\n"));
    let server = Server::start(move |_, request| Answer::file(request, &file, TAG));
    let disk = SmallDisk::new("256k");
    let room = Room::new();
    fs::create_dir_all(room.root()).unwrap();
    let mut sink = |_| ControlFlow::Continue(());
    let source = Source::Archive {
        url: server.url("/base.tgz"),
    };
    let result = SystemUserland::new(disk.path().to_owned()).fill(
        &source,
        Extras::default(),
        &room.root(),
        &mut sink,
    );
    assert!(
        matches!(result, Err(UserlandError::NoSpace(_))),
        "{result:?}"
    );
    assert_eq!(
        fs::read_dir(disk.path().join("downloads")).unwrap().count(),
        0
    );
}
