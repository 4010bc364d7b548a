//! `klee image …`.

use serde_json::{Value, json};

use crate::common::{FakeDaemon, Klee, seconds_ago};

fn image(id: &str, name: &str, tag: &str) -> Value {
    json!({
        "id": id, "name": name, "tag": tag, "cmd": ["/bin/sh"], "env": [], "user": "root",
        "instructions": [["FROM x", ""], ["RUN y", "@0123"]], "created": seconds_ago(6),
        "dataset": format!("zroot/kleene/image/{id}"), "size": 20 << 20, "shared_size": 0,
        "digest": "sha256:0123456789abcdef", "labels": {"role": "web"},
    })
}

#[test]
fn the_listing() {
    let images = json!([
        image("0123456789ab", "FreeBSD", "latest"),
        image("1123456789ab", "", "")
    ]);
    let daemon = FakeDaemon::script()
        .on("GET", "/images/list", 200, images)
        .start();
    let output = Klee::new(&daemon, &["lsi"]).run();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let expected = [
        " ID             NAME      TAG      CREATED          SIZE   SHARED",
        &"─".repeat(66),
        " 0123456789ab   FreeBSD   latest   6 seconds ago   20MiB       0B",
        " 1123456789ab                      6 seconds ago   20MiB       0B",
    ];
    assert_eq!(lines, expected);
    Klee::new(&daemon, &["lsi", "-q"])
        .run()
        .assert(0, "0123456789ab\n1123456789ab\n", "");
    let json = Klee::new(&daemon, &["lsi", "--format", "json"]).run();
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[0]["digest"], "sha256:0123456789abcdef");
    let digests = |flags: &[&str]| {
        let arguments = [&["image", "ls", "--digests"], flags].concat();
        let output = Klee::new(&daemon, &arguments).run();
        let row = output.stdout.lines().nth(2).unwrap().to_owned();
        row.split(' ').next_back().unwrap().to_owned()
    };
    assert_eq!(digests(&[]), "sha256:0123456789ab");
    assert_eq!(digests(&["--no-trunc"]), "sha256:0123456789abcdef");
}

#[test]
fn what_is_listed() {
    let images = json!([
        image("0123456789ab", "base", "latest"),
        image("1123456789ab", "", "")
    ]);
    let all = json!([image("2123456789ab", "", "")]);
    let daemon = FakeDaemon::script()
        .on("GET", "/images/list", 200, images)
        .on("GET", "/images/list?all=true", 200, all)
        .start();
    for (flags, listed) in [
        (&["--filter", "dangling=true"][..], "1123456789ab\n"),
        (&["-f", "reference=b*"], "0123456789ab\n"),
        (&["-f", "label=role=db"], ""),
        (&["-a"], "2123456789ab\n"),
    ] {
        let arguments = [&["image", "ls", "-q"], flags].concat();
        Klee::new(&daemon, &arguments).run().assert(0, listed, "");
    }
    let unknown = Klee::new(&daemon, &["lsi", "--filter", "since=nope"]).run();
    unknown.assert(1, "", "error: --filter: no such image 'nope'\n");
    let output = Klee::new(&daemon, &["lsi", "--filter", "name=x"]).run();
    assert_eq!(output.code, Some(2), "{output:?}");
}

#[test]
fn the_history() {
    let steps = json!([
        {"image": "0123456789ab", "snapshot": "@9f8e7d6c5b4a", "created": seconds_ago(6),
         "created_by": format!("RUN {}", "x".repeat(60)), "comment": ""},
        {"image": "1123456789ab", "snapshot": "", "created": "", "created_by": "CMD sh",
         "comment": "imported"},
    ]);
    let daemon = FakeDaemon::script()
        .on("GET", "/images/app:1.0/history", 200, steps)
        .on(
            "GET",
            "/images/nope/history",
            404,
            json!({"message": "image not found"}),
        )
        .on("GET", "/images/list", 200, json!([]))
        .start();
    let output = Klee::new(&daemon, &["image", "history", "app:1.0"]).run();
    let expected = format!(
        " IMAGE          SNAPSHOT        CREATED         CREATED BY{:40}   COMMENT\n{}\n \
         0123456789ab   @9f8e7d6c5b4a   6 seconds ago   RUN {}…\n \
         1123456789ab                                   CMD sh{:44}   imported\n",
        "",
        "─".repeat(110),
        "x".repeat(45),
        "",
    );
    output.assert(0, &expected, "");
    let whole = ["image", "history", "--no-trunc", "app:1.0"];
    let output = Klee::new(&daemon, &whole).run();
    assert!(output.stdout.contains(&"x".repeat(60)), "{output:?}");
    Klee::new(&daemon, &["image", "history", "-q", "app:1.0"])
        .run()
        .assert(0, "0123456789ab@9f8e7d6c5b4a\n", "");
    Klee::new(&daemon, &["image", "history", "nope"])
        .run()
        .assert(1, "", "error: image 'nope': image not found\n");
}

#[test]
fn removal_names_what_is_in_the_way() {
    let message =
        "could not remove image 0123456789ab since it is used for containers:\n835b746a9e0d";
    let daemon = FakeDaemon::script()
        .on(
            "DELETE",
            "/images/0123456789ab",
            409,
            json!({"message": message}),
        )
        .on(
            "DELETE",
            "/images/nginx:1.0",
            200,
            json!({"id": "1123456789ab"}),
        )
        .start();
    let output = Klee::new(&daemon, &["rmi", "0123456789ab", "nginx:1.0"]).run();
    output.assert(1, "1123456789ab\n", &format!("error: {message}\n"));
}

