//! Registries: images of other people's tools run here, and ours there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use kleene_tests::{
    Buildah, Context, Daemon, Outcome, Registry, Room, Traces, archive, run, until,
};

/// Pushes the small image, as buildah makes it, as `NAME:1`.
fn push_base(buildah: &Buildah, registry: &Registry, daemon: &Daemon, name: &str) {
    let archive = archive(daemon.directory());
    let settings = [
        "--env",
        "A=b c",
        "--cmd",
        "echo from buildah",
        "--user",
        "www",
        "--workingdir",
        "/srv",
        "--label",
        "x=y",
        "--port",
        "80/tcp",
        "--stop-signal",
        "SIGUSR1",
        "--volume",
        "/data",
    ];
    buildah.image(name, Some(&archive), &settings);
    buildah.push(name, &registry.docker(&format!("{name}:1")), &[]);
}

fn manifest(registry: &Registry, name: &str) -> serde_json::Value {
    let words = [
        "inspect",
        "--raw",
        "--tls-verify=false",
        &registry.docker(name),
    ];
    serde_json::from_str(&run("skopeo", &words)).unwrap()
}

/// Everything that a tree holds, as find(1) tells it.
fn listing(root: &Path) -> String {
    let root = root.display().to_string();
    let found = run("find", &[&root, "-printf", "%P %y %m %U:%G %n %s %T@ %l\n"]);
    let mut lines: Vec<&str> = found
        .lines()
        .filter(|line| !line.starts_with(' '))
        .collect();
    lines.sort_unstable();
    // A directory's size is the file system's own.
    let size = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        if words[1] == "d" {
            words[4] = "-";
            words[5] = "-";
        }
        words.join(" ")
    };
    lines.into_iter().map(size).collect::<Vec<_>>().join("\n")
}

#[test]
fn images_of_others_run_here() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::empty(room);
        let (registry, buildah) = (Registry::start(), Buildah::new());
        push_base(&buildah, &registry, &daemon, "base");
        let name = registry.image("base:1");
        // Not here, and not wanted from elsewhere.
        let refused = daemon.klee(&["run", "--rm", "--pull", "never", &name]);
        assert!(
            refused.clone().fails(125).contains("no such image"),
            "{refused:?}"
        );
        assert!(daemon.images().is_empty());
        // On demand, by its name alone.
        let outcome = daemon.klee(&["run", "-q", "--rm", &name]);
        assert_eq!(outcome.clone().ok(), "from buildah\n", "{outcome:?}");
        let seen = daemon.sh(
            &name,
            "id -un; pwd; echo $A; ls -d /data; ls /usr/local/www/nginx",
        );
        assert!(
            seen.starts_with("www\n/srv\nb c\n/data\n50x.html\n"),
            "{seen}"
        );
        let shown = daemon.inspect("image", &name);
        assert_eq!(shown["labels"]["x"], "y");
        assert_eq!(shown["name"], registry.image("base"));
        // What is here is not asked for again.
        let again = daemon.klee(&["run", "--rm", &name, "true"]).ok();
        assert!(!again.contains("Pulling"), "{again}");
        // A second layer takes files away; the tag moves on, and --pull always follows.
        let container = buildah.run(&["from", "--pull=never", "base"]);
        let script =
            "rm /usr/local/www/nginx/50x.html; rm -r /var; ln -s tmp /var; echo new > /new";
        let words = [
            "run",
            "--isolation",
            "chroot",
            "--user",
            "root",
            &container,
            "--",
            "sh",
            "-c",
            script,
        ];
        buildah.run(&words);
        buildah.run(&["config", "--cmd", "cat /new", &container]);
        buildah.run(&["commit", "-q", "--rm", &container, "base2"]);
        buildah.push("base2", &registry.docker("base:1"), &[]);
        assert_eq!(daemon.runs(&name, &[]), "from buildah\n");
        let newest = daemon
            .klee(&["run", "-q", "--rm", "--pull", "always", &name])
            .ok();
        assert_eq!(newest, "new\n");
        let seen = daemon.sh(&name, "ls /usr/local/www/nginx | wc -l; readlink /var");
        assert_eq!(seen, "2\ntmp\n");
    }
}

