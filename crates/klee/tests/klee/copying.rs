//! `klee cp`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::common::daemon::Script;
use crate::common::{FakeDaemon, Klee, container};

/// An entry of an archive: name, kind, and content or target. The name is taken as it is.
type Entry<'a> = (&'a str, tar::EntryType, &'a str);

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
const SYMLINK: tar::EntryType = tar::EntryType::Symlink;
const HARD_LINK: tar::EntryType = tar::EntryType::Link;

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_ustar();
        let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        if is_link {
            old.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let content = if is_link { "" } else { text };
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn stat(name: &str, kind: &str, target: Option<&str>) -> Value {
    json!({
        "name": name, "kind": kind, "mode": 0o755, "size": 0, "uid": 0, "gid": 0,
        "modified": "2024-02-29T14:54:05.317207Z", "target": target, "leads_to": null,
    })
}

fn path_of(what: &str, path: &str) -> String {
    let path = path.replace('/', "%2F");
    format!("/containers/web/{what}?path={path}")
}

/// A container with something at a path, and its archive.
fn holding(path: &str, kind: &str, entries: &[Entry<'_>]) -> Script {
    let name = path
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or("/");
    FakeDaemon::script()
        .on("GET", &path_of("stat", path), 200, stat(name, kind, None))
        .bytes("GET", &path_of("archive", path), &archive(entries))
}

/// A container that takes an archive at a path.
fn taking(script: Script, path: &str, keep_owner: bool) -> Script {
    let path = format!("{}&keep_owner={keep_owner}", path_of("archive", path));
    script.on("PUT", &path, 200, Value::Null)
}

/// A container in which nothing is at a path.
fn lacking(script: Script, path: &str) -> Script {
    let inspected = json!({
        "container": container("cc1ea0ff3f5a", "web", true), "container_endpoints": [],
        "container_mountpoints": [],
    });
    script
        .on(
            "GET",
            &path_of("stat", path),
            404,
            json!({"message": "no such file or directory"}),
        )
        .on("GET", "/containers/web/inspect", 200, inspected)
}

/// What is beneath a directory: paths with contents of files, targets of links, `/` for directories.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if name == "kleened.sock" {
            continue;
        }
        if kind.is_dir() {
            for (below, content) in tree(&path) {
                found.insert(format!("{name}/{below}"), content);
            }
            found.insert(name, "/".to_owned());
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            found.insert(name, format!("-> {}", target.display()));
        } else {
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn paths(tree: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(path, content): &(&str, &str)| ((*path).to_owned(), (*content).to_owned());
    tree.iter().map(owned).collect()
}

/// What an archive that was sent to the daemon holds.
fn unpacked(archive: &[u8]) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let opened = fs::File::open(directory.path()).unwrap();
    let options = kleene_tree::UnpackOptions::default();
    let go_on = &mut |_| ControlFlow::Continue(());
    kleene_tree::unpack_tar(&mut &*archive, opened.as_fd(), &options, go_on).unwrap();
    tree(directory.path())
}

#[test]
fn a_file_comes_out() {
    let daemon = holding("/etc/hosts", "file", &[("hosts", FILE, "localhost\n")]).start();
    let here = daemon.directory();
    fs::create_dir(here.join("dir")).unwrap();
    for (to, path) in [
        (".", "hosts"),
        ("dir", "dir/hosts"),
        ("new", "new"),
        ("dir/other", "dir/other"),
        ("./dir/", "dir/hosts"),
    ] {
        let klee = Klee::new(&daemon, &["cp", "web:/etc/hosts", to]);
        klee.run().assert(0, "", "");
        let path = here.join(path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "localhost\n");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(
            metadata.permissions().mode() & 0o7777,
            0o755,
            "no set-id bits"
        );
        assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
        assert_eq!(metadata.mtime(), 1_000_000_000);
    }
    fs::create_dir(here.join("dir/new")).unwrap();
    fs::create_dir_all(here.join("full/hosts")).unwrap();
    for (to, error) in [
        ("nowhere/", "there is no directory 'nowhere/'"),
        (
            "nowhere/x",
            "can't open the directory 'nowhere': No such file or directory (os error 2)",
        ),
        ("full", "'full/hosts' is a directory already"),
        (
            "new/",
            "can't look at 'new/': Not a directory (os error 20)",
        ),
    ] {
        let klee = Klee::new(&daemon, &["cp", "web:etc/hosts", to]);
        klee.run().assert(1, "", &format!("error: {error}\n"));
    }
}

#[test]
fn a_directory_comes_out() {
    let entries = [
        ("www", DIRECTORY, ""),
        ("www/index", FILE, "<html>"),
        ("www/sub/", DIRECTORY, ""),
        ("www/sub/same", HARD_LINK, "www/index"),
        ("www/link", SYMLINK, "../outside"),
    ];
    let copied = |name: &str| {
        let all = [
            ("index", "<html>"),
            ("link", "-> ../outside"),
            ("sub", "/"),
            ("sub/same", "<html>"),
        ];
        let prefix = |path: &str| match name {
            "" => path.to_owned(),
            _ => format!("{name}/{path}"),
        };
        all.map(|(path, content)| (prefix(path), content.to_owned()))
    };
    let whole = |name: &str| {
        let mut tree: BTreeMap<String, String> = copied(name).into_iter().collect();
        tree.insert(name.to_owned(), "/".to_owned());
        tree
    };
    let daemon = holding("/srv/www", "directory", &entries)
        .on(
            "GET",
            &path_of("stat", "/srv/www/."),
            200,
            stat("www", "directory", None),
        )
        .bytes("GET", &path_of("archive", "/srv/www/."), &archive(&entries))
        .start();
    let into = |from: &str, to: &str| {
        let here = tempfile::tempdir().unwrap();
        fs::create_dir_all(here.path().join("old")).unwrap();
        fs::set_permissions(here.path().join("old"), fs::Permissions::from_mode(0o700)).unwrap();
        let klee = Klee::new(&daemon, &["cp", from, to]).within(here.path());
        klee.run().assert(0, "", "");
        let old = fs::metadata(here.path().join("old")).unwrap();
        assert_eq!(
            old.mode() & 0o777,
            0o700,
            "what was there keeps its attributes"
        );
        let mut tree = tree(here.path());
        tree.remove("old");
        tree
    };
    assert_eq!(into("web:/srv/www", "new"), whole("new"));
    assert_eq!(into("web:/srv/www/.", "new"), whole("new"));
    assert_eq!(into("web:/srv/www", "."), whole("www"));
    let mut expected = whole("old/www");
    assert_eq!(into("web:/srv/www", "old"), expected);
    expected = copied("old").into_iter().collect();
    assert_eq!(into("web:/srv/www/.", "old"), expected);
    let here = tempfile::tempdir().unwrap();
    symlink(".", here.path().join("www")).unwrap();
    let klee = Klee::new(&daemon, &["cp", "web:/srv/www", "."]).within(here.path());
    klee.run()
        .assert(1, "", "error: './www' exists and is not a directory\n");
    let here = daemon.directory();
    fs::write(here.join("file"), "").unwrap();
    let klee = Klee::new(&daemon, &["cp", "web:/srv/www", "file"]);
    klee.run().assert(
        1,
        "",
        "error: can't copy a directory to 'file', which is none\n",
    );
}

#[test]
fn a_slash_at_the_end_goes_through_a_link() {
    let entries = [("link", DIRECTORY, ""), ("link/hosts", FILE, "localhost\n")];
    let mut script = FakeDaemon::script()
        .on(
            "GET",
            &path_of("stat", "/link"),
            200,
            stat("link", "symlink", Some("/etc")),
        )
        .bytes(
            "GET",
            &path_of("archive", "/link"),
            &archive(&[("link", SYMLINK, "/etc")]),
        );
    for path in ["/link/", "/link/."] {
        script = script
            .on(
                "GET",
                &path_of("stat", path),
                200,
                stat("link", "directory", None),
            )
            .bytes("GET", &path_of("archive", path), &archive(&entries));
    }
    let daemon = script.start();
    for (from, to, expected) in [
        ("web:/link", "new", &[("new", "-> /etc"), ("old", "/")][..]),
        (
            "web:/link/",
            "new",
            &[("new", "/"), ("new/hosts", "localhost\n"), ("old", "/")],
        ),
        (
            "web:/link/",
            "old",
            &[
                ("old", "/"),
                ("old/link", "/"),
                ("old/link/hosts", "localhost\n"),
            ],
        ),
        (
            "web:/link/.",
            "old",
            &[("old", "/"), ("old/hosts", "localhost\n")],
        ),
    ] {
        let here = tempfile::tempdir().unwrap();
        fs::create_dir(here.path().join("old")).unwrap();
        let klee = Klee::new(&daemon, &["cp", from, to]).within(here.path());
        klee.run().assert(0, "", "");
        assert_eq!(tree(here.path()), paths(expected), "{from} {to}");
    }
}

#[test]
fn a_directory_that_does_not_come_leaves_nothing() {
    let daemon = holding("/srv/www", "directory", &[("evil", FILE, "x")])
        .on(
            "GET",
            &path_of("stat", "/gone"),
            200,
            stat("gone", "directory", None),
        )
        .on(
            "GET",
            &path_of("archive", "/gone"),
            404,
            json!({"message": "no such file or directory"}),
        )
        .start();
    for from in ["web:/srv/www", "web:/gone"] {
        let here = tempfile::tempdir().unwrap();
        fs::create_dir_all(here.path().join("there/www")).unwrap();
        for to in ["new", ".", "there"] {
            let output = Klee::new(&daemon, &["cp", from, to])
                .within(here.path())
                .run();
            assert_eq!(output.code, Some(1), "{from} {to}: {output:?}");
        }
        let before = paths(&[("there", "/"), ("there/www", "/")]);
        assert_eq!(tree(here.path()), before, "{from}");
    }
}

#[test]
fn archives_that_would_write_elsewhere_are_refused() {
    for entries in [
        &[("../evil", FILE, "x")][..],
        &[("www/../../evil", FILE, "x")],
        &[("/evil", FILE, "x")],
        &[("evil", FILE, "x")],
        &[("www", SYMLINK, ".."), ("www/evil", FILE, "x")],
        &[
            ("www", DIRECTORY, ""),
            ("www/a", SYMLINK, "/"),
            ("www/a/evil", FILE, "x"),
        ],
        &[("www", DIRECTORY, ""), ("www/evil", HARD_LINK, "../secret")],
        &[("www", DIRECTORY, ""), ("www/evil", HARD_LINK, "secret")],
    ] {
        let daemon = holding("/www", "directory", entries).start();
        let here = tempfile::tempdir().unwrap();
        let inner = here.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(here.path().join("secret"), "s").unwrap();
        fs::write(inner.join("secret"), "s").unwrap();
        let output = Klee::new(&daemon, &["cp", "web:/www", "."])
            .within(&inner)
            .run();
        let found = tree(here.path());
        assert!(!Path::new("/evil").exists(), "{entries:?}");
        let outside: Vec<&String> = found
            .keys()
            .filter(|path| !path.starts_with("inner/www"))
            .collect();
        assert_eq!(outside, ["inner", "inner/secret", "secret"], "{output:?}");
        let linked = found.get("inner/www/evil").is_some_and(|text| text == "s");
        assert!(!linked, "{entries:?}");
        // A link inside is followed beneath the copied directory; all others are told.
        let inside = entries.iter().any(|(name, ..)| name.starts_with("www/a/"));
        assert_eq!(
            output.code,
            Some(i32::from(!inside)),
            "{entries:?} {output:?}"
        );
    }
}

#[test]
fn a_broken_transfer_is_an_error() {
    let half = archive(&[("hosts", FILE, &"x".repeat(10_000))]);
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            &path_of("stat", "/hosts"),
            200,
            stat("hosts", "file", None),
        )
        .cut("GET", &path_of("archive", "/hosts"), &half[..5000])
        .start();
    for to in [".", "-"] {
        let output = Klee::new(&daemon, &["cp", "web:/hosts", to]).run();
        assert_eq!(output.code, Some(1));
        assert!(
            output.stderr.contains("closed the connection unexpectedly"),
            "{output:?}"
        );
    }
}

