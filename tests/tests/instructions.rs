//! The instructions of Dockerfiles, in images and in the containers made of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::process::Stdio;

use kleene_tests::{Context, Daemon, Room, until};
use serde_json::json;

#[test]
fn settings() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new(
        r#"ARG BASE=FreeBSD
FROM $BASE
ARG VERSION=1 UNSET
ENV A=1 B="x y" C=${A:-no}$VERSION \
    # In between.
    D='$A'
ENV LEGACY one two  three
ENV PATH=/opt:$PATH E=${NOPE:-default} F=${A:+set} G=\$A
LABEL org.example.one="a b" two=$VERSION
EXPOSE 80 53/udp 8000-8002
WORKDIR /srv
WORKDIR deep
RUN pwd > pwd; id -un > id; echo "$A|$B|$C|$D|$LEGACY|$E|$F|$G|$UNSET" > env
USER www
RUN id -un > /tmp/id
USER root:staff
VOLUME ["/data", "x"]
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=2s --retries=4 --start-period=1s CMD test -e /srv/deep/pwd
SHELL ["/bin/sh", "-ec"]
RUN false || echo shell > /shell
ENTRYPOINT ["echo", "$A"]
CMD ["x", "y z"]
"#,
    );
    let told = daemon.build(&context, &["-t", "app"]).ok();
    assert!(told.contains("Step 1/21 : ARG BASE=FreeBSD"), "{told}");
    let shown = daemon.inspect("image", "app");
    let env: Vec<&str> = shown["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    for variable in [
        "A=1",
        "B=x y",
        "C=no1",
        "D=$A",
        "LEGACY=one two  three",
        "E=default",
        "F=set",
        "G=$A",
    ] {
        assert!(env.contains(&variable), "{variable}: {env:?}");
    }
    assert!(env.iter().any(|v| v.starts_with("PATH=/opt:/")), "{env:?}");
    assert!(!env.iter().any(|v| v.starts_with("VERSION")), "{env:?}");
    assert_eq!(
        shown["labels"],
        json!({"org.example.one": "a b", "two": "1"})
    );
    assert_eq!(shown["user"], "root:staff");
    assert_eq!(shown["cmd"], json!(["x", "y z"]));
    assert_eq!(daemon.runs("app", &[]), "1 x y z\n");
    assert_eq!(daemon.runs("app", &["other"]), "1 other\n");
    let seen = daemon.sh(
        "app",
        "pwd; cat pwd id env /tmp/id /shell; id -gn; ls -d x /data",
    );
    assert_eq!(
        seen,
        "/srv/deep\n/srv/deep\nroot\n1|x y|no1|$A|one two  three|default|set|$A|\nwww\nshell\nstaff\n/data\nx\n"
    );
    // Stop signal and health check belong to the image's containers.
    let script = "trap 'exit 9' USR1; while :; do sleep 0.02; done";
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "box",
            "--entrypoint",
            "sh",
            "app",
            "-c",
            script,
        ])
        .ok();
    daemon.klee(&["exec", "-q", "box", "true"]).ok();
    let container = daemon.inspect("container", "box")["container"].clone();
    let text = container.to_string();
    assert!(text.contains("test -e /srv/deep/pwd"), "{text}");
    until("it is healthy", || {
        daemon
            .inspect("container", "box")
            .to_string()
            .contains("\"healthy\"")
    });
    daemon.klee(&["stop", "box"]).ok();
    assert_eq!(
        daemon.inspect("container", "box")["container"]["exit_code"],
        9
    );
}

