//! `klee logs`.

use std::io::Read;
use std::process::Stdio;

use serde_json::json;

use crate::common::{FakeDaemon, Klee};

const ALL: &str = "/containers/web/logs?format=records&follow=false&stdout=true&stderr=true";

/// A record as the daemon sends it.
fn record(time: u64, stream: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = time.to_le_bytes().to_vec();
    bytes.push(stream);
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn streams_stay_apart() {
    let records = [
        record(0, 1, b"one\n"),
        record(1, 2, b"bad\n"),
        record(2, 1, b"\x00\xfftwo"),
    ];
    let daemon = FakeDaemon::script()
        .bytes("GET", ALL, &records.concat())
        .start();
    Klee::new(&daemon, &["logs", "web"])
        .run()
        .assert(0, "one\n\0\u{fffd}two", "bad\n");
}

#[test]
fn times_stand_before_lines() {
    let records = [
        record(1_709_218_445_317_207, 1, b"one\ntw"),
        record(1_709_218_446_000_000, 1, b"o\n"),
        record(1_709_218_447_000_000, 2, b"bad\n"),
    ];
    let daemon = FakeDaemon::script()
        .bytes("GET", ALL, &records.concat())
        .start();
    Klee::new(&daemon, &["container", "logs", "-t", "web"])
        .run()
        .assert(
            0,
            "2024-02-29T14:54:05.317207Z one\n2024-02-29T14:54:05.317207Z two\n",
            "2024-02-29T14:54:07.000000Z bad\n",
        );
}

#[test]
fn options_are_the_daemons() {
    let wanted = "/exec/bd16b0b23a25/logs?format=records&follow=true&stdout=true&stderr=true\
                  &since=2024-02-29T00:00:00.000000Z&until=1709218445.5&tail=10";
    let daemon = FakeDaemon::script().bytes("GET", wanted, b"").start();
    let arguments = [
        "logs",
        "-f",
        "-n",
        "10",
        "--since",
        "2024-02-29",
        "--until",
        "1709218445.5",
        "--exec",
        "bd16b0b23a25",
    ];
    Klee::new(&daemon, &arguments).run().assert(0, "", "");
    for (option, value, what) in [
        ("--since", "yesterday", "how long ago"),
        ("-n", "some", "a number of lines, or all"),
    ] {
        let output = Klee::new(&daemon, &["logs", option, value, "web"]).run();
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(what), "{output:?}");
    }
}

#[test]
fn failures_are_told() {
    let daemon = FakeDaemon::script()
        .on("GET", ALL, 404, json!({"message": "container not found"}))
        .on(
            "GET",
            "/containers/list?all=true&size=false",
            200,
            json!([]),
        )
        .cut(
            "GET",
            &ALL.replace("web", "cut"),
            &record(0, 1, b"half of\nit"),
        )
        .start();
    let error = "error: container 'web': container not found\n";
    Klee::new(&daemon, &["logs", "web"])
        .run()
        .assert(1, "", error);
    let output = Klee::new(&daemon, &["logs", "cut"]).run();
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.contains("closed the connection unexpectedly"),
        "{output:?}"
    );
}

#[test]
fn who_follows_is_told_that_the_daemon_has_stopped() {
    let path = ALL.replace("follow=false", "follow=true");
    let daemon = FakeDaemon::script()
        .cut("GET", &path, &record(0, 1, b"a line\n"))
        .start();
    let error = "error: the daemon has stopped or was restarted; the container goes on: run the \
                 command again\n";
    for options in ["-f", "-ft"] {
        let output = Klee::new(&daemon, &["logs", options, "web"]).run();
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stdout.ends_with("a line\n"), "{output:?}");
        assert_eq!(output.stderr, error);
    }
}

#[test]
fn much_output_arrives_whole() {
    let mut sent = Vec::new();
    let mut records = Vec::new();
    for (index, size) in [1, 65_536, 10_000, 3, 65_535]
        .into_iter()
        .cycle()
        .take(500)
        .enumerate()
    {
        let data: Vec<u8> = (0..size).map(|byte| (byte * 7 + index) as u8).collect();
        records.extend(record(0, 1, &data));
        sent.extend(data);
    }
    let daemon = FakeDaemon::script().bytes("GET", ALL, &records).start();
    let mut running =
        Klee::new(&daemon, &["logs", "web"]).spawn(Stdio::null(), Stdio::piped(), Stdio::null());
    let mut got = Vec::new();
    let mut stdout = running.0.stdout.take().unwrap();
    stdout.read_to_end(&mut got).unwrap();
    assert_eq!(running.wait(), Some(0));
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[test]
fn a_reader_that_goes_away_ends_it_silently() {
    let records = record(0, 1, &[b'y'; 60_000]).repeat(200);
    let daemon = FakeDaemon::script().bytes("GET", ALL, &records).start();
    let mut running =
        Klee::new(&daemon, &["logs", "web"]).spawn(Stdio::null(), Stdio::piped(), Stdio::piped());
    let mut stderr = running.0.stderr.take().unwrap();
    let mut stdout = running.0.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    assert_eq!(running.wait(), Some(141));
    let mut error = String::new();
    stderr.read_to_string(&mut error).unwrap();
    assert_eq!(error, "");
}
