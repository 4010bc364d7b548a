//! Images out of streams.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod common;

use std::error::Error;
use std::io::{self, Read};

use common::{Outcome, Room, archive, bzip2, entry, gzip, names, rootfs, xz, zstd};
use kleene_doors::userland::{Extras, Userland, UserlandError};
use kleene_userland::SystemUserland;
use tar::EntryType;

/// Gives its bytes in pieces of a few, as a network may, and fails where it is told to.
struct Pieces<'b> {
    bytes: &'b [u8],
    size: usize,
    interrupted: bool,
    fails: Option<io::ErrorKind>,
}

impl<'b> Pieces<'b> {
    fn new(bytes: &'b [u8], size: usize) -> Self {
        Self {
            bytes,
            size,
            interrupted: false,
            fails: None,
        }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let Some(kind) = self.fails.filter(|_| self.bytes.is_empty()) {
            return Err(kind.into());
        }
        let limit = into.len().min(self.size);
        self.bytes.read(&mut into[..limit])
    }
}

fn fill(room: &Room, from: &mut dyn Read) -> Outcome {
    let userland = SystemUserland::new(room.cache());
    room.fill(|root, sink| userland.fill_from(from, Extras::default(), root, sink))
}

#[test]
fn every_compression() {
    let tar = rootfs("hello\n");
    for (bytes, name) in [
        (tar.clone(), "plain"),
        (gzip(&tar), "gzip"),
        (bzip2(&tar), "bzip2"),
        (xz(&tar), "xz"),
        (zstd(&tar), "zstd"),
    ] {
        for size in [7, 1 << 20] {
            let room = Room::new();
            let outcome = fill(&room, &mut Pieces::new(&bytes, size));
            assert_eq!(outcome.result.unwrap().cmd, ["/bin/sh"], "{name} {size}");
            assert_eq!(room.read("etc/motd"), "hello\n");
            let last = outcome.told.last().unwrap();
            assert_eq!(last.total, None);
            assert!(last.done as usize <= bytes.len() && last.done > 0);
            assert!(!room.cache().exists());
        }
    }
}

#[test]
fn the_rules_are_those_of_other_archives() {
    let hostile = archive(&[entry(EntryType::Regular, "../x", "", b"")]);
    let tar = rootfs("x");
    for (bytes, part) in [
        (hostile, "the archive can't be used"),
        (Vec::new(), "the archive"),
        (b"PK\x03\x04 and so on".to_vec(), "a zip archive"),
        (tar[..5000].to_vec(), "the archive is incomplete"),
        (gzip(&tar)[..50_000].to_vec(), "the archive is incomplete"),
        (gzip(&gzip(&tar)), "compressed twice"),
    ] {
        let room = Room::new();
        let message = fill(&room, &mut &bytes[..]).invalid();
        assert!(message.contains(part), "{part}: {message}");
    }
    let mut damaged = gzip(&tar);
    damaged[20_000] ^= 1;
    let message = fill(&Room::new(), &mut &damaged[..]).invalid();
    assert!(message.contains("the archive is damaged"), "{message}");
    let devices = archive(&[
        entry(EntryType::Char, "dev/null", "", b""),
        entry(EntryType::Regular, "etc/motd", "", b"x"),
    ]);
    let room = Room::new();
    let outcome = fill(&room, &mut &devices[..]);
    assert!(outcome.steps().contains(&"leaving out 1 device nodes"));
    assert_eq!(names(&room.root()), ["etc"]);
}

#[test]
fn a_stream_that_fails_is_not_the_archives_fault() {
    let tar = gzip(&rootfs("x"));
    for end in [0, 5, 10_000] {
        let mut from = Pieces::new(&tar[..end], 4096);
        from.fails = Some(io::ErrorKind::ConnectionReset);
        let error = fill(&Room::new(), &mut from).result.unwrap_err();
        assert!(matches!(error, UserlandError::Failed { .. }), "{error:?}");
        assert_eq!(error.to_string(), "reading the archive failed");
        let source = error.source().unwrap().to_string();
        assert!(source.contains("reset"), "{source}");
    }
}

#[test]
fn break_cancels() {
    let tar = rootfs("x");
    let userland = SystemUserland::new(Room::new().cache());
    let outcome = Room::new().fill_until(
        |progress| progress.done > 0,
        |root, sink| userland.fill_from(&mut &tar[..], Extras::default(), root, sink),
    );
    assert!(matches!(outcome.result, Err(UserlandError::Cancelled)));
}
