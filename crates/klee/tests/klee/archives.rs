//! Images and containers as archives.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::common::{FakeDaemon, Klee};

/// An archive with one file.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    builder.append_data(&mut header, "a", &b"x\n"[..]).unwrap();
    builder.into_inner().unwrap()
}

/// Names in a directory, but the socket.
fn names(daemon: &FakeDaemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.directory()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "kleened.sock").collect();
    names.sort();
    names
}

#[test]
fn archives_go_out() {
    for (arguments, path) in [
        (
            &["image", "save", "a:1", "b"][..],
            "/images/save?names=a:1&names=b",
        ),
        (&["image", "export", "a"], "/images/a/export"),
        (&["container", "export", "web"], "/containers/web/export"),
    ] {
        let daemon = FakeDaemon::script().bytes("GET", path, &archive()).start();
        let file = daemon.directory().join("out.tar");
        let running = Klee::new(&daemon, arguments).spawn(
            Stdio::null(),
            fs::File::create(&file).unwrap().into(),
            Stdio::null(),
        );
        assert_eq!(running.wait(), Some(0), "{arguments:?}");
        assert_eq!(fs::read(&file).unwrap(), archive());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(&file, "former").unwrap();
        for (name, mode) in [("out.tar", 0o640), ("new.tar", 0o600)] {
            let arguments = [arguments, &["-o", name]].concat();
            Klee::new(&daemon, &arguments).run().assert(0, "", "");
            let file = daemon.directory().join(name);
            assert_eq!(fs::read(&file).unwrap(), archive());
            let found = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name}");
        }
        assert_eq!(names(&daemon), ["new.tar", "out.tar"]);
    }
}

#[test]
fn archives_that_do_not_come_leave_nothing() {
    let daemon = FakeDaemon::script()
        .cut("GET", "/images/save?names=cut", &archive())
        .on(
            "GET",
            "/images/save?names=nope",
            404,
            json!({"message": "image not found"}),
        )
        .on("GET", "/images/list", 200, json!([]))
        .start();
    let lost = "closed the connection unexpectedly";
    for (image, error) in [
        ("cut", lost),
        ("nope", "error: image 'nope': image not found\n"),
    ] {
        let output = Klee::new(&daemon, &["image", "save", "-o", "a.tar", image]).run();
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
        assert!(output.stderr.contains(error), "{output:?}");
        assert!(names(&daemon).is_empty());
    }
    // A file that is there stays as it is.
    let file = daemon.directory().join("a.tar");
    fs::write(&file, "former").unwrap();
    let output = Klee::new(&daemon, &["image", "save", "-o", "a.tar", "cut"]).run();
    assert_eq!(output.code, Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), "former");
    assert_eq!(names(&daemon), ["a.tar"]);
    let output = Klee::new(&daemon, &["image", "save", "-o", "no/a.tar", "cut"]).run();
    output.assert(
        1,
        "",
        "error: can't write 'no/a.tar': No such file or directory (os error 2)\n",
    );
}

#[test]
fn an_interrupted_archive_leaves_nothing() {
    let daemon = FakeDaemon::script()
        .never("GET", "/images/save?names=a")
        .start();
    let running = Klee::new(&daemon, &["image", "save", "-o", "a.tar", "a"]).spawn(
        Stdio::null(),
        Stdio::null(),
        Stdio::piped(),
    );
    let mut running = running;
    let mut stderr = running.0.stderr.take().unwrap();
    while daemon.requests().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(names(&daemon), ["a.tar.part"]);
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), Some(143));
    let mut error = String::new();
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(error, "error: interrupted\n");
    assert!(names(&daemon).is_empty());
}

#[test]
fn what_is_no_file_is_written_as_it_is() {
    let daemon = FakeDaemon::script()
        .bytes("GET", "/images/a/export", &archive())
        .start();
    let output = Klee::new(&daemon, &["image", "export", "-o", "/dev/null", "a"]).run();
    output.assert(0, "", "");
    let kind = fs::symlink_metadata("/dev/null").unwrap().file_type();
    assert!(!kind.is_file());
    let output = Klee::new(&daemon, &["image", "export", "-o", "-", "a"]).run();
    assert_eq!(output.stdout.as_bytes(), archive());
}

