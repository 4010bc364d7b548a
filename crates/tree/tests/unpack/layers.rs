//! Layers of images: whiteouts, replacements, and what no layer may do. On a plain directory and on an
//! overlay, where the lower layers are really lower layers.

use super::archive::*;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use crate::common::{LINUX, Mounted, PATH_MAX, facts, kind_of, scratch, set_xattr, xattrs};
use kleene_tree::{TreeError, UnpackOptions, Unpacked, apply_layer};
use rustix::fs::FileType;
use tar::EntryType;
use tempfile::TempDir;

/// Without an overlay, and with one where there are any.
fn overlays() -> impl Iterator<Item = bool> {
    [false, true].into_iter().take(if LINUX { 2 } else { 1 })
}

struct Target {
    /// Before the directory: one in which something is mounted can't be removed.
    overlay: Option<Mounted>,
    scratch: TempDir,
}

impl Target {
    fn new(overlay: bool) -> Self {
        let scratch = scratch();
        for name in ["lower", "upper", "work", "merged", "outside"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        fs::write(scratch.path().join("outside/file"), "untouched").unwrap();
        let mut target = Self {
            scratch,
            overlay: None,
        };
        if overlay {
            target.overlay = Some(target.mount());
        }
        target
    }

    #[cfg(not(target_os = "linux"))]
    fn mount(&self) -> Mounted {
        panic!("there are no overlays");
    }

    #[cfg(target_os = "linux")]
    fn mount(&self) -> Mounted {
        let path = |name: &str| self.scratch.path().join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            path("lower"),
            path("upper"),
            path("work")
        );
        Mounted::new("overlay", path("merged").as_ref(), "overlay", &options)
    }

    fn root(&self) -> std::path::PathBuf {
        let name = if self.overlay.is_some() {
            "merged"
        } else {
            "lower"
        };
        self.scratch.path().join(name)
    }

    /// Applies to what will be the lower layer.
    fn base(&mut self, entries: &[Vec<u8>]) {
        let mounted = self.overlay.take().is_some();
        self.try_apply(entries, &UnpackOptions::default()).unwrap();
        self.overlay = mounted.then(|| self.mount());
    }

    fn try_apply(
        &self,
        entries: &[Vec<u8>],
        options: &UnpackOptions,
    ) -> Result<Unpacked, TreeError> {
        let root = File::open(self.root()).unwrap();
        let go_on = &mut |_| ControlFlow::Continue(());
        let mut archive = Cursor::new(archive(entries));
        apply_layer(&mut archive, root.as_fd(), options, go_on)
    }

    /// Paths with the contents of files, the texts of links, or `/` for directories.
    fn listing(&self) -> BTreeMap<String, String> {
        let shown = |facts: &crate::common::Facts| match kind_of(facts.mode) {
            FileType::Directory => "/".to_owned(),
            _ => String::from_utf8_lossy(&facts.content).into_owned(),
        };
        let mut all = facts(&self.root());
        all.retain(|path, _| !path.as_os_str().is_empty());
        all.iter()
            .map(|(path, facts)| (path.display().to_string(), shown(facts)))
            .collect()
    }

    fn assert_untouched(&self) {
        let outside = self.scratch.path().join("outside");
        assert_eq!(
            fs::read_to_string(outside.join("file")).unwrap(),
            "untouched"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.scratch.path()).unwrap().count(), 5);
    }
}

/// Applies a layer over a base, on both kinds of targets, and in both orders of the layer's entries.
#[track_caller]
fn becomes(base: &[Vec<u8>], layer: &[Vec<u8>], expected: &[(&str, &str)]) {
    for overlay in overlays() {
        for reversed in [false, true] {
            let mut target = Target::new(overlay);
            target.base(base);
            let mut layer = layer.to_vec();
            if reversed {
                layer.reverse();
            }
            target
                .try_apply(&layer, &UnpackOptions::default())
                .unwrap_or_else(|error| panic!("overlay {overlay}, reversed {reversed}: {error}"));
            let expected = expected.iter();
            let expected: BTreeMap<_, _> = expected
                .map(|(path, what)| ((*path).to_owned(), (*what).to_owned()))
                .collect();
            let listing = target.listing();
            assert_eq!(listing, expected, "overlay {overlay}, reversed {reversed}");
        }
    }
}

fn base() -> Vec<Vec<u8>> {
    vec![
        dir("d"),
        file("d/one", "1"),
        file("d/two", "2"),
        dir("d/sub"),
        file("d/sub/three", "3"),
        file("f", "f"),
        link("l", "d"),
    ]
}

