//! `/events`: what is told, to whom, and when it ends.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use axum::body::Body;
use kleene_api::Event;
use kleene_types::Timestamp;
use serde_json::json;
use support::bodies::Answer;
use support::{Daemon, PATIENCE, message};

const PAST: &str = "/events?follow=false";

fn parse(lines: &str) -> Vec<Event> {
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Kind, action and name of each.
fn brief(events: &[Event]) -> Vec<String> {
    let brief = |event: &Event| format!("{} {} {}", event.kind, event.action, event.name);
    events.iter().map(brief).collect()
}

async fn past(daemon: &Daemon, query: &str) -> Vec<String> {
    let lines = daemon.download_text(&format!("{PAST}{query}")).await;
    brief(&parse(&lines))
}

async fn follow(daemon: &Daemon, query: &str) -> Answer {
    let answer = daemon
        .open("GET", &format!("/events{query}"), Body::empty())
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type, "application/x-ndjson");
    answer
}

async fn volume(daemon: &Daemon, name: &str) {
    let created = daemon.post("/volumes/create", json!({"name": name})).await;
    assert_eq!(created.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_volumes_are_told_of() {
    let daemon = Daemon::start().await;
    volume(&daemon, "data").await;
    volume(&daemon, "data").await;
    let image = json!({"method": "host", "tag": "base"});
    assert_eq!(daemon.create_image(image).await.0, 1000);
    let tagged = daemon
        .post("/images/base/tag?nametag=new:1", json!({}))
        .await;
    assert_eq!(tagged.0, 200);
    let mount = json!({"type": "volume", "source": "files", "destination": "/bin"});
    let config = json!({
        "name": "web", "image": "new:1", "network_driver": "host", "mounts": [mount],
    });
    assert_eq!(daemon.post("/containers/create", config).await.0, 201);
    assert_eq!(daemon.delete("/containers/web").await.0, 200);
    assert_eq!(daemon.delete("/volumes/data").await.0, 200);
    assert_eq!(daemon.delete("/images/new:1").await.0, 200);
    let wanted = [
        "image create base:latest",
        "volume create data",
        "image untag base:latest",
        "image create base:latest",
        "image tag new:1",
        "volume create files",
        "volume populate files",
        "volume remove data",
        "image remove new:1",
    ];
    assert_eq!(past(&daemon, "&kind=image&kind=volume").await, wanted);
    let all = parse(&daemon.download_text(PAST).await);
    for (event, number) in all.iter().zip(1..) {
        assert_eq!(event.sequence, number);
        assert!(event.time.parse::<Timestamp>().unwrap() <= Timestamp::now());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_are_selected() {
    let daemon = Daemon::start().await;
    for name in ["x", "xy"] {
        volume(&daemon, name).await;
    }
    assert_eq!(daemon.delete("/volumes/x").await.0, 200);
    let all = parse(&daemon.download_text(PAST).await);
    let image = all.iter().find(|event| event.kind == "image").unwrap();
    let removed = &all.last().unwrap().time;
    for (query, wanted) in [
        ("&name=x&action=create", vec!["volume create x"]),
        (
            "&name=x&name=xy&action=create",
            vec!["volume create x", "volume create xy"],
        ),
        ("&id=x", vec!["volume create x", "volume remove x"]),
        (
            &format!("&id={}", &image.id[..5]),
            vec!["image create base:latest"],
        ),
        ("&action=explode", vec![]),
        (&format!("&since={removed}"), vec!["volume remove x"]),
        (
            &format!("&kind=volume&until={removed}"),
            vec!["volume create x", "volume create xy"],
        ),
        (&format!("&since={removed}&until={removed}"), vec![]),
    ] {
        assert_eq!(past(&daemon, query).await, wanted, "{query}");
    }
    // What is over needn't be waited for.
    let over = follow(&daemon, &format!("?kind=volume&until={removed}"))
        .await
        .rest()
        .await;
    let over = String::from_utf8(over.unwrap()).unwrap();
    assert_eq!(
        brief(&parse(&over)),
        ["volume create x", "volume create xy"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn news_comes_at_once() {
    let daemon = Daemon::start().await;
    let mut news = follow(&daemon, "").await;
    let mut volumes = follow(&daemon, "?kind=volume&since=0").await;
    for name in ["a", "b", "c"] {
        let wanted = [format!("volume create {name}")];
        volume(&daemon, name).await;
        for answer in [&mut news, &mut volumes] {
            assert_eq!(brief(&parse(&answer.until("\n").await)), wanted);
        }
    }
    drop(news);
    daemon.stop.send_replace(true);
    assert_eq!(
        volumes.rest().await.unwrap(),
        b"",
        "the daemon's end is a clean one"
    );
    daemon.server.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_at_its_time() {
    let daemon = Daemon::start().await;
    let soon = Timestamp::now().microseconds() + 300_000;
    let until = Timestamp::from_microseconds(soon).unwrap();
    let mut answer = follow(&daemon, &format!("?until={until}")).await;
    volume(&daemon, "a").await;
    let lines = String::from_utf8(answer.rest().await.unwrap()).unwrap();
    assert_eq!(brief(&parse(&lines)), ["volume create a"]);
    assert!(Timestamp::now() >= until);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_are_forgotten() {
    let daemon = Daemon::start().await;
    let mut answers = Vec::new();
    for _ in 0..300 {
        answers.push(follow(&daemon, "").await);
    }
    volume(&daemon, "a").await;
    for answer in &mut answers {
        answer.until("\n").await;
    }
    drop(answers);
    tokio::time::timeout(PATIENCE, daemon.app.sessions.idle())
        .await
        .expect("their streams end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let daemon = Daemon::start().await;
    for (query, wanted) in [
        (
            "kind=volum",
            "nothing happens to a 'volum': did you mean 'volume'?",
        ),
        (
            "kind=%20",
            "nothing happens to a ' ': there is container, exec, image, volume, daemon",
        ),
        (
            "knd=volume",
            "unknown query parameter 'knd': did you mean 'kind'?",
        ),
        (
            "follow=1&follow=1",
            "the query parameter 'follow' is given twice",
        ),
        (
            "since=1&since=1",
            "the query parameter 'since' is given twice",
        ),
        (
            "follow=maybe",
            "the query parameter 'follow' is 'maybe': give true or false",
        ),
    ] {
        let refused = daemon.get(&format!("/events?{query}")).await;
        assert_eq!(message(refused, 400), wanted);
    }
    let refused = daemon.get("/events?until=tomorrow").await;
    assert!(message(refused, 400).contains("'until' is 'tomorrow'"));
}
