//! Images of registries.

use std::io::Read;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::attached::creating;
use crate::common::daemon::{Script, Socket};
use crate::common::{FakeDaemon, Klee};

const ID: &str = "0123456789ab";

async fn layers(socket: &mut Socket) {
    socket.starting("").await;
    for (id, step, done) in [
        (Some("a1b2"), "downloading", 0),
        (Some("c3d4"), "downloading", 5),
        (Some("a1b2"), "downloading", 10),
        (Some("a1b2"), "extracting", 10),
        (None, "making the image", 0),
    ] {
        let progress = json!({"id": id, "step": step, "done": done, "total": 10});
        socket.text(&progress.to_string()).await;
    }
}

const LINES: &str = "a1b2: downloading\nc3d4: downloading\na1b2: extracting\nmaking the image\n";

fn pulling(script: Script) -> Script {
    script.session("/images/pull", |mut socket| async move {
        layers(&mut socket).await;
        socket.close(1000, "closing", "image pulled", ID).await;
    })
}

fn refusing(path: &str, message: &'static str) -> FakeDaemon {
    FakeDaemon::script()
        .session(path, move |mut socket| async move {
            socket.starting("").await;
            socket.close(1011, "error", message, "").await;
        })
        .start()
}

#[test]
fn pulls() {
    let daemon = pulling(FakeDaemon::script()).start();
    let pull = ["pull", "quay.io/team/app:1"];
    Klee::new(&daemon, &pull)
        .run()
        .assert(0, "image pulled\n0123456789ab\n", LINES);
    let expected = json!({
        "reference": "quay.io/team/app:1", "platform": null, "tag": null, "credentials": null,
    });
    assert_eq!(daemon.body("/images/pull"), expected);
    let pull = [
        "image",
        "pull",
        "-q",
        "--platform",
        "linux/arm64",
        "-t",
        "app",
        "nginx",
    ];
    Klee::new(&daemon, &pull)
        .run()
        .assert(0, "0123456789ab\n", "");
    let requests = daemon.requests();
    let body = &requests.last().unwrap().body;
    assert_eq!(
        (&body["platform"], &body["tag"]),
        (&json!("linux/arm64"), &json!("app"))
    );
}

#[test]
fn pulls_that_fail() {
    let daemon = refusing("/images/pull", "quay.io: unauthorized");
    let error = "error: could not pull 'quay.io/app': quay.io: unauthorized\n\
                 hint: log in with `klee login quay.io`\n";
    Klee::new(&daemon, &["pull", "quay.io/app"])
        .run()
        .assert(1, "", error);
    let daemon = refusing("/images/pull", "'x/y' can't be had from docker.io");
    Klee::new(&daemon, &["pull", "x/y"]).run().assert(
        1,
        "",
        "error: 'x/y' can't be had from docker.io\n",
    );
    let daemon = FakeDaemon::script()
        .session("/images/pull", |mut socket| async move {
            socket.starting("").await;
            let progress =
                json!({"step": "failed", "done": 0, "total": null, "error": "many words"});
            socket.text(&progress.to_string()).await;
            socket.close(1011, "error", "a lo…", "").await;
        })
        .start();
    Klee::new(&daemon, &["pull", "-q", "x"]).run().assert(
        1,
        "",
        "error: could not pull 'x': many words\n",
    );
}

#[test]
fn pushes() {
    let digest = "sha256:0a1b2c";
    let daemon = FakeDaemon::script()
        .session("/images/push", move |mut socket| async move {
            layers(&mut socket).await;
            socket.close(1000, "closing", "image pushed", digest).await;
        })
        .start();
    Klee::new(&daemon, &["push", "quay.io/app"]).run().assert(
        0,
        "image pushed\nsha256:0a1b2c\n",
        LINES,
    );
    let expected = json!({"image": "quay.io/app", "reference": null, "credentials": null});
    assert_eq!(daemon.body("/images/push"), expected);
    Klee::new(&daemon, &["push", "-q", "app", "r:5000/app:2"])
        .run()
        .assert(0, "sha256:0a1b2c\n", "");
    let requests = daemon.requests();
    assert_eq!(requests.last().unwrap().body["reference"], "r:5000/app:2");

    let daemon = refusing("/images/push", "requested access to the resource is denied");
    let error = "error: could not push 'r:5000/x': requested access to the resource is denied\n\
                 hint: log in with `klee login r:5000`\n";
    Klee::new(&daemon, &["push", "app", "r:5000/x"])
        .run()
        .assert(1, "", error);
}