#[test]
fn whiteouts_take_away_what_lower_layers_have() {
    becomes(
        &base(),
        &[
            file("d/.wh.one", ""),
            file(".wh.f", ""),
            file("d/.wh.sub", ""),
        ],
        &[("d", "/"), ("d/two", "2"), ("l", "d")],
    );
    becomes(&base(), &[file(".wh.d", "")], &[("f", "f"), ("l", "d")]);
    becomes(
        &base(),
        &[file("./.wh.l", ""), file("/.wh.f", "")],
        &[
            ("d", "/"),
            ("d/one", "1"),
            ("d/two", "2"),
            ("d/sub", "/"),
            ("d/sub/three", "3"),
        ],
    );
    // Of what isn't there, or beneath a file, or beneath nothing.
    let nothing = [
        file(".wh.x", ""),
        file("f/.wh.x", ""),
        file("n/o/.wh.x", ""),
    ];
    let same = [
        ("d", "/"),
        ("d/one", "1"),
        ("d/two", "2"),
        ("d/sub", "/"),
        ("d/sub/three", "3"),
        ("f", "f"),
        ("l", "d"),
    ];
    becomes(&base(), &nothing, &same);
}

#[test]
fn whiteouts_spare_what_their_own_layer_adds() {
    becomes(
        &base(),
        &[file(".wh.f", ""), file("f", "new")],
        &[
            ("d", "/"),
            ("d/one", "1"),
            ("d/two", "2"),
            ("d/sub", "/"),
            ("d/sub/three", "3"),
            ("f", "new"),
            ("l", "d"),
        ],
    );
    // A directory that is hidden and made again, with and without an entry of its own.
    for again in [vec![dir("d"), file("d/new", "n")], vec![file("d/new", "n")]] {
        becomes(
            &base(),
            &[vec![file(".wh.d", "")], again].concat(),
            &[("d", "/"), ("d/new", "n"), ("f", "f"), ("l", "d")],
        );
    }
    // Through a link, another name of the same place.
    becomes(
        &base(),
        &[
            file("l/new", "n"),
            file("d/.wh.new", ""),
            file("d/.wh..wh..opq", ""),
        ],
        &[("d", "/"), ("d/new", "n"), ("f", "f"), ("l", "d")],
    );
}

#[test]
fn opaque_directories_hide_all_of_lower_layers() {
    becomes(
        &base(),
        &[
            file("d/.wh..wh..opq", ""),
            file("d/sub/new", "n"),
            file("d/one", "new"),
        ],
        &[
            ("d", "/"),
            ("d/one", "new"),
            ("d/sub", "/"),
            ("d/sub/new", "n"),
            ("f", "f"),
            ("l", "d"),
        ],
    );
    becomes(
        &base(),
        &[file(".wh..wh..opq", ""), file("only", "o")],
        &[("only", "o")],
    );
    becomes(&base(), &[file(".wh..wh..opq", "")], &[]);
    let rest = [("f", "f"), ("l", "d")];
    let with_d = [&[("d", "/")][..], &rest].concat();
    becomes(&base(), &[dir("d"), file("d/.wh..wh..opq", "")], &with_d);
}

#[test]
fn aufs_files_are_left_out() {
    let aufs = [
        file(".wh..wh.aufs", ""),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "x"),
        dir(".wh..wh.orph"),
        file("kept", "k"),
    ];
    becomes(&[], &aufs, &[("kept", "k")]);
    // Names that only look like it.
    becomes(
        &[],
        &[file(".WH.f", "1"), file(".whf", "2"), file("a.wh.b", "3")],
        &[(".WH.f", "1"), (".whf", "2"), ("a.wh.b", "3")],
    );
}

#[test]
fn entries_replace_whatever_is_there() {
    let rest = [("f", "f"), ("l", "d")];
    let whole_d = [
        ("d", "/"),
        ("d/one", "1"),
        ("d/two", "2"),
        ("d/sub", "/"),
        ("d/sub/three", "3"),
    ];
    becomes(
        &base(),
        &[file("d", "a file")],
        &[&[("d", "a file")][..], &rest].concat(),
    );
    becomes(
        &base(),
        &[link("d", "/etc")],
        &[&[("d", "/etc")][..], &rest].concat(),
    );
    let with_f = [&whole_d[..], &[("f", "/"), ("f/in", "i"), ("l", "d")]].concat();
    for overlay in overlays() {
        let mut target = Target::new(overlay);
        target.base(&base());
        let layer = [dir("f"), file("f/in", "i")];
        target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        assert_eq!(target.listing().len(), with_f.len());
        assert_eq!(target.listing()["f/in"], "i");
        // A directory over a link takes its place, and what it led to is as it was.
        let layer = [dir("l"), file("l/in", "i")];
        target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        let listing = target.listing();
        assert_eq!(
            (listing["l"].as_str(), listing["l/in"].as_str()),
            ("/", "i")
        );
        assert!(!listing.contains_key("d/in"));
        // A directory over a directory sets its attributes, and keeps what is in it.
        let mut private = header(EntryType::Directory, b"d", b"", 0);
        private.set_mode(0o2700);
        private.set_uid(7);
        private.set_cksum();
        let layer = [private.as_bytes().to_vec()];
        target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        let meta = fs::metadata(target.root().join("d")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o2700, 7));
        assert_eq!(meta.mtime(), 1_000_000_000);
        assert_eq!(target.listing()["d/sub/three"], "3");
    }
}

