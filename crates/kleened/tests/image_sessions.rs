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

#[tokio::test(flavor = "multi_thread")]
async fn builds_fail_in_the_contracts_way() {
    let daemon = Daemon::start().await;
    let mut session = daemon.session("/images/build", None).await;
    // As the original client sends it.
    let config = json!({
        "context": "/src", "dockerfile": "Dockerfile", "tag": "", "quiet": "false",
        "cleanup": false, "buildargs": {}, "networks": [],
        "container_config": {"name": null, "image": null, "network_driver": "host"},
    });
    session.send_text(&config.to_string()).await;
    session.starting().await;
    assert!(
        session
            .text()
            .await
            .starts_with("image builds are not available yet")
    );
    let (code, message) = session.closed().await;
    assert_eq!((code, message.msg_type), (1011, MessageType::Error));
    assert_eq!(message.data, "");
}
