//! WebSocket sessions: their messages, their order, and what happens when either side goes away.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use kleene_api::{ExitInfo, MessageType, STREAMS_PROTOCOL};
use kleene_doors::frames::{Frame, MAX_CHUNK};
use kleene_doors::host::{ExitStatus, Stdin, WindowSize};
use kleene_host::fake::{Op, Stage};
use kleene_types::{ExecId, Timestamp};
use serde_json::json;
use support::pipe_host::PipeHost;
use support::{Daemon, QUICK};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const CONTROL: u8 = 3;
const EXIT: u8 = 4;

fn frame(channel: u8, data: &[u8]) -> Vec<u8> {
    [&[channel], data].concat()
}

fn exit_info(frame: &[u8]) -> ExitInfo {
    assert_eq!(frame[0], EXIT);
    serde_json::from_slice(&frame[1..]).unwrap()
}

/// Reads frames of one channel until `length` bytes of data have come.
async fn read(session: &mut support::Session, channel: u8, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < length {
        let frame = session.bytes().await;
        assert_eq!(frame[0], channel);
        data.extend_from_slice(&frame[1..]);
    }
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_between_starting_and_closing() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["greet"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, None).await;
    session.starting().await;
    assert_eq!(session.bytes().await, b"hello\n");
    let (code, message) = session.closed().await;
    assert_eq!((code, message.msg_type), (1000, MessageType::Closing));
    let wanted = format!("executable {exec} and its container exited with exit-code 3");
    assert_eq!((message.message, message.data), (wanted, String::new()));
    let (_, shown) = daemon.get("/containers/web/inspect").await;
    assert_eq!(
        shown["container"]["running"], false,
        "it had stopped when the session closed"
    );
    assert_eq!(shown["container"]["exit_code"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_joined_ends_alone() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    daemon.run_detached(&container).await;
    let config = json!({"container_id": "web", "cmd": ["greet"]});
    let exec = support::id_of(daemon.post("/exec/create", config).await, 201);
    let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
    session.starting().await;
    assert_eq!(session.bytes().await, frame(STDOUT, b"hello\n"));
    let exit = exit_info(&session.bytes().await);
    assert_eq!(
        (exit.exit_code, exit.container_stopped, exit.error),
        (3, false, None)
    );
    let (code, message) = session.closed().await;
    assert_eq!(code, 1000);
    assert_eq!(
        message.message,
        format!("{exec} has exited with exit-code 3")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_stay_apart_and_input_arrives() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["echo"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
    session.starting().await;
    let id: ExecId = exec.parse().unwrap();
    daemon.host.print_error(&id, b"oops");
    assert_eq!(session.bytes().await, frame(STDERR, b"oops"));
    session.send_bytes(&frame(STDIN, b"abc")).await;
    assert_eq!(session.bytes().await, frame(STDOUT, b"abc"));
    // As large as a message may be: it reaches the process in pieces.
    let large: Vec<u8> = (0..1_usize << 20)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect();
    session.send_bytes(&frame(STDIN, &large)).await;
    assert_eq!(read(&mut session, STDOUT, large.len()).await, large);
    let resize = json!({"resize": {"rows": 50, "columns": 132}}).to_string();
    session.send_bytes(&frame(CONTROL, resize.as_bytes())).await;
    let size = WindowSize {
        rows: 50,
        columns: 132,
    };
    daemon.wait(&id, |seen| seen.window == Some(size));
    session
        .send_bytes(&frame(CONTROL, b"{\"signal\": 28}"))
        .await;
    daemon.wait(&id, |seen| seen.signals == [28]);
    session.send_bytes(&frame(STDIN, b"")).await;
    assert_eq!(exit_info(&session.bytes().await).exit_code, 0);
    assert_eq!(session.closed().await.0, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_clients_send_input_as_text_or_bytes() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["echo"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, None).await;
    session.starting().await;
    session.send_text("text").await;
    assert_eq!(session.bytes().await, b"text");
    session.send_bytes(&[0xff, 0x00]).await;
    assert_eq!(session.bytes().await, [0xff, 0x00]);
    session.0.close(None).await.unwrap();
    daemon.wait(&exec.parse().unwrap(), |seen| seen.signals == [15]);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_closed_for_those_who_send_none() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    let config = json!({
        "exec_id": exec, "attach": true, "start_container": true, "stdin": false,
        "window": {"rows": 24, "columns": 80},
    });
    let mut session = daemon.session("/exec/start", None).await;
    session.send_text(&config.to_string()).await;
    session.starting().await;
    let process = daemon
        .host
        .seen(&exec.parse().unwrap())
        .unwrap()
        .request
        .process;
    assert_eq!(process.stdin, Stdin::Null);
    assert_eq!(
        process.window.map(|size| (size.rows, size.columns)),
        Some((24, 80))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_its_process_and_no_other() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let init = daemon.run_detached(&container).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, None).await;
    session.starting().await;
    // No close frame: the client was killed.
    drop(session);
    daemon.app.sessions.idle().await;
    let calls = daemon.host.calls().into_iter();
    let signals: Vec<String> = calls
        .filter(|call| call.op == Op::Signal)
        .map(|call| call.object)
        .collect();
    assert_eq!(signals, [format!("{exec} 15")]);
    assert_eq!(daemon.host.seen(&init).unwrap().stage, Stage::Running);
    let (_, list) = daemon.get("/containers/list").await;
    assert_eq!(list[0]["id"], container.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_goes_away_hangs_up() {
    let daemon = Daemon::start().await;
    daemon.container("web", &["stubborn"]).await;
    let config = json!({"container_id": "web", "tty": true});
    let exec = support::id_of(daemon.post("/exec/create", config).await, 201);
    let mut session = daemon.start_exec(&exec, true, None).await;
    session.starting().await;
    drop(session);
    daemon.wait(&exec.parse().unwrap(), |seen| seen.signals == [15, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_detaches_leaves_its_process_alone() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
    session.starting().await;
    session.send_bytes(&frame(CONTROL, b"\"detach\"")).await;
    assert_eq!(session.closed().await.0, 1001);
    drop(session);
    // Whatever the session still does is done before it counts as over.
    daemon.app.sessions.idle().await;
    let seen = daemon.host.seen(&exec.parse().unwrap()).unwrap();
    assert_eq!((seen.signals, seen.stage), (vec![], Stage::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_starts_close_once_the_process_runs() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, false, None).await;
    let tokio_tungstenite::tungstenite::Message::Close(Some(close)) = session.next().await else {
        panic!("no message comes before the close frame");
    };
    assert_eq!(u16::from(close.code), 1001);
    assert_eq!(
        daemon.host.seen(&exec.parse().unwrap()).unwrap().stage,
        Stage::Running
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_to_start_are_told_and_leave_the_container() {
    let daemon = Daemon::start().await;
    for (program, exit_code) in [("missing", 127), ("locked", 126)] {
        let container = daemon.container(program, &[program]).await;
        let exec = daemon.exec(&container).await;
        let mut session = daemon.start_exec(&exec, false, None).await;
        assert!(
            session
                .text()
                .await
                .starts_with(&format!("error: '{program}'"))
        );
        let (code, message) = session.closed().await;
        assert_eq!((code, message.msg_type), (1011, MessageType::Error));

        let exec = daemon.exec(&container).await;
        let mut session = daemon.start_exec(&exec, true, None).await;
        session.starting().await;
        assert!(
            session
                .text()
                .await
                .starts_with(&format!("error: '{program}'"))
        );
        assert_eq!(session.closed().await.0, 1011);

        let exec = daemon.exec(&container).await;
        let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
        let exit = exit_info(&session.bytes().await);
        assert_eq!(exit.exit_code, exit_code);
        assert!(exit.error.unwrap().contains(program));
        assert!(session.text().await.starts_with("error: "));
        assert_eq!(session.closed().await.0, 1011);
        let (_, shown) = daemon
            .get(&format!("/containers/{container}/inspect"))
            .await;
        assert_eq!(shown["container"]["running"], false);
    }
    let mut session = daemon
        .start_exec("abcdef", true, Some(STREAMS_PROTOCOL))
        .await;
    assert_eq!(exit_info(&session.bytes().await).exit_code, 125);
    assert_eq!(
        session.text().await,
        "error: no such execution instance 'abcdef'"
    );
    assert_eq!(session.closed().await.0, 1011);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_removed_with_its_process_still_reports_the_exit_code() {
    let daemon = Daemon::start().await;
    let config = json!({
        "image": "base", "cmd": ["greet"], "network_driver": "host", "auto_remove": true,
    });
    let container = support::id_of(daemon.post("/containers/create", config).await, 201);
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
    session.starting().await;
    assert_eq!(session.bytes().await, frame(STDOUT, b"hello\n"));
    let exit = exit_info(&session.bytes().await);
    assert_eq!((exit.exit_code, exit.container_stopped), (3, true));
    assert_eq!(session.closed().await.0, 1000);
    assert_eq!(daemon.get("/containers/list?all=true").await.1, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configurations_are_refused() {
    let daemon = Daemon::start().await;
    for path in ["/exec/start", "/images/create", "/images/build"] {
        for (text, part) in [
            ("nonsense", "invalid JSON"),
            ("[]", "an object is wanted"),
            ("{}", "missing field"),
            ("{\"no_such\": 1}", "no_such"),
        ] {
            let mut session = daemon.session(path, None).await;
            session.send_text(text).await;
            let (code, message) = session.closed().await;
            assert_eq!(
                (code, message.msg_type),
                (1002, MessageType::Error),
                "{path} {text}"
            );
            assert!(
                message.message.contains(part),
                "{path} {text}: {}",
                message.message
            );
        }
        let mut session = daemon.session(path, None).await;
        session.send_bytes(b"{}").await;
        assert_eq!(session.closed().await.0, 1002);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_no_channel_are_refused() {
    let daemon = Daemon::start().await;
    let frames = [&b""[..], &[STDOUT, 1], &[77], &[CONTROL, b'x'], &[CONTROL]];
    for (number, bad) in frames.into_iter().enumerate() {
        let container = daemon.container(&format!("c{number}"), &["sleep"]).await;
        let exec = daemon.exec(&container).await;
        let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
        session.starting().await;
        session.send_bytes(bad).await;
        assert_eq!(session.closed().await.0, 1002, "{bad:?}");
        daemon.wait(&exec.parse().unwrap(), |seen| seen.signals == [15]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_not_waited_for() {
    let daemon = Daemon::start_with(QUICK, |host| Arc::new(host)).await;
    let mut session = daemon.session("/exec/start", None).await;
    let (code, message) = session.closed().await;
    assert_eq!(
        (code, message.message.as_str()),
        (1002, "no configuration was sent in time")
    );
    // One that doesn't answer the close frame either is cut off.
    daemon.app.sessions.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_dies_ends_the_session() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
    session.starting().await;
    daemon.host.lose(&exec.parse().unwrap());
    assert_eq!(exit_info(&session.bytes().await).exit_code, 137);
    assert_eq!(session.closed().await.0, 1000);
    assert_eq!(daemon.get("/containers/list").await.1, json!([]));
}

/// A daemon whose attached streams are in the test's hands, and an attached session.
async fn piped() -> (Daemon, support::Session, ExecId, UnixStream) {
    let (ends, receive): (_, Receiver<UnixStream>) = channel();
    let wrap = |inner| Arc::new(PipeHost { inner, ends }) as _;
    let daemon = Daemon::start_with(QUICK, wrap).await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, Some(STREAMS_PROTOCOL)).await;
    session.starting().await;
    let end = receive.recv().unwrap();
    (daemon, session, exec.parse().unwrap(), end)
}

/// Writes until nothing is taken any more for half a second; the bytes that were.
fn fill(end: &mut UnixStream) -> usize {
    end.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let bytes = Frame::Stdout(vec![7; MAX_CHUNK]).encode();
    let mut written = 0;
    loop {
        match end.write(&bytes[written % bytes.len()..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(error) => panic!("{error}"),
        }
        assert!(
            written < 64 << 20,
            "the daemon reads what nobody takes from it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_slow_the_process_down() {
    let (daemon, mut session, exec, mut end) = piped().await;
    let (written, mut end) = tokio::task::spawn_blocking(move || (fill(&mut end), end))
        .await
        .unwrap();
    assert!(
        written < 4 << 20,
        "{written} bytes were read ahead of the client"
    );
    // Everything arrives once the client reads.
    let frame = Frame::Stdout(vec![7; MAX_CHUNK]).encode();
    let writing = tokio::task::spawn_blocking(move || {
        end.set_write_timeout(None).unwrap();
        end.write_all(&frame[written % frame.len()..]).unwrap();
        let status = ExitStatus {
            code: 0,
            out_of_memory: false,
            finished: Timestamp::now(),
        };
        Frame::Exited(status).write(&mut end).unwrap();
        end
    });
    let frames = written / (MAX_CHUNK + 5) + 1;
    let data = read(&mut session, STDOUT, frames * MAX_CHUNK).await;
    assert!(data.len() == frames * MAX_CHUNK && data.iter().all(|byte| *byte == 7));
    assert_eq!(exit_info(&session.bytes().await).exit_code, 0);
    drop(writing.await.unwrap());
    daemon.host.finish(&exec, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_while_its_input_is_stuck_is_noticed() {
    let (daemon, mut session, exec, end) = piped().await;
    // The process reads nothing, so the daemon soon reads nothing from the client either.
    let piece = frame(STDIN, &vec![7; 1 << 20]);
    let stuck = async {
        loop {
            session.send_bytes(&piece).await;
        }
    };
    let stuck = tokio::time::timeout(Duration::from_millis(500), stuck).await;
    assert!(
        stuck.is_err(),
        "the daemon reads what the process doesn't take"
    );
    drop(session);
    daemon.wait(&exec, |seen| seen.signals == [15]);
    drop(end);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_end_closes_sessions_and_leaves_processes() {
    let daemon = Daemon::start_with(QUICK, |host| Arc::new(host)).await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    let mut attached = daemon.start_exec(&exec, true, None).await;
    attached.starting().await;
    let mut creating = daemon.session("/images/create", None).await;
    creating
        .send_text(&json!({"method": "fetch", "url": "file:///endless"}).to_string())
        .await;
    creating.starting().await;
    let waiting = daemon.session("/exec/start", None).await;
    let idle = daemon.connect().await;
    daemon.stop.send_replace(true);
    let (code, message) = attached.closed().await;
    assert_eq!(code, 1011);
    assert!(
        message.message.contains("goes on without it"),
        "{}",
        message.message
    );
    daemon.app.sessions.idle().await;
    let Daemon {
        server,
        host,
        engine,
        ..
    } = daemon;
    server.await.unwrap().unwrap();
    assert!(
        host.seen(&exec.parse().unwrap())
            .unwrap()
            .signals
            .is_empty()
    );
    assert_eq!(
        engine.image_list(true).unwrap().len(),
        1,
        "the unfinished image is gone"
    );
    drop((waiting, idle));
}
