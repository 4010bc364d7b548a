//! Hostile, damaged and cut archives, and limits.

use super::archive::*;
use std::fs;
use std::io::{Cursor, Read};
use std::ops::ControlFlow;

use kleene_tree::{TreeError, UnpackOptions, Unpacked, unpack_tar};
use tar::EntryType;

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

/// What gives the entry after it its name.
fn named(name: &str) -> Vec<u8> {
    pax(&[("path", name.as_bytes())])
}

#[test]
fn names_that_no_file_can_have_are_refused_and_not_repeated() {
    for name in ["n".repeat(256), "d/".repeat(3000)] {
        let error = room()
            .unpack(&archive(&[named(&name), file("f", "x")]))
            .unwrap_err();
        assert!(matches!(error, TreeError::Hostile { .. }), "{error:?}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
    let room = room();
    room.unpack(&archive(&[named(&"n".repeat(255)), file("f", "x")]))
        .unwrap();
    assert_eq!(room.read(&"n".repeat(255)), "x");
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
