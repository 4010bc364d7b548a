//! What commands of builds and containers of images find mounted: caches, secrets, volumes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use kleene_tests::{Context, Daemon, Room, until};

#[test]
fn mounts_of_commands() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let context = Context::new(
            "FROM FreeBSD AS files\nRUN echo stage > /file\n\
             FROM FreeBSD\n\
             RUN --mount=type=cache,target=/cache,id=one,mode=0700,uid=80 stat -c %U:%a /cache > /cached; \
             echo x >> /cache/count; wc -l < /cache/count >> /cached\n\
             RUN --mount=type=bind,target=/ctx,source=dir cat /ctx/file > /bound; ! touch /ctx/new\n\
             RUN --mount=type=bind,target=/ctx,rw > /ctx/new && ls /ctx/dir /ctx/new > /written\n\
             RUN --mount=from=files,source=/file,target=/f cat /f > /staged\n\
             RUN --mount=type=tmpfs,target=/t > /t/x && stat -c %a /t > /tmpfs\n",
        );
        context.file("dir/file", "context\n");
        for round in 1..=2 {
            daemon.build(&context, &["-t", "app", "--no-cache"]).ok();
            let seen = daemon.sh(
                "app",
                "cd /; cat cached bound written staged; find cache ctx t f -type f -size +0 2>/dev/null; true",
            );
            let wanted = format!("www:700\n{round}\ncontext\n/ctx/new\n\n/ctx/dir:\nfile\nstage\n");
            assert_eq!(seen, wanted, "{room:?}");
            assert!(!context.join("new").exists(), "the context is only read");
        }
        // Caches go with --build-cache, and not before.
        let counted = |daemon: &Daemon| {
            daemon
                .sh("app", "cat /cached")
                .lines()
                .last()
                .map(str::to_owned)
        };
        daemon.klee(&["image", "prune", "-f"]).ok();
        daemon.build(&context, &["-t", "app", "--no-cache"]).ok();
        assert_eq!(counted(&daemon).as_deref(), Some("3"));
        daemon.klee(&["image", "prune", "-f", "--build-cache"]).ok();
        daemon.build(&context, &["-t", "app", "--no-cache"]).ok();
        assert_eq!(counted(&daemon).as_deref(), Some("1"));
    }
}

/// Secrets are shown to one command, and are nowhere afterwards.
#[test]
fn secrets_stay_secret() {
    let daemon = Daemon::new(Room::Dir);
    let secret = format!("hush-{}", daemon.pid());
    let context = Context::new(
        "FROM FreeBSD\n\
         RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /length; stat -c '%a %U' /run/secrets/token >> /length\n\
         RUN --mount=type=secret,id=token,target=/etc/token,uid=80,mode=0444 stat -c '%a %U' /etc/token >> /length\n\
         RUN --mount=type=secret,id=token,env=TOKEN test ${#TOKEN} -gt 5\n\
         RUN test -z \"$TOKEN\" && ! test -s /run/secrets/token && ! test -s /etc/token\n\
         RUN --mount=type=secret,id=missing ! test -e /run/secrets/missing\n",
    );
    let file = daemon.directory().join("token");
    std::fs::write(&file, &secret).unwrap();
    let from_file = format!("id=token,src={}", file.display());
    daemon
        .build(&context, &["-t", "app", "--secret", &from_file])
        .ok();
    let length = secret.len();
    assert_eq!(
        daemon.sh("app", "cat /length"),
        format!("{length}\n400 root\n444 www\n")
    );
    let path = context.path().display().to_string();
    let words = [
        "build",
        "-t",
        "env",
        "--no-cache",
        "--upload",
        "--secret",
        "id=token,env=MINE",
        &path,
    ];
    let status = daemon
        .command(&words)
        .env("MINE", &secret)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let failing = Context::new("FROM FreeBSD\nRUN --mount=type=secret,id=token false\n");
    daemon
        .build(&failing, &["-t", "bad", "--secret", &from_file])
        .fails(1);
    let shown = format!(
        "{}{}{}",
        daemon.inspect("image", "app"),
        daemon.klee(&["image", "history", "--no-trunc", "app"]).ok(),
        daemon.log()
    );
    assert!(!shown.contains(&secret), "{shown}");
    std::fs::remove_file(file).unwrap();
    daemon
        .klee(&["image", "save", "-o", "app.tar", "app", "env", "bad:failed"])
        .ok();
    let holds = files_with(daemon.directory(), secret.as_bytes());
    assert!(holds.is_empty(), "{holds:?}");
}

/// The files beneath a directory that hold some bytes.
fn files_with(directory: &std::path::Path, wanted: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        let path = entry.path();
        if kind.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if kind.is_file() && entry.metadata().unwrap().size() < 64 << 20 {
            let content = std::fs::read(&path).unwrap();
            if content.windows(wanted.len()).any(|part| part == wanted) {
                found.push(path);
            }
        }
    }
    found
}

/// An image's VOLUME is an anonymous volume of each container, which has the image's files in it.
#[test]
fn volumes_of_images() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let context = Context::new(
            "FROM FreeBSD\nRUN mkdir /data && echo default > /data/file && chown www /data\nVOLUME /data\n",
        );
        daemon.build(&context, &["-t", "app"]).ok();
        let volumes = || daemon.klee(&["volume", "ls", "-q"]).ok();
        let seen = daemon.sh(
            "app",
            "cat /data/file; stat -c %U /data; echo mine > /data/file",
        );
        assert_eq!(seen, "default\nwww\n");
        until("--rm takes it along", || volumes().is_empty());
        let script = ["sh", "-c", "cat /data/file; echo mine > /data/file"];
        let words = ["run", "-q", "--name", "box", "app"];
        assert_eq!(
            daemon.klee(&[&words[..], &script].concat()).ok(),
            "default\n"
        );
        assert_eq!(volumes().lines().count(), 1);
        assert_eq!(
            daemon.klee(&["start", "-q", "box"]).ok(),
            "mine\n",
            "it is the container's own"
        );
        assert_eq!(daemon.sh("app", "cat /data/file"), "default\n");
        until("--rm takes it along", || volumes().lines().count() == 1);
        let name = volumes().trim().to_owned();
        let mounts = daemon.inspect("container", "box")["container_mountpoints"].clone();
        assert_eq!(mounts[0]["source"], name.as_str());
        assert_eq!(mounts[0]["destination"], "/data");
        daemon.klee(&["rm", "box"]).ok();
        assert_eq!(volumes().trim(), name, "it outlives the container");
        daemon.klee(&["volume", "prune", "-f"]).ok();
        assert_eq!(volumes(), "");
        // A mount of the user's takes its place.
        let words = [
            "run",
            "-q",
            "--rm",
            "-m",
            "named:/data",
            "app",
            "cat",
            "/data/file",
        ];
        assert_eq!(daemon.klee(&words).ok(), "default\n");
        assert_eq!(volumes(), "named\n");
    }
}
