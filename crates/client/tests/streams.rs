//! Answers that come piece by piece, and that break off.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic when something is wrong"
)]

use futures_util::FutureExt;
use kleene_client::{Client, ClientError, EventOptions, HostAddress, LogOptions, TlsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// One record: time 7, standard output, "hi".
const RECORD: &[u8] = &[7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, b'h', b'i'];

/// Reads the head of a request without a body.
async fn head(stream: &mut UnixStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(
            stream.read(&mut byte).await.unwrap(),
            1,
            "the client hung up"
        );
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let size = format!("{:x}\r\n", data.len());
    [size.as_bytes(), data, b"\r\n"].concat()
}

/// A client, and the daemon's end of its connection.
async fn pair() -> (Client, UnixStream, UnixListener, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("kleened.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let client = Client::connect(HostAddress::unix(socket), &TlsOptions::default())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    (client, stream, listener, directory)
}

#[tokio::test]
async fn logs_end_whole_or_with_an_error() {
    for (body, wanted) in [
        ([chunk(RECORD), chunk(b"")].concat(), Ok(())),
        // Cut within a record by the daemon.
        (
            [chunk(RECORD), chunk(&RECORD[..5]), chunk(b"")].concat(),
            Err("ends within a record"),
        ),
        // The connection breaks between two records.
        (chunk(RECORD), Err("closed the connection unexpectedly")),
        (
            [chunk(RECORD), chunk(b"no record at all")].concat(),
            Err("no record"),
        ),
    ] {
        let (client, mut stream, _listener, _directory) = pair().await;
        let daemon = tokio::spawn(async move {
            let request = head(&mut stream).await;
            stream.write_all(CHUNKED.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            request
        });
        let options = LogOptions {
            follow: true,
            tail: Some(3),
            since: Some("2024-02-29T14:54:05+01:00".to_owned()),
            ..LogOptions::default()
        };
        let mut logs = client.container_logs("a b", &options).await.unwrap();
        let first = logs.next().await.unwrap().unwrap();
        assert_eq!((first.time, &first.data[..]), (7, &b"hi"[..]));
        match (logs.next().await, wanted) {
            (Ok(None), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, wanted) => panic!("{got:?} where {wanted:?} is wanted"),
        }
        let request = daemon.await.unwrap();
        let path = "GET /containers/a%20b/logs?format=records&follow=true&stdout=true&stderr=true&\
                    since=2024-02-29T14:54:05%2B01:00&tail=3 HTTP/1.1\r\n";
        assert!(request.starts_with(path), "{request}");
        assert!(request.contains("accept: application/vnd.kleene.log\r\n"));
    }
}

#[tokio::test]
async fn nothing_is_lost_when_a_caller_stops_waiting() {
    let (client, mut stream, _listener, _directory) = pair().await;
    let (go_on, goes_on) = tokio::sync::oneshot::channel();
    let daemon = tokio::spawn(async move {
        head(&mut stream).await;
        stream.write_all(CHUNKED.as_bytes()).await.unwrap();
        stream.write_all(&chunk(&RECORD[..9])).await.unwrap();
        goes_on.await.unwrap();
        stream.write_all(&chunk(&RECORD[9..])).await.unwrap();
        stream.write_all(&chunk(b"")).await.unwrap();
        stream
    });
    let options = LogOptions::default();
    let mut logs = client.exec_logs("x", &options).await.unwrap();
    {
        let mut next = std::pin::pin!(logs.next());
        for _ in 0..100 {
            assert!(next.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    go_on.send(()).unwrap();
    let record = logs.next().await.unwrap().unwrap();
    assert_eq!(&record.data[..], b"hi");
    assert_eq!(logs.ready().unwrap(), None);
    assert_eq!(logs.next().await.unwrap(), None);
    drop(daemon.await.unwrap());
}

#[tokio::test]
async fn events_come_in_lines() {
    const EVENT: &str = r#"{"sequence":1,"time":"t","kind":"container","action":"die","id":"i","name":"n","attributes":{}}"#;
    for (end, wanted) in [
        (chunk(b""), Ok(())),
        (
            [chunk(b"{\"sequ"), chunk(b"")].concat(),
            Err("ends within an event"),
        ),
        (chunk(b"{}\n"), Err("doesn't have the expected form")),
        (Vec::new(), Err("closed the connection unexpectedly")),
    ] {
        let (client, mut stream, _listener, _directory) = pair().await;
        let daemon = tokio::spawn(async move {
            head(&mut stream).await;
            let (one, two) = EVENT.split_at(20);
            let body = [
                chunk(one.as_bytes()),
                chunk(format!("{two}\n\n{EVENT}\n").as_bytes()),
                end,
            ];
            stream.write_all(CHUNKED.as_bytes()).await.unwrap();
            stream.write_all(&body.concat()).await.unwrap();
        });
        let mut events = client.events(&EventOptions::default()).await.unwrap();
        for _ in 0..2 {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!((event.sequence, event.action.as_str()), (1, "die"));
        }
        match (events.next().await, wanted) {
            (Ok(None), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, wanted) => panic!("{got:?} where {wanted:?} is wanted"),
        }
        daemon.await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_takes_its_connection_along() {
    let (client, mut first, listener, _directory) = pair().await;
    let daemon = tokio::spawn(async move {
        head(&mut first).await;
        first.write_all(CHUNKED.as_bytes()).await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        let request = head(&mut second).await;
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 16\r\n\r\n{\"message\":\"no\"}";
        second.write_all(answer).await.unwrap();
        // The first connection goes with the stream.
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
        request
    });
    let options = LogOptions::default();
    let logs = client.container_logs("web", &options).await.unwrap();
    let error = client.stat_path("web", "/a b").await.unwrap_err();
    assert!(matches!(&error, ClientError::Api { status: 404, message } if message == "no"));
    drop(logs);
    let request = daemon.await.unwrap();
    assert!(
        request.starts_with("GET /containers/web/stat?path=%2Fa%20b HTTP/1.1"),
        "{request}"
    );
}
