//! WebSocket sessions that make images.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use kleene_api::{MessageType, PROGRESS_PROTOCOL, ProgressInfo};
use serde_json::json;
use support::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn images_report_progress_as_asked_for() {
    let daemon = Daemon::start().await;
    let config = json!({"method": "fetch", "url": "file:///good", "tag": "x:1"});
    let (code, message) = daemon.create_image(config).await;
    assert_eq!((code, message.message.as_str()), (1000, "image created"));
    let (_, shown) = daemon.get("/images/x:1/inspect").await;
    assert_eq!(shown["id"], message.data.as_str());

    let mut session = daemon
        .session("/images/create", Some(PROGRESS_PROTOCOL))
        .await;
    session
        .send_text(&json!({"method": "fetch", "url": "file:///endless"}).to_string())
        .await;
    session.starting().await;
    let progress: ProgressInfo = serde_json::from_str(&session.text().await).unwrap();
    assert_eq!(
        (progress.step.as_str(), progress.done, progress.total),
        ("unpacking", 50, Some(100))
    );
    drop(session);

    let mut session = daemon.session("/images/create", None).await;
    session
        .send_text(&json!({"method": "fetch", "url": "file:///endless"}).to_string())
        .await;
    session.starting().await;
    assert_eq!(session.text().await, "unpacking\n");
    // Going away cancels, and nothing is left of it.
    drop(session);
    daemon.app.sessions.idle().await;
    let (_, list) = daemon.get("/images/list").await;
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_cannot_be_made() {
    let daemon = Daemon::start().await;
    for (config, part) in [
        (
            json!({"method": "fetch", "url": "file:///broken"}),
            "file:///broken is truncated",
        ),
        (json!({"method": "fetch-auto"}), "use 'fetch' or 'host'"),
        (json!({"method": "fetch"}), "needs the field 'url'"),
        (json!({"method": "nonsense"}), "unknown method 'nonsense'"),
        (
            json!({"method": "zfs-clone", "zfs_dataset": "tank/none"}),
            "tank/none",
        ),
    ] {
        let mut session = daemon.session("/images/create", None).await;
        session.send_text(&config.to_string()).await;
        session.starting().await;
        let whole = session.text().await;
        assert!(
            whole.starts_with("error: ") && whole.contains(part),
            "{whole}"
        );
        let (code, message) = session.closed().await;
        assert_eq!((code, message.msg_type), (1011, MessageType::Error));
        assert!(
            message.message.starts_with("image creation failed: "),
            "{}",
            message.message
        );

        let mut session = daemon
            .session("/images/create", Some(PROGRESS_PROTOCOL))
            .await;
        session.send_text(&config.to_string()).await;
        session.starting().await;
        let progress: ProgressInfo = serde_json::from_str(&session.text().await).unwrap();
        assert!(progress.error.unwrap().contains(part));
        assert_eq!(session.closed().await.0, 1011);
    }
    assert_eq!(
        daemon.get("/images/list").await.1.as_array().unwrap().len(),
        1
    );
}

/// A build as the original client asks for it.
fn build(tag: &str, cleanup: bool) -> serde_json::Value {
    json!({
        "context": "/src", "dockerfile": "Dockerfile", "tag": tag, "quiet": "false",
        "cleanup": cleanup, "buildargs": {}, "networks": [],
        "container_config": {"name": null, "image": null, "network_driver": "host"},
    })
}

async fn daemon_with(dockerfile: &str) -> Daemon {
    let daemon = Daemon::start().await;
    daemon.fs.create_dir_all("/src".as_ref());
    daemon
        .fs
        .write("/src/Dockerfile".as_ref(), dockerfile.as_bytes());
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_speak_as_the_contract_says() {
    let daemon = daemon_with("FROM base\nENV A=b\nRUN [\"work\"]\n").await;
    let mut session = daemon.session("/images/build", None).await;
    session.send_text(&build("made:1", true).to_string()).await;
    let id = session.opened().await;
    let (told, code, message) = session.rest().await;
    let lines: Vec<&str> = told.lines().collect();
    let [from, env, run, "done", snapshot] = lines.as_slice() else {
        panic!("{told}");
    };
    assert_eq!(*from, "Step 1/3 : FROM base");
    assert_eq!(*env, "Step 2/3 : ENV A=b");
    assert_eq!(*run, "Step 3/3 : RUN [\"work\"]");
    let snapshot = snapshot.strip_prefix("--> Snapshot created: ").unwrap();
    assert_eq!((code, message.msg_type), (1000, MessageType::Closing));
    assert_eq!(message.data, id);
    let (_, image) = daemon.get("/images/made:1/inspect").await;
    assert_eq!(image["id"], id.as_str());
    assert_eq!(image["instructions"][2][1], snapshot);
    assert_eq!(image["env"][1], "A=b");
    assert!(daemon.host.running().is_empty() && daemon.host.known().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_fail_in_the_contracts_way() {
    let daemon = daemon_with("FROM base\nRUN [\"work\"]\nRUN [\"greet\"]\n").await;
    for (cleanup, left) in [(false, 2), (true, 2)] {
        let mut session = daemon.session("/images/build", None).await;
        session.send_text(&build("app", cleanup).to_string()).await;
        session.opened().await;
        let (told, code, message) = session.rest().await;
        assert!(
            told.ends_with("hello\nThe command 'greet' returned a non-zero code: 3\n"),
            "{told}"
        );
        assert_eq!((code, message.msg_type), (1011, MessageType::Error));
        assert_eq!(message.data.is_empty(), cleanup, "{message:?}");
        let (_, list) = daemon.get("/images/list").await;
        assert_eq!(list.as_array().unwrap().len(), left, "{list}");
        assert_eq!(list[0]["tag"], "failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dockerfiles_that_are_wrong() {
    for (text, part) in [
        (
            "FROM base\nrun x\n",
            "error in 'run x': invalid instruction",
        ),
        ("RUN x\n", "'RUN x' not permitted before a FROM instruction"),
    ] {
        let daemon = daemon_with(text).await;
        let mut session = daemon.session("/images/build", None).await;
        session.send_text(&build("app", true).to_string()).await;
        let opening = session.opened().await;
        let (told, code, message) = session.rest().await;
        assert!(told.contains(part), "{told}");
        assert_eq!(code, 1011);
        assert!(opening.is_empty() && message.data.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_before_a_failure_is_told() {
    let daemon = daemon_with("FROM base AS a\nRUN [\"work\"]\nFROM nothing\n").await;
    let mut session = daemon.session("/images/build", None).await;
    session.send_text(&build("app", true).to_string()).await;
    assert!(!session.opened().await.is_empty());
    let (told, code, _) = session.rest().await;
    assert!(told.starts_with("Step 1/1 : FROM nothing\n"), "{told}");
    assert!(
        told.contains("\nno such image 'nothing': pull or build it"),
        "{told}"
    );
    assert_eq!(code, 1011);
}

/// A client that goes away ends its build, and nothing is left of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_ends_with_its_client() {
    let daemon = daemon_with("FROM base\nRUN [\"sleep\"]\n").await;
    let mut session = daemon.session("/images/build", None).await;
    session.send_text(&build("app", true).to_string()).await;
    session.opened().await;
    while !session.text().await.contains("Step 2/2") {}
    while daemon.host.running().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(session);
    daemon.app.sessions.idle().await;
    assert!(daemon.host.running().is_empty() && daemon.host.known().is_empty());
    let (_, list) = daemon.get("/images/list?all=true").await;
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
}
