//! Packing trees as archives, with GNU tar as the referee, on FreeBSD with its own tar.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Dir, LINUX, assert_same, facts, handle, kind_of, scratch, set_xattr};
use kleene_tree::{
    Choice, PackOptions, Packed, TreeError, UnpackOptions, pack_chosen, pack_tar, unpack_tar,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn pack(dir: &Dir, name: &str) -> (Vec<u8>, Packed) {
    let mut archive = Vec::new();
    let packed = pack_tar(dir.fd(), Path::new(name), Path::new("top"), &mut archive).unwrap();
    (archive, packed)
}

fn unpack(archive: &[u8], into: &Dir) {
    let go_on = &mut |_| ControlFlow::Continue(());
    let options = UnpackOptions {
        max_holes: u64::MAX,
        ..UnpackOptions::default()
    };
    unpack_tar(&mut &*archive, into.fd(), &options, go_on).unwrap();
}

/// What GNU or BSD tar says of an archive. Fails when it complains.
#[expect(clippy::disallowed_types, reason = "another program is the referee")]
fn tar(arguments: &[&str], archive: &[u8], dir: &Path) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    let output = std::process::Command::new("tar")
        .args(arguments)
        .current_dir(dir)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(file)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    assert_eq!(complaints, "");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first argument is enough for FreeBSD's tar, which has no such options and needs none.
fn gnu_or_not<'a>(arguments: &'a [&'a str]) -> &'a [&'a str] {
    if LINUX { arguments } else { &arguments[..1] }
}

#[test]
fn one_entry_is_packed_under_another_name() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    fs::write(source.join("file"), "content").unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    for (name, kind) in [("file", FileType::RegularFile), ("link", FileType::Symlink)] {
        let (archive, packed) = pack(&source, name);
        assert_eq!(packed.entries, 1);
        let target = Dir::new(&scratch, name);
        unpack(&archive, &target);
        let found = facts(&target.path);
        let top = &found[Path::new("top")];
        assert_eq!(kind_of(top.mode), kind);
        assert_eq!(*top, facts(&source.path)[Path::new(name)]);
    }
}

#[test]
fn only_what_is_chosen_is_packed() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    for dir in ["kept/sub", "partly/deep/er", "empty/sub", "left/sub"] {
        fs::create_dir_all(source.join(dir)).unwrap();
    }
    for file in [
        "kept/sub/a",
        "kept/no",
        "partly/no",
        "partly/deep/no",
        "partly/deep/er/yes",
        "empty/sub/no",
        "left/sub/yes",
    ] {
        fs::write(source.join(file), file).unwrap();
    }
    set_xattr(&source.join("kept/sub/a"), "user.a", b"1");
    let mut asked = Vec::new();
    let mut choose = |path: &Path, directory: bool| {
        asked.push(path.to_owned());
        match path.to_str().unwrap() {
            "left" => Choice::Leave,
            text if text.ends_with("no") => Choice::Leave,
            text if directory && !text.starts_with("kept") => Choice::Within,
            _ => Choice::Take,
        }
    };
    let options = PackOptions {
        owner: Some((7, 8)),
        plain: true,
        choose: Some(&mut choose),
    };
    let mut archive = Vec::new();
    let dot = Path::new(".");
    pack_chosen(source.fd(), dot, dot, options, &mut archive).unwrap();
    let target = Dir::new(&scratch, "target");
    let listed = tar(&["tvf", "-", "--numeric-owner"], &archive, &target.path);
    let names: Vec<&str> = listed
        .lines()
        .map(|line| line.split(' ').next_back().unwrap())
        .collect();
    let expected = [
        "./",
        "./kept/",
        "./kept/sub/",
        "./kept/sub/a",
        "./partly/",
        "./partly/deep/",
        "./partly/deep/er/",
        "./partly/deep/er/yes",
    ];
    assert_eq!(names, expected);
    let owned = |line: &str| match LINUX {
        true => line.contains(" 7/8 "),
        false => line.split_whitespace().skip(2).take(2).eq(["7", "8"]),
    };
    assert!(listed.lines().all(owned), "{listed}");
    assert!(!archive.windows(6).any(|bytes| bytes == b"user.a"));
    assert!(!asked.contains(&PathBuf::from("left/sub")), "{asked:?}");
}

#[test]
fn names_that_are_none_are_refused() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    let error = |name: &str| {
        let top = Path::new("top");
        pack_tar(source.fd(), Path::new(name), top, &mut io::sink()).unwrap_err()
    };
    assert!(matches!(error("missing"), TreeError::NotFound { .. }));
    for name in ["..", "a/b", "/etc", ""] {
        let refused = matches!(error(name), TreeError::OutsideRoot { .. });
        assert!(refused, "{name}");
    }
}

