//! How containers live: limits, policies, health checks, pauses, signals, updates, and how all of
//! that is listed.

use serde_json::{Value, json};

use crate::common::{FakeDaemon, Klee, container, seconds_ago};

const ID: &str = "cc1ea0ff3f5a";

/// What is not null in an object.
fn given(body: &Value) -> Value {
    let fields = body.as_object().unwrap().iter();
    fields
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[test]
fn creation_sends_limits_and_the_rest() {
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/containers/create",
            201,
            json!({"id": ID, "warnings": ["swap space can't be limited on this host"]}),
        )
        .start();
    let arguments = [
        "create",
        "--memory=512m",
        "--memory-swap",
        "-1",
        "--cpus",
        "1.5",
        "--cpuset-cpus=0-1",
        "--pids-limit",
        "unlimited",
        "--io-weight=50",
        "--ulimit=nofile=10:20",
        "--shm-size=1g",
        "--storage-quota=2g",
        "--log-limit=4m",
        "--init",
        "--restart=on-failure:3",
        "--health-cmd=test -e /ok",
        "--health-retries=5",
        "--stop-signal=QUIT",
        "--stop-timeout=1m30s",
        "-w",
        "/srv",
        "base",
        "sleep",
    ];
    Klee::new(&daemon, &arguments).run().assert(
        0,
        "cc1ea0ff3f5a\n",
        "warning: swap space can't be limited on this host\n",
    );
    let expected = json!({
        "image": "base", "cmd": ["sleep"], "env": [], "mounts": [], "jail_param": [],
        "network_driver": "host", "public_ports": [], "persist": false,
        "restart_policy": "on-failure:3", "memory": "512m", "memory_swap": "unlimited",
        "cpus": "1.5", "cpuset": "0-1", "io_weight": "50", "ulimits": ["nofile=10:20"],
        "shm_size": "1g", "storage_quota": "2g", "log_limit": "4m", "init": "main",
        "health_check": {
            "cmd": ["/bin/sh", "-c", "test -e /ok"], "interval": null, "timeout": null,
            "start_period": null, "retries": 5,
        },
        "stop_signal": "QUIT", "stop_timeout": "1m30s", "working_dir": "/srv",
    });
    assert_eq!(given(&daemon.body("/containers/create")), expected);
}

#[test]
fn wrong_values_are_refused_before_anything_happens() {
    let daemon = FakeDaemon::script().start();
    for (option, what) in [
        ("--memory=10Q", "invalid size '10Q'"),
        ("--restart=sometimes", "on-failure[:TIMES]"),
        ("--stop-signal=NOPE", "unknown signal 'NOPE'"),
        ("--init=both", "none, main, all"),
        ("--workdir=src", "absolute"),
        ("--health-interval=5s", "needs --health-cmd"),
    ] {
        for command in ["create", "run"] {
            let output = Klee::new(&daemon, &[command, option, "base"]).run();
            assert!(output.stderr.contains(what), "{option}: {output:?}");
            assert!(matches!(output.code, Some(2 | 125)), "{output:?}");
        }
    }
    assert_eq!(daemon.calls(), Vec::<String>::new());
}

