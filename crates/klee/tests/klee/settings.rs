//! Where klee looks for its settings, and how it says that they are wrong.

use std::fs;

use serde_json::json;

use crate::common::{FakeDaemon, Klee};

fn listing() -> FakeDaemon {
    FakeDaemon::script()
        .on("GET", "/volumes/list", 200, json!([]))
        .start()
}

#[test]
fn files_in_their_order() {
    let daemon = listing();
    let directory = daemon.directory();
    let list = || Klee::alone(&["lsv", "-q"]).env("HOME", directory.join("home").to_str().unwrap());
    let work = directory.join("work");
    fs::create_dir_all(directory.join("home/.klee")).unwrap();
    fs::create_dir_all(&work).unwrap();

    let own = directory.join("home/.klee/klee_config.yaml");
    fs::write(&own, format!("host: {}\n", daemon.address())).unwrap();
    list().within(&work).run().assert(0, "", "");

    fs::write(
        work.join("klee_config.yaml"),
        "host: http:///nowhere.sock\n",
    )
    .unwrap();
    let output = list().within(&work).run();
    assert!(output.stderr.contains("http:///nowhere.sock"), "{output:?}");

    list()
        .within(&work)
        .env("KLEE_CONFIG", own.to_str().unwrap())
        .run()
        .assert(0, "", "");
    list()
        .within(&work)
        .env("KLEE_HOST", &daemon.address())
        .run()
        .assert(0, "", "");
    let config = format!("--config={}", own.display());
    Klee::alone(&[&config, "lsv", "-q"])
        .within(&work)
        .run()
        .assert(0, "", "");
    let host = format!("--host={}", daemon.address());
    let output = Klee::alone(&[&host, "lsv", "-q"])
        .env("KLEE_HOST", "http:///x.sock")
        .run();
    output.assert(0, "", "");
}

#[test]
fn wrong_files_are_named_with_line_and_key() {
    let daemon = listing();
    let file = daemon.directory().join("klee_config.yaml");
    let complaint = |text: &str, arguments: &[&str]| {
        fs::write(&file, text).unwrap();
        let output = Klee::new(&daemon, arguments).run();
        assert_eq!(output.stdout, "");
        (output.code.unwrap(), output.stderr)
    };
    let (code, error) = complaint("host: http:///a.sock\nhots: x\n", &["lsv"]);
    assert_eq!(code, 1);
    for part in ["klee_config.yaml:2: ", "unknown field `hots`"] {
        assert!(error.contains(part), "{error}");
    }
    let (_, error) = complaint("tlsverify: [\n", &["lsv"]);
    assert!(
        error.contains("klee_config.yaml:1: ") && error.contains("tlsverify"),
        "{error}"
    );
    let (code, error) = complaint("# colours\ntheme: pink\n", &["lsv"]);
    assert_eq!(code, 2);
    assert_eq!(
        error,
        "error: klee_config.yaml:2: unknown theme 'pink': there are 'fancy' and 'simple'\n"
    );
    fs::write(&file, "host: nowhere\n").unwrap();
    let output = Klee::alone(&["lsv"]).within(daemon.directory()).run();
    assert!(
        output.stderr.starts_with("error: klee_config.yaml:1: "),
        "{output:?}"
    );
    assert_eq!(complaint("theme: pink\n", &["run", "x"]).0, 125);
    let output = Klee::new(&daemon, &["--config", "missing.yaml", "lsv"]).run();
    output.assert(
        2,
        "",
        "error: the configuration file 'missing.yaml' doesn't exist\n",
    );
}

#[test]
fn a_daemon_that_does_not_run() {
    let daemon = listing();
    let address = format!("http://{}/none.sock", daemon.directory().display());
    let output = Klee::alone(&["--host", &address, "lsv"]).run();
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    assert!(
        output
            .stderr
            .starts_with(&format!("error: can't reach the daemon at {address}: "))
    );
    assert!(
        output.stderr.contains("start it as root with `kleened`"),
        "{output:?}"
    );
    assert_eq!(
        Klee::alone(&["--host", &address, "run", "x"]).run().code,
        Some(125)
    );
    let output = Klee::alone(&["--host", "localhost", "lsv"]).run();
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("http:///path/to.sock"), "{output:?}");
}

#[test]
fn versions() {
    let info = json!({
        "version": "1.2.3", "os": "linux", "storage_driver": "dir", "kleene_root": "/var/lib/kleene",
    });
    let daemon = FakeDaemon::script().on("GET", "/info", 200, info).start();
    let own = env!("CARGO_PKG_VERSION");
    let both = format!("klee:    {own}\nkleened: 1.2.3 (linux)\n");
    Klee::new(&daemon, &["version"]).run().assert(0, &both, "");
    Klee::new(&daemon, &["--version"])
        .run()
        .assert(0, &format!("klee {own}\n"), "");
    let output = Klee::new(&daemon, &["info"]).run();
    assert!(
        output.stdout.contains("Storage driver: dir\n"),
        "{output:?}"
    );
}

#[test]
fn unknown_commands_are_guessed() {
    let output = Klee::alone(&["volum", "ls"]).run();
    assert_eq!(output.code, Some(2));
    assert!(
        output
            .stderr
            .contains("a similar subcommand exists: 'volume'"),
        "{output:?}"
    );
    let output = Klee::alone(&[]).run();
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("Usage: klee"), "{output:?}");
}
