//! `/exec/attach`: clients that come and go without the process noticing.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::sync::Arc;

use kleene_api::{ExitInfo, MessageType, STREAMS_PROTOCOL};
use kleene_doors::host::WindowSize;
use kleene_host::fake::Stage;
use kleene_types::ExecId;
use serde_json::{Value, json};
use support::{Daemon, QUICK, Session};

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

async fn attach(daemon: &Daemon, config: Value, protocol: Option<&str>) -> Session {
    let mut session = daemon.session("/exec/attach", protocol).await;
    session.send_text(&config.to_string()).await;
    session
}

async fn attached(daemon: &Daemon, config: Value) -> Session {
    let mut session = attach(daemon, config, Some(STREAMS_PROTOCOL)).await;
    session.starting().await;
    session
}

/// A daemon with a running container "web".
async fn running(program: &str) -> (Daemon, ExecId) {
    let daemon = Daemon::start_with(QUICK, |host| Arc::new(host)).await;
    let container = daemon.container("web", &[program]).await;
    let init = daemon.run_detached(&container).await;
    (daemon, init)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_clients_get_the_output_and_the_end() {
    let (daemon, init) = running("sleep").await;
    let mut first = attached(&daemon, json!({"container_id": "web"})).await;
    let mut second = attached(&daemon, json!({"exec_id": init.as_str()})).await;
    let mut plain = attach(&daemon, json!({"container_id": "web"}), None).await;
    plain.starting().await;
    daemon.host.print(&init, b"out");
    for session in [&mut first, &mut second] {
        assert_eq!(session.bytes().await, frame(STDOUT, b"out"));
    }
    assert_eq!(plain.bytes().await, b"out");
    daemon.host.print_error(&init, b"err");
    for session in [&mut first, &mut second] {
        assert_eq!(session.bytes().await, frame(STDERR, b"err"));
    }
    daemon.host.finish(&init, 7);
    for session in [&mut first, &mut second] {
        let exit = exit_info(&session.bytes().await);
        assert_eq!((exit.exit_code, exit.container_stopped), (7, true));
        let (code, message) = session.closed().await;
        assert_eq!((code, message.msg_type), (1000, MessageType::Closing));
        let wanted = format!("executable {init} and its container exited with exit-code 7");
        assert_eq!(message.message, wanted);
    }
    assert_eq!(plain.closed().await.0, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_resizes_and_signals_arrive() {
    let (daemon, init) = running("echo").await;
    let window = json!({"rows": 24, "columns": 80});
    let config = json!({"container_id": "web", "window": window});
    let mut session = attached(&daemon, config).await;
    let size = |rows, columns| Some(WindowSize { rows, columns });
    daemon.wait(&init, |seen| seen.window == size(24, 80));
    let resize = json!({"resize": {"rows": 50, "columns": 132}}).to_string();
    session.send_bytes(&frame(CONTROL, resize.as_bytes())).await;
    daemon.wait(&init, |seen| seen.window == size(50, 132));
    session
        .send_bytes(&frame(CONTROL, b"{\"signal\": 28}"))
        .await;
    daemon.wait(&init, |seen| seen.signals == [28]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_input_sends_none() {
    let (daemon, init) = running("echo").await;
    let config = json!({"container_id": "web", "stdin": false});
    let mut session = attached(&daemon, config).await;
    session.send_bytes(&frame(STDIN, b"ignored")).await;
    session.send_bytes(&frame(STDIN, b"")).await;
    session
        .send_bytes(&frame(CONTROL, b"{\"signal\": 28}"))
        .await;
    // The signal came after the input: had that been passed on, it would be there.
    daemon.wait(&init, |seen| seen.signals == [28]);
    daemon.host.print(&init, b"still here");
    assert_eq!(session.bytes().await, frame(STDOUT, b"still here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_leave_the_process_alone() {
    let (daemon, init) = running("sleep").await;
    let vanishing = attached(&daemon, json!({"container_id": "web"})).await;
    let mut closing = attached(&daemon, json!({"container_id": "web"})).await;
    let mut detaching = attached(&daemon, json!({"container_id": "web"})).await;
    let mut confused = attached(&daemon, json!({"container_id": "web"})).await;
    drop(vanishing);
    closing.0.close(None).await.unwrap();
    drop(closing);
    detaching.send_bytes(&frame(CONTROL, b"\"detach\"")).await;
    let (code, message) = detaching.closed().await;
    assert_eq!((code, message.msg_type), (1001, MessageType::Closing));
    drop(detaching);
    confused.send_bytes(&[77]).await;
    assert_eq!(confused.closed().await.0, 1002);
    drop(confused);
    daemon.app.sessions.idle().await;
    let seen = daemon.host.seen(&init).unwrap();
    assert_eq!((seen.signals, seen.stage), (vec![], Stage::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_must_be_something_to_attach_to() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    for (config, part) in [
        (json!({"container_id": "web"}), "not running"),
        (json!({"container_id": "none"}), "no such container 'none'"),
        (json!({"exec_id": "abcdef"}), "no such execution instance"),
        (json!({"exec_id": exec}), exec.as_str()),
    ] {
        let mut session = attach(&daemon, config.clone(), Some(STREAMS_PROTOCOL)).await;
        let exit = exit_info(&session.bytes().await);
        assert_eq!(exit.exit_code, 125);
        let error = exit.error.unwrap();
        assert!(error.contains(part), "{error}");
        assert_eq!(session.text().await, format!("error: {error}"));
        assert_eq!(session.closed().await.0, 1011);
        let mut session = attach(&daemon, config, None).await;
        session.starting().await;
        assert_eq!(session.text().await, format!("error: {error}"));
        assert_eq!(session.closed().await.0, 1011);
    }
    for config in [
        json!({}),
        json!({"container_id": "web", "exec_id": exec}),
        json!({"container": "web"}),
    ] {
        let mut session = attach(&daemon, config, None).await;
        let (code, message) = session.closed().await;
        assert_eq!((code, message.msg_type), (1002, MessageType::Error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_clients_follow_one_process() {
    const CLIENTS: usize = 300;
    let (daemon, init) = running("sleep").await;
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        sessions.push(attached(&daemon, json!({"container_id": "web"})).await);
    }
    // They take no threads: other requests are answered.
    assert_eq!(daemon.get("/containers/web/inspect").await.0, 200);
    daemon.host.print(&init, b"to all");
    for session in &mut sessions {
        assert_eq!(session.bytes().await, frame(STDOUT, b"to all"));
    }
    // The daemon's end is the end of all sessions, but not of the process.
    daemon.stop.send_replace(true);
    for session in &mut sessions {
        let (code, message) = session.closed().await;
        assert_eq!(code, 1011);
        assert!(message.message.contains("goes on without it"));
    }
    drop(sessions);
    daemon.app.sessions.idle().await;
    let seen = daemon.host.seen(&init).unwrap();
    assert_eq!((seen.signals, seen.stage), (vec![], Stage::Running));
    daemon.server.await.unwrap().unwrap();
}