#[test]
fn links_are_followed_when_that_is_wanted() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            &path_of("stat", "/a/link"),
            200,
            stat("link", "symlink", Some("../b/file")),
        )
        .on(
            "GET",
            &path_of("stat", "/a/../b/file"),
            200,
            stat("file", "file", None),
        )
        .bytes(
            "GET",
            &path_of("archive", "/a/link"),
            &archive(&[("link", SYMLINK, "../b/file")]),
        )
        .bytes(
            "GET",
            &path_of("archive", "/a/../b/file"),
            &archive(&[("file", FILE, "x")]),
        )
        .start();
    let here = daemon.directory();
    Klee::new(&daemon, &["cp", "web:/a/link", "."])
        .run()
        .assert(0, "", "");
    assert_eq!(tree(here), paths(&[("link", "-> ../b/file")]));
    fs::remove_file(here.join("link")).unwrap();
    Klee::new(&daemon, &["cp", "-L", "web:/a/link", "."])
        .run()
        .assert(0, "", "");
    assert_eq!(tree(here), paths(&[("link", "x")]));
}

#[test]
fn files_go_in() {
    let script = FakeDaemon::script()
        .on(
            "GET",
            &path_of("stat", "/etc"),
            200,
            stat("etc", "directory", None),
        )
        .on(
            "GET",
            &path_of("stat", "/conf"),
            200,
            stat("conf", "symlink", Some("etc")),
        );
    let script = lacking(script, "/etc/hosts");
    let script = lacking(script, "/new");
    let script = taking(taking(script, "/etc", false), "/", true);
    let daemon = script.start();
    fs::write(daemon.directory().join("hosts"), "localhost\n").unwrap();
    for (arguments, name) in [
        (&["cp", "hosts", "web:/etc"][..], "hosts"),
        (&["cp", "./hosts", "web:/etc/hosts"], "hosts"),
        (&["cp", "hosts", "web:conf"], "hosts"),
        (&["cp", "-a", "hosts", "web:/new"], "new"),
    ] {
        Klee::new(&daemon, arguments).run().assert(0, "", "");
        let requests = daemon.requests();
        let sent = requests.last().unwrap();
        assert_eq!(sent.method, "PUT");
        assert_eq!(unpacked(&sent.bytes), paths(&[(name, "localhost\n")]));
    }
}