#[test]
fn our_images_run_elsewhere() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let (registry, buildah) = (Registry::start(), Buildah::new());
        let context = Context::new(
            "FROM FreeBSD\nCOPY tree /tree\nRUN chmod 4755 /tree/a && chown www /tree/sub && \
             ln /tree/a /tree/hard && ln -s a /tree/soft && mkdir -m 1777 /tree/empty && \
             dd if=/dev/zero of=/tree/zeros bs=1024 count=64 2>/dev/null\n\
             RUN rm -r /tree/gone && rm /bin/yes && mkdir /bin/yes && echo x > /bin/yes/x\n\
             ENV A=\"b c\"\nLABEL maker=us\nUSER www\nWORKDIR /tree/sub\nEXPOSE 80\n\
             CMD [\"sh\", \"-c\", \"echo $A; pwd; id -un; ls /tree\"]\n",
        );
        context
            .file("tree/a", "a")
            .file("tree/sub/b", "b")
            .file("tree/gone/c", "c");
        daemon.build(&context, &["-t", "app"]).ok();
        let expected = daemon.runs("app", &[]);
        let name = registry.image("team/app:1");
        let digest = daemon.klee(&["push", "-q", "app", &name]).ok();
        let words = [
            "inspect",
            "--tls-verify=false",
            &registry.docker("team/app:1"),
        ];
        let said: serde_json::Value = serde_json::from_str(&run("skopeo", &words)).unwrap();
        assert_eq!(said["Digest"], digest.trim());
        assert_eq!(said["Labels"]["maker"], "us");
        assert!(
            said["Env"].as_array().unwrap().contains(&"A=b c".into()),
            "{said}"
        );
        // The base and three steps. zfs-fuse can't tell whether hard links are the same ones: they come
        // once more.
        let layers = said["Layers"].as_array().unwrap().len();
        assert!(layers == 4 || room == Room::Zfs && layers == 5, "{said}");
        let docker = registry.docker("team/app:1");
        let container = buildah.run(&["from", "-q", "--tls-verify=false", &docker]);
        // The whole tree is the same there.
        let theirs = listing(Path::new(&buildah.run(&["mount", &container])));
        let tar = daemon.directory().join("app.tar");
        daemon
            .klee(&["image", "export", "-o", "app.tar", "app"])
            .ok();
        let ours = daemon.directory().join("exported");
        fs::create_dir(&ours).unwrap();
        let (tar, to) = (tar.display().to_string(), ours.display().to_string());
        run("tar", &["-xpf", &tar, "-C", &to, "--numeric-owner"]);
        let ours = listing(&ours);
        let only = |one: &str, other: &str| -> Vec<String> {
            let other: Vec<&str> = other.lines().collect();
            let only = one.lines().filter(|line| !other.contains(line));
            only.map(str::to_owned).collect()
        };
        let differences = (only(&theirs, &ours), only(&ours, &theirs));
        assert_eq!(differences, (vec![], vec![]), "{room:?}");
        buildah.run(&["umount", &container]);
        let words = [
            "run",
            "--isolation",
            "chroot",
            &container,
            "--",
            "sh",
            "-c",
            "echo $A; pwd; id -un; ls /tree",
        ];
        assert_eq!(buildah.run(&words), expected.trim_end());
        // Here again, from there: what is known isn't downloaded.
        let id = daemon.image_id("app");
        let pulled = daemon.klee(&["pull", &name]);
        assert!(pulled.code == 0, "{pulled:?}");
        assert_eq!(daemon.runs(&name, &[]), expected);
        assert_ne!(daemon.image_id(&name), id);
    }
}

