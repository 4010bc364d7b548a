//! `klee container …`, but for attached processes.

use serde_json::{Value, json};

use crate::common::{FakeDaemon, Klee, container};

const ID: &str = "cc1ea0ff3f5a";

#[test]
fn the_listing() {
    let mut unnamed = container("0123456789ab", "x", false);
    unnamed["image_name"] = json!("");
    unnamed["restart_policy"] = json!("on-startup");
    unnamed["cmd"] = json!(["echo", "a long line of words that goes on and on\nand on"]);
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/list?all=false&size=false",
            200,
            json!([]),
        )
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([container(ID, "devtest", true), unnamed]),
        )
        .start();
    let titles = " CONTAINER ID    NAME   IMAGE   COMMAND   CREATED   AUTORUN   STATUS   JID";
    let rule = "─".repeat(75);
    Klee::new(&daemon, &["container", "ls"])
        .run()
        .assert(0, &format!("{titles}\n{rule}\n"), "");

    let output = Klee::new(&daemon, &["lsc", "-a"]).run();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(
        lines[2],
        " cc1ea0ff3f5a    devtest   FreeBSD:latest   /bin/sh -c sleep 1000                      \
         About an hour ago     no      running   4711"
    );
    assert_eq!(
        lines[3],
        " 0123456789ab    x         abcdef012345     echo a long line of words that goes on …   \
         About an hour ago     yes     stopped"
    );
    Klee::new(&daemon, &["lsc", "-aq"])
        .run()
        .assert(0, "cc1ea0ff3f5a\n0123456789ab\n", "");
    let output = Klee::new(&daemon, &["lsc", "-a", "--format=json"]).run();
    let listed: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(listed[0], container_without_age(&listed[0], true));
}

/// The container that the script lists, at the age that was listed.
fn container_without_age(listed: &Value, running: bool) -> Value {
    let mut expected = container(ID, "devtest", running);
    expected["created"] = listed["created"].clone();
    expected
}

#[test]
fn creation_sends_all_options() {
    let daemon = FakeDaemon::script()
        .on("POST", "/containers/create", 201, json!({"id": ID}))
        .on("POST", "/networks/connect", 204, Value::Null)
        .start();
    let arguments = [
        "create",
        "--name",
        "web",
        "-u",
        "www:www",
        "-e",
        "A=b=c",
        "--env=INHERITED",
        "-e",
        "UNSET",
        "-m",
        "vol:/data",
        "--mount",
        "/etc/ssl:/etc/ssl:ro",
        "-J",
        "allow.raw_sockets",
        "-P",
        "--restart",
        "on-startup",
        "-n",
        "net",
        "--ip",
        "10.0.0.7",
        "-p",
        "8080:80",
        "-p",
        "em0:53:53/udp",
        "nginx:1.0",
        "nginx",
        "-g",
        "--name",
        "x",
    ];
    Klee::new(&daemon, &arguments)
        .env("INHERITED", "yes")
        .run()
        .assert(0, "cc1ea0ff3f5a\n", "");
    let expected = json!({
        "name": "web", "image": "nginx:1.0", "cmd": ["nginx", "-g", "--name", "x"],
        "user": "www:www", "env": ["A=b=c", "INHERITED=yes"],
        "mounts": [
            {"type": "volume", "source": "vol", "destination": "/data", "read_only": false},
            {"type": "nullfs", "source": "/etc/ssl", "destination": "/etc/ssl", "read_only": true},
        ],
        "jail_param": ["allow.raw_sockets"], "network_driver": "ipnet",
        "public_ports": [
            {"interfaces": [], "host_port": "8080", "container_port": "80", "protocol": "tcp"},
            {"interfaces": ["em0"], "host_port": "53", "container_port": "53", "protocol": "udp"},
        ],
        "restart_policy": "on-startup", "persist": true, "auto_remove": null,
    });
    assert_eq!(daemon.body("/containers/create"), expected);
    let connection = json!({
        "container": ID, "network": "net", "ip_address": "10.0.0.7", "ip_address6": "<auto>",
    });
    assert_eq!(daemon.body("/networks/connect"), connection);
}

#[test]
fn creation_without_options_leaves_the_choice_to_the_daemon() {
    let daemon = FakeDaemon::script()
        .on("POST", "/containers/create", 201, json!({"id": ID}))
        .start();
    Klee::new(&daemon, &["container", "create", "base"])
        .run()
        .assert(0, "cc1ea0ff3f5a\n", "");
    let body = daemon.body("/containers/create");
    assert_eq!(body["name"], Value::Null);
    assert_eq!(body["user"], Value::Null);
    assert_eq!(body["cmd"], json!([]));
    assert_eq!(body["network_driver"], "host");
}

