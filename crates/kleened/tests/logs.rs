//! The output that is kept: its forms, its parts, and following it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use axum::body::Body;
use kleene_api::LOG_RECORDS;
use kleene_doors::log::{MAX_DATA, Stream, next_record};
use kleene_types::{ExecId, Timestamp};
use serde_json::json;
use support::bodies::Answer;
use support::{Daemon, PATIENCE, id_of, message};

const LOGS: &str = "/containers/web/logs";
const FOLLOW: &str = "/containers/web/logs?follow=true";

/// A daemon with a running container "web".
async fn running() -> (Daemon, ExecId) {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let init = daemon.run_detached(&container).await;
    (daemon, init)
}

/// Ends a container's process, and waits until that is recorded.
async fn finish(daemon: &Daemon, exec: &ExecId) {
    daemon.host.finish(exec, 0);
    let ended = || async {
        let (_, exec) = daemon.get(&format!("/exec/{exec}/inspect")).await;
        !exec["exit_code"].is_null()
    };
    let mut news = daemon.app.news();
    while !ended().await {
        // The end is announced once it is recorded.
        let _ = tokio::time::timeout(PATIENCE / 20, news.changed()).await;
    }
}

fn records(mut bytes: &[u8]) -> Vec<(Stream, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some(record) = next_record(bytes).unwrap() {
        records.push((record.stream, record.data.to_vec()));
        bytes = &bytes[record.size()..];
    }
    assert!(bytes.is_empty(), "only whole records are sent");
    records
}