#[test]
fn an_interrupted_pull_is_broken_off() {
    let (send, ended) = std::sync::mpsc::channel();
    let daemon = FakeDaemon::script()
        .session("/images/pull", move |mut socket| {
            let send = send.clone();
            async move {
                layers(&mut socket).await;
                send.send(socket.binary().await).unwrap();
            }
        })
        .start();
    let mut running =
        Klee::new(&daemon, &["pull", "x"]).spawn(Stdio::null(), Stdio::null(), Stdio::piped());
    let mut stderr = running.0.stderr.take().unwrap();
    let mut shown = vec![0; LINES.len()];
    stderr.read_exact(&mut shown).unwrap();
    running.signal(Signal::INT);
    assert_eq!(running.wait(), Some(130));
    let mut error = String::new();
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(error, "error: could not pull 'x': interrupted\n");
    let ended = ended.recv_timeout(std::time::Duration::from_secs(60));
    assert_eq!(ended, Ok(None));
}

#[test]
fn searches() {
    let found = json!([
        {"name": "nginx", "description": "A web server", "stars": 20000, "official": true},
        {"name": "team/nginx", "description": "x".repeat(80), "stars": 3, "official": false},
    ]);
    let daemon = FakeDaemon::script()
        .on("GET", "/images/search?term=nginx", 200, found.clone())
        .on(
            "GET",
            "/images/search?term=a%20b&registry=quay.io&limit=5",
            200,
            found,
        )
        .on(
            "GET",
            "/images/search?term=x",
            501,
            json!({"message": "registry 'r' can't be searched"}),
        )
        .start();
    let output = Klee::new(&daemon, &["image", "search", "nginx"]).run();
    let expected = format!(
        " NAME         DESCRIPTION{:49}   STARS   OFFICIAL\n{}\n \
         nginx        A web server{:48}   20000     yes\n \
         team/nginx   {}…       3\n",
        "",
        "─".repeat(94),
        "",
        "x".repeat(59),
    );
    output.assert(0, &expected, "");
    let arguments = [
        "image",
        "search",
        "--registry",
        "quay.io",
        "--limit",
        "5",
        "--format",
        "{{.name}} {{.stars}}",
        "a b",
    ];
    Klee::new(&daemon, &arguments)
        .run()
        .assert(0, "nginx 20000\nteam/nginx 3\n", "");
    Klee::new(&daemon, &["image", "search", "x"]).run().assert(
        1,
        "",
        "error: registry 'r' can't be searched\n",
    );
}

fn missing(image: &str) -> serde_json::Value {
    json!({"message": format!("no such image '{image}'")})
}

#[test]
fn missing_images_are_pulled_where_they_name_a_registry() {
    let lacking = |image: &str| {
        let script = FakeDaemon::script()
            .on("POST", "/containers/create", 404, missing(image))
            .on(
                "POST",
                "/containers/create",
                201,
                json!({"id": "835b746a9e0d"}),
            )
            .on("GET", "/images/list", 200, json!([]));
        pulling(script).start()
    };
    for (flags, image) in [
        (&[][..], "quay.io/app:1"),
        (&["--pull", "missing"], "nginx"),
        (&["--pull=missing", "--platform", "linux/arm64"], "nginx"),
    ] {
        let daemon = lacking(image);
        let arguments = [&["create"], flags, &[image]].concat();
        let output = Klee::new(&daemon, &arguments).run();
        let note = format!("Pulling image '{image}', which isn't here\n{LINES}");
        output.assert(0, "835b746a9e0d\n", &note);
        let requests = daemon.requests();
        let images: Vec<_> = requests.iter().map(|r| r.body["image"].clone()).collect();
        assert_eq!(images, [json!(image), json!(null), json!(ID)]);
    }
    let hint = "hint: to look for it in the registry, give --pull missing\n";
    for (flags, image, hint) in [
        (&[][..], "nginx", hint),
        (&[], "team/nginx", hint),
        (&[], "quay.io/app@0a1b", ""),
        (&["--pull", "never"], "quay.io/app", ""),
    ] {
        let daemon = lacking(image);
        let arguments = [&["create"], flags, &[image]].concat();
        let error = format!("error: could not create container: no such image '{image}'\n{hint}");
        Klee::new(&daemon, &arguments).run().assert(1, "", &error);
        let expected = ["POST /containers/create", "GET /images/list"];
        assert_eq!(daemon.calls(), expected);
    }
}

