//! Moving over from the original Kleene: its datasets and records become ours in place.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts the import"
)]

use std::fs;
use std::process::{Command, Output, Stdio};

use kleene_tests::{Daemon, Room, built};
use rusqlite::Connection;
use serde_json::Value;

/// The original's tables.
const SCHEMA: &str = "
    CREATE TABLE networks (id TEXT PRIMARY KEY, network TEXT);
    CREATE TABLE endpoint_configs (
        container_id TEXT, network_id TEXT, config TEXT, UNIQUE (container_id, network_id));
    CREATE TABLE images (id TEXT PRIMARY KEY, image TEXT);
    CREATE TABLE containers (id TEXT PRIMARY KEY, container TEXT);
    CREATE TABLE volumes (name TEXT PRIMARY KEY, volume TEXT);
    CREATE TABLE mounts (mount TEXT);
";

/// Writes a record as the original does: the key beside the rest of what the contract shows.
fn record(database: &Connection, table: &str, key: &str, shown: &Value) {
    let mut rest = shown.as_object().unwrap().clone();
    let key = rest.remove(key).unwrap();
    let sql = format!("INSERT INTO {table} VALUES (?, ?)");
    let text = Value::Object(rest).to_string();
    database
        .execute(&sql, [key.as_str().unwrap(), &text])
        .unwrap();
}

fn import(daemon: &Daemon, options: &[&str]) -> Output {
    Command::new(built("kleened"))
        .args(["import", "--config"])
        .arg(daemon.directory().join("config.yaml"))
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The original's layout is ours, and what the contract shows of a record is what it writes down. So a
/// daemon's data becomes the original's when its database does.
#[test]
fn what_the_original_has_is_ours_afterwards() {
    let mut daemon = Daemon::new(Room::Zfs);
    let script = "echo mine > /note; echo kept > /data/note";
    let box_of = ["run", "--name", "box", "--mount", "data:/data", "FreeBSD"];
    daemon
        .klee(&[&box_of[..], &["sh", "-c", script]].concat())
        .ok();
    let image = daemon.inspect("image", "FreeBSD");
    let container = daemon.inspect("container", "box");
    let volume = daemon.inspect("volume", "data");
    assert_eq!(daemon.terminate(), 0);

    let file = daemon.mountpoint().join("metadata.sqlite");
    fs::remove_file(&file).unwrap();
    let database = Connection::open(&file).unwrap();
    database.execute_batch(SCHEMA).unwrap();
    record(&database, "images", "id", &image);
    let mut boxed = container["container"].clone();
    boxed["cmd"] = serde_json::json!(["cat", "/note", "/data/note"]);
    record(&database, "containers", "id", &boxed);
    record(&database, "volumes", "name", &volume["volume"]);
    let mount = container["container_mountpoints"][0].to_string();
    database
        .execute("INSERT INTO mounts VALUES (?)", [mount])
        .unwrap();
    drop(database);
    let original = fs::read(&file).unwrap();

    // The daemon says what to do, and leaves it alone.
    let refused = Command::new(built("kleened"))
        .arg("--config")
        .arg(daemon.directory().join("config.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("`kleened import`"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), original);

    for options in [&[][..], &["--yes"], &["--yes"]] {
        let output = import(&daemon, options);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("not taken"), "{said}");
        let changed = fs::read(&file).unwrap() != original;
        assert_eq!(changed, !options.is_empty(), "{said}");
    }
    let kept = daemon.mountpoint().join("metadata.sqlite.original");
    assert_eq!(fs::read(kept).unwrap(), original);

    daemon.start();
    assert_eq!(daemon.klee(&["start", "-q", "box"]).ok(), "mine\nkept\n");
    let shown = daemon.inspect("container", "box");
    assert_eq!(shown["container"]["created"], boxed["created"]);
    // Its image can't go before it does, and nobody populates the volume again.
    daemon.klee(&["rmi", "FreeBSD"]).fails(1);
    let again = [
        "run",
        "--rm",
        "--mount",
        "data:/etc",
        "FreeBSD",
        "ls",
        "/etc",
    ];
    assert!(daemon.klee(&again).ok().contains("note"));
    daemon.klee(&["rmc", "box"]).ok();
    daemon.klee(&["volume", "rm", "data"]).ok();
    daemon.klee(&["rmi", "FreeBSD"]).ok();
}
