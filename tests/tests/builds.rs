//! Builds as their users see them: images with their steps, failures, what is known from earlier ones,
//! and what neither a Dockerfile nor a context can do to the host.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::path::Path;

use kleene_tests::{Context, Daemon, Room, Traces};

/// The snapshots that a build has told of.
fn snapshots(told: &str) -> Vec<String> {
    let lines = told.lines();
    let names = lines.filter_map(|line| line.strip_prefix("--> Snapshot created: "));
    names.map(str::to_owned).collect()
}

fn cached(told: &str) -> usize {
    told.matches("--> Using cache").count()
}

#[test]
fn images_and_the_snapshots_of_their_steps() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let context = Context::new(
            "# A comment.\nFROM FreeBSD\nENV GREETING=hello\nCOPY file /srv/\n\
             RUN echo $GREETING > /srv/one; echo out; echo err >&2\nRUN rm /srv/file; > /srv/two\n\
             CMD [\"cat\", \"/srv/one\"]\n",
        );
        context.file("file", "content");
        let told = daemon.build(&context, &["-t", "app"]).ok();
        let id = daemon.image_id("app");
        let taken = snapshots(&told);
        let lines: Vec<&str> = told.lines().collect();
        let made = |snapshot: &String| format!("--> Snapshot created: {snapshot}");
        let wanted = [
            &format!("Started to build image with ID {id}"),
            "Step 1/6 : FROM FreeBSD",
            "Step 2/6 : ENV GREETING=hello",
            "Step 3/6 : COPY file /srv/",
            &made(&taken[0]),
            "Step 4/6 : RUN echo $GREETING > /srv/one; echo out; echo err >&2",
        ];
        assert_eq!(lines[..6], wanted, "{told}");
        assert!(lines[6..8].contains(&"out") && lines[6..8].contains(&"err"));
        assert_eq!(taken.len(), 3, "{told}");
        assert_eq!(daemon.runs("app", &[]), "hello\n");
        assert_eq!(daemon.runs("app", &["ls", "/srv"]), "one\ntwo\n");
        // What the contract shows: the instructions with the snapshots after them.
        let shown = daemon.inspect("image", "app");
        let steps = shown["instructions"].as_array().unwrap();
        let named: Vec<&str> = steps.iter().map(|step| step[1].as_str().unwrap()).collect();
        let (copy, run, last) = (&*taken[0], &*taken[1], &*taken[2]);
        assert_eq!(named, ["", "", copy, run, last, ""]);
        assert_eq!(steps[1][0], "ENV GREETING=hello");
        // Each of them can be run, and built from.
        let listing = |image: &str| daemon.runs(image, &["ls", "/srv"]);
        assert_eq!(listing(&format!("app{copy}")), "file\n");
        assert_eq!(listing(&format!("app{run}")), "file\none\n");
        assert_eq!(listing(&format!("{id}{last}")), "one\ntwo\n");
        let from = Context::new(&format!("FROM app:latest{run}\nRUN touch /srv/three\n"));
        daemon.build(&from, &["-t", "from"]).ok();
        assert_eq!(listing("from"), "file\none\nthree\n");
        assert_eq!(
            daemon.runs("from", &[]),
            "hello\n",
            "the settings come along"
        );
        let wrong = Context::new("FROM app@0123456789ab\nRUN true\n");
        let told = daemon.build(&wrong, &[]);
        assert!(
            told.code == 1 && told.stdout.contains("0123456789ab"),
            "{told:?}"
        );
        // What is in use stays, and the message says by what.
        let base = daemon.image_id("FreeBSD");
        let refused = daemon.klee(&["image", "rm", "FreeBSD"]).fails(1);
        let words = format!("could not remove image {base} since it is used for images:\n{id}\n");
        assert!(refused.contains(&words), "{refused}");
        let child = daemon.image_id("from");
        let refused = daemon.klee(&["image", "rm", "app"]).fails(1);
        assert!(
            refused.contains(&format!("images:\n{child}\n")),
            "{refused}"
        );
        daemon.klee(&["create", "--name", "box", "from"]).ok();
        let container = &daemon.containers()[0];
        let refused = daemon.klee(&["image", "rm", "from"]).fails(1);
        assert!(
            refused.contains(&format!("used for containers:\n{container}\n")),
            "{refused}"
        );
        daemon.klee(&["rm", "box"]).ok();
        daemon.klee(&["image", "rm", "from", "app", "FreeBSD"]).ok();
    }
}