#[test]
fn images_are_pulled_always() {
    let daemon = pulling(creating().session("/exec/start", |mut socket| async move {
        socket.starting("").await;
        socket.finish(0).await;
    }))
    .start();
    let run = [
        "run",
        "-q",
        "--pull",
        "always",
        "--entrypoint",
        "/bin/sh",
        "nginx",
        "-c",
        "x",
    ];
    Klee::new(&daemon, &run).run().assert(0, "", "");
    assert_eq!(
        daemon.calls()[..2],
        ["GET /images/pull", "POST /containers/create"]
    );
    let body = daemon.body("/containers/create");
    assert_eq!(body["image"], ID);
    assert_eq!(body["entrypoint"], json!(["/bin/sh"]));
    assert_eq!(body["cmd"], json!(["-c", "x"]));
}

#[test]
fn a_pull_that_fails_is_no_exit_code_of_a_process() {
    let daemon = refusing("/images/pull", "no such host");
    let run = ["run", "--pull", "always", "nginx"];
    Klee::new(&daemon, &run).run().assert(
        125,
        "",
        "error: could not create container: could not pull 'nginx': no such host\n",
    );
}

/// Docker's file with a login, where this daemon's klee finds it.
fn logged_in(daemon: &FakeDaemon, registry: &str) {
    let directory = daemon.directory().join(".docker");
    std::fs::create_dir_all(&directory).unwrap();
    // me:s3cret
    let file = json!({"auths": {registry: {"auth": "bWU6czNjcmV0"}}});
    std::fs::write(directory.join("config.json"), file.to_string()).unwrap();
}

