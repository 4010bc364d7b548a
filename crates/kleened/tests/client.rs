//! The client crate against the daemon: every method finds its endpoint, and both mean the same.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use kleene_api::{ContainerConfig, ExecConfig, ExecStartConfig, WindowSize};
use kleene_client::{
    Client, ClientError, EventOptions, ExecEvent, HostAddress, LogOptions, Output, TlsOptions,
    WaitCondition,
};
use kleene_types::ExecId;
use support::Daemon;

async fn client(daemon: &Daemon) -> Client {
    let address = HostAddress::unix(daemon.socket());
    Client::connect(address, &TlsOptions::default())
        .await
        .unwrap()
}

async fn create(client: &Client, name: &str, cmd: &[&str]) -> String {
    let config = ContainerConfig {
        name: Some(name.into()),
        image: Some("base".into()),
        cmd: Some(cmd.iter().map(|part| (*part).to_owned()).collect()),
        network_driver: Some("host".into()),
        ..ContainerConfig::default()
    };
    client.container_create(&config).await.unwrap().id
}

/// Starts a container in the background; its first execution instance.
async fn start(client: &Client, container: &str) -> ExecId {
    let config = ExecConfig {
        container_id: container.into(),
        cmd: Vec::new(),
        env: Vec::new(),
        user: String::new(),
        tty: false,
        working_dir: None,
    };
    let exec = client.exec_create(&config).await.unwrap();
    let config = ExecStartConfig {
        exec_id: exec.clone(),
        attach: false,
        start_container: true,
        stdin: false,
        window: None,
    };
    let mut session = client.exec_start(&config).await.unwrap();
    loop {
        if let ExecEvent::Closed(closing) = session.events.next().await.unwrap() {
            assert!(!closing.failed(), "{closing:?}");
            return exec.parse().unwrap();
        }
    }
}