async fn follow(daemon: &Daemon, path: &str) -> Answer {
    let answer = daemon.open("GET", path, Body::empty()).await;
    assert_eq!(answer.status, 200);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_records() {
    let (daemon, init) = running().await;
    daemon.host.print(&init, b"out\n");
    daemon.host.print_error(&init, b"err\n");
    daemon.host.print(&init, &[0xff, 0, b'\n']);
    let wanted = [
        (Stream::Stdout, b"out\n".to_vec()),
        (Stream::Stderr, b"err\n".to_vec()),
        (Stream::Stdout, vec![0xff, 0, b'\n']),
    ];
    let mut answer = daemon.open("GET", LOGS, Body::empty()).await;
    assert_eq!(answer.content_type, "text/plain; charset=utf-8");
    assert_eq!(answer.rest().await.unwrap(), b"out\nerr\n\xff\0\n");
    let accept = format!("{LOG_RECORDS}, */*;q=0.1");
    let mut answer = daemon.open_with("GET", LOGS, &accept, Body::empty()).await;
    assert_eq!(answer.content_type, LOG_RECORDS);
    assert_eq!(records(&answer.rest().await.unwrap()), wanted);
    let asked = daemon.download(&format!("{LOGS}?format=records")).await;
    assert_eq!(records(&asked), wanted);
    let mut answer = daemon
        .open_with(
            "GET",
            &format!("{LOGS}?format=text"),
            &accept,
            Body::empty(),
        )
        .await;
    assert_eq!(answer.content_type, "text/plain; charset=utf-8");
    assert_eq!(answer.rest().await.unwrap(), b"out\nerr\n\xff\0\n");
    for (query, wanted) in [
        ("stderr=false&tail=2", &b"out\n\xff\0\n"[..]),
        ("stdout=false", b"err\n"),
        ("stdout=0&stderr=0", b""),
    ] {
        let got = daemon.download(&format!("{LOGS}?{query}")).await;
        assert_eq!(got, wanted, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_times() {
    let (daemon, init) = running().await;
    daemon.host.print(&init, b"1\n2\n");
    let between = Timestamp::now();
    while Timestamp::now() == between {}
    daemon.host.print(&init, b"3\n4\n");
    let seconds = format!(
        "{}.{:06}",
        between.microseconds() / 1_000_000,
        between.microseconds() % 1_000_000 + 1
    );
    for (query, wanted) in [
        ("", "1\n2\n3\n4\n"),
        ("tail=all", "1\n2\n3\n4\n"),
        ("tail=3", "2\n3\n4\n"),
        ("tail=0", ""),
        ("tail=18446744073709551615", "1\n2\n3\n4\n"),
        (&format!("until={between}"), "1\n2\n"),
        (&format!("since={seconds}"), "3\n4\n"),
        (&format!("since={seconds}&tail=1"), "4\n"),
        (&format!("until={between}&tail=1"), "2\n"),
        ("since=2100-01-01T00:00:00Z", ""),
        ("follow=true&until=2000-01-01T00:00:00Z", ""),
    ] {
        let got = daemon.download_text(&format!("{LOGS}?{query}")).await;
        assert_eq!(got, wanted, "{query}");
    }
    let stamped = daemon
        .download_text(&format!("{LOGS}?timestamps=true&tail=1"))
        .await;
    let (time, line) = stamped.split_once(' ').unwrap();
    assert!(time.parse::<Timestamp>().unwrap() > between);
    assert_eq!(line, "4\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_follow_each_other() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    assert_eq!(daemon.download(LOGS).await, b"", "it never ran");
    assert_eq!(
        daemon.download(FOLLOW).await,
        b"",
        "and nobody waits for it"
    );
    for text in ["first\n", "second\n", "third\n"] {
        let init = daemon.run_detached(&container).await;
        daemon.host.print(&init, text.as_bytes());
        finish(&daemon, &init).await;
    }
    assert_eq!(daemon.download(LOGS).await, b"first\nsecond\nthird\n");
    let tail = format!("{LOGS}?tail=2");
    assert_eq!(daemon.download(&tail).await, b"second\nthird\n");
    assert_eq!(daemon.download(FOLLOW).await, b"first\nsecond\nthird\n");
    let init = daemon.run_detached(&container).await;
    let mut all = follow(&daemon, FOLLOW).await;
    let mut end = follow(&daemon, &format!("{FOLLOW}&tail=1")).await;
    assert_eq!(end.until("third\n").await, "third\n");
    daemon.host.print(&init, b"fourth\n");
    daemon.host.finish(&init, 0);
    assert_eq!(all.rest().await.unwrap(), b"first\nsecond\nthird\nfourth\n");
    assert_eq!(end.rest().await.unwrap(), b"fourth\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn execution_instances_have_logs_of_their_own() {
    let (daemon, init) = running().await;
    let config = json!({"container_id": "web", "cmd": ["sleep"]});
    let exec = id_of(daemon.post("/exec/create", config).await, 201);
    let logs = format!("/exec/{exec}/logs");
    assert_eq!(daemon.download(&logs).await, b"", "it never ran");
    let mut session = daemon.start_exec(&exec, false, None).await;
    assert_eq!(session.closed().await.0, 1001);
    let id: ExecId = exec.parse().unwrap();
    daemon.host.print(&init, b"of the container\n");
    daemon.host.print(&id, b"of the instance\n");
    assert_eq!(daemon.download(&logs).await, b"of the instance\n");
    assert_eq!(daemon.download(LOGS).await, b"of the container\n");
    let mut answer = follow(&daemon, &format!("{logs}?follow=1&tail=0")).await;
    daemon.host.print(&id, b"more\n");
    daemon.host.finish(&id, 0);
    assert_eq!(answer.rest().await.unwrap(), b"more\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_followed() {
    let (daemon, init) = running().await;
    daemon.host.print(&init, b"before\n");
    let mut answer = follow(&daemon, FOLLOW).await;
    assert_eq!(answer.until("before\n").await, "before\n");
    for number in 0..50 {
        let line = format!("line {number}\n");
        daemon.host.print(&init, line.as_bytes());
        if number % 7 == 0 {
            daemon.host.rotate_log(&init);
        }
        assert_eq!(answer.until("\n").await, line);
    }
    // Much at once, of which the reader can still have everything.
    let burst = vec![b'x'; 8 << 20];
    daemon.host.print(&init, &burst);
    daemon.host.rotate_log(&init);
    daemon.host.print(&init, b"end\n");
    daemon.host.finish(&init, 0);
    let rest = answer.rest().await.unwrap();
    assert!(rest == [&burst[..], b"end\n"].concat(), "{}", rest.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn following_ends_at_its_time() {
    let (daemon, init) = running().await;
    let soon = Timestamp::now().microseconds() + 300_000;
    let until = Timestamp::from_microseconds(soon).unwrap();
    let mut answer = follow(&daemon, &format!("{FOLLOW}&until={until}")).await;
    daemon.host.print(&init, b"now\n");
    assert_eq!(answer.rest().await.unwrap(), b"now\n");
    assert!(Timestamp::now() >= until);
    daemon.app.sessions.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_finds_a_gap_and_no_garbage() {
    let (daemon, init) = running().await;
    let mut answer = follow(&daemon, &format!("{FOLLOW}&format=records")).await;
    daemon.host.print(&init, b"first");
    let first = answer.piece().await.unwrap().unwrap();
    assert_eq!(records(&first), [(Stream::Stdout, b"first".to_vec())]);
    // Nothing is read meanwhile, and two files are kept.
    for number in 0..64_u8 {
        daemon.host.print(&init, &vec![number; 1 << 20]);
        daemon.host.rotate_log(&init);
    }
    daemon.host.print(&init, b"last");
    daemon.host.finish(&init, 0);
    let got = records(&answer.rest().await.unwrap());
    let (last, pieces) = got.split_last().unwrap();
    assert_eq!(last.1, b"last");
    let numbers: Vec<u8> = pieces.iter().map(|(_, data)| data[0]).collect();
    for (_, data) in pieces {
        assert_eq!(data.len(), MAX_DATA);
        assert!(data.iter().all(|byte| *byte == data[0]));
    }
    assert!(numbers.is_sorted());
    assert_eq!(numbers.last(), Some(&63));
    assert!(pieces.len() < 64 << 4, "it was too slow for all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_are_forgotten() {
    let (daemon, init) = running().await;
    daemon.host.print(&init, &vec![0; 4 << 20]);
    let mut idle = follow(&daemon, &format!("{FOLLOW}&tail=0")).await;
    daemon.host.print(&init, b"\nhello\n");
    idle.until("hello\n").await;
    let reading = follow(&daemon, FOLLOW).await;
    let not_following = follow(&daemon, LOGS).await;
    drop((idle, reading, not_following));
    tokio::time::timeout(PATIENCE, daemon.app.sessions.idle())
        .await
        .expect("their streams end");
    assert_eq!(daemon.host.running(), [init]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_follow() {
    let (daemon, init) = running().await;
    let mut answers = Vec::new();
    for _ in 0..200 {
        answers.push(follow(&daemon, FOLLOW).await);
    }
    daemon.host.print(&init, b"hello\n");
    for answer in &mut answers {
        assert_eq!(answer.until("hello\n").await, "hello\n");
    }
    daemon.host.finish(&init, 0);
    for answer in &mut answers {
        assert_eq!(answer.rest().await.unwrap(), b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_end_is_not_the_containers() {
    let (daemon, init) = running().await;
    let mut answer = follow(&daemon, FOLLOW).await;
    daemon.host.print(&init, b"hello\n");
    answer.until("hello\n").await;
    daemon.stop.send_replace(true);
    assert!(answer.rest().await.is_err(), "a clean end would be a lie");
    daemon.server.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let (daemon, _) = running().await;
    for (query, wanted) in [
        (
            "tail=-1",
            "the query parameter 'tail' is '-1': give a number of lines, or all",
        ),
        (
            "format=json",
            "the query parameter 'format' is 'json': give records or text",
        ),
        (
            "since=10m",
            "the query parameter 'since' is '10m': give a time as in 2024-02-29T14:54:05Z, \
            or seconds since 1970",
        ),
        (
            "until=",
            "the query parameter 'until' is '': give a time as in 2024-02-29T14:54:05Z, or \
            seconds since 1970",
        ),
        (
            "follow=yes",
            "the query parameter 'follow' is 'yes': give true or false",
        ),
        (
            "folow=true",
            "unknown query parameter 'folow': did you mean 'follow'?",
        ),
    ] {
        let refused = daemon.get(&format!("{LOGS}?{query}")).await;
        assert_eq!(message(refused, 400), wanted);
    }
    let missing = daemon.get("/containers/nobody/logs").await;
    assert_eq!(message(missing, 404), "container not found");
    let missing = daemon.get("/exec/0123456789ab/logs").await;
    let wanted = "no such execution instance '0123456789ab'";
    assert_eq!(message(missing, 404), wanted);
}