#[test]
fn updates_take_limits_away_and_merge_health_checks() {
    let mut inspected = container(ID, "web", true);
    inspected["health_check"] = json!({
        "cmd": ["true"], "interval": "30s", "timeout": null, "start_period": null, "retries": 2,
    });
    let inspect = json!({
        "container": inspected, "container_endpoints": [], "container_mountpoints": [],
    });
    let script = || {
        FakeDaemon::script()
            .on("GET", "/containers/web/inspect", 200, inspect.clone())
            .on(
                "POST",
                "/containers/web/update",
                201,
                json!({"id": ID, "warnings": ["the new user counts from the next start"]}),
            )
            .start()
    };
    let told = "warning: the new user counts from the next start\n";
    for (arguments, expected) in [
        (
            &["--memory=unlimited", "-u", "www"][..],
            json!({"memory": "unlimited", "user": "www"}),
        ),
        (
            &["--health-interval=5s"],
            json!({"health_check": {
                "cmd": ["true"], "interval": "5s", "timeout": null, "start_period": null,
                "retries": 2,
            }}),
        ),
        (
            &["--no-healthcheck"],
            json!({"health_check": {
                "cmd": [], "interval": null, "timeout": null, "start_period": null,
                "retries": null,
            }}),
        ),
    ] {
        let daemon = script();
        let line = [&["update"], arguments, &["web"]].concat();
        Klee::new(&daemon, &line)
            .run()
            .assert(0, "cc1ea0ff3f5a\n", told);
        assert_eq!(given(&daemon.body("/containers/web/update")), expected);
    }
    let daemon = script();
    let nothing = "error: nothing to change in 'web'\n\
                   hint: `klee update --help` lists what can be changed\n";
    Klee::new(&daemon, &["update", "web"])
        .run()
        .assert(2, "", nothing);
    assert_eq!(daemon.calls(), Vec::<String>::new());
}

#[test]
fn signals_pauses_and_stops() {
    let ok = || json!({"id": ID});
    let daemon = FakeDaemon::script()
        .on("POST", "/containers/a/kill?signal=KILL", 200, ok())
        .on("POST", "/containers/a/kill?signal=HUP", 200, ok())
        .on("POST", "/containers/a/pause", 200, ok())
        .on("POST", "/containers/a/unpause", 200, ok())
        .on("POST", "/containers/a/stop?time=90000ms", 200, ok())
        .on("POST", "/containers/a/restart?time=0ms", 200, ok())
        .on("POST", "/containers/a/restart", 200, ok())
        .on(
            "POST",
            "/exec/bd16b0b23a25/stop?force_stop=true&stop_container=false",
            200,
            json!({"id": "bd16b0b23a25"}),
        )
        .start();
    for arguments in [
        &["kill", "a"][..],
        &["kill", "-s", "HUP", "a"],
        &["pause", "a"],
        &["unpause", "a"],
        &["stop", "-t", "1m30s", "a"],
        &["restart", "--time", "0", "a"],
        &["restart", "a"],
    ] {
        Klee::new(&daemon, arguments)
            .run()
            .assert(0, "cc1ea0ff3f5a\n", "");
    }
    let arguments = ["container", "exec-stop", "-f", "bd16b0b23a25"];
    Klee::new(&daemon, &arguments)
        .run()
        .assert(0, "bd16b0b23a25\n", "");
    let output = Klee::new(&daemon, &["kill", "-s", "NOPE", "a"]).run();
    assert_eq!(output.code, Some(2));
    assert!(
        output.stderr.contains("unknown signal 'NOPE'"),
        "{output:?}"
    );
}

/// Containers in all states.
fn states() -> Value {
    let with = |name: &str, running: bool, fields: Value| {
        let mut object = container(ID, name, running);
        for (key, value) in fields.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    };
    let health =
        |status: &str| json!({"health": {"status": status, "failing_streak": 0, "log": []}});
    json!([
        with(
            "fine",
            true,
            json!({"restart_policy": "unless-stopped", "size": 2048})
        ),
        with("healthy", true, health("healthy")),
        with("ill", true, health("unhealthy")),
        with("paused", true, json!({"status": "paused"})),
        with(
            "again",
            false,
            json!({"status": "restarting", "exit_code": 1})
        ),
        with("new", false, json!({"status": "created"})),
        with(
            "ended",
            false,
            json!({"exit_code": 0, "finished": seconds_ago(310)})
        ),
        with(
            "failed",
            false,
            json!({"exit_code": 3, "finished": seconds_ago(310)})
        ),
        with(
            "hungry",
            false,
            json!({"exit_code": 137, "out_of_memory": true, "finished": seconds_ago(310)})
        ),
    ])
}

