//! Unpacking archives: honest ones completely, hostile ones not at all.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::fs;
use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use common::{Dir, scratch, xattrs};
use kleene_tree::{TreeError, UnpackOptions, Unpacked, unpack_tar};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

struct Room {
    scratch: TempDir,
    root: Dir,
}

fn room() -> Room {
    let scratch = scratch();
    let root = Dir::new(&scratch, "root");
    Room { scratch, root }
}

impl Room {
    fn unpack_with(&self, archive: &[u8], options: &UnpackOptions) -> Result<Unpacked, TreeError> {
        let mut progress = |_| ControlFlow::Continue(());
        unpack_tar(
            &mut Cursor::new(archive),
            self.root.fd(),
            options,
            &mut progress,
        )
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, TreeError> {
        self.unpack_with(archive, &UnpackOptions::default())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }
}

/// A header whose name is written as it is, without the checks of the builder.
fn header(kind: EntryType, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name);
    bytes[157..157 + link.len()].copy_from_slice(link);
    header.set_cksum();
    header
}

fn entry(kind: EntryType, name: &str, link: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, name.as_bytes(), link.as_bytes(), data.len() as u64)
        .as_bytes()
        .to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, data: &str) -> Vec<u8> {
    entry(EntryType::Regular, name, "", data.as_bytes())
}

fn dir(name: &str) -> Vec<u8> {
    entry(EntryType::Directory, name, "", b"")
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Symlink, name, target, b"")
}

fn hard(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Link, name, target, b"")
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length += 1;
        }
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    entry(EntryType::XHeader, "pax", "", &data)
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

#[track_caller]
fn assert_hostile(entries: &[Vec<u8>]) {
    let room = room();
    let outside = Dir::new(&room.scratch, "outside");
    fs::write(outside.join("file"), "untouched").unwrap();
    let result = room.unpack(&archive(entries));
    assert!(
        matches!(result, Err(TreeError::Hostile { .. })),
        "{result:?}"
    );
    assert_eq!(
        fs::read_to_string(outside.join("file")).unwrap(),
        "untouched"
    );
    assert_eq!(fs::read_dir(&outside.path).unwrap().count(), 1);
    assert_eq!(fs::read_dir(room.scratch.path()).unwrap().count(), 2);
}

#[test]
fn unpacks_every_type_with_its_attributes() {
    let room = room();
    let mut builder = Builder::new(Vec::new());
    let mut add = |kind, name: &str, mode, target: &str, data: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(3_000_000);
        header.set_gid(1001);
        header.set_mtime(1_234_567_890);
        header.set_size(data.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        if target.is_empty() {
            header.set_cksum();
            builder.append_data(&mut header, name, data).unwrap();
        } else {
            builder.append_link(&mut header, name, target).unwrap();
        }
    };
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    add(EntryType::Directory, "dir", 0o2750, "", b"");
    add(EntryType::Regular, "dir/setuid", 0o4755, "", b"program");
    add(EntryType::Link, "hard", 0o4755, "dir/setuid", b"");
    add(EntryType::Symlink, "soft", 0o777, "/etc/passwd", b"");
    add(
        EntryType::Symlink,
        "long-link",
        0o777,
        &"t/".repeat(300),
        b"",
    );
    add(EntryType::Char, "null", 0o666, "", b"");
    add(EntryType::Fifo, "fifo", 0o600, "", b"");
    add(EntryType::Regular, &long, 0o600, "", &vec![b'x'; 300_000]);
    let bytes = builder.into_inner().unwrap();
    let options = UnpackOptions {
        devices: true,
        ..Default::default()
    };
    let unpacked = room.unpack_with(&bytes, &options).unwrap();
    assert_eq!((unpacked.entries, unpacked.bytes), (8, 300_007));

    let meta = |name: &str| fs::symlink_metadata(room.root.join(name)).unwrap();
    for name in ["dir", "dir/setuid", "soft", "null", "fifo", &long] {
        let meta = meta(name);
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mtime()),
            (3_000_000, 1001, 1_234_567_890)
        );
    }
    assert_eq!(meta("dir").mode() & 0o7777, 0o2750);
    assert_eq!(meta("dir/setuid").mode() & 0o7777, 0o4755);
    assert_eq!(meta("dir/setuid").ino(), meta("hard").ino());
    assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(
        fs::read_link(room.root.join("soft")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(
        fs::read_link(room.root.join("long-link")).unwrap(),
        Path::new(&"t/".repeat(300))
    );
    assert_eq!(room.read(&long).len(), 300_000);
    // A parent that the archive doesn't have.
    assert_eq!(meta(&"d".repeat(200)).mode() & 0o7777, 0o755);
}

#[test]
fn unpacks_pax_records() {
    let room = room();
    let long = "p/".repeat(120) + "file\nwith newline";
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let entries = [
        entry(
            EntryType::XGlobalHeader,
            "global",
            "",
            b"20 comment=whatever\n",
        ),
        pax(&[
            ("path", long.as_bytes()),
            ("uid", b"4000000"),
            ("gid", b"7"),
            ("mtime", b"-1.5"),
            ("atime", b"1000.000000001"),
            ("size", b"5"),
            ("SCHILY.xattr.user.binary", b"\0=\n\xff"),
            ("SCHILY.xattr.security.capability", capability),
        ]),
        {
            // The header's own size is another one: the record wins.
            let mut bytes = header(EntryType::Regular, b"short", b"", 0)
                .as_bytes()
                .to_vec();
            bytes.extend_from_slice(b"hello");
            bytes.resize(1024, 0);
            bytes
        },
        pax(&[("linkpath", "l".repeat(300).as_bytes())]),
        link("link", "short"),
        file("after", "x"),
    ];
    let unpacked = room.unpack(&archive(&entries)).unwrap();
    assert_eq!(unpacked.entries, 3);
    let meta = fs::metadata(room.root.join(&long)).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.len()), (4_000_000, 7, 5));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 500_000_000));
    assert_eq!((meta.atime(), meta.atime_nsec()), (1000, 1));
    let found = xattrs(&room.root.join(&long));
    assert_eq!(found[std::ffi::OsStr::new("user.binary")], b"\0=\n\xff");
    assert_eq!(
        found[std::ffi::OsStr::new("security.capability")],
        capability
    );
    let target = fs::read_link(room.root.join("link")).unwrap();
    assert_eq!(target, Path::new(&"l".repeat(300)));
}

