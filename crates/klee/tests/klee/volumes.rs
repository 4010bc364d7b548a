//! `klee volume …`: the documented outputs, word by word.

use crate::common::{FakeDaemon, Klee, volume};
use serde_json::json;

#[test]
fn the_documented_walk_through() {
    let daemon = FakeDaemon::script()
        .on("POST", "/volumes/create", 201, json!({"id": "my-vol"}))
        .on(
            "GET",
            "/volumes/list",
            200,
            json!([volume("my-vol", 6 * 60 + 5)]),
        )
        .on("DELETE", "/volumes/my-vol", 200, json!({"id": "my-vol"}))
        .start();
    Klee::new(&daemon, &["volume", "create", "my-vol"])
        .run()
        .assert(0, "my-vol\n", "");
    assert_eq!(daemon.body("/volumes/create"), json!({"name": "my-vol"}));
    let listing = "\x20VOLUME NAME   CREATED
─────────────────────────────
\x20my-vol        6 minutes ago
";
    Klee::new(&daemon, &["lsv"]).run().assert(0, listing, "");
    Klee::new(&daemon, &["volume", "rm", "my-vol"])
        .run()
        .assert(0, "my-vol\n", "");
}

#[test]
fn inspection_prints_the_documented_json() {
    let text = r#"{
  "mountpoints": [
    {
      "container_id": "cc1ea0ff3f5a",
      "destination": "/app",
      "read_only": false,
      "source": "myvol2",
      "type": "volume"
    }
  ],
  "volume": {
    "created": "2024-02-29T15:07:02.291441Z",
    "dataset": "zroot/kleene/volumes/myvol2",
    "mountpoint": "/zroot/kleene/volumes/myvol2",
    "name": "myvol2"
  }
}
"#;
    let daemon = FakeDaemon::script()
        .on(
            "GET",
            "/volumes/myvol2/inspect",
            200,
            serde_json::from_str(text).unwrap(),
        )
        .start();
    Klee::new(&daemon, &["volume", "inspect", "myvol2"])
        .run()
        .assert(0, text, "");
    let twice = format!("{text}{text}");
    Klee::new(&daemon, &["isv", "myvol2", "myvol2"])
        .run()
        .assert(0, &twice, "");
}

#[test]
fn listings_for_scripts() {
    let volumes = json!([volume("b", 10), volume("a", 20)]);
    let daemon = FakeDaemon::script()
        .on("GET", "/volumes/list", 200, volumes.clone())
        .start();
    Klee::new(&daemon, &["lsv", "-q"])
        .run()
        .assert(0, "b\na\n", "");
    let output = Klee::new(&daemon, &["lsv", "--format", "json"]).run();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&output.stdout).unwrap(),
        volumes
    );
    assert!(
        output.stdout.starts_with("[\n  {\n    \"created\""),
        "{output:?}"
    );
    let output = Klee::new(&daemon, &["--theme", "simple", "lsv"]).run();
    assert!(
        output
            .stdout
            .starts_with(" VOLUME NAME | CREATED\n-------------+-"),
        "{output:?}"
    );
    assert_eq!(
        Klee::new(&daemon, &["lsv", "-q", "--format=json"])
            .run()
            .code,
        Some(2)
    );
}

#[test]
fn empty_listings() {
    let daemon = FakeDaemon::script()
        .on("GET", "/volumes/list", 200, json!([]))
        .start();
    let titles = format!(" VOLUME NAME   CREATED\n{}\n", "─".repeat(23));
    Klee::new(&daemon, &["lsv"]).run().assert(0, &titles, "");
    Klee::new(&daemon, &["lsv", "--format", "json"])
        .run()
        .assert(0, "[]\n", "");
    Klee::new(&daemon, &["lsv", "-q"]).run().assert(0, "", "");
}

#[test]
fn several_objects_go_on_past_a_failure() {
    let daemon = FakeDaemon::script()
        .on("DELETE", "/volumes/a", 200, json!({"id": "a"}))
        .on(
            "DELETE",
            "/volumes/used",
            409,
            json!({"message": "volume 'used' is used by 0123"}),
        )
        .on(
            "DELETE",
            "/volumes/dta",
            404,
            json!({"message": "No such volume"}),
        )
        .on("DELETE", "/volumes/b", 200, json!({"id": "b"}))
        .on(
            "GET",
            "/volumes/list",
            200,
            json!([volume("data", 1), volume("used", 1)]),
        )
        .start();
    let errors = "error: volume 'used' is used by 0123
error: volume 'dta': No such volume
hint: did you mean 'data'?
";
    Klee::new(&daemon, &["rmv", "a", "used", "dta", "b"])
        .run()
        .assert(1, "a\nb\n", errors);
    assert_eq!(
        daemon.connections(),
        1,
        "one connection serves all requests"
    );
}

#[test]
fn names_are_one_segment_of_the_path() {
    let daemon = FakeDaemon::script()
        .on(
            "DELETE",
            "/volumes/..%2F..%2Fx%3F",
            404,
            json!({"message": "No such volume"}),
        )
        .on("GET", "/volumes/list", 200, json!([]))
        .start();
    let output = Klee::new(&daemon, &["rmv", "../../x?"]).run();
    output.assert(1, "", "error: volume '../../x?': No such volume\n");
    assert_eq!(Klee::new(&daemon, &["rmv", ""]).run().code, Some(2));
}

#[test]
fn pruning_asks_first() {
    let daemon = FakeDaemon::script()
        .on("POST", "/volumes/prune", 200, json!(["a", "b"]))
        .on("POST", "/volumes/prune", 200, json!([]))
        .start();
    let question = "WARNING! This will remove all unused volumes.\n\
                    Are you sure you want to continue? [y/N]: ";
    let prune = |input: &str| {
        Klee::new(&daemon, &["volume", "prune"])
            .input(input.as_bytes())
            .run()
    };
    prune("n\n").assert(1, question, "Aborted!\n");
    prune("").assert(1, &format!("{question}\n"), "Aborted!\n");
    assert_eq!(daemon.calls(), Vec::<String>::new());
    prune("y\n").assert(0, &format!("{question}a\nb\n"), "");
    prune("Yes\n").assert(0, &format!("{question}\n"), "");
    Klee::new(&daemon, &["volume", "prune", "-f"])
        .run()
        .assert(0, "\n", "");
}

#[test]
fn bad_names_are_told_as_the_daemon_tells_them() {
    let message = "invalid volume name \"-r\": use letters";
    let daemon = FakeDaemon::script()
        .on("POST", "/volumes/create", 400, json!({"message": message}))
        .start();
    let output = Klee::new(&daemon, &["volume", "create", "--", "-r"]).run();
    output.assert(1, "", &format!("error: {message}\n"));
}