fn refused(error: ClientError, status: u16, part: &str) {
    assert_eq!(error.status(), Some(status), "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_life() {
    let daemon = Daemon::start().await;
    let client = client(&daemon).await;
    let id = create(&client, "web", &["stubborn"]).await;
    let init = start(&client, "web").await;
    let list = client.container_list(false, true).await.unwrap();
    assert_eq!(list[0].container.id, id);
    assert!(list[0].size.is_some());
    assert_eq!(client.container_pause("web").await.unwrap(), id);
    refused(
        client.container_pause("web").await.unwrap_err(),
        409,
        "paused",
    );
    assert_eq!(client.container_unpause("web").await.unwrap(), id);
    assert_eq!(client.container_kill("web", Some("HUP")).await.unwrap(), id);
    daemon.wait(&init, |seen| seen.signals == [1]);
    let unknown = client.container_kill("web", Some("A B&C")).await;
    refused(unknown.unwrap_err(), 400, "'A B&C'");
    let stats = client.container_stats(&["web"]).await.unwrap();
    assert_eq!(stats[0].name, "web");
    assert_eq!(
        client.container_stats(&[] as &[&str]).await.unwrap().len(),
        1
    );
    assert!(!client.container_top("web").await.unwrap().is_empty());
    let brief = Some(Duration::from_millis(10));
    assert_eq!(client.container_restart("web", brief).await.unwrap(), id);
    let config = ContainerConfig {
        cmd: Some(vec!["echo".into()]),
        ..ContainerConfig::default()
    };
    let updated = client.container_update("web", &config).await.unwrap();
    assert_eq!((updated.id, updated.warnings.len()), (id.clone(), 1));
    assert_eq!(client.container_stop("web", brief).await.unwrap(), id);
    let exit = client.container_wait("web", WaitCondition::NotRunning);
    assert_eq!(exit.await.unwrap().exit_code, 137);
    let shown = client.container_inspect("web").await.unwrap();
    assert_eq!(shown.container_execs.len(), 2);
    assert_eq!(client.container_changes("web").await.unwrap(), []);
    let none = client.container_wait("none", WaitCondition::Removed).await;
    refused(none.unwrap_err(), 404, "container not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_read_back() {
    let daemon = Daemon::start().await;
    let client = client(&daemon).await;
    create(&client, "web", &["sleep"]).await;
    let init = start(&client, "web").await;
    daemon.host.print(&init, b"one\ntwo\n");
    daemon.host.print_error(&init, b"oops\n");
    let options = LogOptions::default();
    for mut logs in [
        client.container_logs("web", &options).await.unwrap(),
        client.exec_logs(init.as_str(), &options).await.unwrap(),
    ] {
        let first = logs.next().await.unwrap().unwrap();
        assert_eq!(
            (first.output, &first.data[..]),
            (Output::Stdout, &b"one\ntwo\n"[..])
        );
        let second = logs.next().await.unwrap().unwrap();
        assert_eq!(
            (second.output, &second.data[..]),
            (Output::Stderr, &b"oops\n"[..])
        );
        assert!(second.time >= first.time && first.time > 1_500_000_000_000_000);
        assert_eq!(logs.next().await.unwrap(), None);
    }
    let following = LogOptions {
        follow: true,
        tail: Some(1),
        stderr: false,
        since: Some("0".into()),
        ..LogOptions::default()
    };
    let mut logs = client.container_logs("web", &following).await.unwrap();
    let line = logs.next().await.unwrap().unwrap();
    assert_eq!(&line.data[..], b"two\n");
    daemon.host.print(&init, b"three");
    let line = logs.next().await.unwrap().unwrap();
    assert_eq!(&line.data[..], b"three");
    daemon.host.finish(&init, 0);
    assert_eq!(logs.next().await.unwrap(), None);
    let none = client.container_logs("none", &options).await;
    refused(none.err().unwrap(), 404, "container not found");
    let bad = LogOptions {
        since: Some("yesterday".into()),
        ..LogOptions::default()
    };
    let bad = client.container_logs("web", &bad).await;
    refused(bad.err().unwrap(), 400, "since");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_that_the_daemon_ends() {
    let daemon = Daemon::start().await;
    let client = client(&daemon).await;
    create(&client, "web", &["sleep"]).await;
    start(&client, "web").await;
    let following = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut logs = client.container_logs("web", &following).await.unwrap();
    let mut events = client.events(&EventOptions::default()).await.unwrap();
    daemon.stop.send_replace(true);
    // The process goes on, so this isn't the end of its output.
    let error = logs.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    while let Ok(Some(_)) = events.next().await {}
    drop((logs, events, client));
    daemon.server.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told() {
    let daemon = Daemon::start().await;
    let client = client(&daemon).await;
    let options = EventOptions {
        filters: vec![
            ("kind".into(), "container".into()),
            ("action".into(), "create".into()),
            ("action".into(), "die".into()),
        ],
        ..EventOptions::default()
    };
    let mut events = client.events(&options).await.unwrap();
    let id = create(&client, "web", &["greet"]).await;
    start(&client, "web").await;
    let created = events.next().await.unwrap().unwrap();
    assert_eq!(
        (
            created.action.as_str(),
            created.id.as_str(),
            created.name.as_str()
        ),
        ("create", id.as_str(), "web")
    );
    let died = events.next().await.unwrap().unwrap();
    assert_eq!(died.attributes["exit_code"], "3");
    let past = EventOptions {
        since: Some("0".into()),
        follow: false,
        ..options
    };
    let mut events = client.events(&past).await.unwrap();
    let mut actions = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        actions.push(event.action);
    }
    assert_eq!(actions, ["create", "die"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_and_go() {
    let daemon = Daemon::start().await;
    let client = client(&daemon).await;
    create(&client, "web", &["echo"]).await;
    let init = start(&client, "web").await;
    let window = WindowSize {
        rows: 30,
        columns: 90,
    };
    let attach = client.container_attach("web", true, Some(window));
    let mut first = attach.await.unwrap();
    assert_eq!(first.events.next().await.unwrap(), ExecEvent::Started);
    daemon.wait(&init, |seen| {
        seen.window.is_some_and(|size| size.rows == 30)
    });
    let mut second = client
        .exec_attach(init.as_str(), false, None)
        .await
        .unwrap();
    assert_eq!(second.events.next().await.unwrap(), ExecEvent::Started);
    daemon.host.print(&init, b"hello");
    for session in [&mut first, &mut second] {
        let output = session.events.next().await.unwrap();
        assert_eq!(output, ExecEvent::Stdout(Bytes::from_static(b"hello")));
    }
    first.input.detach().await.unwrap();
    let ExecEvent::Closed(closing) = first.events.next().await.unwrap() else {
        panic!("a client that detaches hears nothing else");
    };
    assert!(!closing.failed(), "{closing:?}");
    daemon.host.finish_out_of_memory(&init);
    let ExecEvent::Exit(exit) = second.events.next().await.unwrap() else {
        panic!("the end is told");
    };
    assert!(exit.out_of_memory && exit.container_stopped);
    let ExecEvent::Closed(closing) = second.events.next().await.unwrap() else {
        panic!("nothing follows the end");
    };
    let wanted =
        format!("executable {init} and its container exited with exit-code 137 (out of memory)");
    assert_eq!(closing.message.message, wanted);
    let mut none = client.container_attach("web", false, None).await.unwrap();
    let ExecEvent::Exit(exit) = none.events.next().await.unwrap() else {
        panic!("there is nothing to attach to");
    };
    assert!(exit.error.unwrap().contains("not running"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_out_and_in() {
    let daemon = Daemon::start().await;
    let client = client(&daemon).await;
    create(&client, "web", &["sleep"]).await;
    create(&client, "other", &["sleep"]).await;
    let shown = client.stat_path("web", "/bin/sh").await.unwrap();
    assert_eq!((shown.name.as_str(), shown.kind.as_str()), ("sh", "file"));
    let none = client.stat_path("web", "/no where").await;
    refused(none.unwrap_err(), 404, "/no where");
    let mut download = client.get_archive("web", "/bin").await.unwrap();
    let mut archive = Vec::new();
    while let Some(chunk) = download.chunk().await.unwrap() {
        archive.extend_from_slice(&chunk);
    }
    let pieces = || -> Vec<io::Result<Bytes>> {
        let pieces = archive.chunks(100);
        pieces.map(|c| Ok(Bytes::copy_from_slice(c))).collect()
    };
    let put = client.put_archive("other", "/", false, stream::iter(pieces()));
    put.await.unwrap();
    // The connection is still good for the next request.
    assert_eq!(client.container_list(true, false).await.unwrap().len(), 2);
    let none = client.get_archive("web", "/none").await;
    refused(none.err().unwrap(), 404, "/none");
    let broken = pieces().into_iter().take(2);
    let broken = broken.chain([Err(io::Error::other("the disk is gone"))]);
    let broken = client.put_archive("other", "/", true, stream::iter(broken));
    let error = broken.await.unwrap_err();
    assert!(matches!(error, ClientError::Upload { .. }), "{error:?}");
    assert_eq!(client.container_list(true, false).await.unwrap().len(), 2);
}

/// Far more than fits into the socket, so that the daemon's answer overtakes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_overtakes_a_long_upload() {
    let daemon = Daemon::start().await;
    let client = client(&daemon).await;
    create(&client, "web", &["sleep"]).await;
    let piece = Bytes::from(vec![0; 1 << 20]);
    let long = stream::iter((0..4096).map(move |_| Ok(piece.clone())));
    let put = client.put_archive("web", "/none", false, long).await;
    refused(put.unwrap_err(), 404, "/none");
}
