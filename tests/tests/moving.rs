//! Images and trees in archives, and images of containers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::fs;
use std::path::Path;

use kleene_tests::{Context, Daemon, Room, run};
use serde_json::Value;

/// Everything that an archive of a tree holds, in order.
fn contents(tar: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let mut told: Vec<String> = entries
        .map(|mut entry| {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let pax: Vec<String> = entry
                .pax_extensions()
                .unwrap()
                .into_iter()
                .flatten()
                .map(|record| record.unwrap())
                .filter(|record| record.key().unwrap() != "mtime")
                .map(|record| String::from_utf8_lossy(record.value_bytes()).into_owned())
                .collect();
            let header = entry.header();
            // That names came and went in the root itself no layer tells.
            let mtime = match entry.path().unwrap().as_os_str() == "./" {
                true => 0,
                false => header.mtime().unwrap(),
            };
            format!(
                "{} {:?} {:o} {}:{} {mtime} {:?} {pax:?} {}",
                entry.path().unwrap().display(),
                header.entry_type(),
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                entry.link_name().unwrap(),
                shown(&content),
            )
        })
        .collect();
    told.sort();
    told
}

/// Short content, or what stands for it.
fn shown(content: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    match content.len() {
        ..100 => String::from_utf8_lossy(content).into_owned(),
        length => format!("{length} bytes, {:x}", hasher.finish()),
    }
}

/// What only one of two trees has.
#[track_caller]
fn same(one: &[String], other: &[String], what: &str) {
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        let only = one.iter().filter(|line| !other.contains(line));
        only.cloned().collect()
    };
    let differences = (only(one, other), only(other, one));
    assert_eq!(differences, (vec![], vec![]), "{what}");
}

fn exported(daemon: &Daemon, image: &str) -> Vec<String> {
    daemon
        .klee(&["image", "export", "-o", "exported.tar", image])
        .ok();
    contents(&daemon.directory().join("exported.tar"))
}

/// What of an image moves along with it.
fn settings(daemon: &Daemon, image: &str) -> Value {
    let mut shown = daemon.inspect("image", image);
    let fields = shown.as_object_mut().unwrap();
    for own in [
        "id",
        "name",
        "tag",
        "created",
        "dataset",
        "instructions",
        "size",
        "shared_size",
        "parent",
        "digest",
    ] {
        fields.remove(own);
    }
    shown
}

/// An image with every kind of file, made in several steps.
fn varied(daemon: &Daemon) {
    let context = Context::new(
        "FROM FreeBSD\nCOPY tree /tree\n\
         RUN ln -s nowhere /tree/link && mkdir -m 1777 /tree/dir && ln /tree/a /tree/hard && \
         chown -R www:staff /tree/sub && chmod 6755 /tree/a\n\
         RUN rm -r /tree/gone /var && echo x > /var && rm /bin/yes && > '/tree/odd name é'\n\
         ENV A=\"b c\" D=e\nUSER www\nWORKDIR /tree\nEXPOSE 80/udp\nVOLUME /vol\nLABEL l=\"m n\"\n\
         STOPSIGNAL SIGINT\nHEALTHCHECK --interval=9s CMD true\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"pwd; cat a\"]\n",
    );
    context
        .file("tree/a", "a")
        .file("tree/sub/b", "b")
        .file("tree/gone/c", "c");
    daemon.build(&context, &["-t", "app:1"]).ok();
}

