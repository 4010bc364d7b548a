//! `klee build`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::common::{FakeDaemon, Klee};

const ID: &str = "0123456789ab";

/// A daemon whose builds succeed, and the archives that it is sent (`None`: one that broke off).
fn taking() -> (FakeDaemon, Receiver<Option<Vec<u8>>>) {
    let (send, archives) = channel();
    let daemon = FakeDaemon::script()
        .session("/images/build", move |mut socket| {
            let send = send.clone();
            async move {
                socket.starting(ID).await;
                let archive = socket.archive().await;
                let whole = archive.is_some();
                send.send(archive).unwrap();
                if whole {
                    socket.text("Step 1/1 : FROM base\n").await;
                    socket.close(1000, "closing", "image created", ID).await;
                }
            }
        })
        .start();
    (daemon, archives)
}

/// A daemon whose builds succeed without any files.
fn building() -> FakeDaemon {
    FakeDaemon::script()
        .session("/images/build", |mut socket| async move {
            socket.starting(ID).await;
            socket.close(1000, "closing", "image created", ID).await;
        })
        .start()
}

/// The next archive that a daemon got.
fn sent(archives: &Receiver<Option<Vec<u8>>>) -> Option<Vec<u8>> {
    archives.recv_timeout(Duration::from_secs(60)).unwrap()
}

const BUILT: &str = "Started to build image with ID 0123456789ab\n\nimage created\n0123456789ab\n";

/// Names of entries with their contents; `/` for directories, and the target of links.
fn entries(archive: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let name = entry.path().unwrap().display().to_string();
        let name = name.trim_start_matches("./").to_owned();
        let mut content = String::new();
        match entry.link_name().unwrap() {
            Some(target) => content = format!("-> {}", target.display()),
            None if name.ends_with('/') => content.push('/'),
            None => {
                entry.read_to_string(&mut content).unwrap();
            }
        }
        found.insert(name.trim_end_matches('/').to_owned(), content);
    }
    found
}

fn names(archive: &[u8]) -> Vec<String> {
    entries(archive).into_keys().collect()
}