#[test]
fn entry_points_and_commands() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new("");
    for (lines, alone, with_arguments) in [
        ("CMD echo cmd", "cmd", None),
        (
            "CMD [\"echo\", \"cmd\"]",
            "cmd",
            Some(("echo other", "other")),
        ),
        ("ENTRYPOINT [\"echo\"]", "", Some(("other", "other"))),
        (
            "ENTRYPOINT [\"echo\", \"e\"]\nCMD [\"c\"]",
            "e c",
            Some(("other", "e other")),
        ),
        ("ENTRYPOINT echo $0", "/bin/sh", None),
        ("CMD [\"c\"]\nENTRYPOINT [\"echo\"]", "c", None),
        ("CMD [\"old\"]\nCMD [\"echo\", \"new\"]", "new", None),
        (
            "ENTRYPOINT [\"cat\"]\nENTRYPOINT [\"echo\", \"new\"]",
            "new",
            None,
        ),
        ("ENV X=y\nCMD echo $X", "y", None),
        ("ARG X=y\nCMD echo $X", "y", None),
        (
            "ENTRYPOINT [\"echo\"]\nCMD echo c",
            "/bin/sh -c echo c",
            None,
        ),
    ] {
        context.dockerfile(&format!("FROM FreeBSD\n{lines}\n"));
        daemon.build(&context, &["-t", "app"]).ok();
        assert_eq!(daemon.runs("app", &[]).trim(), alone, "{lines}");
        if let Some((arguments, wanted)) = with_arguments {
            let words: Vec<&str> = arguments.split(' ').collect();
            assert_eq!(daemon.runs("app", &words).trim(), wanted, "{lines}");
        }
    }
    // A new entry point throws the base image's command away.
    context.dockerfile("FROM FreeBSD\nCMD [\"base\"]\n");
    daemon.build(&context, &["-t", "base"]).ok();
    context.dockerfile("FROM base\nENTRYPOINT [\"echo\", \"e\"]\n");
    daemon.build(&context, &["-t", "app"]).ok();
    assert_eq!(daemon.runs("app", &[]), "e\n");
    let with = |entrypoint: &str, more: &[&str]| {
        let words = ["run", "-q", "--rm", "--entrypoint", entrypoint, "app"];
        daemon.klee(&[&words[..], more].concat()).ok()
    };
    assert_eq!(with("printf", &["%s", "x"]), "x");
    assert_eq!(with("[\"printf\", \"%s-%s\"]", &["x", "y"]), "x-y");
    assert_eq!(with("", &["echo", "alone"]), "alone\n");
    // What exec runs has nothing to do with the entry point.
    daemon
        .klee(&[
            "run",
            "-d",
            "--name",
            "box",
            "--entrypoint",
            "sleep",
            "app",
            "1000",
        ])
        .ok();
    assert_eq!(daemon.klee(&["exec", "-q", "box", "echo", "x"]).ok(), "x\n");
}