#[test]
fn failed_builds() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let before = daemon.images();
        let context =
            Context::new("FROM FreeBSD\nRUN > /one\nENV A=b\nRUN > /two; exit 3\nRUN true\n");
        let failed = daemon.build(&context, &["-t", "app:1"]);
        assert_eq!(failed.code, 1);
        let command = "The command '/bin/sh -c > /two; exit 3' returned a non-zero code: 3\n";
        assert!(failed.stdout.ends_with(command), "{failed:?}");
        let snapshot = &snapshots(&failed.stdout)[0];
        let id = daemon.image_id("app:failed");
        let hint = format!("Failed to build image {id}. Most recent snapshot is {snapshot}");
        assert!(failed.stderr.contains(&hint), "{failed:?}");
        assert_ne!(daemon.klee(&["image", "inspect", "app:1"]).code, 0);
        // Where it has failed, and where it still was good.
        let found = |image: &str| daemon.sh(image, "cd /; ls one two 2>/dev/null; echo $A");
        assert_eq!(found(&format!("app:failed{snapshot}")), "one\nb\n");
        assert_eq!(found("app:failed"), "one\ntwo\nb\n");
        // What was good is taken from there, and no second one piles up.
        let again = daemon.build(&context, &["-t", "app:1"]);
        assert_eq!((again.code, cached(&again.stdout)), (1, 1), "{again:?}");
        assert_ne!(daemon.image_id("app:failed"), id);
        context.dockerfile("FROM FreeBSD\nRUN > /one\nENV A=b\nRUN > /two; exit 0\n");
        let mended = daemon.build(&context, &["-t", "app:1"]).ok();
        assert_eq!(cached(&mended), 1, "{mended}");
        daemon.klee(&["image", "rm", "app:1"]).ok();
        daemon.klee(&["image", "prune", "-f"]).ok();
        daemon.klee(&["image", "rm", "app:failed"]).ok();
        daemon.klee(&["image", "prune", "-f"]).ok();
        assert_eq!(daemon.images(), before);
        // With --rm nothing is left at all.
        context.dockerfile("FROM FreeBSD AS x\nRUN true\nFROM x\nRUN no-such-program\n");
        let failed = daemon.build(&context, &["-t", "app:1", "--rm"]);
        assert_eq!(failed.code, 1);
        assert!(
            failed.stdout.contains("returned a non-zero code: 127"),
            "{failed:?}"
        );
        assert_eq!(daemon.images(), before);
        let datasets = Traces::look(&daemon.mountpoint()).datasets("image");
        assert_eq!(datasets.len(), before.len(), "{datasets:?}");
    }
}