/// A context in a directory.
fn context(directory: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn a_build() {
    let daemon = FakeDaemon::script()
        .session("/images/build", |mut socket| async move {
            socket.starting("0123456789ab").await;
            socket.text("Step 1/1 : FROM base\n").await;
            socket
                .text("{\"msg_type\":\"starting\",\"message\":\"\",\"data\":\"output\"}\n")
                .await;
            socket
                .close(1000, "closing", "image created", "0123456789ab")
                .await;
        })
        .session("/images/build", |mut socket| async move {
            socket.starting("0123456789ab").await;
            socket
                .text("The command 'false' returned a non-zero code: 1\n")
                .await;
            socket
                .close(1011, "error", "image build failed", "@9f8e")
                .await;
        })
        .on(
            "GET",
            "/images/build",
            501,
            json!({"message": "images can't be built yet"}),
        )
        .start();
    let build = [
        "build",
        "-t",
        "app",
        "--build-arg",
        "V=1=2",
        "--rm",
        "-e",
        "A=b",
        "context",
    ];
    let expected = "Started to build image with ID 0123456789ab
Step 1/1 : FROM base
{\"msg_type\":\"starting\",\"message\":\"\",\"data\":\"output\"}

image created
0123456789ab
";
    Klee::new(&daemon, &build).run().assert(0, expected, "");
    let body = daemon.body("/images/build");
    assert_eq!(
        body["context"],
        daemon.directory().join("context").to_str().unwrap()
    );
    assert_eq!(body["buildargs"], json!({"V": "1=2"}));
    assert_eq!(
        (&body["cleanup"], &body["quiet"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(body["container_config"]["env"], json!(["A=b"]));

    let output = Klee::new(&daemon, &["build", "."]).run();
    assert_eq!(output.code, Some(1));
    let error = "error: Failed to build image 0123456789ab. Most recent snapshot is @9f8e\n";
    assert_eq!(output.stderr, error);
    let refused = Klee::new(&daemon, &["build", "."]).run();
    refused.assert(1, "", "error: images can't be built yet\n");
}

#[test]
fn every_option_is_passed_on() {
    let daemon = building();
    context(
        daemon.directory(),
        &[("token", "s3cret"), ("Dockerfile", "FROM base\n")],
    );
    let arguments = [
        "build",
        "--target",
        "test",
        "--label",
        "role=web",
        "--label",
        "empty",
        "--no-cache",
        "--secret",
        "id=token",
        "--secret",
        "id=env,env=SECRET",
        "--build-arg",
        "HERE",
        "--build-arg",
        "NOWHERE",
        "--pull",
        "--iidfile",
        "id",
        "--progress",
        "plain",
        ".",
    ];
    Klee::new(&daemon, &arguments)
        .env("HERE", "there")
        .env("SECRET", "x")
        .run()
        .assert(0, BUILT, "");
    let body = daemon.body("/images/build");
    assert_eq!(body["target"], "test");
    assert_eq!(body["labels"], json!({"role": "web", "empty": ""}));
    assert_eq!(body["no_cache"], true);
    assert_eq!(body["secrets"], json!({"token": "czNjcmV0", "env": "eA=="}));
    assert_eq!(body["buildargs"], json!({"HERE": "there"}));
    assert_eq!(body["pull"], "always");
    assert_eq!(body["dockerfile"], "Dockerfile");
    assert!(body.get("upload").is_none() && body.get("dockerfile_text").is_none());
    let id = fs::read_to_string(daemon.directory().join("id")).unwrap();
    assert_eq!(id, ID);
}

#[test]
fn what_is_wrong_with_options() {
    let daemon = building();
    for (arguments, code, error) in [
        (
            &["--secret", "id=gone"][..],
            1,
            "error: secret 'gone': can't read 'gone'",
        ),
        (&["--build-arg", "=x"], 2, "error: invalid --build-arg '=x'"),
        (
            &["--upload"],
            1,
            "error: there is no 'Dockerfile' in '.'\nhint: say with --file",
        ),
    ] {
        let arguments = [&["build"], arguments, &["."]].concat();
        let output = Klee::new(&daemon, &arguments).run();
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.starts_with(error), "{output:?}");
    }
    let output = Klee::new(&daemon, &["build", "--upload", "nowhere"]).run();
    output.assert(1, "", "error: 'nowhere' is not a directory\n");
    let output = Klee::new(&daemon, &["build", "-f", "-", "-"]).run();
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(daemon.requests().is_empty());
}

#[test]
fn dockerfiles_come_from_anywhere() {
    let daemon = building();
    let here = daemon.directory();
    context(
        here,
        &[
            ("app/Dockerfile", "FROM app\n"),
            ("app/deploy/Dockerfile", "FROM deploy\n"),
            ("other", "FROM other\n"),
        ],
    );
    for (flags, input, name, text) in [
        (&[][..], "", "Dockerfile", None),
        (&["-f", "deploy/Dockerfile"], "", "deploy/Dockerfile", None),
        (
            &["-f", "app/deploy/Dockerfile"],
            "",
            "deploy/Dockerfile",
            None,
        ),
        (&["-f", "other"], "", "Dockerfile", Some("FROM other\n")),
        (
            &["-f", "-"],
            "FROM input\n",
            "Dockerfile",
            Some("FROM input\n"),
        ),
        // The daemon may see more.
        (&["-f", "nowhere"], "", "nowhere", None),
    ] {
        let arguments = [&["build"], flags, &["app"]].concat();
        let klee = Klee::new(&daemon, &arguments).input(input.as_bytes());
        klee.run().assert(0, BUILT, "");
        let requests = daemon.requests();
        let body = &requests.last().unwrap().body;
        assert_eq!(body["dockerfile"], name, "{flags:?}");
        assert_eq!(
            body.get("dockerfile_text"),
            text.map(|text| json!(text)).as_ref()
        );
        assert_eq!(body["context"], here.join("app").to_str().unwrap());
    }
}

#[test]
fn a_context_is_sent_but_for_what_is_ignored() {
    let (daemon, archives) = taking();
    let here = daemon.directory().join("app");
    context(
        &here,
        &[
            ("Dockerfile", "FROM base\n"),
            (".dockerignore", "*\n!src\n!lib/keep\n**/*.o\n"),
            ("src/main", "main"),
            ("src/main.o", "object"),
            ("lib/keep", "kept"),
            ("lib/drop", "dropped"),
            ("target/large", "x"),
        ],
    );
    std::os::unix::fs::symlink("/etc/passwd", here.join("src/link")).unwrap();
    let expected = "Started to build image with ID 0123456789ab\nStep 1/1 : FROM base\n\n\
                    image created\n0123456789ab\n";
    let upload = ["build", "--upload", "app"];
    Klee::new(&daemon, &upload).run().assert(0, expected, "");
    let found = entries(&sent(&archives).unwrap());
    let wanted = [
        (".dockerignore", "*\n!src\n!lib/keep\n**/*.o\n"),
        ("Dockerfile", "FROM base\n"),
        ("lib", "/"),
        ("lib/keep", "kept"),
        ("src", "/"),
        ("src/link", "-> /etc/passwd"),
        ("src/main", "main"),
    ];
    let wanted = wanted.map(|(name, content)| (name.to_owned(), content.to_owned()));
    assert_eq!(found, BTreeMap::from(wanted));
    let body = daemon.body("/images/build");
    assert_eq!(
        (&body["upload"], &body["context"]),
        (&json!(true), &json!(""))
    );

    // A Dockerfile may have a file of its own.
    context(
        &here,
        &[
            ("test.Dockerfile", "FROM base\n"),
            ("test.Dockerfile.dockerignore", "*"),
        ],
    );
    let upload = ["build", "--upload", "-f", "test.Dockerfile", "app"];
    Klee::new(&daemon, &upload).run().assert(0, expected, "");
    let found = names(&sent(&archives).unwrap());
    let wanted = [
        ".dockerignore",
        "test.Dockerfile",
        "test.Dockerfile.dockerignore",
    ];
    assert_eq!(found, wanted);

    fs::write(here.join(".dockerignore"), "a\n[").unwrap();
    let output = Klee::new(&daemon, &["build", "--upload", "app"]).run();
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.starts_with("error: .dockerignore, line 2: "),
        "{output:?}"
    );
}

#[test]
fn a_large_context_is_sent_whole() {
    let (daemon, archives) = taking();
    let here = daemon.directory().join("app");
    let content = "0123456789abcdef".repeat(1 << 16);
    context(
        &here,
        &[
            ("Dockerfile", "FROM base\n"),
            ("a", &content),
            ("b", &content),
        ],
    );
    let output = Klee::new(&daemon, &["build", "-q", "--upload", "app"]).run();
    // klee wants to hear what it doesn't show, for the case that the build fails.
    assert_eq!(daemon.body("/images/build")["quiet"], json!(false));
    output.assert(0, "0123456789ab\n", "");
    let found = entries(&sent(&archives).unwrap());
    assert!(found["a"] == content && found["b"] == content);
}

#[test]
fn archives_and_dockerfiles_on_standard_input() {
    let (daemon, archives) = taking();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(10);
    builder
        .append_data(&mut header, "Dockerfile", &b"FROM base\n"[..])
        .unwrap();
    let archive = builder.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    let gzip = gzip.finish().unwrap();
    let build = |arguments: &[&str], input: &[u8]| {
        let arguments = [&["build", "-q"], arguments, &["-"]].concat();
        Klee::new(&daemon, &arguments).input(input).run()
    };
    for input in [&archive, &gzip] {
        build(&["-f", "sub/Dockerfile"], input).assert(0, "0123456789ab\n", "");
        assert_eq!(sent(&archives).unwrap(), archive);
        let requests = daemon.requests();
        assert_eq!(
            requests.last().unwrap().body["dockerfile"],
            "sub/Dockerfile"
        );
    }
    build(&[], b"FROM base\n").assert(0, "0123456789ab\n", "");
    assert!(entries(&sent(&archives).unwrap()).is_empty());
    let requests = daemon.requests();
    assert_eq!(
        requests.last().unwrap().body["dockerfile_text"],
        "FROM base\n"
    );
    let error = "error: the archive is compressed by xz\n\
                 hint: decompress it on the way: xz -dc FILE | klee …\n";
    build(&[], b"\xfd7zXZ\0").assert(1, "", error);
    build(&[], b"").assert(1, "", "error: there is no archive: the input is empty\n");
}

#[test]
fn a_context_that_can_not_be_read_is_why_a_build_fails() {
    let (send, archives) = channel();
    let daemon = FakeDaemon::script()
        .session("/images/build", move |mut socket| {
            let send = send.clone();
            async move { send.send(socket.archive().await).unwrap() }
        })
        .start();
    // Gzip that breaks off.
    let output = Klee::new(&daemon, &["build", "-"])
        .input(b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xff\xff\xff")
        .run();
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("the upload was broken off: "),
        "{output:?}"
    );
    assert_eq!(sent(&archives), None);
}

#[test]
fn a_daemon_that_wants_no_more_is_heard() {
    let daemon = FakeDaemon::script()
        .session("/images/build", |mut socket| async move {
            socket.starting("").await;
            socket.binary().await.unwrap();
            socket.text("error in 'RUNN': invalid instruction\n").await;
            socket.close(1011, "error", "image build failed", "").await;
        })
        .start();
    let here = daemon.directory().join("app");
    let content = "0123456789abcdef".repeat(1 << 18);
    context(
        &here,
        &[
            ("Dockerfile", "RUNN\n"),
            ("large", &content),
            ("larger", &content),
        ],
    );
    let output = Klee::new(&daemon, &["build", "--upload", "app"]).run();
    output.assert(
        1,
        "error in 'RUNN': invalid instruction\n",
        "error: image build failed\n",
    );
    let quiet = Klee::new(&daemon, &["build", "-q", "--upload", "app"]).run();
    quiet.assert(
        1,
        "",
        "error in 'RUNN': invalid instruction\nerror: image build failed\n",
    );
}

#[test]
fn an_interrupted_build_goes_away() {
    let (send, ended) = channel();
    let daemon = FakeDaemon::script()
        .session("/images/build", move |mut socket| {
            let send = send.clone();
            async move {
                socket.starting(ID).await;
                socket.text("ready\n").await;
                send.send(socket.archive().await).unwrap();
            }
        })
        .start();
    let mut running =
        Klee::new(&daemon, &["build", "."]).spawn(Stdio::null(), Stdio::piped(), Stdio::piped());
    let mut stdout = running.0.stdout.take().unwrap();
    let mut stderr = running.0.stderr.take().unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"ready\n") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        shown.push(byte[0]);
    }
    running.signal(Signal::INT);
    assert_eq!(running.wait(), Some(130));
    let mut error = String::new();
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(error, "error: interrupted\n");
    assert_eq!(sent(&ended), None);
}

#[test]
fn an_interrupted_upload_waits_for_nobody() {
    let daemon = FakeDaemon::script()
        .session("/images/build", |mut socket| async move {
            socket.starting(ID).await;
            // Takes nothing.
            std::future::pending::<()>().await;
            drop(socket);
        })
        .start();
    let here = daemon.directory().join("app");
    let content = "0123456789abcdef".repeat(1 << 20);
    context(&here, &[("Dockerfile", "FROM base\n"), ("a", &content)]);
    let fifo = daemon.directory().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let endless = || {
        let open = fs::OpenOptions::new().read(true).write(true).open(&fifo);
        let mut fifo = open.unwrap();
        let header = [0; 512];
        fifo.write_all(&header).unwrap();
        fifo
    };
    for (path, stdin) in [("app", Stdio::null()), ("-", endless().into())] {
        let mut running = Klee::new(&daemon, &["build", "--upload", path]).spawn(
            stdin,
            Stdio::piped(),
            Stdio::piped(),
        );
        let mut started = [0; 7];
        let stdout = running.0.stdout.as_mut().unwrap();
        stdout.read_exact(&mut started).unwrap();
        assert_eq!(&started, b"Started");
        running.signal(Signal::INT);
        assert_eq!(running.wait(), Some(130), "{path}");
    }
}

#[test]
fn the_file_with_the_id_is_that_of_this_build() {
    let daemon = FakeDaemon::script()
        .session("/images/build", |mut socket| async move {
            socket.starting("").await;
            socket.close(1011, "error", "no", "").await;
        })
        .start();
    let file = daemon.directory().join("id");
    fs::write(&file, "fedcba987654").unwrap();
    let output = Klee::new(&daemon, &["build", "--iidfile", "id", "."]).run();
    output.assert(1, "", "error: no\n");
    assert!(!file.exists());
}
