//! Commands that look at running containers: top, stats, events, diff, port, wait.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{FakeDaemon, Klee, container};

const ID: &str = "cc1ea0ff3f5a";

#[test]
fn processes() {
    let process = |pid: u32, command: &str| {
        json!({
            "pid": pid, "inside_pid": pid - 4710, "parent": 1, "user": "www", "state": "S",
            "cpu_us": 61_230_000, "resident": 20_971_520,
            "started": "2024-02-29T14:54:05.317207Z", "terminal": null, "command": command,
        })
    };
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/web/top",
            200,
            json!([
                process(4711, "nginx: master"),
                process(14_712, "nginx: worker")
            ]),
        )
        .on(
            "GET",
            "/containers/gone/top",
            404,
            json!({"message": "container not running"}),
        )
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([]),
        )
        .start();
    let expected = "   PID | USER | STATE |     CPU |   RSS | STARTED             | COMMAND
-------+------+-------+---------+-------+---------------------+---------------
  4711 | www  |   S   | 1:01.23 | 20MiB | 2024-02-29 14:54:05 | nginx: master
 14712 | www  |   S   | 1:01.23 | 20MiB | 2024-02-29 14:54:05 | nginx: worker
";
    Klee::new(&daemon, &["--theme", "simple", "top", "web"])
        .run()
        .assert(0, expected, "");
    Klee::new(
        &daemon,
        &["top", "--format", "{{.inside_pid}} {{.command}}", "web"],
    )
    .run()
    .assert(0, "1 nginx: master\n10002 nginx: worker\n", "");
    Klee::new(&daemon, &["top", "gone"]).run().assert(
        1,
        "",
        "error: container 'gone': container not running\n",
    );
}

fn stats(seconds: u64, cpu: u64) -> Value {
    json!({
        "id": ID, "name": "web", "read": format!("2024-02-29T14:54:{seconds:02}.000000Z"),
        "cpu": {
            "total_us": cpu, "user_us": cpu, "system_us": 0, "throttled_us": 0, "online": 2,
        },
        "memory": {
            "used": 52_428_800, "reclaimable": 0, "peak": 0, "limit": 1_073_741_824,
            "oom_kills": 0,
        },
        "pids": {"current": 3, "limit": null},
        "io": null,
        "network": [{
            "name": "eth0", "rx_bytes": 2048, "rx_packets": 1, "tx_bytes": 512, "tx_packets": 1,
        }],
    })
}

const STATS: &str =
    " CONTAINER ID  | NAME |   CPU % | MEM USAGE / LIMIT |   MEM % |     NET I/O | BLOCK I/O | PIDS
---------------+------+---------+-------------------+---------+-------------+-----------+------
 cc1ea0ff3f5a  | web  |  25.00% |      50MiB / 1GiB |   4.88% | 2KiB / 512B |        -- |    3
";

#[test]
fn usage_is_measured_between_two_readings() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/stats",
            200,
            json!([stats(5, 1_000_000)]),
        )
        .on(
            "GET",
            "/containers/stats",
            200,
            json!([stats(6, 1_250_000)]),
        )
        .on(
            "GET",
            "/containers/stats",
            200,
            json!([stats(6, 1_250_000)]),
        )
        .start();
    let arguments = ["--theme=simple", "stats", "--no-stream", "--interval=100ms"];
    Klee::new(&daemon, &arguments).run().assert(0, STATS, "");
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/stats?containers=web",
            200,
            json!([stats(5, 0)]),
        )
        .start();
    let arguments = [
        "stats",
        "--no-stream",
        "--interval=100ms",
        "--format=json",
        "web",
    ];
    let output = Klee::new(&daemon, &arguments).run();
    let printed: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(printed["name"], "web");
    assert_eq!(printed["cpu_percent"], Value::Null, "no time has gone by");
    assert_eq!(printed["memory_percent"], 4.88);
    assert_eq!(output.stdout.lines().count(), 1);
    let output = Klee::new(&daemon, &["stats", "--interval=1ms"]).run();
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("the least is 100ms"), "{output:?}");
}

#[test]
fn usage_goes_on_in_blocks() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/stats",
            200,
            json!([stats(5, 1_000_000)]),
        )
        .start();
    let arguments = ["--theme=simple", "stats", "--interval=100ms"];
    let mut running =
        Klee::new(&daemon, &arguments).spawn(Stdio::null(), Stdio::piped(), Stdio::null());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    for _ in 0..2 {
        assert!(next().starts_with(" CONTAINER ID"));
        assert!(next().starts_with("-----"));
        assert!(next().starts_with(" cc1ea0ff3f5a"));
        assert_eq!(next(), "");
    }
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), None);
}

fn event(action: &str, name: &str, attributes: Value) -> Value {
    json!({
        "sequence": 1, "time": "2024-02-29T14:54:05.317207Z", "kind": "container",
        "action": action, "id": ID, "name": name, "attributes": attributes,
    })
}

