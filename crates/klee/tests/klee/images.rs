//! `klee image …`.

use serde_json::{Value, json};

use crate::common::{FakeDaemon, Klee, seconds_ago};

fn image(id: &str, name: &str, tag: &str) -> Value {
    json!({
        "id": id, "name": name, "tag": tag, "cmd": ["/bin/sh"], "env": [], "user": "root",
        "instructions": [["FROM x", ""], ["RUN y", "@0123"]], "created": seconds_ago(6),
        "dataset": format!("zroot/kleene/image/{id}"),
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
    assert_eq!(lines[0], " ID             NAME      TAG      CREATED");
    assert_eq!(lines[1], "─".repeat(49));
    assert!(
        lines[2].starts_with(" 0123456789ab   FreeBSD   latest   "),
        "{}",
        lines[2]
    );
    assert!(
        lines[3].starts_with(" 1123456789ab                      "),
        "{}",
        lines[3]
    );
    Klee::new(&daemon, &["lsi", "-q"])
        .run()
        .assert(0, "0123456789ab\n1123456789ab\n", "");
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
        .on("POST", "/images/prune?all=false", 200, json!(["x"]))
        .on("POST", "/images/prune?all=true", 200, json!(["x", "y"]))
        .start();
    Klee::new(&daemon, &["image", "tag", "a", "b:1.0"])
        .run()
        .assert(0, "0123456789ab\n", "");
    let question = "WARNING! This will remove all unused images.\n\
                    Are you sure you want to continue? [y/N]: x\n";
    Klee::new(&daemon, &["image", "prune"])
        .input(b"y\n")
        .run()
        .assert(0, question, "");
    Klee::new(&daemon, &["image", "prune", "-af"])
        .run()
        .assert(0, "x\ny\n", "");
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
