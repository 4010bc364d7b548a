//! What happens to containers that exist, over HTTP: stopping, pausing, signals, waiting, usage.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use kleene_doors::host::HostError;
use kleene_doors::observe::{
    CpuUsage, InterfaceUsage, IoUsage, MemoryUsage, PidsUsage, ProcessInfo, Stats,
};
use kleene_engine::{Engine, Later, Supervisor};
use kleene_host::fake::{Op, Stage};
use kleene_types::{ContainerId, ExecId, Timestamp};
use kleened::app::OPERATIONS;
use serde_json::{Value, json};
use support::{Daemon, PATIENCE, QUICK, message, send_over};
use tokio::task::JoinHandle;

/// A POST without a body.
async fn post(daemon: &Daemon, path: &str) -> (u16, Value) {
    daemon.raw("POST", path, Body::empty()).await
}

async fn status_of(daemon: &Daemon, container: &str) -> String {
    let (_, shown) = daemon
        .get(&format!("/containers/{container}/inspect"))
        .await;
    shown["container"]["status"].as_str().unwrap().to_owned()
}

/// A request in the background; it has reached the daemon's handler when this returns.
async fn waiting(daemon: &Daemon, path: &str) -> JoinHandle<(u16, Value)> {
    let waiters = daemon.app.waiting.count();
    let connection = daemon.connect().await;
    let request = Request::post(path).header("host", "localhost");
    let request = request.body(Body::empty()).unwrap();
    let task = tokio::spawn(async move { send_over(connection, request).await.unwrap() });
    while daemon.app.waiting.count() == waiters {
        tokio::task::yield_now().await;
        assert!(!task.is_finished(), "{:?}", task.await);
    }
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn pausing() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["sleep"]).await;
    let stopped = post(&daemon, "/containers/web/pause").await;
    assert_eq!(message(stopped, 404), "container not running");
    daemon.run_detached("web").await;
    let not_paused = post(&daemon, "/containers/web/unpause").await;
    assert!(message(not_paused, 409).contains("paused"));
    let done = (200, json!({"id": id}));
    assert_eq!(post(&daemon, "/containers/web/pause").await, done);
    assert_eq!(status_of(&daemon, "web").await, "paused");
    let twice = post(&daemon, "/containers/web/pause").await;
    assert!(message(twice, 409).contains("paused"));
    assert_eq!(post(&daemon, "/containers/web/unpause").await, done);
    assert_eq!(status_of(&daemon, "web").await, "running");
    for path in ["/containers/none/pause", "/containers/none/unpause"] {
        let none = post(&daemon, path).await;
        assert_eq!(message(none, 404), "container not found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["stubborn"]).await;
    let stopped = post(&daemon, "/containers/web/kill").await;
    assert_eq!(message(stopped, 404), "container not running");
    let init = daemon.run_detached("web").await;
    let done = (200, json!({"id": id}));
    for signal in ["HUP", "sighup", "1"] {
        let path = format!("/containers/web/kill?signal={signal}");
        assert_eq!(post(&daemon, &path).await, done);
    }
    daemon.wait(&init, |seen| seen.signals == [1, 1, 1]);
    for signal in ["NONSENSE", "0", "-1", "1000", ""] {
        let path = format!("/containers/web/kill?signal={signal}");
        let unknown = message(post(&daemon, &path).await, 400);
        assert!(unknown.contains(&format!("'{signal}'")), "{unknown}");
    }
    let misspelt = post(&daemon, "/containers/web/kill?signl=HUP").await;
    assert!(message(misspelt, 400).contains("did you mean 'signal'"));
    assert_eq!(post(&daemon, "/containers/web/kill").await, done);
    let (_, exit) = post(&daemon, "/containers/web/wait").await;
    assert_eq!(exit["exit_code"], 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_and_starting_again() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["stubborn"]).await;
    let done = (200, json!({"id": id}));
    assert_eq!(post(&daemon, "/containers/web/restart").await, done);
    assert_eq!(status_of(&daemon, "web").await, "running");
    let (_, before) = daemon.get("/containers/list").await;
    assert_eq!(
        post(&daemon, "/containers/web/restart?time=10ms").await,
        done
    );
    let (_, after) = daemon.get("/containers/list").await;
    assert_ne!(before[0]["jid"], after[0]["jid"]);
    for path in [
        "/containers/web/stop?time=soon",
        "/containers/web/restart?time=",
    ] {
        let wrong = message(post(&daemon, path).await, 400);
        assert!(wrong.contains("'time'"), "{wrong}");
    }
    assert_eq!(status_of(&daemon, "web").await, "running");
    assert_eq!(post(&daemon, "/containers/web/stop?time=0").await, done);
    let again = post(&daemon, "/containers/web/stop?time=0").await;
    assert_eq!(message(again, 404), "container not running");
    let none = post(&daemon, "/containers/none/restart").await;
    assert_eq!(message(none, 404), "container not found");
    daemon.container("broken", &["missing"]).await;
    let broken = post(&daemon, "/containers/broken/restart").await;
    assert!(message(broken, 409).contains("'missing'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_what_is_so_already() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["greet"]).await;
    let exit = |code: i32| json!({"id": id, "exit_code": code, "out_of_memory": false});
    let created = post(&daemon, "/containers/web/wait").await;
    assert_eq!(created, (200, exit(0)), "it was never started");
    daemon.run_detached("web").await;
    let ended = post(&daemon, "/containers/web/wait?condition=not-running").await;
    assert_eq!(ended, (200, exit(3)));
    let none = post(&daemon, "/containers/none/wait").await;
    assert_eq!(message(none, 404), "container not found");
    let unknown = post(&daemon, "/containers/web/wait?condition=gone").await;
    let wanted = "the query parameter 'condition' is 'gone': use one of not-running, next-exit, \
                  removed";
    assert_eq!(message(unknown, 400), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_the_end() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["sleep"]).await;
    daemon.container("other", &["sleep"]).await;
    let next = waiting(&daemon, "/containers/web/wait?condition=next-exit").await;
    let init = daemon.run_detached("web").await;
    let end = waiting(&daemon, &format!("/containers/{}/wait", &id[..5])).await;
    let removed = waiting(&daemon, "/containers/web/wait?condition=removed").await;
    // What happens to others is of no interest.
    let other = daemon.run_detached("other").await;
    daemon.host.finish(&other, 9);
    daemon.host.finish_out_of_memory(&init);
    let wanted = json!({"id": id, "exit_code": 137, "out_of_memory": true});
    assert_eq!(next.await.unwrap(), (200, wanted.clone()));
    assert_eq!(end.await.unwrap(), (200, wanted.clone()));
    assert!(!removed.is_finished());
    assert_eq!(daemon.delete("/containers/web").await.0, 200);
    assert_eq!(removed.await.unwrap(), (200, wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_container_that_removes_itself() {
    let daemon = Daemon::start().await;
    let config = json!({
        "name": "web", "image": "base", "cmd": ["sleep"], "network_driver": "host",
        "auto_remove": true,
    });
    let id = support::id_of(daemon.post("/containers/create", config).await, 201);
    let init = daemon.run_detached("web").await;
    let mut waiters = Vec::new();
    for condition in ["not-running", "next-exit", "removed"] {
        let path = format!("/containers/web/wait?condition={condition}");
        waiters.push(waiting(&daemon, &path).await);
    }
    daemon.host.finish(&init, 5);
    let wanted = json!({"id": id, "exit_code": 5, "out_of_memory": false});
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), (200, wanted.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_removed_has_no_next_exit() {
    let daemon = Daemon::start().await;
    daemon.container("web", &["sleep"]).await;
    let next = waiting(&daemon, "/containers/web/wait?condition=next-exit").await;
    assert_eq!(daemon.delete("/containers/web").await.0, 200);
    assert_eq!(message(next.await.unwrap(), 404), "container not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_will_be_started_again_goes_on() {
    let daemon = Daemon::start().await;
    let config = json!({
        "name": "web", "image": "base", "cmd": ["sleep"], "network_driver": "host",
        "restart_policy": "on-failure:1",
    });
    support::id_of(daemon.post("/containers/create", config).await, 201);
    let init = daemon.run_detached("web").await;
    let end = waiting(&daemon, "/containers/web/wait").await;
    let next = waiting(&daemon, "/containers/web/wait?condition=next-exit").await;
    daemon.host.finish(&init, 1);
    assert_eq!(next.await.unwrap().1["exit_code"], 1);
    // Started again by its policy, it ends a second time, and for good.
    let again = loop {
        if let Some(exec) = daemon.host.running().pop().filter(|exec| *exec != init) {
            break exec;
        }
        tokio::task::yield_now().await;
    };
    assert!(!end.is_finished());
    daemon.host.finish(&again, 2);
    assert_eq!(end.await.unwrap().1["exit_code"], 2);
    let (_, shown) = daemon.get("/containers/web/inspect").await;
    assert_eq!(shown["container"]["restart_count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_may_wait_and_hold_nothing() {
    const WAITERS: usize = 500;
    let daemon = Daemon::start().await;
    daemon.container("web", &["sleep"]).await;
    let init = daemon.run_detached("web").await;
    let mut waiters = Vec::new();
    for number in 0..WAITERS {
        let condition = ["not-running", "next-exit"][number % 2];
        let path = format!("/containers/web/wait?condition={condition}");
        waiters.push(waiting(&daemon, &path).await);
    }
    // Those whose clients go away are forgotten.
    for waiter in waiters.drain(..WAITERS / 2) {
        waiter.abort();
    }
    while daemon.app.waiting.count() > WAITERS / 2 {
        tokio::task::yield_now().await;
    }
    // The others keep nobody from being served.
    assert_eq!(daemon.get("/containers/list").await.0, 200);
    daemon.host.finish(&init, 4);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().1["exit_code"], 4);
    }
    assert_eq!(daemon.app.waiting.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_when_all_operations_are_stuck() {
    let daemon = Daemon::start().await;
    daemon.container("web", &["sleep"]).await;
    let init = daemon.run_detached("web").await;
    let released = Arc::new((Mutex::new(false), Condvar::new()));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    // More than there is room for: the rest queues.
    let stuck: Vec<_> = (0..OPERATIONS + 100)
        .map(|_| {
            let (app, released, tell) = (daemon.app.clone(), released.clone(), tell.clone());
            tokio::spawn(async move {
                let wait = move |_: &Engine| {
                    tell.send(()).unwrap();
                    let (lock, changed) = &*released;
                    let released = lock.lock().unwrap();
                    drop(changed.wait_while(released, |released| !*released));
                    Ok(())
                };
                app.run(wait).await
            })
        })
        .collect();
    for _ in 0..OPERATIONS {
        told.recv().await.unwrap();
    }
    assert_eq!(daemon.get("/containers/web/inspect").await.0, 200);
    assert_eq!(daemon.get("/containers/list").await.0, 200);
    let waiter = waiting(&daemon, "/containers/web/wait").await;
    daemon.host.finish(&init, 6);
    assert_eq!(waiter.await.unwrap().1["exit_code"], 6);
    *released.0.lock().unwrap() = true;
    released.1.notify_all();
    for task in stuck {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_daemon() {
    let daemon = Daemon::start().await;
    daemon.container("web", &["sleep"]).await;
    let init = daemon.run_detached("web").await;
    let waiter = waiting(&daemon, "/containers/web/wait").await;
    daemon.stop.send_replace(true);
    let stopping = message(waiter.await.unwrap(), 503);
    assert!(stopping.contains("kleened is stopping"), "{stopping}");
    daemon.server.await.unwrap().unwrap();
    assert_eq!(daemon.host.seen(&init).unwrap().stage, Stage::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["sleep"]).await;
    let other = daemon.container("other", &["sleep"]).await;
    assert_eq!(daemon.get("/containers/stats").await, (200, json!([])));
    let stopped = daemon.get("/containers/stats?containers=web").await;
    assert_eq!(message(stopped, 404), "container not running");
    daemon.run_detached("web").await;
    daemon.run_detached("other").await;
    let container: ContainerId = id.parse().unwrap();
    let stats = Stats {
        cpu: Some(CpuUsage {
            total_us: 1,
            user_us: 2,
            system_us: 3,
            throttled_us: 4,
            online: 5,
        }),
        memory: Some(MemoryUsage {
            used: 6,
            reclaimable: 7,
            peak: 8,
            limit: 9,
            oom_kills: 10,
        }),
        pids: Some(PidsUsage {
            current: 11,
            limit: None,
        }),
        io: Some(IoUsage {
            read_bytes: 12,
            write_bytes: 13,
            reads: 14,
            writes: 15,
        }),
        network: vec![InterfaceUsage {
            name: "eth0".into(),
            rx_bytes: 16,
            rx_packets: 17,
            tx_bytes: 18,
            tx_packets: 19,
        }],
    };
    daemon.host.set_stats(&container, stats);
    let (_, mut list) = daemon.get("/containers/stats?containers=web").await;
    let read = list[0].as_object_mut().unwrap().remove("read").unwrap();
    assert!(read.as_str().unwrap().ends_with('Z'));
    let wanted = json!([{
        "id": id, "name": "web",
        "cpu": {"total_us": 1, "user_us": 2, "system_us": 3, "throttled_us": 4, "online": 5},
        "memory": {"used": 6, "reclaimable": 7, "peak": 8, "limit": 9, "oom_kills": 10},
        "pids": {"current": 11, "limit": null},
        "io": {"read_bytes": 12, "write_bytes": 13, "reads": 14, "writes": 15},
        "network": [{
            "name": "eth0", "rx_bytes": 16, "rx_packets": 17, "tx_bytes": 18, "tx_packets": 19,
        }],
    }]);
    assert_eq!(list, wanted);
    let ids = |(_, list): (u16, Value)| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|stats| stats["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = ids(daemon.get("/containers/stats").await);
    assert_eq!(all, [other.clone(), id.clone()]);
    for query in ["containers=web,other", "containers=web&containers=other"] {
        let both = ids(daemon.get(&format!("/containers/stats?{query}")).await);
        assert_eq!(both, [id.clone(), other.clone()]);
    }
    let none = daemon.get("/containers/stats?containers=none").await;
    assert_eq!(message(none, 404), "container not found");
    let empty = daemon.get("/containers/stats?containers=web,").await;
    assert!(message(empty, 400).contains("empty"));
    // It isn't in the way of a container of that name.
    let stats = daemon.container("stats", &[]).await;
    let removed = daemon.delete("/containers/stats").await;
    assert_eq!(removed, (200, json!({"id": stats})));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["sleep"]).await;
    let stopped = daemon.get("/containers/web/top").await;
    assert_eq!(message(stopped, 404), "container not running");
    daemon.run_detached("web").await;
    let started: Timestamp = "2024-02-29T14:54:05.317207Z".parse().unwrap();
    let process = ProcessInfo {
        pid: 4711,
        inside_pid: Some(1),
        parent: 1,
        user: "www".into(),
        state: 'S',
        cpu_us: 20,
        resident: 4096,
        started,
        terminal: None,
        command: "sleep 10".into(),
    };
    let container: ContainerId = id.parse().unwrap();
    daemon.host.set_processes(&container, vec![process]);
    let wanted = json!([{
        "pid": 4711, "inside_pid": 1, "parent": 1, "user": "www", "state": "S", "cpu_us": 20,
        "resident": 4096, "started": "2024-02-29T14:54:05.317207Z", "terminal": null,
        "command": "sleep 10",
    }]);
    assert_eq!(daemon.get("/containers/web/top").await, (200, wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_lists_execution_instances() {
    let daemon = Daemon::start().await;
    daemon.container("web", &["sleep"]).await;
    let init = daemon.run_detached("web").await;
    let joined = daemon.exec("web").await;
    let (_, shown) = daemon.get("/containers/web/inspect").await;
    let execs = shown["container_execs"].as_array().unwrap();
    let ids: Vec<&str> = execs.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [joined.as_str(), init.as_str()], "the newest first");
    assert_eq!(execs[0]["running"], false);
    assert_eq!(execs[1]["running"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_their_warnings() {
    let daemon = Daemon::start().await;
    let create = async |field: &str, value: Value| {
        let mut config = json!({"image": "base", "network_driver": "host"});
        config[field] = value;
        daemon.post("/containers/create", config).await
    };
    // What is wrong with a new container is 404, as the contract has it.
    for (field, value) in [
        ("memory", json!("10Q")),
        ("cpus", json!("-1.5")),
        ("restart_policy", json!("sometimes")),
        ("stop_signal", json!("NONSENSE")),
        ("stop_timeout", json!("soon")),
        ("init", json!("systemd")),
        ("ulimits", json!(["nofile"])),
        ("working_dir", json!("relative")),
    ] {
        let refused = message(create(field, value.clone()).await, 404);
        let value = value[0].as_str().or(value.as_str()).unwrap();
        assert!(refused.contains(value), "{field}: {refused}");
    }
    daemon.host.warn_of_limits(&["swap isn't counted here"]);
    let (status, made) = create("memory", json!("64m")).await;
    assert_eq!(status, 201);
    assert_eq!(made["warnings"], json!(["swap isn't counted here"]));
    daemon.host.warn_of_limits(&[]);
    let path = format!("/containers/{}/update", made["id"].as_str().unwrap());
    for (field, value) in [("memory", "10Q"), ("stop_signal", "NONSENSE")] {
        let refused = message(daemon.post(&path, json!({field: value})).await, 400);
        assert!(refused.contains(value), "{refused}");
    }
    let too_much = HostError::Unsupported("memory: more than this machine has".into());
    daemon.host.fail_next_with(Op::CheckLimits, too_much);
    let refused = daemon.post(&path, json!({"memory": "1t"})).await;
    assert!(message(refused, 409).contains("more than this machine has"));
    daemon.run_detached(made["id"].as_str().unwrap()).await;
    let (status, done) = daemon.post(&path, json!({"cmd": ["echo"]})).await;
    assert_eq!(status, 201);
    let warning = done["warnings"][0].as_str().unwrap();
    assert!(warning.contains("next start"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_is_told() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["sleep"]).await;
    let exec = daemon.exec(&container).await;
    let mut session = daemon.start_exec(&exec, true, None).await;
    session.starting().await;
    daemon.host.finish_out_of_memory(&exec.parse().unwrap());
    let (_, message) = session.closed().await;
    let wanted = format!("executable {exec} and its container exited with exit-code 137 (OOM)");
    assert_eq!(message.message, wanted);
    let (_, shown) = daemon.get("/containers/web/inspect").await;
    assert_eq!(shown["container"]["out_of_memory"], true);
    assert_eq!(shown["container"]["exit_code"], 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_containers_refuse_what_they_cannot_do() {
    let daemon = Daemon::start().await;
    daemon.container("web", &["sleep"]).await;
    daemon.run_detached("web").await;
    assert_eq!(post(&daemon, "/containers/web/pause").await.0, 200);
    let removed = message(daemon.delete("/containers/web").await, 409);
    assert!(
        removed.contains("paused") || removed.contains("running"),
        "{removed}"
    );
    let exec = daemon.exec("web").await;
    let mut session = daemon.start_exec(&exec, false, None).await;
    let text = session.text().await;
    assert!(
        text.starts_with("error: ") && text.contains("unpause"),
        "{text}"
    );
    assert_eq!(session.closed().await.0, 1011);
    let limit = Duration::from_secs(20);
    let stopped = tokio::time::timeout(limit, post(&daemon, "/containers/web/stop")).await;
    assert_eq!(stopped.unwrap().0, 200, "a paused container can be stopped");
}

/// A daemon with a running container that has printed more than sockets hold.
async fn chatty() -> (Daemon, ExecId) {
    let daemon = Daemon::start_with(QUICK, |host| Arc::new(host)).await;
    daemon.container("web", &["sleep"]).await;
    let init = daemon.run_detached("web").await;
    for _ in 0..64 {
        daemon.host.print(&init, &[b'x'; 64 << 10]);
    }
    (daemon, init)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_end_closes_hundreds_of_streams() {
    const EACH: usize = 75;
    let (daemon, init) = chatty().await;
    let mut sessions = Vec::new();
    let mut answers = Vec::new();
    let mut waiters = Vec::new();
    for _ in 0..EACH {
        let mut session = daemon.session("/exec/attach", None).await;
        session.send_text(r#"{"container_id": "web"}"#).await;
        session.starting().await;
        sessions.push(session);
        // These read nothing of their answers.
        for path in ["/containers/web/logs?follow=true", "/events"] {
            answers.push(daemon.open("GET", path, Body::empty()).await);
        }
        waiters.push(waiting(&daemon, "/containers/web/wait").await);
    }
    assert_eq!(daemon.get("/containers/web/top").await.0, 200);
    daemon.stop.send_replace(true);
    for mut session in sessions {
        assert_eq!(session.closed().await.0, 1011);
    }
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().0, 503);
    }
    let ended = tokio::time::timeout(PATIENCE, daemon.server).await;
    ended
        .expect("clients that read nothing are cut off")
        .unwrap()
        .unwrap();
    drop(answers);
    assert_eq!(daemon.host.seen(&init).unwrap().stage, Stage::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attached_client_that_reads_nothing_does_not_outlive_the_daemon() {
    let (daemon, init) = chatty().await;
    let mut session = daemon.session("/exec/attach", None).await;
    session.send_text(r#"{"container_id": "web"}"#).await;
    session.starting().await;
    for _ in 0..64 {
        daemon.host.print(&init, &[b'x'; 64 << 10]);
    }
    daemon.stop.send_replace(true);
    let idle = tokio::time::timeout(PATIENCE, daemon.app.sessions.idle()).await;
    idle.expect("its session is over");
    drop(session);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_when_the_daemon_ends() {
    let daemon = Daemon::start().await;
    let create = async |name: &str| {
        let config = json!({
            "name": name, "image": "base", "network_driver": "host", "auto_remove": true,
        });
        support::id_of(daemon.post("/containers/create", config).await, 201)
    };
    let remove = |id: &str| {
        let container = id.parse().unwrap();
        let call = Later::RemoveUnstarted { container };
        daemon.watcher.call_later(Duration::ZERO, call);
    };
    let first = create("first").await;
    let gone = waiting(&daemon, "/containers/first/wait?condition=removed").await;
    remove(&first);
    assert_eq!(gone.await.unwrap().0, 200);
    let second = create("second").await;
    let tasks = tokio::runtime::Handle::current().metrics();
    daemon.stop.send_replace(true);
    daemon.server.await.unwrap().unwrap();
    let before = tasks.num_alive_tasks();
    remove(&second);
    while tasks.num_alive_tasks() > before {
        tokio::task::yield_now().await;
    }
    assert!(daemon.engine.container_inspect("second").is_ok());
}