#[test]
fn events_are_lines() {
    let events = [
        event("start", "web", json!({})),
        event("die", "web", json!({"exit_code": "137"})),
        event("die", "db", json!({"exit_code": "0"})),
    ];
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let all = "/events?follow=true&until=1709218445";
    let some = "/events?follow=true&since=2024-02-29T00:00:00.000000Z&action=die&kind=container";
    let daemon = FakeDaemon::script()
        .bytes("GET", all, lines.as_bytes())
        .bytes("GET", some, lines.as_bytes())
        .start();
    let expected = "2024-02-29T14:54:05.317207Z container start cc1ea0ff3f5a (name=web)
2024-02-29T14:54:05.317207Z container die cc1ea0ff3f5a (name=web, exit_code=137)
2024-02-29T14:54:05.317207Z container die cc1ea0ff3f5a (name=db, exit_code=0)
";
    Klee::new(&daemon, &["events", "--until", "1709218445"])
        .run()
        .assert(0, expected, "");
    let arguments = [
        "events",
        "--since=2024-02-29",
        "-f",
        "event=die",
        "-f",
        "type=container",
        "-f",
        "container=db",
        "--format",
        "{{.Action}} {{.attributes.exit_code}}",
    ];
    let stopped = "error: the daemon has stopped or was restarted; the containers go on: run the \
                   command again\n";
    Klee::new(&daemon, &arguments)
        .run()
        .assert(1, "die 0\n", stopped);
    let daemon = FakeDaemon::script()
        .cut("GET", all, lines.as_bytes())
        .start();
    Klee::new(&daemon, &["events", "--until", "1709218445"])
        .run()
        .assert(1, expected, stopped);
    let output = Klee::new(&daemon, &["events", "--filter", "label=x"]).run();
    assert_eq!(output.code, Some(2));
    assert!(
        output
            .stderr
            .contains("use one of kind, action, id, name, container"),
        "{output:?}"
    );
}

#[test]
fn differences() {
    let changes = json!([
        {"path": "/etc", "kind": "changed"}, {"path": "/etc/new\nline", "kind": "added"},
        {"path": "/tmp/x", "kind": "deleted"},
    ]);
    let daemon = FakeDaemon::script()
        .on("GET", "/containers/web/changes", 200, changes.clone())
        .start();
    Klee::new(&daemon, &["diff", "web"]).run().assert(
        0,
        "C /etc\nA /etc/new\\nline\nD /tmp/x\n",
        "",
    );
    let output = Klee::new(&daemon, &["diff", "--format=json", "web"]).run();
    assert_eq!(
        serde_json::from_str::<Value>(&output.stdout).unwrap(),
        changes
    );
}

#[test]
fn published_ports() {
    let mut inspected = container(ID, "web", true);
    let port = |interfaces: &[&str], outside: &str, inside: &str, protocol: &str| {
        json!({
            "interfaces": interfaces, "host_port": outside, "container_port": inside,
            "protocol": protocol, "ip_address": "", "ip_address6": "",
        })
    };
    inspected["public_ports"] = json!([
        port(&[], "8080", "80", "tcp"),
        port(&["em0", "em1"], "53", "53", "udp")
    ]);
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/web/inspect",
            200,
            json!({
                "container": inspected, "container_endpoints": [], "container_mountpoints": [],
            }),
        )
        .start();
    Klee::new(&daemon, &["port", "web"]).run().assert(
        0,
        "80/tcp -> 8080\n53/udp -> em0:53\n53/udp -> em1:53\n",
        "",
    );
    Klee::new(&daemon, &["port", "web", "80"])
        .run()
        .assert(0, "8080\n", "");
    let error = "error: port 53/tcp of container 'web' is not published\n";
    Klee::new(&daemon, &["port", "web", "53"])
        .run()
        .assert(1, "", error);
}

#[test]
fn waiting_prints_exit_codes() {
    let ended = |code: i32| json!({"id": ID, "exit_code": code, "out_of_memory": false});
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/containers/a/wait?condition=not-running",
            200,
            ended(0),
        )
        .on(
            "POST",
            "/containers/b/wait?condition=not-running",
            200,
            ended(137),
        )
        .on(
            "POST",
            "/containers/a/wait?condition=removed",
            200,
            ended(3),
        )
        .on(
            "POST",
            "/containers/x/wait?condition=not-running",
            404,
            json!({"message": "container not found"}),
        )
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([]),
        )
        .start();
    let error = "error: container 'x': container not found\n";
    Klee::new(&daemon, &["wait", "b", "x", "a"])
        .run()
        .assert(1, "137\n0\n", error);
    Klee::new(&daemon, &["wait", "--condition", "removed", "a"])
        .run()
        .assert(0, "3\n", "");
}

/// What is drawn on a terminal is tested with the others there; here it is only that a pipe gets no
/// control characters.
#[test]
fn pipes_get_plain_text() {
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/containers/stats",
            200,
            json!([stats(5, 1_000_000)]),
        )
        .start();
    let mut running = Klee::new(&daemon, &["stats", "--no-stream", "--interval=100ms"]).spawn(
        Stdio::null(),
        Stdio::piped(),
        Stdio::null(),
    );
    let mut shown = String::new();
    let mut stdout = running.0.stdout.take().unwrap();
    stdout.read_to_string(&mut shown).unwrap();
    assert_eq!(running.wait(), Some(0));
    assert!(!shown.contains('\x1b'), "{shown:?}");
}