#[test]
fn copied_files() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let context = Context::new("");
        context
            .file("a.txt", "a")
            .file("b.txt", "b")
            .file("dir/one", "1")
            .file("dir/sub/two", "2")
            .file("dir/sub/skip.o", "")
            .file("dir/.hidden", "h")
            .file("odd name", "odd")
            .file("x/y/z", "z")
            .link("dir/link", "one");
        let script = context.join("run.sh");
        std::fs::write(&script, "#!/bin/sh\necho ran\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        context.dockerfile(
            r#"FROM FreeBSD AS files
RUN mkdir -p /from/deep && echo stage > /from/deep/file && chown www /from/deep/file
FROM FreeBSD
ARG WHERE=/args
COPY *.txt /wild/
COPY dir /dir
COPY dir/ /other/dir/
COPY ["odd name", "/odd name"]
COPY a.txt $WHERE/renamed
COPY --chown=www:staff --chmod=0640 a.txt dir /owned/
COPY --chown=1234 a.txt /number
COPY --exclude=**/*.o --exclude=.hidden dir /excluded/
COPY --parents x/y/z /parents/
COPY --from=files /from /stage
COPY --from=0 --chown=80:50 /from/deep/file /numbered
COPY --from=nginx /usr/local/www/nginx/index.html /image/
COPY run.sh /bin/run.sh
WORKDIR /work
COPY a.txt .
COPY b.txt ./sub/
RUN run.sh > ran
"#,
        );
        daemon.build(&context, &["-t", "app"]).ok();
        let seen = daemon.sh(
            "app",
            "cd /; ls -A wild dir dir/sub other/dir excluded excluded/sub; cat 'odd name' args/renamed \
             work/a.txt work/sub/b.txt parents/x/y/z dir/link stage/deep/file work/ran image/index.html; \
             readlink dir/link; stat -c '%u:%g %a' owned/a.txt owned/one owned/sub number \
             stage/deep/file numbered dir/one bin/run.sh",
        );
        let wanted = "dir:\n.hidden\nlink\none\nsub\n\ndir/sub:\nskip.o\ntwo\n\nexcluded:\nlink\none\nsub\n\n\
             excluded/sub:\ntwo\n\nother/dir:\n.hidden\nlink\none\nsub\n\nwild:\na.txt\nb.txt\n\
             oddaabz1stage\nran\n<h1>Welcome to nginx!</h1>\none\n\
             80:50 640\n80:50 640\n80:50 640\n1234:1234 644\n80:0 644\n80:50 644\n0:0 644\n0:0 755\n";
        assert_eq!(seen, wanted, "{room:?}");
    }
}

#[test]
fn added_archives_and_addresses() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new("");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o600);
    tar.append_data(&mut header, "in/archive", &b"inner"[..])
        .unwrap();
    let archive = tar.into_inner().unwrap();
    let url = serve(archive.clone());
    context.file("files.tar", &archive).file("plain", "plain");
    context.dockerfile(&format!(
        "FROM FreeBSD\nADD files.tar plain /added/\nADD --unpack=false files.tar /kept/\n\
         COPY files.tar /copied/\nADD {url}/files.tar /downloaded/\n\
         ADD --unpack=true {url}/other.tar /unpacked/\nADD --chmod=0640 {url}/named /name\n"
    ));
    daemon.build(&context, &["-t", "app"]).ok();
    let seen = daemon.sh(
        "app",
        "cd /; cat added/in/archive added/plain unpacked/in/archive; echo; find kept copied downloaded \
         -type f; stat -c '%a %s' name; stat -c %a added/in/archive",
    );
    let size = archive.len();
    assert_eq!(
        seen,
        format!(
            "innerplaininner\nkept/files.tar\ncopied/files.tar\ndownloaded/files.tar\n640 {size}\n600\n"
        )
    );
    let wrong = format!("sha256:{}", "0".repeat(64));
    context.dockerfile(&format!(
        "FROM FreeBSD\nADD --checksum={wrong} {url}/x /x\n"
    ));
    let refused = daemon.build(&context, &["--rm"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stdout.contains("checksum") || refused.stdout.contains("sha256"),
        "{refused:?}"
    );
    context.dockerfile(&format!("FROM FreeBSD\nADD {url}/missing /x\n"));
    let refused = daemon.build(&context, &["--rm"]);
    assert!(
        refused.code == 1 && refused.stdout.contains("404"),
        "{refused:?}"
    );
}

/// A web server that answers everything but `/missing` with this, until the test ends.
fn serve(content: Vec<u8>) -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream);
            let mut first = String::new();
            let mut line = String::new();
            lines.read_line(&mut first).unwrap();
            while lines.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let (status, content) = match first.contains("/missing") {
                true => ("404 Not Found", &b""[..]),
                false => ("200 OK", &content[..]),
            };
            let length = content.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let stream = lines.get_mut();
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(content));
        }
    });
    url
}

#[test]
fn texts_in_the_dockerfile() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new(
        r#"# syntax=docker/dockerfile:1
FROM FreeBSD
ENV NAME=world
RUN <<EOF
echo one > /one
  echo "two $NAME" > /two
EOF
RUN <<-'EOF' cat > /quoted
	hello $NAME
	EOF
RUN <<EOF
#!/bin/cat
a script for cat
EOF
COPY <<EOF <<'RAW' /texts/
hello $NAME
EOF
raw $NAME
RAW
COPY --chmod=0755 <<script /bin/script
#!/bin/sh
echo from \$0
script
RUN script > /ran; \
    # A comment in between.

    echo more >> /ran
"#,
    );
    let told = daemon.build(&context, &["-t", "app"]).ok();
    assert!(told.contains("a script for cat"), "{told}");
    let seen = daemon.sh("app", "cd /; cat one two quoted texts/EOF texts/RAW ran");
    assert_eq!(
        seen,
        "one\ntwo world\nhello $NAME\nhello world\nraw $NAME\nfrom /bin/script\nmore\n"
    );
}

#[test]
fn stages_and_targets() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new(
        "ARG TAG=latest\nFROM FreeBSD:$TAG AS base\nENV A=base\nRUN > /base\n\
         FROM base AS test\nRUN exit 7\n\
         FROM base AS app\nENV B=app\nRUN > /app\n\
         FROM scratch\nCOPY --from=app /app /bin/busybox /bin/sh /\n",
    );
    let told = daemon.build(&context, &["-t", "last"]).ok();
    assert!(!told.contains("exit 7"), "{told}");
    let listing = daemon.klee(&["image", "export", "-o", "last.tar", "last"]);
    listing.ok();
    let file = std::fs::File::open(daemon.directory().join("last.tar")).unwrap();
    let mut names: Vec<String> = tar::Archive::new(file)
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .filter(|name| name != "./" && !name.is_empty())
        .collect();
    names.sort();
    assert_eq!(names, ["app", "busybox", "sh"]);
    assert!(
        daemon.inspect("image", "last")["env"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    for target in ["app", "APP", "2"] {
        daemon
            .build(&context, &["-t", "app", "--target", target])
            .ok();
        assert_eq!(
            daemon.sh("app", "cd /; ls base app; echo $A$B"),
            "app\nbase\nbaseapp\n"
        );
    }
    let failed = daemon.build(&context, &["-t", "app", "--target", "test"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stdout.contains("non-zero code: 7"), "{failed:?}");
    let other = daemon.build(&context, &["--build-arg", "TAG=nope", "--rm"]);
    assert!(
        other.code == 1 && format!("{other:?}").contains("FreeBSD:nope"),
        "{other:?}"
    );
    context.dockerfile("FROM nope\nRUN > /made\n");
    daemon
        .build(&context, &["-t", "from", "--from", "nginx"])
        .ok();
    assert!(
        daemon
            .sh("from", "ls /made /usr/local/www/nginx")
            .contains("index.html")
    );
}

#[test]
fn arguments() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new(
        "FROM FreeBSD\nRUN echo \"early:$X\" > /early\nARG X=default\nARG Y\nARG Z=${X}z\nENV W=env\nARG W=arg\n\
         RUN echo \"$X|$Y|$Z|$W|$TARGETARCH|$HTTP_PROXY\" > /late\n",
    );
    let cases: [(&[&str], &str); 4] = [
        (&[], "default||defaultz|env||"),
        (
            &["--build-arg", "X=1", "--build-arg", "Y=a b"],
            "1|a b|1z|env||",
        ),
        (&["--build-arg", "X=", "--build-arg", "W=no"], "||z|env||"),
        (
            &["--build-arg", "HTTP_PROXY=http://p", "--build-arg", "Y"],
            "default|mine|defaultz|env||http://p",
        ),
    ];
    for (options, late) in cases {
        let path = context.path().display().to_string();
        let words = [&["build", "-t", "app"], options, &[&path]].concat();
        let status = daemon
            .command(&words)
            .env("Y", "mine")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let seen = daemon.sh("app", "cat /early /late; echo \"$X$Y$HTTP_PROXY$W\"");
        assert_eq!(seen, format!("early:\n{late}\nenv\n"), "{options:?}");
    }
    let told = daemon.build(&context, &["--build-arg", "NOPE=x"]).ok();
    assert!(told.contains("'NOPE'"), "{told}");
}

/// What is ignored is neither copied nor sent.
#[test]
fn ignored_files() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new("FROM FreeBSD\nCOPY . /all/\n");
    context
        .file(
            ".dockerignore",
            "# Comment\n*.log\nbuild/\n**/secret*\n!build/keep\n!important.log\nDockerfile\n",
        )
        .file("a.log", "")
        .file("important.log", "")
        .file("build/big", "")
        .file("build/keep", "")
        .file("src/secret.key", "")
        .file("src/main", "")
        .file("src/x.log", "");
    let wanted = "./.dockerignore\n./build/keep\n./important.log\n./src/main\n./src/x.log\n";
    for upload in [&[][..], &["--upload"]] {
        daemon
            .build(&context, &[upload, &["-t", "app"]].concat())
            .ok();
        let seen = daemon.sh(
            "app",
            "cd /all; find . -type f | LC_ALL=C sed 's/x/x/' > /tmp/l; cat /tmp/l",
        );
        let mut lines: Vec<&str> = seen.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.join("\n") + "\n", wanted, "{upload:?}");
        context.dockerfile("FROM FreeBSD\nCOPY src/secret.key /\n");
        assert_eq!(
            daemon.build(&context, &[upload, &["--rm"]].concat()).code,
            1
        );
        context.dockerfile("FROM FreeBSD\nCOPY . /all/\n");
    }
    // The Dockerfile's own list goes before the common one.
    context
        .file("Other", "FROM FreeBSD\nCOPY . /all/\n")
        .file("Other.dockerignore", "src\nbuild\n");
    for upload in [&[][..], &["--upload"]] {
        daemon
            .build(&context, &[upload, &["-t", "app", "-f", "Other"]].concat())
            .ok();
        let seen = daemon.sh("app", "cd /all; ls");
        assert_eq!(
            seen,
            "Dockerfile\nOther\nOther.dockerignore\na.log\nimportant.log\n"
        );
    }
}
