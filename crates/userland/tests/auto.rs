//! The method `fetch-auto` on a FreeBSD that is made up, with a server that is scripted.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod common;
#[path = "common/server.rs"]
mod server;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{Outcome, Room, archive, entry, names, rootfs, xz};
use kleene_command::{Answer as Reply, Scripted};
use kleene_doors::userland::{Extras, Progress, Source, Userland, UserlandError};
use kleene_userland::{Host, SystemUserland};
use server::{Answer, Server};
use tar::EntryType;

const DIR: &str = "/pub/releases/arm64/aarch64/14.2-RELEASE";

const UPDATE: Extras = Extras {
    resolv_conf: false,
    localtime: false,
    update: true,
};

fn host(system: &str, release: &str, machine: &str) -> Host {
    Host {
        system: system.into(),
        release: release.into(),
        machine: machine.into(),
        root: "/nonexistent".into(),
    }
}

fn freebsd() -> Host {
    host("FreeBSD", "14.2-RELEASE-p1", "arm64")
}

fn sha256(data: &[u8]) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, data);
    sum.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Lines as FreeBSD's own have them; `base.txz` isn't the first.
fn manifest(sum: &str) -> String {
    let line = |name: &str, sum: &str| format!("{name}.txz\t{sum}\t9\t{name}\t\"x y\"\ton\n");
    [
        line("base-dbg", &"0".repeat(64)),
        line("base", sum),
        line("src", &"1".repeat(64)),
    ]
    .concat()
}

/// A mirror with one release.
fn mirror(manifest: String, base: Vec<u8>) -> Server {
    Server::start(move |_, request| match request.path.strip_prefix(DIR) {
        Some("/MANIFEST") => Answer::ok(manifest.clone()),
        Some("/base.txz") => Answer::file(request, &base, "\"1\""),
        _ => Answer::new("404 Not Found", "gone"),
    })
}

fn fill(room: &Room, userland: SystemUserland, extras: Extras) -> Outcome {
    room.fill(|root, sink| userland.fill(&Source::Auto, extras, root, sink))
}

fn userland(room: &Room, server: &Server) -> SystemUserland {
    SystemUserland::new(room.cache())
        .host(freebsd())
        // A slash at its end makes no difference.
        .freebsd_mirror(server.url("/pub/"))
        .runner(Arc::new(Scripted::new()))
}

#[test]
fn the_release_that_the_host_runs() {
    let base = xz(&rootfs("FreeBSD\n"));
    let server = mirror(manifest(&sha256(&base)), base);
    let room = Room::new();
    let userland = userland(&room, &server);
    let release = userland.release().unwrap();
    assert_eq!(
        (release.name.as_str(), release.registry_reference),
        ("FreeBSD-14.2", None)
    );
    assert!(release.can_fill);
    let outcome = fill(&room, userland, Extras::default());
    let defaults = outcome.result.as_ref().unwrap();
    assert_eq!(defaults.name.as_deref(), Some("FreeBSD-14.2"));
    assert_eq!(defaults.cmd, ["/bin/sh", "/etc/rc"]);
    assert_eq!(defaults.env[0].name(), "PATH");
    assert_eq!(room.read("etc/motd"), "FreeBSD\n");
    let paths: Vec<String> = server.requests().into_iter().map(|it| it.path).collect();
    assert_eq!(
        paths,
        [format!("{DIR}/MANIFEST"), format!("{DIR}/base.txz")]
    );
    assert!(room.parts().is_empty());
}

#[test]
fn nothing_is_unpacked_of_another_archive() {
    let base = xz(&rootfs("tampered with\n"));
    let wanted = sha256(b"something else");
    let server = mirror(manifest(&wanted), base.clone());
    let room = Room::new();
    let message = fill(&room, userland(&room, &server), Extras::default()).invalid();
    assert!(
        message.contains(&wanted) && message.contains(&sha256(&base)),
        "{message}"
    );
    assert_eq!(names(&room.root()), [""; 0]);
    assert!(room.parts().is_empty());
}

#[test]
fn bad_manifests_are_told() {
    for (text, part) in [
        ("<html>moved</html>".to_owned(), "isn't the manifest"),
        (manifest("abc"), "isn't the manifest"),
        ("x".repeat(2 << 20), "larger than"),
    ] {
        let server = mirror(text, Vec::new());
        let room = Room::new();
        let message = fill(&room, userland(&room, &server), Extras::default()).invalid();
        assert!(
            message.contains("MANIFEST") && message.contains(part),
            "{message}"
        );
        assert_eq!(server.requests().len(), 1);
        assert!(room.parts().is_empty());
    }
}

#[test]
fn old_releases_are_elsewhere() {
    let server = Server::start(|_, _| Answer::new("404 Not Found", ""));
    let room = Room::new();
    let message = fill(&room, userland(&room, &server), Extras::default()).invalid();
    assert!(
        message.contains("404")
            && message.contains("/old-releases/arm64/aarch64/14.2-RELEASE/base.txz"),
        "{message}"
    );
}