#[test]
fn directories_go_in() {
    let script = FakeDaemon::script()
        .on(
            "GET",
            &path_of("stat", "/srv"),
            200,
            stat("srv", "directory", None),
        )
        .on(
            "GET",
            &path_of("stat", "/file"),
            200,
            stat("file", "file", None),
        );
    let script = lacking(script, "/srv/site");
    let script = lacking(script, "/new");
    let script = taking(taking(script, "/srv", false), "/", false);
    let daemon = script.start();
    let site = daemon.directory().join("site");
    fs::create_dir_all(site.join("sub")).unwrap();
    fs::write(site.join("index"), "<html>").unwrap();
    fs::write(site.join("large"), "x".repeat(1 << 20)).unwrap();
    symlink("index", site.join("sub/link")).unwrap();
    for (from, to, name) in [
        ("site", "web:/srv", "site/"),
        ("site/", "web:/srv", "site/"),
        ("site/.", "web:/srv", ""),
        ("site", "web:/new", "new/"),
        ("site/.", "web:/new", "new/"),
    ] {
        Klee::new(&daemon, &["cp", from, to])
            .run()
            .assert(0, "", "");
        let requests = daemon.requests();
        let sent = requests.last().unwrap();
        let mut expected: BTreeMap<String, String> = [
            ("index", "<html>"),
            ("large", &"x".repeat(1 << 20)),
            ("sub", "/"),
            ("sub/link", "-> index"),
        ]
        .map(|(path, content)| (format!("{name}{path}"), content.to_owned()))
        .into();
        if let Some(name) = name.strip_suffix('/') {
            expected.insert(name.to_owned(), "/".to_owned());
        }
        assert_eq!(unpacked(&sent.bytes), expected, "{from} {to}");
        // The directory itself is not in there when only its contents are wanted.
        let mut names = tar::Archive::new(sent.bytes.as_slice());
        let first = names.entries().unwrap().next().unwrap().unwrap();
        assert!(first.path().unwrap() != Path::new("."));
    }
    let within = Klee::new(&daemon, &["cp", ".", "web:/srv"]).within(&site);
    within.run().assert(0, "", "");
    let requests = daemon.requests();
    assert!(unpacked(&requests.last().unwrap().bytes).contains_key("sub/link"));
    let klee = Klee::new(&daemon, &["cp", "site", "web:/file"]);
    klee.run().assert(
        1,
        "",
        "error: can't copy a directory to '/file', which is none\n",
    );
}