#[test]
fn malformed_mounts_are_refused_before_anything_happens() {
    let daemon = FakeDaemon::script().start();
    for (mount, message) in [
        (
            "a",
            "invalid mount format 'a'. Must have at least 2 elements separated by ':'.",
        ),
        (
            "a:/b:ro:x",
            "invalid mount format 'a:/b:ro:x'. Max 3 elements separated by ':'.",
        ),
        (
            "a:/b:rx",
            "invalid mount format 'a:/b:rx'. Last element should be either 'ro' or 'rw'.",
        ),
        (
            "a:/b:ro,rw",
            "invalid mount format 'a:/b:ro,rw'. The options are 'ro' or 'rw', and 'nosuid', each \
             at most once.",
        ),
    ] {
        for command in ["create", "run"] {
            let output = Klee::new(&daemon, &[command, "-m", mount, "base"]).run();
            output.assert(125, "", &format!("error: {message}\n"));
        }
    }
    assert_eq!(daemon.calls(), Vec::<String>::new());
}

#[test]
fn a_container_that_cannot_be_connected_is_removed_again() {
    let daemon = FakeDaemon::script()
        .on("POST", "/containers/create", 201, json!({"id": ID}))
        .on(
            "POST",
            "/networks/connect",
            404,
            json!({"message": "network not found"}),
        )
        .on("DELETE", "/containers/cc1ea0ff3f5a", 200, json!({"id": ID}))
        .start();
    let output = Klee::new(&daemon, &["create", "-n", "net", "base"]).run();
    output.assert(
        1,
        "",
        "error: could not connect container: network 'net': network not found\n",
    );
    assert_eq!(
        daemon.calls().last().unwrap(),
        "DELETE /containers/cc1ea0ff3f5a"
    );
}

#[test]
fn unknown_images_are_guessed() {
    let image = json!({
        "id": "abcdef012345", "name": "nginx", "tag": "latest", "cmd": [], "env": [], "user": "",
        "instructions": [], "created": "2024-02-29T14:54:05.317207Z", "dataset": "x",
    });
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/containers/create",
            404,
            json!({"message": "no such image 'ngixn'"}),
        )
        .on("GET", "/images/list", 200, json!([image]))
        .start();
    let message = "error: could not create container: no such image 'ngixn'\n\
                   hint: did you mean 'nginx'?\n";
    Klee::new(&daemon, &["create", "ngixn"])
        .run()
        .assert(1, "", message);
    Klee::new(&daemon, &["run", "ngixn"])
        .run()
        .assert(125, "", message);
}

/// The daemon may speak of images without having anything against this one.
#[test]
fn images_are_not_blamed_for_what_is_wrong_elsewhere() {
    let reason = "jail parameter 'path=/': the root is the container's own, made from its image";
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/containers/create",
            404,
            json!({"message": reason}),
        )
        .start();
    Klee::new(&daemon, &["create", "-J", "path=/", "nginx"])
        .run()
        .assert(
            1,
            "",
            &format!("error: could not create container: {reason}\n"),
        );
}

#[test]
fn stopping_and_removing_several() {
    let daemon = FakeDaemon::script()
        .on("POST", "/containers/a/stop", 200, json!({"id": ID}))
        .on(
            "POST",
            "/containers/b/stop",
            404,
            json!({"message": "container not running"}),
        )
        .on("DELETE", "/containers/a", 200, json!({"id": ID}))
        .on(
            "DELETE",
            "/containers/b",
            409,
            json!({"message": "you cannot remove a running container"}),
        )
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([container(ID, "b", false)]),
        )
        .start();
    let not_running = "error: container 'b': container not running\n";
    Klee::new(&daemon, &["stop", "b", "a"])
        .run()
        .assert(1, "cc1ea0ff3f5a\n", not_running);
    let running = "error: container 'b': you cannot remove a running container\n\
                   hint: stop it first, or use --force\n";
    Klee::new(&daemon, &["rmc", "b", "a"])
        .run()
        .assert(1, "cc1ea0ff3f5a\n", running);
}

#[test]
fn forced_removal_is_one_request() {
    let missing = json!({"message": "no such container"});
    let daemon = FakeDaemon::script()
        .on("DELETE", "/containers/a?force=true", 200, json!({"id": ID}))
        .on("DELETE", "/containers/b?force=true", 404, missing)
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([]),
        )
        .start();
    Klee::new(&daemon, &["rmc", "-f", "a", "b"]).run().assert(
        1,
        "cc1ea0ff3f5a\n",
        "error: container 'b': no such container\n",
    );
}