#[test]
fn a_stream_that_takes_no_more_ends_it() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    fs::write(source.join("file"), vec![1; 100_000]).unwrap();
    let mut small = [0; 4096];
    let error = pack_tar(
        source.fd(),
        Path::new("file"),
        Path::new("top"),
        &mut small.as_mut_slice(),
    );
    let Err(TreeError::Io { source, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn handles_will_do_and_deep_trees_are_no_trouble() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    // Deeper than any path may be long, and than directories stay open.
    let mut dir = handle(&source.path);
    for _ in 0..300 {
        let name = "d".repeat(20);
        rustix::fs::mkdirat(&dir, name.as_str(), Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, name.as_str(), rustix::fs::OFlags::PATH, Mode::empty())
            .unwrap();
    }
    let mut archive = Vec::new();
    let parent = handle(scratch.path());
    let packed = pack_tar(
        rustix::fd::AsFd::as_fd(&parent),
        Path::new("source"),
        Path::new("top"),
        &mut archive,
    );
    assert_eq!(packed.unwrap().entries, 301);
    kleene_tree::remove_contents(source.fd()).unwrap();
}

#[test]
fn sockets_are_left_out_and_nodes_are_not_opened() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    let _listener = UnixListener::bind(source.join("socket")).unwrap();
    // Opening it would block, since nobody writes.
    mknodat(CWD, source.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::hard_link(source.join("fifo"), source.join("other")).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let kind = FileType::CharacterDevice;
    mknodat(CWD, source.join("null"), kind, Mode::RUSR, device).unwrap();
    let (archive, packed) = pack(&source, ".");
    assert_eq!((packed.entries, packed.skipped_sockets), (4, 1));
    let listed = tar(&["-tv"], &archive, scratch.path());
    assert!(listed.contains("crw") || listed.contains("cr-"), "{listed}");
    assert!(listed.contains("1,3"), "{listed}");
    assert!(listed.contains("link to top/fifo"), "{listed}");
}

#[test]
fn holes_stay_holes() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    let size = 5 << 30;
    let make = |name: &str, pieces: &[u64]| {
        let file = File::create(source.join(name)).unwrap();
        file.set_len(size).unwrap();
        for offset in pieces {
            file.write_all_at(b"data", *offset).unwrap();
        }
    };
    make("nothing", &[]);
    make("start", &[0]);
    make("end", &[size - 4]);
    let name = "n".repeat(200);
    make(&name, &[100, 1 << 30, (1 << 30) + 100_000, size - 4]);
    let (archive, packed) = pack(&source, ".");
    assert!(archive.len() < 1 << 20, "{}", archive.len());
    assert_eq!(packed.changed, 0);
    let ours = Dir::new(&scratch, "ours");
    unpack(&archive, &ours);
    let theirs = Dir::new(&scratch, "theirs");
    let arguments = ["-x", "--delay-directory-restore"];
    tar(gnu_or_not(&arguments), &archive, &theirs.path);
    for target in [&ours, &theirs] {
        assert_same(&source.path, &target.join("top"));
        for name in ["nothing", "start", "end", &name] {
            let copy = File::open(target.join("top").join(name)).unwrap();
            assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20);
            for offset in [0, 100, 1 << 30, (1 << 30) + 100_000, size - 4] {
                let read = |file: &File| {
                    let mut data = [0; 4];
                    file.read_exact_at(&mut data, offset).unwrap();
                    data
                };
                let original = File::open(source.join(name)).unwrap();
                assert_eq!(read(&copy), read(&original), "{name} {offset}");
            }
        }
    }
}

#[test]
fn other_programs_read_everything() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    let long = "long ".repeat(40);
    fs::create_dir(source.join(&long)).unwrap();
    fs::write(source.join(&long).join("file"), "content").unwrap();
    symlink("x".repeat(300), source.join("link")).unwrap();
    let odd = OsString::from_vec(b"odd\xff\n name=%".to_vec());
    fs::write(source.join(odd), "odd").unwrap();
    fs::hard_link(source.join(&long).join("file"), source.join("again")).unwrap();
    std::os::unix::fs::lchown(source.join("link"), Some(3_000_000), Some(4_000_000)).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    let times = fs::FileTimes::new().set_modified(then);
    let file = File::options().write(true).open(source.join("again"));
    file.unwrap().set_times(times).unwrap();
    set_xattr(&source.join("again"), "user.x", b"a\nb=c\0");
    // An access control list that lets user 1000 read.
    let acl = [
        &[2, 0, 0, 0][..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 232, 3, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 4, 0, 255, 255, 255, 255],
    ]
    .concat();
    if LINUX {
        set_xattr(&source.join("again"), "system.posix_acl_access", &acl);
    }
    let (archive, packed) = pack(&source, ".");
    assert_eq!((packed.entries, packed.skipped_xattrs), (6, 0));
    let ours = Dir::new(&scratch, "ours");
    unpack(&archive, &ours);
    assert_same(&source.path, &ours.join("top"));
    let theirs = Dir::new(&scratch, "theirs");
    let arguments = [
        "-xp",
        "--xattrs",
        "--xattrs-include=*",
        "--delay-directory-restore",
    ];
    tar(gnu_or_not(&arguments), &archive, &theirs.path);
    assert_same(&source.path, &theirs.join("top"));
}