#[test]
fn snapshots_have_no_archive_that_stays() {
    for release in ["15.0-CURRENT", "14.2-STABLE", "14.3-PRERELEASE"] {
        let room = Room::new();
        // A request would fail otherwise than expected.
        let userland = SystemUserland::new(room.cache())
            .host(host("FreeBSD", release, "amd64"))
            .freebsd_mirror("http://127.0.0.1:9");
        assert!(!userland.release().unwrap().can_fill);
        let message = unsupported(fill(&room, userland, Extras::default()));
        for part in [release, "'fetch'", "'host'", "registry"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

fn unsupported(outcome: Outcome) -> String {
    match outcome.result {
        Err(UserlandError::Unsupported(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// A tiny FreeBSD, as far as updates look at it.
fn release_14_1() -> Vec<u8> {
    let script = b"#!/bin/sh\nUSERLAND_VERSION=\"14.1-RELEASE-p3\"\n";
    xz(&archive(&[
        entry(EntryType::Directory, "./", "", b""),
        entry(EntryType::Regular, "bin/freebsd-version", "", script),
    ]))
}

/// Fills with updates, whose program answers so.
fn update(reply: Reply, stop: impl FnMut(&Progress) -> bool) -> Outcome {
    let base = release_14_1();
    let server = mirror(manifest(&sha256(&base)), base);
    let room = Room::new();
    let (root, work) = (room.root(), room.cache().join("freebsd-update/new"));
    let words = [
        "freebsd-update",
        "-b",
        root.to_str().unwrap(),
        "-d",
        work.to_str().unwrap(),
        "--currently-running",
        // The image's release, whatever the host runs.
        "14.1-RELEASE-p3",
        "--not-running-from-cron",
        "fetch",
        "install",
    ];
    let runner = Arc::new(Scripted::new().expect(&words, reply));
    let userland = userland(&room, &server).runner(Arc::clone(&runner) as _);
    let outcome = room.fill_until(stop, |root, sink| {
        userland.fill(&Source::Auto, UPDATE, root, sink)
    });
    runner.finish().unwrap();
    assert!(!work.exists());
    outcome
}

/// freebsd-update(8) would follow links in the tree, to the host's files.
#[test]
fn images_that_cant_be_updated_safely_are_refused() {
    let script = b"USERLAND_VERSION=\"14.2-RELEASE\"\n";
    let version = entry(EntryType::Regular, "bin/freebsd-version", "", script);
    let link = entry(EntryType::Symlink, "etc", "/etc", b"");
    for (entries, part) in [
        (vec![version, link], "'/etc'"),
        (
            vec![entry(EntryType::Regular, "x", "", b"")],
            "bin/freebsd-version",
        ),
    ] {
        let room = Room::new();
        let file = room.file("base.tar", &archive(&entries));
        let source = Source::Archive {
            url: format!("file://{}", file.display()),
        };
        // Nothing is started.
        let userland = SystemUserland::new(room.cache())
            .host(freebsd())
            .runner(Arc::new(Scripted::new()));
        let outcome = room.fill(|root, sink| userland.fill(&source, UPDATE, root, sink));
        let message = outcome.invalid();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn updates_are_installed() {
    let outcome = update(
        Reply::ok("Fetching 2 patches..... done.\nInstalling updates...\n"),
        |_| false,
    );
    assert_eq!(outcome.steps().last(), Some(&"Installing updates..."));
    outcome.result.unwrap();
    // An image that is up to date is none to complain about.
    let none = "No updates needed.\nNo updates are available to install.\n";
    update(Reply::fail(1, none), |_| false).result.unwrap();
    let failed = update(Reply::fail(1, "No mirrors remaining, giving up.\n"), |_| {
        false
    });
    let error = failed.result.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("No mirrors remaining"), "{source}");
    let cancelled = update(Reply::ok("Fetching\nInstalling\n"), |progress| {
        progress.step == "Fetching"
    });
    assert!(matches!(cancelled.result, Err(UserlandError::Cancelled)));
}

#[test]
fn updates_that_cant_be_are_refused_first() {
    let room = Room::new();
    let linux = SystemUserland::new(room.cache()).host(host("Linux", "6.12.9", "x86_64"));
    let outcome = fill(&room, linux.clone(), UPDATE);
    assert!(outcome.told.is_empty());
    assert!(unsupported(outcome).contains("'update'"));
    let from = |root: &std::path::Path, sink: kleene_doors::userland::ProgressSink<'_>| {
        linux.fill_from(&mut &b""[..], UPDATE, root, sink)
    };
    assert!(unsupported(room.fill(from)).contains("'update'"));
    let bsd = SystemUserland::new(room.cache()).host(freebsd());
    let own = Source::Host { add: Vec::new() };
    let message = room
        .fill(|root, sink| bsd.fill(&own, UPDATE, root, sink))
        .invalid();
    assert!(message.contains("'host'"), "{message}");
}

#[test]
fn others_are_told_what_to_use() {
    let room = Room::new();
    for system in ["Linux", "NetBSD"] {
        let userland = SystemUserland::new(room.cache()).host(host(system, "6.12.9", "x86_64"));
        let release = userland.release();
        assert!(
            matches!(&release, Err(UserlandError::Unsupported(message)) if message.contains("'fetch'"))
        );
        let message = unsupported(fill(&room, userland, Extras::default()));
        assert!(
            message.contains(system) && message.contains("'host'"),
            "{message}"
        );
    }
    // FreeBSD has its archive, and no packages of its base system.
    let userland = SystemUserland::new(room.cache()).host(freebsd());
    let mut sink = |_| ControlFlow::Continue(());
    let result = userland.fill(
        &Source::Bootstrap,
        Extras::default(),
        &room.root(),
        &mut sink,
    );
    assert!(
        matches!(result, Err(UserlandError::Unsupported(_))),
        "{result:?}"
    );
}