#[test]
fn saved_and_loaded() {
    let from = Daemon::new(Room::Dir);
    let to = Daemon::empty(Room::Zfs);
    varied(&from);
    from.klee(&["image", "tag", "FreeBSD", "base:1"]).ok();
    let (tree, config) = (exported(&from, "app:1"), settings(&from, "app:1"));
    from.klee(&["image", "save", "-o", "app.tar", "app:1", "base:1"])
        .ok();
    // There, back here, and there again: nothing is lost on the way.
    let path = from.directory().join("app.tar").display().to_string();
    let told = to.klee(&["image", "load", "-i", &path]).ok();
    assert!(
        told.contains("Loaded image: app:1\n") && told.contains("Loaded image: base:1\n"),
        "{told}"
    );
    same(&exported(&to, "app:1"), &tree, "to");
    assert_eq!(settings(&to, "app:1"), config);
    assert_eq!(to.runs("app:1", &[]), "/tree\na");
    // Both were made of one base, whose layer came once.
    let shared = to.inspect("image", "app:1")["shared_size"]
        .as_u64()
        .unwrap()
        + to.inspect("image", "base:1")["shared_size"]
            .as_u64()
            .unwrap();
    assert!(shared > 1_000_000, "{shared}");
    to.klee(&["image", "save", "-o", "back.tar", "app:1"]).ok();
    from.klee(&["image", "rm", "app:1"]).ok();
    let back = fs::read(to.directory().join("back.tar")).unwrap();
    from.klee_with_input(&["image", "load", "-q"], &back).ok();
    same(&exported(&from, "app:1"), &tree, "from");
    assert_eq!(settings(&from, "app:1"), config);
    assert_eq!(from.runs("app:1", &[]), "/tree\na");
    let steps = from
        .klee(&[
            "image",
            "history",
            "--no-trunc",
            "--format",
            "{{.created_by}}",
            "app:1",
        ])
        .ok();
    for step in [
        "COPY tree /tree",
        "RUN ln -s nowhere",
        "RUN rm -r /tree/gone",
    ] {
        assert!(steps.contains(step), "{steps}");
    }
    let missing = from.klee(&["image", "save", "-o", "none.tar", "app:1", "nope"]);
    assert!(missing.fails(1).contains("image not found"));
    assert!(!from.directory().join("none.tar").exists());
}

/// What other tools make of images is loaded, and ours is read by them.
#[test]
fn archives_of_other_tools() {
    let daemon = Daemon::new(Room::Dir);
    varied(&daemon);
    let (tree, config) = (exported(&daemon, "app:1"), settings(&daemon, "app:1"));
    daemon
        .klee(&["image", "save", "-o", "app.tar", "app:1"])
        .ok();
    daemon.klee(&["image", "rm", "app:1"]).ok();
    let at = |name: &str| daemon.directory().join(name).display().to_string();
    let copy = |from: &str, to: &str| run("skopeo", &["--insecure-policy", "copy", "-q", from, to]);
    let ours = format!("oci-archive:{}", at("app.tar"));
    copy(&ours, &format!("docker-archive:{}:app:1", at("docker.tar")));
    copy(&ours, &format!("oci-archive:{}:app:1", at("oci.tar")));
    copy(
        &format!("docker-archive:{}", at("app.tar")),
        &format!("docker-archive:{}:app:1", at("twice.tar")),
    );
    run("gzip", &[&at("docker.tar"), "-k"]);
    for name in ["docker.tar", "oci.tar", "twice.tar", "docker.tar.gz"] {
        daemon.klee(&["image", "load", "-i", name]).ok();
        let id = daemon.images()[0].clone();
        same(&exported(&daemon, &id), &tree, name);
        assert_eq!(settings(&daemon, &id), config, "{name}");
        assert_eq!(daemon.runs(&id, &[]), "/tree\na");
        daemon.klee(&["image", "rm", &id]).ok();
    }
}

#[test]
fn exported_and_imported() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        varied(&daemon);
        let tree = exported(&daemon, "app:1");
        for (name, program) in [
            ("exported.tar", None),
            ("exported.tar.xz", Some("xz")),
            ("exported.tar.gz", Some("gzip")),
        ] {
            if let Some(program) = program {
                let path = daemon
                    .directory()
                    .join("exported.tar")
                    .display()
                    .to_string();
                run(program, &["-k", &path]);
            }
            let changes = [
                "-c",
                "ENV A=b",
                "-c",
                "CMD echo $A",
                "-c",
                "WORKDIR /tree",
                "-m",
                "from elsewhere",
            ];
            daemon
                .klee(
                    &[
                        &["image", "import", "-q", "-t", "flat"],
                        &changes[..],
                        &[name],
                    ]
                    .concat(),
                )
                .ok();
            same(
                &exported(&daemon, "flat"),
                &tree,
                &format!("{room:?} {name}"),
            );
            assert_eq!(daemon.runs("flat", &[]), "b\n");
            assert_eq!(daemon.runs("flat", &["pwd"]), "/tree\n");
            let history = daemon.klee(&["image", "history", "flat"]).ok();
            assert!(history.contains("from elsewhere"), "{history}");
            assert_eq!(daemon.inspect("image", "flat")["parent"], "");
        }
        let bytes = fs::read(daemon.directory().join("exported.tar")).unwrap();
        daemon
            .klee_with_input(&["image", "import", "-t", "stdin", "-"], &bytes)
            .ok();
        same(&exported(&daemon, "stdin"), &tree, "daemon");
        let bad = daemon.klee(&[
            "image",
            "import",
            "-t",
            "x",
            "-c",
            "RUN true",
            "exported.tar",
        ]);
        assert!(bad.code != 0 && bad.stderr.contains("RUN true"), "{bad:?}");
        // A container's own files, without its volumes.
        let script = "echo own > /tree/own; echo volume > /vol/file";
        let words = [
            "run",
            "-q",
            "--name",
            "box",
            "-u",
            "root",
            "--entrypoint",
            "sh",
            "app:1",
            "-c",
            script,
        ];
        daemon.klee(&words).ok();
        daemon
            .klee(&["container", "export", "-o", "box.tar", "box"])
            .ok();
        let names: Vec<String> = contents(&daemon.directory().join("box.tar"));
        let has = |name: &str| names.iter().any(|line| line.starts_with(name));
        assert!(has("tree/own ") && !has("vol/file "), "{names:?}");
    }
}