#[test]
fn unpacks_sparse_files_in_all_formats() {
    let data = [vec![b'a'; 512], vec![b'b'; 100]].concat();
    let sizes: &[(&str, &[u8])] = &[("GNU.sparse.size", b"1000000")];
    let version_1_0 = {
        let mut content = b"2\n0\n512\n900000\n100\n".to_vec();
        content.resize(512, 0);
        content.extend_from_slice(&data);
        let records: &[(&str, &[u8])] = &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"1000000"),
        ];
        [
            pax(records),
            entry(EntryType::Regular, "GNUSparseFile.0/sparse", "", &content),
        ]
        .concat()
    };
    let version_0_1 = {
        let map: &[(&str, &[u8])] = &[("GNU.sparse.map", b"0,512,900000,100")];
        [
            pax(&[sizes, map].concat()),
            entry(EntryType::Regular, "sparse", "", &data),
        ]
        .concat()
    };
    let version_0_0 = {
        let map: &[(&str, &[u8])] = &[
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"512"),
            ("GNU.sparse.offset", b"900000"),
            ("GNU.sparse.numbytes", b"100"),
        ];
        [
            pax(&[sizes, map].concat()),
            entry(EntryType::Regular, "sparse", "", &data),
        ]
        .concat()
    };
    for bytes in [
        version_1_0,
        version_0_1,
        version_0_0,
        gnu_sparse(1_000_000, &data),
    ] {
        let room = room();
        room.unpack(&archive(&[bytes, file("after", "x")])).unwrap();
        let content = fs::read(room.root.join("sparse")).unwrap();
        assert_eq!(content.len(), 1_000_000);
        assert_eq!(&content[..513], [vec![b'a'; 512], vec![0]].concat());
        assert_eq!(
            &content[899_999..900_101],
            [vec![0], vec![b'b'; 100], vec![0]].concat()
        );
        assert!(fs::metadata(room.root.join("sparse")).unwrap().blocks() < 100);
        assert_eq!(room.read("after"), "x");
    }
}