fn kept(daemon: &FakeDaemon) -> serde_json::Value {
    let file = daemon.directory().join(".docker/config.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn credentials_go_to_their_registry_only() {
    let credentials = json!({
        "registry": "quay.io", "username": "me", "password": "s3cret", "identity_token": "",
    });
    let daemon = pulling(FakeDaemon::script())
        .session("/images/push", |mut socket| async move {
            socket.starting("").await;
            socket.close(1000, "closing", "image pushed", "").await;
        })
        .session("/images/build", |mut socket| async move {
            socket.starting("").await;
            socket.close(1000, "closing", "image created", ID).await;
        })
        .start();
    logged_in(&daemon, "quay.io");
    let sent = |arguments: &[&str]| {
        let output = Klee::new(&daemon, arguments).run();
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(!format!("{output:?}").contains("s3cret"));
        daemon.requests().last().unwrap().body["credentials"].clone()
    };
    assert_eq!(sent(&["pull", "-q", "quay.io/app"]), credentials);
    assert_eq!(sent(&["pull", "-q", "nginx"]), json!(null));
    assert_eq!(sent(&["pull", "-q", "ghcr.io/app"]), json!(null));
    assert_eq!(sent(&["push", "-q", "app", "quay.io/app"]), credentials);
    assert_eq!(
        sent(&["push", "-q", "quay.io/app", "ghcr.io/app"]),
        json!(null)
    );
    let file = daemon.directory().join("Dockerfile");
    std::fs::write(&file, "ARG HUB=ghcr.io\nFROM $HUB/a\n").unwrap();
    // Absent: none.
    assert_eq!(sent(&["build", "."]), json!(null));
    let wanted = json!({"quay.io": credentials});
    assert_eq!(sent(&["build", "--build-arg", "HUB=quay.io", "."]), wanted);
    assert_eq!(sent(&["build", "--from", "quay.io/base", "."]), wanted);
    let never = ["build", "--pull=never", "--from", "quay.io/base", "."];
    assert_eq!(sent(&never), json!(null));
    logged_in(&daemon, "https://index.docker.io/v1/");
    let mut hub = credentials.clone();
    hub["registry"] = json!("docker.io");
    assert_eq!(sent(&["build", "."]), json!({"docker.io": hub}));
    assert_eq!(sent(&["pull", "-q", "nginx"]), hub);
}

#[test]
fn logins_that_can_not_be_read_are_told() {
    let daemon = pulling(FakeDaemon::script()).start();
    logged_in(&daemon, "quay.io");
    std::fs::write(daemon.directory().join(".docker/config.json"), "{").unwrap();
    let output = Klee::new(&daemon, &["pull", "-q", "quay.io/app"]).run();
    assert_eq!(output.code, Some(0));
    let warning = "warning: asking quay.io without a login: ";
    assert!(output.stderr.starts_with(warning), "{output:?}");
}

#[test]
fn logging_in_and_out() {
    let daemon = FakeDaemon::script()
        .on("POST", "/images/login", 200, json!({"registry": "quay.io"}))
        .start();
    let login = ["login", "-u", "me", "--password-stdin", "https://quay.io/"];
    let output = Klee::new(&daemon, &login).input(b"s3cret\n").run();
    let warning = format!(
        "warning: the password is kept in '{}' as it is; a credential helper would encrypt it\n",
        daemon.directory().join(".docker/config.json").display()
    );
    output.assert(0, "Login succeeded at quay.io\n", &warning);
    let expected = json!({
        "registry": "quay.io",
        "credentials": {"username": "me", "password": "s3cret", "identity_token": ""},
    });
    assert_eq!(daemon.body("/images/login"), expected);
    assert_eq!(kept(&daemon)["auths"]["quay.io"]["auth"], "bWU6czNjcmV0");

    let output = Klee::new(&daemon, &["image", "login", "-u", "you", "-p", "x"]).run();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.stderr.contains("others may see a password"),
        "{output:?}"
    );
    assert_eq!(daemon.requests().last().unwrap().body["registry"], "");

    for (registry, said) in [
        ("quay.io", "Logged out of quay.io\n"),
        ("quay.io", "Not logged in to quay.io\n"),
    ] {
        Klee::new(&daemon, &["logout", registry])
            .run()
            .assert(0, said, "");
    }
    Klee::new(&daemon, &["logout"])
        .run()
        .assert(0, "Not logged in to docker.io\n", "");
}

#[test]
fn a_token_is_kept_in_place_of_the_password() {
    let answer = json!({"registry": "quay.io", "identity_token": "t0ken"});
    let daemon = FakeDaemon::script()
        .on("POST", "/images/login", 200, answer)
        .start();
    let login = ["login", "-u", "me", "--password-stdin", "quay.io"];
    let output = Klee::new(&daemon, &login).input(b"s3cret").run();
    assert_eq!(output.code, Some(0), "{output:?}");
    let kept = kept(&daemon);
    assert_eq!(kept["auths"]["quay.io"]["identitytoken"], "t0ken");
    assert!(!kept.to_string().contains("s3cret"), "{kept}");
}

#[test]
fn logins_that_fail_are_not_kept() {
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/images/login",
            401,
            json!({"message": "quay.io doesn't take these credentials"}),
        )
        .start();
    let login = ["login", "-u", "me", "--password-stdin", "quay.io"];
    Klee::new(&daemon, &login).input(b"s3cret").run().assert(
        1,
        "",
        "error: quay.io doesn't take these credentials\n",
    );
    assert!(!daemon.directory().join(".docker").exists());
    for (arguments, input, code, error) in [
        (
            &["login", "quay.io"][..],
            "x",
            2,
            "error: there is no terminal to ask for",
        ),
        (
            &["login", "-u", "me", "--password-stdin"],
            "\n",
            1,
            "error: there is no password",
        ),
        (
            &["login", "--password-stdin"],
            "x",
            2,
            "error: the following required",
        ),
        (&["login", "a b"], "x", 2, "error: 'a b' is no registry: "),
    ] {
        let output = Klee::new(&daemon, arguments).input(input.as_bytes()).run();
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.starts_with(error), "{output:?}");
    }
    assert_eq!(daemon.requests().len(), 1);
}
