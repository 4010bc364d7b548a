//! Files of containers: what is there, and archives in both directions.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures_util::stream;
use kleene_doors::host::HostError;
use kleene_doors::storage::{Dataset, Storage};
use kleene_host::fake::Op;
use serde_json::{Value, json};
use support::{Daemon, PATIENCE, QUICK, message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A daemon with the container "web", which doesn't run.
async fn stopped() -> (Daemon, String) {
    let daemon = Daemon::start_with(QUICK, |host| Arc::new(host)).await;
    let container = daemon.container("web", &["sleep"]).await;
    (daemon, container)
}

fn write(daemon: &Daemon, container: &str, path: &str, bytes: &[u8]) {
    let dataset = Dataset::Container(container.parse().unwrap());
    let path = daemon.storage.mountpoint(&dataset).join(path);
    daemon.host.fs().create_dir_all(path.parent().unwrap());
    daemon.host.fs().write(&path, bytes);
}

fn read(daemon: &Daemon, container: &str, path: &str) -> Option<Vec<u8>> {
    let dataset = Dataset::Container(container.parse().unwrap());
    let path = daemon.storage.mountpoint(&dataset).join(path);
    daemon.host.fs().read(&path)
}

fn url(path: &str) -> String {
    format!("/containers/web/archive?path={path}")
}

async fn put(daemon: &Daemon, path: &str, body: impl Into<Body>) -> (u16, Value) {
    daemon.raw("PUT", &url(path), body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_out_and_come_in() {
    let (daemon, container) = stopped().await;
    let data: Vec<u8> = (0..3_usize << 20).map(|i| (i % 251) as u8).collect();
    write(&daemon, &container, "srv/www/page", &data);
    write(&daemon, &container, "srv/www/.hidden", b"dot");
    for running in [false, true] {
        if running {
            daemon.run_detached(&container).await;
        }
        let mut answer = daemon.open("GET", &url("/srv/www"), Body::empty()).await;
        assert_eq!(
            (answer.status, answer.content_type.as_str()),
            (200, "application/x-tar")
        );
        let archive = answer.rest().await.unwrap();
        assert!(
            archive.starts_with(b"www/\0"),
            "entries begin with the last component"
        );
        let into = ["/tmp", "/opt"][usize::from(running)];
        let missing = message(put(&daemon, into, archive.clone()).await, 404);
        assert_eq!(
            missing,
            format!("no such file or directory in container 'web': '{into}'")
        );
        write(&daemon, &container, &format!("{}/x", &into[1..]), b"");
        // In small pieces, as from a slow client.
        let pieces = archive.chunks(100_000).map(Bytes::copy_from_slice);
        let pieces: Vec<Result<Bytes, Infallible>> = pieces.map(Ok).collect();
        let body = Body::from_stream(stream::iter(pieces));
        assert_eq!(put(&daemon, into, body).await, (204, Value::from("")));
        let copied = |name: &str| read(&daemon, &container, &format!("{}/www/{name}", &into[1..]));
        assert!(copied("page").is_some_and(|bytes| bytes == data));
        assert_eq!(copied(".hidden").unwrap(), b"dot");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there() {
    let (daemon, container) = stopped().await;
    write(&daemon, &container, "etc/passwd", b"root");
    let (status, found) = daemon.get("/containers/web/stat?path=/etc/passwd").await;
    assert_eq!(status, 200);
    assert_eq!(
        (
            &found["name"],
            &found["kind"],
            &found["size"],
            &found["target"]
        ),
        (&json!("passwd"), &json!("file"), &json!(4), &Value::Null)
    );
    let (_, found) = daemon.get("/containers/web/stat?path=/etc").await;
    assert_eq!(found["kind"], "directory");
    for path in ["stat", "archive"] {
        let url = |query: &str| format!("/containers/web/{path}{query}");
        let wanted = "no such file or directory in container 'web': '/etc/shadow'";
        let missing = daemon.get(&url("?path=/etc/shadow")).await;
        assert_eq!(message(missing, 404), wanted);
        let relative = daemon.get(&url("?path=etc")).await;
        let wanted = "the path 'etc' is not absolute: begin it with a slash";
        assert_eq!(message(relative, 400), wanted);
        let nul = daemon.get(&url("?path=/etc%00")).await;
        assert!(message(nul, 400).contains("NUL byte"));
        let none = daemon.get(&url("")).await;
        assert_eq!(message(none, 400), "the query parameter 'path' is missing");
        let nobody = daemon
            .get(&format!("/containers/nobody/{path}?path=/"))
            .await;
        assert_eq!(message(nobody, 404), "container not found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_written() {
    let daemon = Daemon::start().await;
    let mount = json!({
        "type": "volume", "source": "v", "destination": "/data", "read_only": true,
    });
    let config = json!({
        "name": "web", "image": "base", "network_driver": "host", "mounts": [mount],
    });
    let container = support::id_of(daemon.post("/containers/create", config).await, 201);
    write(&daemon, &container, "etc/motd", b"hello");
    let archive = daemon.download(&url("/etc/motd")).await;
    // A client that sends all before it reads the answer gets it.
    let large = [&archive[..], &vec![0; 8 << 20]].concat();
    for (path, body, status, wanted) in [
        (
            "/data",
            &archive,
            409,
            "'/data' in container 'web' can't be written to: the mount at '/data' is read-only",
        ),
        ("/data", &large, 409, "read-only"),
        (
            "/etc/motd",
            &archive,
            400,
            "'/etc/motd' in container 'web' is no directory",
        ),
        ("/etc/motd", &large, 400, "is no directory"),
        ("/nowhere", &large, 404, "no such file or directory"),
        ("/etc", &b"nonsense".repeat(1000), 400, "archive"),
        ("/etc", &archive[..600].to_vec(), 400, "archive"),
        ("/etc", &Vec::new(), 400, "archive"),
    ] {
        let refused = message(put(&daemon, path, body.clone()).await, status);
        assert!(refused.contains(wanted), "{refused}");
    }
    let flag = put(&daemon, "/etc&keep_owner=maybe", archive.clone()).await;
    assert!(message(flag, 400).contains("'keep_owner' is 'maybe'"));
    assert_eq!(put(&daemon, "/etc&keep_owner=true", large).await.0, 204);
    daemon
        .host
        .fail_next_with(Op::WriteArchive, HostError::NoSpace("unpacking".into()));
    assert!(message(put(&daemon, "/etc", archive).await, 409).contains("no space left"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_before_the_first_byte_have_a_status() {
    let (daemon, _) = stopped().await;
    daemon.host.fail_next(Op::ReadArchive);
    assert_eq!(daemon.get(&url("/bin")).await.0, 500);
    let unsupported = HostError::Unsupported("not here".into());
    daemon.host.fail_next_with(Op::ReadArchive, unsupported);
    assert_eq!(message(daemon.get(&url("/bin")).await, 409), "not here");
    assert_eq!(daemon.get(&url("/bin")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_locks_the_container_for_a_while_only() {
    let (daemon, container) = stopped().await;
    write(&daemon, &container, "large", &vec![1; 16 << 20]);
    let mut answer = daemon.open("GET", &url("/large"), Body::empty()).await;
    assert_eq!(answer.status, 200);
    // It waits for the reader of a container that doesn't run.
    let started = tokio::time::timeout(PATIENCE, daemon.run_detached(&container)).await;
    started.expect("the reader's time is limited");
    assert!(
        answer.rest().await.is_err(),
        "half of an archive is no clean end"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_locks_the_container_for_a_while_only() {
    let (daemon, container) = stopped().await;
    write(&daemon, &container, "etc/motd", b"hello");
    let archive = daemon.download(&url("/etc/motd")).await;
    let mut client = daemon.connect().await;
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n258\r\n",
        url("/bin"),
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&archive[..600]).await.unwrap();
    let mut answer = Vec::new();
    let end = client.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, end).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("the client sent nothing for"), "{answer}");
    assert_eq!(read(&daemon, &container, "bin/motd"), None);
    daemon.run_detached(&container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_free_the_container() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    write(&daemon, &container, "large", &vec![1; 16 << 20]);
    let mut answer = daemon.open("GET", &url("/large"), Body::empty()).await;
    answer.piece().await.unwrap();
    drop(answer);
    // The daemon's usual patience with clients is longer than the test's.
    let started = tokio::time::timeout(PATIENCE, daemon.run_detached(&container)).await;
    started.expect("nobody reads any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes() {
    let (daemon, container) = stopped().await;
    assert_eq!(
        daemon.get("/containers/web/changes").await,
        (200, json!([]))
    );
    write(&daemon, &container, "etc/motd", b"hello");
    let wanted = json!([
        {"path": "/etc", "kind": "added"},
        {"path": "/etc/motd", "kind": "added"},
    ]);
    assert_eq!(daemon.get("/containers/web/changes").await, (200, wanted));
    let nobody = daemon.get("/containers/nobody/changes").await;
    assert_eq!(message(nobody, 404), "container not found");
}