/// GNU's old format, with part of the map in a second block.
fn gnu_sparse(real_size: u64, data: &[u8]) -> Vec<u8> {
    let octal = |value: u64| format!("{value:011o}\0").into_bytes()[..12].to_vec();
    let mut header = header(EntryType::GNUSparse, b"sparse", b"", data.len() as u64);
    let bytes = header.as_mut_bytes();
    let first = [octal(0), octal(512)].concat();
    bytes[386..386 + 24].copy_from_slice(&first);
    bytes[482] = 1;
    bytes[483..495].copy_from_slice(&octal(real_size));
    header.set_cksum();
    let mut more = [octal(900_000), octal(100), octal(real_size), octal(0)].concat();
    more.resize(512, 0);
    let mut all = [header.as_bytes().to_vec(), more, data.to_vec()].concat();
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

#[test]
fn links_of_the_archive_work_as_in_the_finished_tree() {
    let room = room();
    let entries = [
        dir("usr/bin"),
        link("bin", "usr/bin"),
        file("bin/sh", "shell"),
        // A place that no host has: a regression mustn't harm the machine that finds it.
        link("sbin", "/no-such-place/sbin"),
        file("sbin/init", "init"),
        dir("bin/"),
        hard("bin/bash", "bin/sh"),
        dir("./"),
        file("./dotted", "d"),
    ];
    room.unpack(&archive(&entries)).unwrap();
    assert_eq!(room.read("usr/bin/sh"), "shell");
    assert_eq!(room.read("usr/bin/bash"), "shell");
    assert_eq!(room.read("no-such-place/sbin/init"), "init");
    assert_eq!(room.read("dotted"), "d");
    assert!(room.root.join("bin").is_symlink());
}

#[test]
fn links_never_lead_out() {
    let room = room();
    let outside = Dir::new(&room.scratch, "outside");
    fs::write(outside.join("file"), "untouched").unwrap();
    let absolute = outside.path.to_str().unwrap();
    let entries = [
        link("absolute", absolute),
        file("absolute/file", "inside"),
        link("up", "../outside"),
        file("up/file", "inside"),
        // Through a link that was there before, and over one that is a file's name.
        file("before/file", "inside"),
        link("name", "../outside/file"),
        file("name", "replaced"),
    ];
    symlink("../outside", room.root.join("before")).unwrap();
    room.unpack(&archive(&entries)).unwrap();
    assert_eq!(
        fs::read_to_string(outside.join("file")).unwrap(),
        "untouched"
    );
    assert_eq!(fs::read_dir(&outside.path).unwrap().count(), 1);
    assert_eq!(room.read("outside/file"), "inside");
    assert_eq!(room.read("name"), "replaced");
    assert_eq!(room.read(&format!("{}/file", &absolute[1..])), "inside");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let room = room();
    fs::write(room.scratch.path().join("precious"), "kept").unwrap();
    fs::hard_link(
        room.scratch.path().join("precious"),
        room.root.join("shared"),
    )
    .unwrap();
    let entries = [
        file("a", "first"),
        file("a", "second"),
        file("b", "file"),
        dir("b"),
        dir("c"),
        file("c", "file"),
        dir("d"),
        file("d/kept", "x"),
        dir("d"),
        link("e", "nowhere"),
        dir("e"),
        file("shared", "replaced"),
        hard("a", "a"),
    ];
    room.unpack(&archive(&entries)).unwrap();
    assert_eq!(room.read("a"), "second");
    assert!(room.root.join("b").is_dir());
    assert_eq!(room.read("c"), "file");
    assert_eq!(room.read("d/kept"), "x");
    assert!(room.root.join("e").is_dir() && !room.root.join("e").is_symlink());
    assert_eq!(
        fs::read_to_string(room.scratch.path().join("precious")).unwrap(),
        "kept"
    );
    let full = archive(&[file("d", "over a directory with entries")]);
    assert!(matches!(room.unpack(&full), Err(TreeError::Exists { .. })));
}

#[test]
fn directories_get_their_times_at_the_end() {
    let room = room();
    let entries = [
        dir("a"),
        dir("a/b"),
        file("a/b/c", "x"),
        dir("./"),
        file("a/late", "x"),
    ];
    room.unpack(&archive(&entries)).unwrap();
    for name in ["a", "a/b", ""] {
        assert_eq!(
            fs::metadata(room.root.join(name)).unwrap().mtime(),
            1_000_000_000,
            "{name}"
        );
    }
}

#[test]
fn hostile_names_and_links_are_refused() {
    assert_hostile(&[file("/absolute", "x")]);
    assert_hostile(&[file("../outside/file", "x")]);
    assert_hostile(&[file("a/../../outside/file", "x")]);
    assert_hostile(&[file("a/..", "x")]);
    assert_hostile(&[file("", "x")]);
    assert_hostile(&[file(".", "the root")]);
    assert_hostile(&[hard("h", "../outside/file")]);
    assert_hostile(&[hard("h", "/etc/passwd")]);
    assert_hostile(&[hard("h", "missing")]);
    assert_hostile(&[hard("h", "missing/too")]);
    assert_hostile(&[link("l", "../outside/file"), hard("h", "l")]);
    assert_hostile(&[link("l", "../outside"), hard("h", "l/file")]);
    assert_hostile(&[dir("d"), hard("h", "d")]);
    assert_hostile(&[link("l", "")]);
    assert_hostile(&[file("f", "x"), file("f/below", "x")]);
    assert_hostile(&[link("l", "l"), file("l/below", "x")]);
    assert_hostile(&[pax(&[("path", b"../outside/file")]), file("innocent", "x")]);
    assert_hostile(&[pax(&[("path", b"a\0b")]), file("innocent", "x")]);
    assert_hostile(&[
        pax(&[("linkpath", b"../outside/file")]),
        hard("h", "innocent"),
    ]);
    assert_hostile(&[
        entry(EntryType::GNULongName, "L", "", b"/etc/x\0"),
        file("innocent", "x"),
    ]);
}

#[test]
fn hostile_types_and_sizes_are_refused() {
    assert_hostile(&[entry(EntryType::Char, "null", "", b"")]);
    assert_hostile(&[entry(EntryType::Block, "disk", "", b"")]);
    assert_hostile(&[entry(EntryType::new(b'V'), "volume", "", b"")]);
    assert_hostile(&[entry(EntryType::new(b'Z'), "unknown", "", b"")]);
    assert_hostile(&[
        pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]),
        dir("d"),
    ]);
    assert_hostile(&[pax(&[("size", b"-1")]), file("f", "x")]);
    assert_hostile(&[pax(&[("size", b"18446744073709551615")]), file("f", "x")]);
    assert_hostile(&[pax(&[("uid", b"4294967295")]), file("f", "x")]);
    assert_hostile(&[pax(&[("uid", b"99999999999")]), file("f", "x")]);
    assert_hostile(&[pax(&[]), pax(&[("uid", b"1")]), file("f", "x")]);
    assert_hostile(&[
        entry(EntryType::XHeader, "pax", "", b"99 path=x\n"),
        file("f", "x"),
    ]);
    assert_hostile(&[
        entry(EntryType::XGlobalHeader, "g", "", b"10 path=x\n"),
        file("f", "x"),
    ]);
    // An extended header that would take all memory.
    let huge = header(EntryType::XHeader, b"pax", b"", 1 << 40)
        .as_bytes()
        .to_vec();
    assert_hostile(&[huge]);
    let huge = header(EntryType::GNULongName, b"L", b"", 1 << 32)
        .as_bytes()
        .to_vec();
    assert_hostile(&[huge]);
    // Negative and overlong binary sizes.
    for size in [
        [0xff; 12],
        [
            0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
    ] {
        let mut header = header(EntryType::Regular, b"f", b"", 0);
        header.as_mut_bytes()[124..136].copy_from_slice(&size);
        header.set_cksum();
        assert_hostile(&[header.as_bytes().to_vec()]);
    }
    // Something between the two blocks of zeros, and garbage in place of a header.
    assert_hostile(&[vec![0; 512], file("hidden", "x")]);
    assert_hostile(&[file("f", "x"), vec![b'x'; 512]]);
}