#[test]
fn dockerfiles_that_are_refused() {
    let daemon = Daemon::new(Room::Dir);
    let before = daemon.images();
    for (dockerfile, message) in [
        (
            "FROM FreeBSD\nNONSENSE x\n",
            "error in 'NONSENSE x': invalid instruction",
        ),
        (
            "RUN true\n",
            "'RUN true' not permitted before a FROM instruction",
        ),
        ("", "FROM"),
        ("FROM nope\nRUN true\n", "nope"),
        ("FROM FreeBSD\nCOPY nope /\n", "nope"),
        ("FROM FreeBSD\nCOPY --from=nope a /\n", "nope"),
        ("FROM FreeBSD\nUSER nobody-here\nRUN true\n", "nobody-here"),
        (
            "FROM FreeBSD\nRUN --mount=type=secret,id=s,required true\n",
            "secret 's'",
        ),
        ("FROM FreeBSD\nADD git@example.org:x.git /\n", "repository"),
    ] {
        let context = Context::new(dockerfile);
        let refused = daemon.build(&context, &["-t", "x", "--rm"]);
        let whole = format!("{}{}", refused.stdout, refused.stderr);
        assert_eq!(refused.code, 1, "{dockerfile}: {whole}");
        assert!(whole.contains(message), "{dockerfile}: {whole}");
        assert_eq!(daemon.images(), before, "{dockerfile}");
    }
    let context = Context::new("FROM FreeBSD\n");
    for (options, message) in [
        (&["--target", "nope"][..], "no stage 'nope'"),
        (&["-f", "nope"], "no 'nope'"),
        (&["-m", "/no/such:/a"], "/no/such"),
        (&["--from", "nope"], "nope"),
    ] {
        let refused = daemon.build(&context, options);
        let whole = format!("{}{}", refused.stdout, refused.stderr);
        assert!(
            refused.code != 0 && whole.contains(message),
            "{options:?}: {whole}"
        );
    }
    daemon.klee(&["build", "/no/such/directory"]).fails(1);
    assert_eq!(daemon.images(), before);
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Lesson 6: what stands in a Dockerfile is text until a container runs it.
#[test]
fn nothing_is_executed_on_the_host() {
    let daemon = Daemon::new(Room::Dir);
    // Not in /dev/shm, which containers have of their own.
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("executed");
    let touch = format!("touch${{IFS}}{}", flag.display());
    for evil in [
        format!("$(touch {})", flag.display()),
        format!("`touch {}`", flag.display()),
        format!("x;touch {};", flag.display()),
        format!("$({touch})"),
        format!("${{X:-$({touch})}}"),
        format!("'|{touch}|'"),
        format!("x && touch {} &&", flag.display()),
    ] {
        let context = Context::new("");
        context.file("file", "");
        let quoted = format!("\"{}\"", evil.replace('$', "\\$"));
        for line in [
            format!("ENV X={evil}"),
            format!("ENV X=\"{evil}\""),
            format!("ENV X {evil}"),
            format!("ARG X={evil}"),
            format!("ARG X=\"{evil}\"\nENV Y=$X"),
            "ARG X\nENV Y=${X}\nLABEL a=$X".to_owned(),
            format!("USER {evil}"),
            format!("WORKDIR {evil}"),
            format!("COPY file {evil}"),
            format!("COPY {evil} /"),
            format!("COPY [\"file\", {quoted}]"),
            format!("COPY --chown={evil} file /"),
            format!("ADD {evil} /"),
            format!("LABEL a=\"{evil}\""),
            format!("EXPOSE {evil}"),
            format!("VOLUME {evil}"),
            format!("STOPSIGNAL {evil}"),
            format!("ENTRYPOINT {evil}"),
            format!("CMD {evil}"),
            format!("HEALTHCHECK CMD {evil}"),
            format!("SHELL [\"/bin/sh\", {quoted}]"),
        ] {
            context.dockerfile(&format!("FROM FreeBSD\n{line}\n"));
            let argument = format!("X={evil}");
            daemon.build(&context, &["--rm", "--build-arg", &argument]);
            assert!(!flag.exists(), "{line}");
        }
        context.dockerfile(&format!("ARG B={evil}\nFROM $B\nFROM {evil}\n"));
        assert_ne!(
            daemon.build(&context, &["--rm", "-f", "Dockerfile"]).code,
            0
        );
        assert!(!flag.exists(), "FROM {evil}");
    }
    // In the container it is executed, of course, and sees the container's files alone.
    let script = format!("mkdir -p {0} && touch {0}/x", flag.display());
    let context = Context::new(&format!(
        "FROM FreeBSD\nENV X=\"\\$({script})\"\nRUN {script}\n"
    ));
    daemon.build(&context, &["-t", "app"]).ok();
    assert!(!flag.exists());
    assert_eq!(daemon.sh("app", "echo \"$X\""), format!("$({script})\n"));
    assert_eq!(daemon.sh("app", &format!("ls {}", flag.display())), "x\n");
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Lesson 8: sources stay inside of the context, and destinations inside of the image.
#[test]
fn nothing_leads_out_of_contexts_and_images() {
    let daemon = Daemon::new(Room::Dir);
    // Not in /dev/shm, which containers have of their own.
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let target = outside.display().to_string();
    let context = Context::new("");
    context
        .file("inside/file", "inside")
        .file("file", "file")
        .link("inside/leak", outside.join("secret"))
        .link("out", &target)
        .link("up", "../../../../../../../../..")
        .link("passwords", "/etc/shadow")
        .link("round", "round")
        .link("Linked", outside.join("secret"));
    for upload in [&[][..], &["--upload"]] {
        for line in [
            "COPY out/secret /got",
            "COPY passwords /got",
            "COPY passwords/ /got",
            "COPY ../outside/secret /got",
            "COPY inside/../../secret /got",
            &format!("COPY up{target}/secret /got"),
            &format!("COPY {target}/secret /got"),
            &format!("COPY inside/../up{target}/* /got/"),
            "COPY out/* /got/",
            "ADD out/secret /got",
            "COPY round/file /got",
            "RUN --mount=type=bind,source=out,target=/got cat /got/secret",
        ] {
            context.dockerfile(&format!("FROM FreeBSD\n{line}\n"));
            let refused = daemon.build(&context, &[upload, &["--rm"]].concat());
            assert_eq!(refused.code, 1, "{line}: {refused:?}");
            assert!(!refused.stdout.contains("\nsecret"), "{line}: {refused:?}");
        }
        // The Dockerfile itself is no way out either.
        context.dockerfile("FROM FreeBSD\n");
        let refused = daemon.build(&context, &[upload, &["-f", "Linked"]].concat());
        assert_ne!(refused.code, 0, "{refused:?}");
        // A link that is copied is a link: it leads into the image.
        context.dockerfile("FROM FreeBSD\nCOPY inside /inside\n");
        daemon
            .build(&context, &[upload, &["-t", "app"]].concat())
            .ok();
        let seen = daemon.sh("app", "readlink /inside/leak; cat /inside/file");
        assert_eq!(seen, format!("{target}/secret\ninside"));
    }
    // The image's links lead nowhere but into the image: /trap is /etc, /climb is ../../../etc.
    context.dockerfile(&format!(
        "FROM FreeBSD\nRUN ln -s {target} /evil\nCOPY file /trap/copied\nCOPY file /climb/climbed\n\
         COPY inside /evil/\nADD file /evil/added\nWORKDIR /evil/deep\nRUN > here\n"
    ));
    daemon.build(&context, &["-t", "app"]).ok();
    let seen = daemon.sh(
        "app",
        &format!("cat /etc/copied /etc/climbed; ls {target} /evil/deep"),
    );
    assert!(
        seen.starts_with("filefile") && seen.contains("added") && seen.contains("here"),
        "{seen}"
    );
    let left: Vec<_> = std::fs::read_dir(outside).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!Path::new("/etc/copied").exists() && !Path::new("/etc/climbed").exists());
}

/// A burst of output arrives whole, and in order.
#[test]
fn a_burst_of_output() {
    let daemon = Daemon::new(Room::Dir);
    let context =
        Context::new("FROM FreeBSD\nRUN yes 0123456789abcde | head -c 104857600\nRUN seq 100000\n");
    let told = daemon.build(&context, &["-t", "app"]).ok();
    assert_eq!(told.matches("0123456789abcde\n").count(), 104_857_600 / 16);
    let numbers = told.lines().filter_map(|line| line.parse::<u32>().ok());
    let numbers: Vec<u32> = numbers.filter(|number| *number < 123_456).collect();
    assert!(numbers.iter().copied().eq(1..=100_000), "{}", numbers.len());
    let context = Context::new("FROM FreeBSD\nRUN seq 10\n");
    let quiet = daemon.build(&context, &["-q", "-t", "quiet"]).ok();
    assert_eq!(quiet.trim(), daemon.image_id("quiet"));
    // What goes wrong is told nevertheless.
    context.dockerfile("FROM FreeBSD\nRUN echo the reason; exit 3\n");
    let failed = daemon.build(&context, &["-q", "--rm"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""));
    assert!(failed.stderr.contains("the reason\n"), "{failed:?}");
}

/// Twenty steps, all known: the very same image, and nothing new.
#[test]
fn what_is_known_is_not_done_again() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let copies: String = (0..18).map(|n| format!("COPY file /files/{n}\n")).collect();
        let dockerfile = format!(
            "FROM FreeBSD\n{copies}RUN cat /proc/sys/kernel/random/uuid > /when; > /one\nRUN > /two\nCMD [\"x\"]\n"
        );
        let context = Context::new(&dockerfile);
        context.file("file", "1");
        let first = daemon.build(&context, &["-t", "app"]).ok();
        assert_eq!((cached(&first), snapshots(&first).len()), (0, 20));
        let (id, images) = (daemon.image_id("app"), daemon.images());
        let when = daemon.sh("app", "cat /when");
        let again = daemon.build(&context, &["-t", "app"]).ok();
        assert_eq!((cached(&again), snapshots(&again).len()), (20, 0));
        assert_eq!(
            (daemon.image_id("app"), daemon.images()),
            (id.clone(), images)
        );
        // Sent or read here, it is the same.
        let sent = daemon.build(&context, &["-t", "app", "--upload"]).ok();
        assert_eq!(
            (cached(&sent), daemon.image_id("app")),
            (20, id.clone()),
            "{sent}"
        );
        // The last steps only.
        context.dockerfile(&dockerfile.replace("/two", "/three"));
        let changed = daemon.build(&context, &["-t", "app"]).ok();
        assert_eq!(cached(&changed), 19, "{changed}");
        assert_eq!(
            daemon.sh("app", "cat /when; cd /; ls one two three 2>/dev/null; true"),
            format!("{when}one\nthree\n")
        );
        // Everything.
        context.file("file", "2");
        let changed = daemon.build(&context, &["-t", "app"]).ok();
        assert_eq!(cached(&changed), 0, "{changed}");
        assert_ne!(daemon.sh("app", "cat /when"), when);
        let anew = daemon.build(&context, &["-t", "app", "--no-cache"]).ok();
        assert_eq!(cached(&anew), 0, "{anew}");
        // When its image is gone, so is what was known.
        let dry = daemon
            .klee(&["image", "prune", "-a", "--build-cache", "--dry-run"])
            .ok();
        let before = daemon.images();
        assert_eq!(dry.lines().count(), before.len(), "{dry}");
        let place = |id: &str| dry.lines().position(|line| line == id).unwrap();
        assert!(
            place(&daemon.image_id("app")) < place(&daemon.image_id("FreeBSD")),
            "{dry}"
        );
        let pruned = daemon
            .klee(&["image", "prune", "-a", "--build-cache", "-f"])
            .ok();
        assert_eq!(pruned, dry);
        assert!(daemon.images().is_empty());
        assert!(
            Traces::look(&daemon.mountpoint())
                .datasets("image")
                .is_empty()
        );
    }
}