#[test]
fn tagging_and_pruning() {
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/images/a/tag?nametag=b:1.0",
            200,
            json!({"id": "0123456789ab"}),
        )
        .start();
    Klee::new(&daemon, &["image", "tag", "a", "b:1.0"])
        .run()
        .assert(0, "0123456789ab\n", "");
}

#[test]
fn pruning() {
    let prune = |flags: &str| format!("/images/prune?{flags}&report=true");
    let report = |images: &[&str], bytes: u64| json!({"images": images, "bytes": bytes});
    let mut script = FakeDaemon::script();
    for (flags, images, bytes) in [
        (
            "all=false&build_cache=false&dry_run=false",
            &["x"][..],
            1536,
        ),
        ("all=true&build_cache=false&dry_run=false", &["x", "y"], 0),
        (
            "all=false&build_cache=true&dry_run=false",
            &["x", "y", "z"],
            20 << 20,
        ),
    ] {
        script = script.on("POST", &prune(flags), 200, report(images, bytes));
    }
    let daemon = script
        .on(
            "POST",
            &format!(
                "{}&filters=until%3D24h&filters=label%3Dold",
                prune("all=false&build_cache=false&dry_run=true")
            ),
            200,
            report(&[], 0),
        )
        .start();
    let asked = |warning: &str, ids: &str| {
        format!("WARNING! {warning}\nAre you sure you want to continue? [y/N]: {ids}\n")
    };
    Klee::new(&daemon, &["image", "prune"])
        .input(b"y\n")
        .run()
        .assert(
            0,
            &asked("This will remove all unused images.", "x"),
            "Total reclaimed space: 1.5KiB\n",
        );
    Klee::new(&daemon, &["image", "prune", "-af"]).run().assert(
        0,
        "x\ny\n",
        "Total reclaimed space: 0B\n",
    );
    let both = "This will remove all unused images and the build cache.";
    Klee::new(&daemon, &["image", "prune", "--build-cache"])
        .input(b"y\n")
        .run()
        .assert(0, &asked(both, "x\ny\nz"), "Total reclaimed space: 20MiB\n");
    let dry = [
        "image",
        "prune",
        "--dry-run",
        "--filter",
        "until=24h",
        "--filter",
        "label=old",
    ];
    Klee::new(&daemon, &dry).run().assert(0, "\n", "");
    let before = daemon.requests().len();
    let refused = Klee::new(&daemon, &["image", "prune", "--build-cache"])
        .input(b"n\n")
        .run();
    assert_eq!(refused.code, Some(1));
    let bad = Klee::new(&daemon, &["image", "prune", "-f", "--filter", "size=1"]).run();
    assert_eq!(bad.code, Some(2), "{bad:?}");
    assert_eq!(daemon.requests().len(), before);
}

#[test]
fn a_base_image() {
    let daemon = FakeDaemon::script()
        .session("/images/create", |mut socket| async move {
            socket.starting("").await;
            for done in [10, 100] {
                let progress = json!({"step": "copying", "done": done, "total": 100});
                socket.text(&progress.to_string()).await;
            }
            socket
                .close(1000, "closing", "image created", "0123456789ab")
                .await;
        })
        .start();
    let create = [
        "image",
        "create",
        "-t",
        "base",
        "--no-dns",
        "--add",
        "/usr/bin/git",
        "host",
    ];
    Klee::new(&daemon, &create)
        .run()
        .assert(0, "image created\n0123456789ab\n", "");
    let expected = json!({
        "method": "host", "tag": "base", "url": null, "zfs_dataset": null, "dns": false,
        "localtime": true, "update": false, "autotag": false, "add": ["/usr/bin/git"],
    });
    assert_eq!(daemon.body("/images/create"), expected);
    let quiet = ["image", "create", "-q", "host"];
    Klee::new(&daemon, &quiet)
        .run()
        .assert(0, "0123456789ab\n", "");
}

#[test]
fn sources_of_base_images() {
    let daemon = FakeDaemon::script()
        .session("/images/create", |socket| async move {
            socket.close(1000, "closing", "image created", "").await;
        })
        .start();
    let url = |source: &str| {
        let before = daemon.requests().len();
        let output = Klee::new(&daemon, &["image", "create", "fetch", source]).run();
        output.assert(0, "image created\n", "");
        daemon.requests()[before].body["url"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        url("https://example.org/base.txz"),
        "https://example.org/base.txz"
    );
    assert_eq!(url("/tmp/base.txz"), "file:///tmp/base.txz");
    let relative = daemon.directory().join("base.txz");
    assert_eq!(url("base.txz"), format!("file://{}", relative.display()));

    let refused = |arguments: &[&str], message: &str| {
        let arguments = [&["image", "create"], arguments].concat();
        Klee::new(&daemon, &arguments)
            .run()
            .assert(2, "", &format!("error: {message}\n"));
    };
    let needed = "The SOURCE argument is needed when creating images using the 'fetch' method.";
    refused(&["fetch"], needed);
    refused(
        &["host", "x"],
        "too many arguments: method 'host' takes no SOURCE ('x')",
    );
    refused(
        &["--add", "/x", "fetch", "y"],
        "--add goes with method 'host' only, not with 'fetch'",
    );
}

#[test]
fn a_base_image_that_fails() {
    let daemon = FakeDaemon::script()
        .session("/images/create", |mut socket| async move {
            socket.starting("").await;
            let progress = json!({
                "step": "fetching", "done": 0, "total": null,
                "error": "the archive ends in the middle of an entry",
            });
            socket.text(&progress.to_string()).await;
            socket
                .close(1011, "error", "image creation failed: the arch…", "")
                .await;
        })
        .start();
    let output = Klee::new(&daemon, &["image", "create", "fetch", "/x.tar"]).run();
    let message = "error: image creation failed: the archive ends in the middle of an entry\n";
    output.assert(1, "", message);
}