#[test]
fn device_nodes_can_be_left_out() {
    let room = room();
    let node = |kind, name| entry(kind, name, "", b"");
    let entries = [
        node(EntryType::Char, "dev/null"),
        node(EntryType::Block, "sda"),
        file("after", "x"),
    ];
    let options = UnpackOptions {
        skip_devices: true,
        ..Default::default()
    };
    let unpacked = room.unpack_with(&archive(&entries), &options).unwrap();
    assert_eq!(unpacked.skipped_devices, 2);
    assert_eq!(room.read("after"), "x");
    assert!(!room.root.join("sda").exists() && !room.root.join("dev/null").exists());
}

#[test]
fn sparse_bombs_are_refused() {
    let data = [vec![b'a'; 512], vec![b'b'; 100]].concat();
    assert_hostile(&[gnu_sparse(10 << 30, &data)]);
    let bomb: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"10737418240"),
    ];
    let mut empty_map = b"0\n".to_vec();
    empty_map.resize(512, 0);
    assert_hostile(&[pax(bomb), entry(EntryType::Regular, "f", "", &empty_map)]);
    // Maps that claim more pieces than there are, that overlap, or that leave the file.
    for map in [
        "9999999999\n",
        "2\n0\n",
        "1\n0\n600\n",
        "2\n100\n50\n0\n50\n",
        "1\n-5\n5\n",
        "x\n",
    ] {
        let mut content = map.as_bytes().to_vec();
        content.resize(512, 0);
        content.extend_from_slice(&[b'd'; 100]);
        assert_hostile(&[pax(bomb), entry(EntryType::Regular, "f", "", &content)]);
    }
    let room = room();
    let generous = UnpackOptions {
        max_holes: u64::MAX,
        ..Default::default()
    };
    room.unpack_with(&archive(&[gnu_sparse(10 << 30, &data)]), &generous)
        .unwrap();
    assert_eq!(
        fs::metadata(room.root.join("sparse")).unwrap().len(),
        10 << 30
    );
}