#[test]
fn hard_links_reach_lower_layers() {
    for overlay in overlays() {
        let mut target = Target::new(overlay);
        target.base(&base());
        let layer = [
            hard("again", "d/one"),
            hard("absolute", "/d/one"),
            hard("through", "l/two"),
            hard("f", "d/one"),
        ];
        target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        let listing = target.listing();
        for (name, text) in [
            ("again", "1"),
            ("absolute", "1"),
            ("through", "2"),
            ("f", "1"),
        ] {
            assert_eq!(listing[name], text);
        }
        let inode = |name: &str| fs::metadata(target.root().join(name)).unwrap().ino();
        assert_eq!(inode("again"), inode("absolute"));
    }
}

#[test]
fn attributes_are_kept_but_for_those_of_overlays() {
    for overlay in overlays() {
        let target = Target::new(overlay);
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let mut program = header(EntryType::Regular, b"program", b"", 0);
        program.set_mode(0o6755);
        program.set_uid(70_000);
        program.set_cksum();
        let layer = [
            pax(&[
                ("SCHILY.xattr.security.capability", capability),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("mtime", b"1234.5"),
            ]),
            program.as_bytes().to_vec(),
            entry(EntryType::Fifo, "fifo", "", b""),
        ];
        let applied = target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        assert_eq!(applied.skipped_xattrs, 2 + u64::from(!LINUX));
        let program = target.root().join("program");
        let kept = xattrs(&program);
        assert_eq!(kept.len(), usize::from(LINUX));
        if LINUX {
            let kept = &kept[std::ffi::OsStr::new("security.capability")];
            assert_eq!(kept, capability);
        }
        let meta = fs::metadata(&program).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o6755, 70_000));
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1234, 500_000_000));
        let fifo = fs::symlink_metadata(target.root().join("fifo")).unwrap();
        assert_eq!(kind_of(fifo.mode()), FileType::Fifo);
    }
}

#[test]
fn device_nodes_are_left_out_and_never_become_whiteouts() {
    for overlay in overlays() {
        let mut target = Target::new(overlay);
        target.base(&base());
        let layer = [
            entry(EntryType::Char, "f", "", b""),
            entry(EntryType::Block, "dev/sda", "", b""),
            hard("dev/link", "dev/sda"),
        ];
        let applied = target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        assert_eq!(applied.skipped_devices, 3);
        let listing = target.listing();
        // They are in the place of what was there all the same.
        assert!(!listing.contains_key("f") && listing.contains_key("d/one"));
        assert!(!listing.contains_key("dev/sda") && !listing.contains_key("dev/link"));
    }
}

#[test]
fn hostile_layers_are_refused_and_lead_nowhere() {
    let out = "../outside";
    let cases: Vec<Vec<Vec<u8>>> = vec![
        vec![file("../outside/file", "x")],
        vec![file("a/../../outside/file", "x")],
        vec![file("/../outside/file", "x")],
        vec![file("../outside/.wh.file", "")],
        vec![file("../outside/.wh..wh..opq", "")],
        vec![file(".wh.", "")],
        vec![file("d/.wh.", "")],
        vec![file(".wh..", "")],
        vec![file(".wh...", "")],
        vec![file("d/.wh...", "")],
        vec![dir(".wh.a"), file(".wh.a/b", "")],
        vec![file(".wh.a/b", "")],
        vec![file(".wh.a/.wh..wh..opq", "")],
        vec![file("", "x")],
        vec![file(".", "the root")],
        vec![link(".", "/etc")],
        vec![link("/", "/etc")],
        vec![hard("h", "../outside/file")],
        vec![hard("h", "/etc/passwd")],
        vec![hard("h", "missing")],
        vec![hard("h", "/")],
        vec![link("x", out), hard("h", "x/file")],
        vec![link("x", "/proc/self/root"), hard("h", "x/etc/passwd")],
        vec![dir("d"), hard("h", "d")],
        vec![link("x", "")],
        vec![file("f", "x"), file("f/below", "x")],
        vec![link("x", "x"), file("x/below", "x")],
        vec![pax(&[("path", b"a\0b")]), file("innocent", "x")],
        vec![
            pax(&[("path", b"../outside/.wh.file")]),
            file("innocent", "x"),
        ],
        vec![pax(&[("linkpath", b"../outside/file")]), hard("h", "x")],
        vec![entry(EntryType::new(b'V'), "volume", "", b"")],
    ];
    for overlay in overlays() {
        for (number, case) in cases.iter().enumerate() {
            let target = Target::new(overlay);
            let applied = target.try_apply(case, &UnpackOptions::default());
            assert!(
                matches!(applied, Err(TreeError::Hostile { .. })),
                "case {number}: {applied:?}"
            );
            target.assert_untouched();
        }
    }
}