#[test]
fn layers_are_shared() {
    let daemon = Daemon::empty(Room::Dir);
    let (registry, buildah) = (Registry::start(), Buildah::new());
    push_base(&buildah, &registry, &daemon, "base");
    for name in ["one", "two"] {
        let file = daemon.directory().join(name);
        fs::write(&file, name).unwrap();
        let container = buildah.run(&["from", "--pull=never", "base"]);
        buildah.run(&[
            "copy",
            "-q",
            &container,
            &file.display().to_string(),
            "/own",
        ]);
        buildah.run(&["commit", "-q", "--rm", &container, name]);
        buildah.push(name, &registry.docker(name), &[]);
    }
    let shared = manifest(&registry, "one")["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let short = &shared["sha256:".len()..][..12];
    let pull = |name: &str| daemon.klee(&["pull", &registry.image(name)]);
    let first = pull("one");
    assert!(first.code == 0 && first.stderr.contains(short), "{first:?}");
    // The shared layer's blob isn't needed any more, not even by the registry.
    fs::remove_file(registry.blob(&shared)).unwrap();
    let second = pull("two");
    assert_eq!(second.code, 0, "{second:?}");
    for name in ["one", "two"] {
        assert_eq!(daemon.runs(&registry.image(name), &["cat", "/own"]), name);
    }
    let sizes = |name: &str| {
        let shown = daemon.inspect("image", &registry.image(name));
        (
            shown["size"].as_u64().unwrap(),
            shown["shared_size"].as_u64().unwrap(),
        )
    };
    let (own, shared) = sizes("two");
    assert!(own < 100_000 && shared > 1_000_000, "{own} {shared}");
    // Both pulls at once share the download, too; and the first image may go before the second.
    daemon.klee(&["image", "prune", "-a", "-f"]).ok();
    let before = daemon.images();
    assert!(before.is_empty(), "{before:?}");
    assert_ne!(pull("one").code, 0, "the registry has lost it");
    let datasets = Traces::look(&daemon.mountpoint()).datasets("image");
    assert!(datasets.is_empty(), "{datasets:?}");
}

#[test]
fn damaged_blobs_are_refused() {
    let daemon = Daemon::empty(Room::Dir);
    let (registry, buildah) = (Registry::start(), Buildah::new());
    push_base(&buildah, &registry, &daemon, "base");
    let name = registry.image("base:1");
    let manifest = manifest(&registry, "base:1");
    for part in ["layers", "config"] {
        let digest = match part {
            "layers" => &manifest["layers"][0]["digest"],
            _ => &manifest["config"]["digest"],
        };
        let blob = registry.blob(digest.as_str().unwrap());
        let good = fs::read(&blob).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&blob, &bad).unwrap();
        let failed = daemon.klee(&["run", "-q", "--rm", &name]);
        let message = failed.fails(125);
        let named = message.contains("digest") || message.contains("its manifest names");
        assert!(named, "{part}: {message}");
        fs::write(&blob, &bad[..middle]).unwrap();
        daemon.klee(&["pull", &name]).fails(1);
        fs::write(&blob, good).unwrap();
        assert!(daemon.images().is_empty() && daemon.containers().is_empty());
        let datasets = Traces::look(&daemon.mountpoint()).datasets("image");
        assert!(datasets.is_empty(), "{datasets:?}");
    }
    let wrong = format!("{}@sha256:{}", registry.image("base"), "0".repeat(64));
    daemon.klee(&["pull", &wrong]).fails(1);
    assert_eq!(daemon.runs(&name, &[]), "from buildah\n");
    let shown = daemon.inspect("image", &name);
    let digest = shown["digest"].as_str().unwrap();
    let by_digest = format!("{}@{digest}", registry.image("base"));
    let id = daemon.klee(&["pull", "-q", &by_digest]).ok();
    assert_eq!(id.trim(), daemon.image_id(&name), "it is here already");
}

#[test]
fn images_for_other_systems() {
    let daemon = Daemon::empty(Room::Dir);
    let (registry, buildah) = (Registry::start(), Buildah::new());
    let archive = archive(daemon.directory());
    for (name, os, arch) in [
        ("ours", "linux", "amd64"),
        ("bsd", "freebsd", "amd64"),
        ("arm", "linux", "arm64"),
    ] {
        let settings = [
            "--os",
            os,
            "--arch",
            arch,
            "--cmd",
            "echo hello",
            "--env",
            &format!("OS={os}"),
        ];
        buildah.image(name, Some(&archive), &settings);
    }
    buildah.run(&["manifest", "create", "list"]);
    for name in ["bsd", "arm", "ours"] {
        buildah.run(&["manifest", "add", "list", name]);
    }
    let to = registry.docker("list");
    buildah.run(&[
        "manifest",
        "push",
        "-q",
        "--all",
        "--tls-verify=false",
        "list",
        &to,
    ]);
    let name = registry.image("list");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(daemon.runs(&name, &[]), "hello\n");
        assert_eq!(daemon.sh(&name, "echo $OS"), "linux\n");
    }
    // Another system's image is unpacked, and can be looked at.
    daemon
        .klee(&[
            "pull",
            "-q",
            "--platform",
            "freebsd/amd64",
            "-t",
            "bsd",
            &name,
        ])
        .ok();
    let shown = daemon.inspect("image", "bsd");
    assert_eq!(shown["os"], "freebsd", "{shown}");
    assert!(
        daemon
            .klee(&["image", "export", "bsd"])
            .ok()
            .contains("Welcome to nginx!")
    );
    // But not started.
    let refused = daemon.klee(&["run", "--rm", "bsd"]).fails(125);
    assert!(refused.contains("freebsd/amd64"), "{refused}");
    assert!(daemon.containers().is_empty());
    // Files are copied into it, but nothing of it is run by a build either.
    let copies = Context::new("FROM bsd\nCOPY file /file\n");
    copies.file("file", "there\n");
    daemon.build(&copies, &["-t", "more"]).ok();
    assert_eq!(daemon.inspect("image", "more")["os"], "freebsd");
    let refused = daemon.build(&Context::new("FROM bsd\nRUN true\n"), &[]);
    assert!(
        refused.stdout.contains("its image is for freebsd/amd64"),
        "{}",
        refused.stdout
    );
    // An archive is taken in for whatever it is.
    let packed = daemon.directory().join("bsd.tar");
    let packed = packed.to_str().unwrap();
    daemon.klee(&["image", "save", "-o", packed, "more"]).ok();
    daemon.klee(&["image", "rm", "more"]).ok();
    daemon.klee(&["image", "load", "-i", packed]).ok();
    assert_eq!(daemon.inspect("image", "more")["os"], "freebsd");
    daemon.klee(&["image", "rm", "more"]).ok();
    let listed = daemon
        .klee(&[
            "image",
            "ls",
            "--filter",
            "os=freebsd",
            "--format",
            "{{.name}}",
        ])
        .ok();
    assert_eq!(listed, "bsd\n");
    let missing = daemon
        .klee(&["pull", "--platform", "linux/riscv64", &name])
        .fails(1);
    for offered in ["linux/amd64", "linux/arm64", "freebsd/amd64"] {
        assert!(missing.contains(offered), "{missing}");
    }
}