#[test]
fn limits_hold() {
    let entries = [file("a", "12345"), file("b", "67890")];
    let with = |options| room().unpack_with(&archive(&entries), &options);
    let default = UnpackOptions::default;
    with(UnpackOptions {
        max_bytes: Some(10),
        ..default()
    })
    .unwrap();
    with(UnpackOptions {
        max_entries: Some(2),
        max_apparent: Some(5),
        ..default()
    })
    .unwrap();
    for options in [
        UnpackOptions {
            max_bytes: Some(9),
            ..default()
        },
        UnpackOptions {
            max_entries: Some(1),
            ..default()
        },
        UnpackOptions {
            max_apparent: Some(4),
            ..default()
        },
    ] {
        assert!(matches!(with(options), Err(TreeError::Hostile { .. })));
    }
}

#[test]
fn archives_cut_anywhere_are_truncated() {
    let whole = archive(&[
        pax(&[("mtime", b"5")]),
        file("a", "some content"),
        entry(EntryType::GNULongName, "L", "", &[b'n'; 150]),
        file("b", &"x".repeat(700)),
    ]);
    let end = whole.len() - 1024;
    for length in (512..end + 512).step_by(64) {
        let result = room().unpack(&whole[..length]);
        assert!(
            matches!(result, Err(TreeError::Truncated { .. })),
            "{length}: {result:?}"
        );
    }
    // Without the end mark it takes the caller's word; a cut entry stays a cut entry.
    let trusting = UnpackOptions {
        end_mark: false,
        ..Default::default()
    };
    assert_eq!(
        room()
            .unpack_with(&whole[..end], &trusting)
            .unwrap()
            .entries,
        2
    );
    for cut in [1, 300, 600, 1000] {
        let result = room().unpack_with(&whole[..end - cut], &trusting);
        assert!(
            matches!(result, Err(TreeError::Truncated { .. })),
            "{cut}: {result:?}"
        );
    }
    // What a decompressor says about a stream that is cut.
    struct Cut;
    impl Read for Cut {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }
    let room = room();
    let mut stream = Cursor::new(&whole[..1600]).chain(Cut);
    let result = unpack_tar(
        &mut stream,
        room.root.fd(),
        &UnpackOptions::default(),
        &mut |_| ControlFlow::Continue(()),
    );
    assert!(
        matches!(result, Err(TreeError::Truncated { .. })),
        "{result:?}"
    );
}

#[test]
fn other_streams_are_not_archives() {
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &[0; 1000]].concat();
    for stream in [&b""[..], b"hello", &vec![b'x'; 5000], &gzip] {
        let result = room().unpack(stream);
        assert!(
            matches!(result, Err(TreeError::NotAnArchive { .. })),
            "{result:?}"
        );
    }
    assert!(
        room()
            .unpack(&gzip)
            .unwrap_err()
            .to_string()
            .contains("gzip")
    );
    assert_eq!(room().unpack(&[0; 10240]).unwrap(), Unpacked::default());
}

#[test]
fn can_be_cancelled_within_a_file() {
    let room = room();
    let bytes = archive(&[file("large", &"x".repeat(3 << 20))]);
    let mut progress = |read| {
        if read > 1 << 20 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let mut stream = Cursor::new(bytes);
    let result = unpack_tar(
        &mut stream,
        room.root.fd(),
        &UnpackOptions::default(),
        &mut progress,
    );
    assert!(matches!(result, Err(TreeError::Cancelled)));
    assert!(stream.position() < 2 << 20);
}

#[test]
fn survives_every_single_byte_of_damage() {
    let whole = archive(&[
        pax(&[("path", b"p/q"), ("size", b"5")]),
        file("a", "12345"),
        gnu_sparse(1_000_000, &[b'a'; 612]),
        hard("h", "p/q"),
    ]);
    for position in 0..whole.len() - 1024 {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x55;
        // Any outcome but a panic or an escape.
        let room = room();
        let _ = room.unpack(&damaged);
        assert_eq!(
            fs::read_dir(room.scratch.path()).unwrap().count(),
            1,
            "at {position}"
        );
    }
}