#[test]
fn links_lead_nowhere_but_into_the_root() {
    for overlay in overlays() {
        let target = Target::new(overlay);
        let outside = target.scratch.path().join("outside");
        let layer = [
            link("up", "../outside"),
            link("absolute", outside.to_str().unwrap()),
            file("up/file", "mine"),
            file("absolute/file", "mine"),
            file("up/.wh.nothing", ""),
            file("absolute/.wh..wh..opq", ""),
            // A file in the place of the link itself, not of what it leads to.
            link("to-file", "../outside/file"),
            file("to-file", "replaced"),
        ];
        target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        target.assert_untouched();
        let listing = target.listing();
        assert_eq!(listing["up"], "../outside");
        assert_eq!(listing["outside/file"], "mine");
        assert_eq!(listing["to-file"], "replaced");
    }
}

#[test]
fn limits_hold() {
    let target = Target::new(false);
    let refused = |entries: &[Vec<u8>], options: &UnpackOptions| {
        let applied = target.try_apply(entries, options);
        assert!(
            matches!(applied, Err(TreeError::Hostile { .. })),
            "{applied:?}"
        );
    };
    let data = [vec![b'a'; 512], vec![b'b'; 100]].concat();
    refused(&[gnu_sparse(10 << 30, &data)], &UnpackOptions::default());
    let options = UnpackOptions {
        max_apparent: Some(1000),
        max_holes: u64::MAX,
        ..UnpackOptions::default()
    };
    refused(&[gnu_sparse(10 << 30, &data)], &options);
    let options = UnpackOptions {
        max_entries: Some(2),
        ..UnpackOptions::default()
    };
    refused(&[dir("a"), file(".wh.b", ""), file(".wh.c", "")], &options);
    let options = UnpackOptions {
        max_bytes: Some(10),
        ..UnpackOptions::default()
    };
    refused(&[file("a", "123456"), file("b", "123456")], &options);
    // What whiteouts carry counts, too.
    refused(
        &[file(".wh.a", "123456"), file(".wh.b", "123456")],
        &options,
    );
}

#[test]
fn a_layer_can_be_cancelled_and_need_not_have_an_end_mark() {
    let target = Target::new(false);
    let root = File::open(target.root()).unwrap();
    let mut endless = Cursor::new(
        header(EntryType::Regular, b"f", b"", 1 << 40)
            .as_bytes()
            .to_vec(),
    )
    .chain(std::io::repeat(b'x'));
    let mut left = 1 << 20;
    let stop = &mut |read| {
        left = i64::from(read < (1 << 20));
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let applied = apply_layer(&mut endless, root.as_fd(), &UnpackOptions::default(), stop);
    assert!(matches!(applied, Err(TreeError::Cancelled)), "{applied:?}");

    let go_on = &mut |_| ControlFlow::Continue(());
    let mut apply = |bytes: Vec<u8>| {
        let mut bytes = Cursor::new(bytes);
        apply_layer(&mut bytes, root.as_fd(), &UnpackOptions::default(), go_on)
    };
    assert_eq!(apply(Vec::new()).unwrap().entries, 0);
    assert_eq!(apply(vec![0; 1024]).unwrap().entries, 0);
    assert_eq!(apply(file("a", "1")).unwrap().entries, 1);
    let mut cut = file("a", "1");
    cut.truncate(600);
    assert!(matches!(apply(cut), Err(TreeError::Truncated { .. })));
}

#[test]
fn deep_trees_are_hidden_but_for_what_is_new() {
    for overlay in overlays() {
        let mut target = Target::new(overlay);
        let deep = "deep/".repeat(300.min(PATH_MAX / 10));
        target.base(&[
            pax(&[("path", format!("{deep}old").as_bytes())]),
            file("x", "old"),
        ]);
        set_xattr(&target.root(), "user.kept", b"1");
        let layer = [
            pax(&[("path", format!("{deep}new").as_bytes())]),
            file("x", "new"),
            file(".wh.deep", ""),
        ];
        target.try_apply(&layer, &UnpackOptions::default()).unwrap();
        let root = target.root().join(&deep);
        assert_eq!(fs::read_to_string(root.join("new")).unwrap(), "new");
        assert!(!root.join("old").exists());
        target
            .try_apply(&[file(".wh.deep", "")], &UnpackOptions::default())
            .unwrap();
        assert_eq!(fs::read_dir(target.root()).unwrap().count(), 0);
    }
}