/// Contexts and Dockerfiles that come from the client in every way.
#[test]
fn contexts_that_are_sent() {
    let daemon = Daemon::new(Room::Dir);
    let context = Context::new("FROM FreeBSD\nCOPY . /all/\n");
    context
        .file("file", "content")
        .file("dir/run.sh", "#!/bin/sh\n")
        .link("dir/link", "run.sh");
    let script = context.join("dir/run.sh");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    let chown = |path: &Path| std::os::unix::fs::chown(path, Some(80), Some(80)).unwrap();
    chown(&script);
    let look = "cd /all; find . ! -type d | while read f; do stat -c '%n %F %a %u:%g' $f; done";
    let mut seen = std::collections::BTreeSet::new();
    let id_file = daemon.directory().join("id");
    for options in [
        &["-t", "app"][..],
        &["-t", "app", "--upload", "--iidfile", "id"],
    ] {
        daemon.build(&context, options).ok();
        let mut lines: Vec<String> = daemon.sh("app", look).lines().map(str::to_owned).collect();
        lines.sort();
        seen.insert(lines);
    }
    assert_eq!(
        std::fs::read_to_string(id_file).unwrap(),
        daemon.image_id("app")
    );
    assert_eq!(seen.len(), 1, "both ways make one image: {seen:?}");
    let lines = seen.into_iter().next().unwrap();
    assert!(
        lines.contains(&"./dir/run.sh regular file 755 0:0".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"./dir/link symbolic link 777 0:0".to_owned()),
        "{lines:?}"
    );
    // On standard input: an archive, one that is compressed, a Dockerfile alone.
    let (path, tar) = (
        context.path().display().to_string(),
        daemon.directory().join("context.tar"),
    );
    let tar = tar.display().to_string();
    kleene_tests::run("tar", &["-cf", &tar, "-C", &path, "."]);
    let plain = std::fs::read(&tar).unwrap();
    kleene_tests::run("gzip", &[&tar]);
    let compressed = std::fs::read(format!("{tar}.gz")).unwrap();
    for bytes in [&plain, &compressed] {
        daemon
            .klee_with_input(&["build", "-t", "stdin", "--no-cache", "-"], bytes)
            .ok();
        assert_eq!(daemon.runs("stdin", &["cat", "/all/file"]), "content");
    }
    daemon
        .klee_with_input(
            &["build", "-t", "alone", "-"],
            b"FROM FreeBSD\nRUN > /alone\n",
        )
        .ok();
    assert_eq!(daemon.runs("alone", &["ls", "/alone"]), "/alone\n");
    let dockerfile = b"FROM FreeBSD\nCOPY file /here\n";
    for upload in [&[][..], &["--upload"]] {
        let words = [
            &["build", "-t", "piped", "--no-cache"],
            upload,
            &["-f", "-", &path],
        ]
        .concat();
        daemon.klee_with_input(&words, dockerfile).ok();
        assert_eq!(daemon.runs("piped", &["cat", "/here"]), "content");
        // A Dockerfile outside of the context.
        std::fs::write(daemon.directory().join("Elsewhere"), dockerfile).unwrap();
        let words = [
            &["build", "-t", "outside", "--no-cache"],
            upload,
            &["-f", "Elsewhere", &path],
        ]
        .concat();
        daemon.klee(&words).ok();
        assert_eq!(daemon.runs("outside", &["cat", "/here"]), "content");
    }
    // Hostile ones touch nothing and leave nothing.
    let before = Traces::look(&daemon.mountpoint());
    let mut hostile = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let name = b"../../../../../../../../../../tmp/kleene-hostile-context";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_size(1);
    header.set_cksum();
    hostile.append(&header, &b"x"[..]).unwrap();
    let hostile = hostile.into_inner().unwrap();
    daemon
        .klee_with_input(&["build", "-t", "bad", "-"], &hostile)
        .fails(1);
    daemon
        .klee_with_input(&["build", "-t", "bad", "-"], &plain[..700])
        .fails(1);
    assert!(!Path::new("/tmp/kleene-hostile-context").exists());
    assert_eq!(Traces::look(&daemon.mountpoint()), before);
    let left = std::fs::read_dir(daemon.mountpoint().join("metadata/build"))
        .into_iter()
        .flatten()
        .count();
    assert_eq!(left, 0);
}