#[test]
fn attributes_that_no_archive_can_hold_are_counted() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    fs::write(source.join("file"), "").unwrap();
    set_xattr(&source.join("file"), "user.a=b", b"1");
    if LINUX {
        set_xattr(&source.join("file"), "trusted.overlay.opaque", b"y");
    }
    set_xattr(&source.join("file"), "user.c", b"2");
    let (archive, packed) = pack(&source, "file");
    assert_eq!(packed.skipped_xattrs, 1 + u64::from(LINUX));
    let target = Dir::new(&scratch, "target");
    unpack(&archive, &target);
    let xattrs = common::xattrs(&target.join("top"));
    assert_eq!(xattrs.len(), 1);
}

/// Whatever is read, whole entries come out: a changing tree gives an archive that unpacks.
#[test]
fn changes_meanwhile_neither_break_the_archive_nor_lead_out() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    let secret = Dir::new(&scratch, "secret");
    fs::write(secret.join("data"), "secret").unwrap();
    for number in 0..20 {
        let dir = source.join(format!("dir-{number}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("data"), vec![b'x'; 200_000]).unwrap();
    }
    let done = AtomicBool::new(false);
    let mut changed = 0;
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&done);
        scope.spawn(|| change(&source, &secret.path, &done));
        for _ in 0..60 {
            let (archive, packed) = loop {
                let mut archive = Vec::new();
                let top = Path::new("top");
                match pack_tar(source.fd(), Path::new("."), top, &mut archive) {
                    Ok(packed) => break (archive, packed),
                    // The way back up was taken away, or an entry changed all the time.
                    Err(TreeError::Changed { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            };
            changed += packed.changed;
            let target = Dir::new(&scratch, "target");
            unpack(&archive, &target);
            for (path, facts) in facts(&target.path) {
                assert_ne!(facts.content, b"secret", "{path:?}");
            }
            kleene_tree::remove_contents(target.fd()).unwrap();
        }
    });
    // It may be none, if the other thread never ran at such a moment.
    println!("{changed} files changed while they were read");
}

/// Ends the other thread, however the test ends.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Grows and shrinks files, and puts links and FIFOs in the places of files and directories.
fn change(source: &Dir, secret: &Path, done: &AtomicBool) {
    let aside = source.join("aside");
    for number in (0..20).cycle() {
        if done.load(Ordering::Relaxed) {
            return;
        }
        let dir = source.join(format!("dir-{number}"));
        let data = dir.join("data");
        let size = if number % 2 == 0 { 100 } else { 300_000 };
        File::options()
            .write(true)
            .open(&data)
            .unwrap()
            .set_len(size)
            .unwrap();
        fs::rename(&dir, &aside).unwrap();
        symlink(secret, &dir).unwrap();
        fs::remove_file(&dir).unwrap();
        mknodat(CWD, &dir, FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::remove_file(&dir).unwrap();
        fs::rename(&aside, &dir).unwrap();
        let file = PathBuf::from(&dir).join("swap");
        symlink(secret.join("data"), &file).unwrap();
        fs::rename(&file, dir.join("data-link")).unwrap();
    }
}

#[test]
fn a_file_that_shrinks_is_filled_up() {
    /// Cuts the file off as soon as something has been written.
    struct Cutting<'a> {
        archive: Vec<u8>,
        file: &'a Path,
    }
    impl Write for Cutting<'_> {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            if self.archive.is_empty() {
                File::options().write(true).open(self.file)?.set_len(1000)?;
            }
            self.archive.extend_from_slice(data);
            Ok(data.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    let file = source.join("file");
    fs::write(&file, vec![b'x'; 400_000]).unwrap();
    let mut to = Cutting {
        archive: Vec::new(),
        file: &file,
    };
    let packed = pack_tar(source.fd(), Path::new("file"), Path::new("top"), &mut to);
    assert_eq!(packed.unwrap().changed, 1);
    let target = Dir::new(&scratch, "target");
    unpack(&to.archive, &target);
    let content = fs::read(target.join("top")).unwrap();
    assert_eq!(content.len(), 400_000);
    let cut = content.iter().position(|byte| *byte == 0).unwrap();
    assert!(cut > 1000 && content[cut..].iter().all(|byte| *byte == 0));
}