#[test]
fn containers_become_images() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let script = "echo new > /new; rm -r /usr/local/www/nginx; mkdir /usr/local/www/nginx; \
             chown www /etc/group; echo volume > /v/file; echo ready; sleep 1000";
        let words = [
            "run", "-d", "--name", "box", "-m", "v:/v", "nginx", "sh", "-c", script,
        ];
        daemon.klee(&words).ok();
        daemon
            .klee(&[
                "exec",
                "-q",
                "box",
                "sh",
                "-c",
                "until test -e /v/file; do sleep 0.02; done",
            ])
            .ok();
        // A running one, with what it has changed, without what is mounted.
        let changes = [
            "-m",
            "a remark",
            "-c",
            "ENV A=b",
            "-c",
            "CMD [\"cat\", \"/new\"]",
            "-c",
            "LABEL x=y",
        ];
        let id = daemon
            .klee(&[&["container", "commit"], &changes[..], &["box", "made:1"]].concat())
            .ok();
        assert_eq!(daemon.image_id("made:1"), id.trim());
        assert_eq!(
            daemon.inspect("container", "box")["container"]["status"],
            "running"
        );
        daemon.klee(&["exec", "-q", "box", "true"]).ok();
        assert_eq!(daemon.runs("made:1", &[]), "new\n");
        let seen = daemon.sh(
            "made:1",
            "ls -A /usr/local/www/nginx /v; stat -c %U /etc/group; echo $A",
        );
        assert_eq!(seen, "/usr/local/www/nginx:\n\n/v:\nwww\nb\n", "{room:?}");
        let history = daemon.klee(&["image", "history", "made:1"]).ok();
        assert!(
            history.contains("COMMIT box") && history.contains("a remark"),
            "{history}"
        );
        // The image stands on that of the container, and both can go on.
        let base = daemon.image_id("nginx");
        let refused = daemon.klee(&["image", "rm", "nginx"]).fails(1);
        assert!(
            refused.contains(&format!("could not remove image {base}")),
            "{refused}"
        );
        daemon
            .klee(&["exec", "-q", "box", "sh", "-c", "echo later > /new"])
            .ok();
        daemon
            .klee(&["container", "commit", "--no-pause", "box", "made:2"])
            .ok();
        daemon.klee(&["rm", "-f", "box"]).ok();
        assert_eq!(daemon.runs("made:2", &["cat", "/new"]), "later\n");
        // Of what was committed a container, and of that an image again.
        let words = [
            "run",
            "-q",
            "--name",
            "second",
            "made:1",
            "sh",
            "-c",
            "rm /new; > /third",
        ];
        daemon.klee(&words).ok();
        daemon
            .klee(&["container", "commit", "second", "made:3"])
            .ok();
        assert_eq!(
            daemon.sh("made:3", "cd /; ls new third 2>/dev/null; echo $A"),
            "third\nb\n"
        );
        let steps = daemon.klee(&["image", "history", "-q", "made:3"]);
        assert_eq!(steps.code, 0, "{steps:?}");
        daemon.klee(&["rm", "second"]).ok();
        let bad = daemon.klee(&["container", "commit", "-c", "COPY a b", "nope", "x"]);
        assert_ne!(bad.code, 0);
        daemon
            .klee(&["image", "rm", "made:3", "made:2", "made:1", "nginx"])
            .ok();
        assert_eq!(daemon.images().len(), 1);
    }
}