#[test]
fn updates_touch_only_what_is_given() {
    let daemon = FakeDaemon::script()
        .on("POST", "/containers/web/update", 201, json!({"id": ID}))
        .on(
            "POST",
            "/containers/old/update",
            409,
            json!({"message": "name 'new' is taken"}),
        )
        .start();
    let update = [
        "container",
        "update",
        "--restart",
        "on-startup",
        "--no-persist",
        "web",
        "sh",
        "-u",
    ];
    Klee::new(&daemon, &update)
        .run()
        .assert(0, "cc1ea0ff3f5a\n", "");
    let body = daemon.body("/containers/web/update");
    let given: Vec<(&String, &Value)> = body
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    assert_eq!(
        format!("{given:?}"),
        r#"[("cmd", Array [String("sh"), String("-u")]), ("persist", Bool(false)), ("restart_policy", String("on-startup"))]"#
    );
    let output = Klee::new(&daemon, &["container", "rename", "old", "new"]).run();
    output.assert(1, "", "error: container 'old': name 'new' is taken\n");
}

#[test]
fn options_behind_the_container_are_no_command() {
    let daemon = FakeDaemon::script()
        .on("POST", "/containers/web/update", 201, json!({"id": ID}))
        .start();
    for words in [
        &["--memory", "64m"][..],
        &["-P"],
        &["-"],
        &["--memory=1g", "sh"],
    ] {
        let line = [&["update", "--user", "www", "web"][..], words].concat();
        let output = Klee::new(&daemon, &line).run();
        assert_eq!(output.code, Some(2), "{words:?}: {output:?}");
        assert!(
            output.stderr.contains("options go before CONTAINER"),
            "{output:?}"
        );
    }
    assert_eq!(daemon.requests().len(), 0, "nothing was changed");
    for (words, command) in [
        (&["--", "--memory", "64m"][..], json!(["--memory", "64m"])),
        (&["--", "sh"], json!(["sh"])),
        (&["sh", "--", "-c"], json!(["sh", "--", "-c"])),
    ] {
        let line = [&["update", "web"][..], words].concat();
        Klee::new(&daemon, &line)
            .run()
            .assert(0, "cc1ea0ff3f5a\n", "");
        let requests = daemon.requests();
        assert_eq!(requests.last().unwrap().body["cmd"], command);
    }
    let output = Klee::new(&daemon, &["update", "web", "--"]).run();
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("nothing to change"), "{output:?}");
}

#[test]
fn inspection_of_a_container() {
    let mut inspected = container(ID, "web", true);
    for key in ["image_name", "image_tag", "jid", "mounts"] {
        inspected.as_object_mut().unwrap().remove(key);
    }
    let answer = json!({
        "container": inspected,
        "container_endpoints": [],
        "container_mountpoints": [{
            "container_id": ID, "destination": "/usr/local/www/nginx", "read_only": true,
            "source": "nginx-vol", "type": "volume",
        }],
        "container_execs": [],
    });
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/web/inspect", 200, answer.clone())
        .start();
    let output = Klee::new(&daemon, &["isc", "web"]).run();
    assert_eq!(
        serde_json::from_str::<Value>(&output.stdout).unwrap(),
        answer
    );
    let same = Klee::new(&daemon, &["inspect", "web"]).run();
    assert_eq!((same.code, &same.stdout), (Some(0), &output.stdout));
    let template = "{{.Name}} {{.ID}} {{.Container.Name}}";
    Klee::new(&daemon, &["inspect", "--format", template, "web"])
        .run()
        .assert(0, "web cc1ea0ff3f5a web\n", "");
    let unknown = Klee::new(&daemon, &["inspect", "--format", "{{.names}}", "web"]).run();
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    for part in [
        "no field 'names'",
        "did you mean 'name'",
        "container_execs",
        ", id, ",
    ] {
        assert!(unknown.stderr.contains(part), "{part}: {unknown:?}");
    }
    let documented = r#"  "container_mountpoints": [
    {
      "container_id": "cc1ea0ff3f5a",
      "destination": "/usr/local/www/nginx",
      "read_only": true,
      "source": "nginx-vol",
      "type": "volume"
    }
  ],
"#;
    assert!(output.stdout.contains(documented), "{output:?}");
}

#[test]
fn the_daemon_hangs_up() {
    let daemon = FakeDaemon::script()
        .hangup("GET", "/containers/list?all=false&size=false")
        .start();
    let output = Klee::new(&daemon, &["lsc"]).run();
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.starts_with("error: the daemon at http://"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("closed the connection unexpectedly"),
        "{output:?}"
    );
}