#[test]
fn archives_go_through_as_they_are() {
    let sent = archive(&[("a", DIRECTORY, ""), ("a/b", FILE, "x")]);
    let script = holding(
        "/a",
        "directory",
        &[("a", DIRECTORY, ""), ("a/b", FILE, "x")],
    );
    let daemon = taking(script, "/a", false).start();
    let file = daemon.directory().join("a.tar");
    let running = Klee::new(&daemon, &["cp", "web:/a", "-"]).spawn(
        std::process::Stdio::null(),
        fs::File::create(&file).unwrap().into(),
        std::process::Stdio::null(),
    );
    assert_eq!(running.wait(), Some(0));
    assert_eq!(fs::read(&file).unwrap(), sent);
    Klee::new(&daemon, &["cp", "-", "web:/a"])
        .input(&sent)
        .run()
        .assert(0, "", "");
    assert_eq!(daemon.requests().last().unwrap().bytes, sent);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let script = lacking(FakeDaemon::script(), "/missing")
        .on(
            "GET",
            &path_of("stat", "/etc"),
            200,
            stat("etc", "directory", None),
        )
        .on(
            "PUT",
            &format!("{}&keep_owner=false", path_of("archive", "/etc")),
            409,
            json!({"message": "'/etc' of the container is read-only"}),
        )
        .on(
            "GET",
            "/containers/nope/stat?path=%2Fx",
            404,
            json!({"message": "x"}),
        )
        .on(
            "GET",
            "/containers/nope/inspect",
            404,
            json!({"message": "container not found"}),
        )
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([]),
        );
    let daemon = lacking(script, "/etc/file").start();
    fs::write(daemon.directory().join("file"), "x").unwrap();
    for (from, to, code, error) in [
        (
            "a",
            "b",
            2,
            "one of the two has to be in a container: CONTAINER:PATH",
        ),
        ("web:/a", "web:/b", 2, "can't copy between containers"),
        (
            "web:/missing",
            ".",
            1,
            "'/missing' doesn't exist in container 'web'",
        ),
        ("missing", "web:/etc", 1, "'missing' doesn't exist"),
        (
            "file/",
            "web:/etc",
            1,
            "can't read 'file/': Not a directory",
        ),
        ("nope:/x", ".", 1, "container 'nope': container not found"),
        (
            "file",
            "web:/etc",
            1,
            "container 'web': '/etc' of the container is read-only",
        ),
        (
            "-",
            "web:/missing",
            1,
            "'/missing' is not a directory in container 'web'",
        ),
    ] {
        let output = Klee::new(&daemon, &["cp", from, to]).run();
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (Some(code), ""),
            "{output:?}"
        );
        assert!(
            output.stderr.starts_with(&format!("error: {error}")),
            "{output:?}"
        );
    }
}