#[test]
fn logging_in() {
    let daemon = Daemon::new(Room::Dir);
    let registry = Registry::with_login();
    let config = daemon.directory().join("docker");
    let klee = |words: &[&str], input: &str| -> Outcome {
        let output = {
            use std::io::Write;
            let mut command = daemon.command(words);
            command
                .env("DOCKER_CONFIG", &config)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        };
        Outcome {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap(),
        }
    };
    let address = registry.address();
    let name = registry.image("team/app:1");
    let refused = klee(&["push", "FreeBSD", &name], "").fails(1);
    assert!(
        refused.contains(&format!("klee image login {address}")),
        "{refused}"
    );
    klee(
        &["login", "-u", "kim", "--password-stdin", address],
        "wrong",
    )
    .fails(1);
    assert!(!config.join("config.json").exists());
    klee(
        &["login", "-u", "kim", "--password-stdin", address],
        "secret\n",
    )
    .ok();
    let kept = fs::read_to_string(config.join("config.json")).unwrap();
    assert!(kept.contains(address), "{kept}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(config.join("config.json"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    klee(&["push", "FreeBSD", &name], "").ok();
    // Everything that pulls shows the credentials; without them nothing does.
    let context = Context::new(&format!("FROM {name}\nRUN > /built\n"));
    let path = context.path().display().to_string();
    for words in [
        &["pull", &name][..],
        &["run", "-q", "--rm", &name, "true"],
        &["build", "-t", "app", &path],
    ] {
        let clean = || {
            for image in ["app", &name] {
                daemon.klee(&["image", "rm", image]);
            }
        };
        clean();
        let denied = daemon.klee(words);
        assert!(denied.code != 0, "{words:?}: {denied:?}");
        let whole = format!("{}{}", denied.stdout, denied.stderr);
        assert!(whole.contains("klee image login"), "{words:?}: {whole}");
        klee(words, "").ok();
        clean();
    }
    klee(&["logout", address], "").ok();
    klee(&["pull", &name], "").fails(1);
    let log = daemon.log();
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn builds_from_registries() {
    let daemon = Daemon::empty(Room::Dir);
    let (registry, buildah) = (Registry::start(), Buildah::new());
    push_base(&buildah, &registry, &daemon, "base");
    let name = registry.image("base:1");
    let context = Context::new(&format!(
        "FROM {name}\nUSER root\nCOPY --from={name} /usr/local/www/nginx/index.html /copied\nRUN test \"$A\" = 'b c' && > /built\n"
    ));
    let refused = daemon.build(&context, &["--pull=never"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let told = daemon.build(&context, &["-t", "app"]).ok();
    assert!(told.contains(&format!("Pulling {name}")), "{told}");
    assert!(
        daemon
            .sh("app", "cd /; cat copied; ls built")
            .ends_with("</h1>\nbuilt\n")
    );
    // A tag that has moved changes what --pull builds, and nothing else does.
    let container = buildah.run(&["from", "--pull=never", "base"]);
    buildah.run(&["config", "--env", "A=b c", "--env", "B=new", &container]);
    buildah.run(&["commit", "-q", "--rm", &container, "new"]);
    buildah.push("new", &registry.docker("base:1"), &[]);
    daemon.build(&context, &["-t", "app"]).ok();
    assert_eq!(daemon.sh("app", "echo $B"), "\n");
    daemon.build(&context, &["-t", "app", "--pull"]).ok();
    assert_eq!(daemon.sh("app", "echo $B"), "new\n");
    let digest = manifest(&registry, "base:1").to_string();
    assert!(digest.contains("layers"));
}

/// The release that the host runs comes from the registry, if that has it; the daemon's default
/// registry is asked for names that have none.
#[test]
fn the_default_registry_and_the_hosts_release() {
    let registry = Registry::start();
    let daemon = Daemon::with_config(
        Room::Dir,
        &format!("default_registry: \"{}\"\n", registry.address()),
    );
    let buildah = Buildah::new();
    push_base(&buildah, &registry, &daemon, "team/base");
    let seen = daemon.klee(&["run", "-q", "--rm", "--pull", "missing", "team/base:1"]);
    assert_eq!(seen.ok(), "from buildah\n");
    assert!(
        daemon
            .klee(&["run", "--rm", "nope:1"])
            .fails(125)
            .contains("--pull missing")
    );
    // What the host is, as it says itself.
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let value = |key: &str| {
        let mut lines = release.lines();
        let line = lines
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default();
        line.trim_matches('"').to_owned()
    };
    let (id, version) = (value("ID="), value("VERSION_ID="));
    if !["debian", "ubuntu", "fedora", "alpine"].contains(&id.as_str()) {
        return;
    }
    for repository in [id.clone(), format!("library/{id}")] {
        let tag = if id == "alpine" {
            version.rsplit_once('.').unwrap().0
        } else {
            &version
        };
        buildah.push(
            "team/base",
            &registry.docker(&format!("{repository}:{tag}")),
            &[],
        );
    }
    let before = daemon.images();
    let told = daemon.klee(&["image", "create", "-t", "release", "fetch-auto"]);
    assert_eq!(told.code, 0, "{told:?}");
    let id = daemon.image_id("release");
    let shown = daemon.inspect("image", &id);
    assert_eq!(shown["env"], serde_json::json!(["A=b c"]), "{shown}");
    assert!(before.contains(&id), "its manifest was pulled before");
}

/// A client that goes away during a pull, and a daemon that dies: nothing half-done is left, and the
/// next pull succeeds.
#[test]
fn pulls_that_are_cut_short() {
    let mut daemon = Daemon::empty(Room::Dir);
    let (registry, buildah) = (Registry::start(), Buildah::new());
    push_base(&buildah, &registry, &daemon, "base");
    for number in [1, 2] {
        let container = buildah.run(&["from", "--pull=never", "base"]);
        let tree = Path::new(&buildah.run(&["mount", &container])).join("large");
        fs::create_dir(&tree).unwrap();
        for name in 0..24 {
            fs::write(tree.join(name.to_string()), vec![number; 1 << 20]).unwrap();
        }
        buildah.run(&["umount", &container]);
        buildah.run(&["commit", "-q", "--rm", &container, "large"]);
        buildah.push("large", &registry.docker(&format!("large:{number}")), &[]);
    }
    let root = daemon.mountpoint();
    let before = Traces::look(&root);
    let agrees = |daemon: &Daemon| {
        let images = daemon.images().into_iter().collect();
        Traces::look(&root).datasets("image") == images
    };
    // What has been downloaded stays for the next try.
    for (number, step, kills_the_daemon) in [
        (1, ": done", false),
        (1, ": unpacking", false),
        (2, ": done", true),
        (2, ": unpacking", true),
    ] {
        let name = registry.image(&format!("large:{number}"));
        let mut client = daemon
            .command(&["pull", &name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(client.stderr.take().unwrap()).lines();
        let mut told = Vec::new();
        while !told.iter().any(|line: &String| line.contains(step)) {
            let line = lines.next();
            let line = line.unwrap_or_else(|| panic!("'{step}' isn't in {told:?}"));
            told.push(line.unwrap());
        }
        match kills_the_daemon {
            false => client.kill().unwrap(),
            true => daemon.kill(),
        }
        client.wait().unwrap();
        if kills_the_daemon {
            daemon.start();
            assert!(agrees(&daemon), "{step}");
        }
        until("what it has made goes", || agrees(&daemon));
        // It may have come to its end before it was told to stop.
        daemon.klee(&["image", "rm", &name]);
        assert_eq!(Traces::look(&root), before, "{step}");
    }
    for number in [1, 2] {
        let name = registry.image(&format!("large:{number}"));
        let outcome = daemon.klee(&[
            "run",
            "-q",
            "--rm",
            &name,
            "sh",
            "-c",
            "cat /large/* | wc -c",
        ]);
        assert_eq!(outcome.ok().trim(), (24 << 20).to_string());
    }
}