#[test]
fn archives_are_loaded() {
    let loaded = json!([
        {"id": "0123456789ab", "name": "a:1"}, {"id": "1123456789ab", "name": ""},
    ]);
    let daemon = FakeDaemon::script()
        .on("POST", "/images/load", 200, loaded)
        .start();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive()).unwrap();
    let gzip = gzip.finish().unwrap();
    fs::write(daemon.directory().join("a.tar"), archive()).unwrap();
    fs::write(daemon.directory().join("a.tgz"), &gzip).unwrap();
    let expected = "Loaded image: a:1\nLoaded image ID: 1123456789ab\n";
    for arguments in [
        &["image", "load", "-i", "a.tar"][..],
        &["image", "load", "-i", "a.tgz"],
        &["image", "load", "-i", "-"],
        &["image", "load"],
    ] {
        let klee = Klee::new(&daemon, arguments).input(&archive());
        klee.run().assert(0, expected, "");
        assert_eq!(daemon.requests().last().unwrap().bytes, archive());
    }
    Klee::new(&daemon, &["image", "load", "-q"])
        .input(&gzip)
        .run()
        .assert(0, "0123456789ab\n1123456789ab\n", "");
    let before = daemon.requests().len();
    for (input, error) in [
        (&b"BZh9"[..], "the archive is compressed by bzip2"),
        (
            b"nonsense",
            "this is no tar archive, neither plain nor compressed by gzip",
        ),
        (b"", "there is no archive: the input is empty"),
    ] {
        let output = Klee::new(&daemon, &["image", "load"]).input(input).run();
        assert_eq!(output.code, Some(1));
        assert!(
            output.stderr.starts_with(&format!("error: {error}\n")),
            "{output:?}"
        );
    }
    let output = Klee::new(&daemon, &["image", "load", "-i", "nope"]).run();
    output.assert(
        1,
        "",
        "error: can't read 'nope': No such file or directory (os error 2)\n",
    );
    assert_eq!(daemon.requests().len(), before);
    // Gzip that breaks off.
    let output = Klee::new(&daemon, &["image", "load"])
        .input(&gzip[..gzip.len() - 10])
        .run();
    assert_eq!(output.code, Some(1));
    assert!(
        output
            .stderr
            .starts_with("error: the upload was broken off: "),
        "{output:?}"
    );
}

#[test]
fn archives_become_images() {
    let query = "/images/import?tag=debian:12&comment=from%20afar&changes=CMD%20%5B%22x%22%5D\
                 &changes=ENV%20A%3Db";
    let id = json!({"id": "0123456789ab"});
    let daemon = FakeDaemon::script()
        .on("POST", query, 200, id.clone())
        .on("POST", "/images/import", 200, id)
        .start();
    let xz = b"\xfd7zXZ\0 whatever";
    fs::write(daemon.directory().join("a.txz"), xz).unwrap();
    let arguments = [
        "image",
        "import",
        "-t",
        "debian:12",
        "-m",
        "from afar",
        "-c",
        "CMD [\"x\"]",
        "-c",
        "ENV A=b",
        "a.txz",
    ];
    Klee::new(&daemon, &arguments)
        .run()
        .assert(0, "0123456789ab\n", "");
    assert_eq!(daemon.requests().last().unwrap().bytes, xz);
    Klee::new(&daemon, &["image", "import", "-"])
        .input(&archive())
        .run()
        .assert(0, "0123456789ab\n", "");
    assert_eq!(daemon.requests().last().unwrap().bytes, archive());
    let url = "https://example.org/a.tar";
    Klee::new(&daemon, &["image", "import", "-t", "a", url])
        .run()
        .assert(
            2,
            "",
            &format!(
                "error: '{url}': only files can be imported\n\
                 hint: use `klee image create -t a fetch {url}`\n"
            ),
        );
}

#[test]
fn containers_become_images() {
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/containers/web/commit",
            201,
            json!({"id": "0123456789ab"}),
        )
        .on(
            "POST",
            "/containers/nope/commit",
            404,
            json!({"message": "container not found"}),
        )
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([]),
        )
        .start();
    let commit = |arguments: &[&str]| {
        let arguments = [&["container", "commit"], arguments].concat();
        let output = Klee::new(&daemon, &arguments).run();
        output.assert(0, "0123456789ab\n", "");
        daemon.requests().last().unwrap().body.clone()
    };
    assert_eq!(
        commit(&["web"]),
        json!({"tag": null, "comment": "", "pause": null, "changes": []})
    );
    let arguments = ["-m", "why", "-c", "USER www", "--no-pause", "web", "web:2"];
    assert_eq!(
        commit(&arguments),
        json!({"tag": "web:2", "comment": "why", "pause": false, "changes": ["USER www"]})
    );
    Klee::new(&daemon, &["container", "commit", "nope"])
        .run()
        .assert(1, "", "error: container 'nope': container not found\n");
}