#[test]
fn the_listing_tells_what_there_is_to_tell() {
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/list?all=true&size=true", 200, states())
        .start();
    let output = Klee::new(&daemon, &["--theme=simple", "ls", "-as"]).run();
    let cells: Vec<Vec<&str>> = output
        .stdout
        .lines()
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(cells[0][5..], ["AUTORUN", "STATUS", "JID", "SIZE"]);
    let shown: Vec<[&str; 3]> = cells[2..]
        .iter()
        .map(|row| [row[1], row[5], row[6]])
        .collect();
    let expected = [
        ["fine", "yes", "running"],
        ["healthy", "no", "running (healthy)"],
        ["ill", "no", "running (unhealthy)"],
        ["paused", "no", "paused"],
        ["again", "no", "restarting (1)"],
        ["new", "no", "created"],
        ["ended", "no", "stopped"],
        ["failed", "no", "exited (3) 5 minutes ago"],
        ["hungry", "no", "exited (137, out of memory) 5 minutes ago"],
    ];
    assert_eq!(shown, expected);
    assert_eq!(cells[2][8], "2KiB");
}

#[test]
fn filters_and_templates() {
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/list?all=true&size=false", 200, states())
        .on(
            "GET",
            "/containers/list?all=false&size=false",
            200,
            states(),
        )
        .start();
    let listed = |arguments: &[&str]| {
        let line = [&["ls", "--format", "{{.name}}"], arguments].concat();
        let output = Klee::new(&daemon, &line).run();
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
        output.stdout.replace('\n', " ")
    };
    assert_eq!(listed(&["-f", "status=exited"]), "ended failed hungry ");
    assert_eq!(
        listed(&["-f", "exited=3", "-f", "exited=137"]),
        "failed hungry "
    );
    assert_eq!(listed(&["-f", "health=unhealthy"]), "ill ");
    assert_eq!(
        listed(&["-f", "restart=unless-stopped", "-f", "name=x"]),
        ""
    );
    let output = Klee::new(&daemon, &["ls", "--filter", "label=x"]).run();
    assert_eq!(output.code, Some(2));
    assert!(
        output
            .stderr
            .contains("use one of id, name, image, status, volume, exited, health"),
        "{output:?}"
    );
    let template = r"{{.Name}}\t{{if .health}}{{.Health.Status}}{{else}}-{{end}}";
    let output = Klee::new(&daemon, &["ls", "--format", template, "-f", "name=l"]).run();
    assert_eq!(
        output.stdout,
        "healthy\thealthy\nill\tunhealthy\nfailed\t-\n"
    );
    for (template, code, message) in [
        (
            "{{.nmae}}",
            1,
            "error: --format: there is no field 'nmae': did you mean 'name'?",
        ),
        (
            "{{.name",
            2,
            "'{{' without '}}' (at character 1 of the template)",
        ),
        ("yaml", 2, "use table, json, or a template"),
        ("table {{.name}}", 2, "leave 'table' out"),
    ] {
        let output = Klee::new(&daemon, &["ls", "--format", template]).run();
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.contains(message), "{output:?}");
    }
}

#[test]
fn inspection_by_template() {
    let inspect = |name: &str| {
        json!({
            "container": container(ID, name, true), "container_endpoints": [],
            "container_mountpoints": [],
        })
    };
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/a/inspect", 200, inspect("a"))
        .on("GET", "/containers/b/inspect", 200, inspect("b"))
        .start();
    let template = "{{.Name}} {{.container.name}} {{json .cmd}} {{len .container_endpoints}}";
    Klee::new(&daemon, &["isc", "--format", template, "a", "b"])
        .run()
        .assert(
            0,
            "a a [\"/bin/sh\",\"-c\",\"sleep 1000\"] 0\nb b [\"/bin/sh\",\"-c\",\"sleep 1000\"] 0\n",
            "",
        );
}
