//! Archives as they should be.

use super::archive::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

use crate::common::{Dir, LINUX, xattrs};
use kleene_tree::{TreeError, UnpackOptions};
use tar::{Builder, EntryType, Header};

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
    let kept = found.get(std::ffi::OsStr::new("security.capability"));
    assert_eq!(kept.map(Vec::as_slice), LINUX.then_some(capability));
    assert_eq!(unpacked.skipped_xattrs, u64::from(!LINUX));
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
fn symbolic_links_have_several_names() {
    let room = room();
    let outside = Dir::new(&room.scratch, "outside");
    fs::write(outside.join("file"), "untouched").unwrap();
    let entries = [
        dir("a"),
        link("a/link", "../outside"),
        hard("again", "a/link"),
        // Over a directory's name, and over a file's.
        dir("empty"),
        hard("empty", "again"),
        file("file", "x"),
        hard("file", "again"),
        // Such a name leads where the link leads in the root.
        dir("outside"),
        file("again/file", "inside"),
        link("nowhere", "/no/such/place"),
        hard("nowhere-again", "nowhere"),
    ];
    room.unpack(&archive(&entries)).unwrap();
    let inode = |name: &str| fs::symlink_metadata(room.root.join(name)).unwrap().ino();
    for name in ["again", "empty", "file"] {
        let text = fs::read_link(room.root.join(name)).unwrap();
        assert_eq!(text, Path::new("../outside"), "{name}");
        assert_eq!(inode(name), inode("a/link"), "{name}");
    }
    assert_eq!(inode("nowhere"), inode("nowhere-again"));
    assert_eq!(room.read("outside/file"), "inside");
    let kept = fs::read_to_string(outside.join("file")).unwrap();
    assert_eq!(kept, "untouched");
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
