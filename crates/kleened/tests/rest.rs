//! Every REST endpoint: what it answers when all is well, and when it isn't.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use axum::body::Body;
use hyper::Request;
use kleene_doors::storage::StorageError;
use kleene_host::fake::Op;
use kleene_storage::memory::Operation;
use serde_json::{Value, json};
use support::{Daemon, id_of, message};

#[tokio::test(flavor = "multi_thread")]
async fn volumes() {
    let daemon = Daemon::start().await;
    assert_eq!(daemon.get("/volumes/list").await, (200, json!([])));
    for name in ["old", "new", "new"] {
        let created = daemon.post("/volumes/create", json!({"name": name})).await;
        assert_eq!(created, (201, json!({"id": name})));
    }
    let (status, list) = daemon.get("/volumes/list").await;
    assert_eq!(status, 200);
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["new", "old"], "the newest comes first");
    let mount = json!({"type": "volume", "source": "new", "destination": "/d", "read_only": true});
    let nosuid = json!({"type": "nullfs", "source": "/", "destination": "/n", "nosuid": true});
    let config = json!({"image": "base", "network_driver": "host", "mounts": [mount, nosuid]});
    let container = id_of(daemon.post("/containers/create", config).await, 201);
    let (status, shown) = daemon.get("/volumes/new/inspect").await;
    assert_eq!(status, 200);
    let wanted = json!([{
        "container_id": container, "destination": "/d", "read_only": true, "source": "new",
        "type": "volume",
    }]);
    assert_eq!(shown["mountpoints"], wanted);
    let keys: Vec<&String> = shown["volume"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["created", "dataset", "mountpoint", "name"]);
    let (_, shown) = daemon
        .get(&format!("/containers/{container}/inspect"))
        .await;
    let wanted = json!({
        "container_id": container, "destination": "/n", "nosuid": true, "read_only": false,
        "source": "/", "type": "nullfs",
    });
    assert_eq!(shown["container_mountpoints"][1], wanted);
    let used = message(daemon.delete("/volumes/new").await, 409);
    assert!(used.contains(&container), "{used}");
    assert_eq!(
        daemon.post("/volumes/prune", json!({})).await,
        (200, json!(["old"]))
    );
    assert_eq!(
        daemon.delete(&format!("/containers/{container}")).await.0,
        200
    );
    assert_eq!(
        daemon.delete("/volumes/new").await,
        (200, json!({"id": "new"}))
    );
    assert_eq!(
        message(daemon.delete("/volumes/new").await, 404),
        "No such volume"
    );
    assert_eq!(
        message(daemon.get("/volumes/new/inspect").await, 404),
        "No such volume"
    );
    for name in ["", "a b", "../x", "-r", "x@y", &"x".repeat(300)] {
        let refused = daemon.post("/volumes/create", json!({"name": name})).await;
        assert!(message(refused, 400).contains("volume name"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &[]).await;
    assert_eq!(daemon.get("/containers/list").await, (200, json!([])));
    let (_, list) = daemon.get("/containers/list?all=true").await;
    assert_eq!(list[0]["id"], id.as_str());
    assert_eq!(list[0]["image_name"], "base");
    assert_eq!(list[0]["cmd"], json!(["sleep"]));
    assert_eq!(list[0]["jid"], Value::Null);
    for name in [&id, &id[..4], "web", "%77eb"] {
        let (status, shown) = daemon.get(&format!("/containers/{name}/inspect")).await;
        assert_eq!(status, 200, "{name}");
        assert_eq!(shown["container"]["id"], id.as_str());
        assert_eq!(shown["container_endpoints"], json!([]));
    }
    daemon.run_detached("web").await;
    let (_, list) = daemon.get("/containers/list").await;
    assert!(
        list[0]["running"].as_bool().unwrap() && list[0]["jid"].is_u64(),
        "{list}"
    );
    let refused = daemon.delete("/containers/web").await;
    assert_eq!(
        message(refused, 409),
        "you cannot remove a running container"
    );
    assert_eq!(
        daemon.post("/containers/web/stop", json!({})).await,
        (200, json!({"id": id}))
    );
    let stopped = daemon.post("/containers/web/stop", json!({})).await;
    assert_eq!(message(stopped, 404), "container not running");
    let kept = json!({"name": "kept", "image": "base", "network_driver": "host", "persist": true});
    assert_eq!(daemon.post("/containers/create", kept).await.0, 201);
    assert_eq!(
        daemon.post("/containers/prune", json!({})).await,
        (200, json!([id]))
    );
    assert_eq!(daemon.delete("/containers/kept").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_are_not_there() {
    let daemon = Daemon::start().await;
    let stop = daemon.post("/containers/none/stop", json!({})).await;
    assert_eq!(message(stop, 404), "container not found");
    let inspect = daemon.get("/containers/none/inspect").await;
    assert_eq!(message(inspect, 404), "container not found");
    let update = daemon
        .post("/containers/none/update", json!({"user": "x"}))
        .await;
    assert_eq!(message(update, 404), "container not found");
    let remove = daemon.delete("/containers/none").await;
    assert_eq!(message(remove, 404), "no such container");
    let exec = daemon
        .post("/exec/create", json!({"container_id": "none"}))
        .await;
    assert_eq!(message(exec, 404), "container not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_cannot_be_made() {
    let daemon = Daemon::start().await;
    daemon.container("taken", &[]).await;
    let create = async |field: &str, value: Value| {
        let mut config = json!({"image": "base", "network_driver": "host"});
        config[field] = value;
        daemon.post("/containers/create", config).await
    };
    let mount = |source: &str, destination: &str| {
        let kind = if source.starts_with('/') {
            "nullfs"
        } else {
            "volume"
        };
        json!([{"type": kind, "source": source, "destination": destination}])
    };
    let image = message(create("image", "none".into()).await, 404);
    assert_eq!(image, "no such image 'none'");
    let port = json!([{"host_port": "80", "container_port": "80"}]);
    for (field, value) in [
        ("image", json!("a b")),
        ("name", json!("x/y")),
        ("name", json!("")),
        ("mounts", mount("", "/x")),
        ("mounts", mount("v", "x")),
        ("mounts", mount("v", "/")),
        ("mounts", mount("/no/such/directory", "/x")),
        ("env", json!(["X"])),
        ("network_driver", json!("ipnet")),
        ("network_driver", json!("nonsense")),
        ("public_ports", port),
        ("cmd", json!([""])),
        ("jail_param", json!(["unsupported"])),
    ] {
        let (status, body) = create(field, value.clone()).await;
        assert_eq!(status, 404, "{field} {value}: {body}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
    let taken = message(create("name", "taken".into()).await, 409);
    assert!(taken.contains("'taken' is taken"), "{taken}");
    let (_, list) = daemon.get("/containers/list?all=true").await;
    assert_eq!(
        list.as_array().unwrap().len(),
        1,
        "nothing was made: {list}"
    );
    assert_eq!(daemon.get("/volumes/list").await.1, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn updates() {
    let daemon = Daemon::start().await;
    let id = daemon.container("web", &["sleep"]).await;
    daemon.container("other", &[]).await;
    // As the original client sends it: with the reference, and lists that nobody asked for.
    let config = json!({
        "container": "web", "name": "web2", "user": null, "env": ["A=1"], "jail_param": [],
        "persist": true, "restart_policy": "on-startup", "cmd": null, "mounts": [],
        "public_ports": [],
    });
    let updated = daemon.post("/containers/web/update", config).await;
    assert_eq!(updated, (201, json!({"id": id})));
    let (_, shown) = daemon.get("/containers/web2/inspect").await;
    let container = &shown["container"];
    assert_eq!(container["env"], json!(["A=1"]));
    assert_eq!(container["cmd"], json!(["sleep"]));
    assert_eq!(container["restart_policy"], "on-startup");
    assert_eq!(container["persist"], true);
    let update = async |config| daemon.post("/containers/web2/update", config).await;
    assert!(message(update(json!({"name": "other"})).await, 409).contains("taken"));
    assert!(message(update(json!({"name": "x y"})).await, 400).contains("container name"));
    assert!(message(update(json!({"network_driver": "disabled"})).await, 409).contains("driver"));
    assert!(message(update(json!({"usr": "x"})).await, 400).contains("unknown field `usr`"));
    assert!(message(update(json!({"env": "x"})).await, 400).contains("'env'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn execution_instances() {
    let daemon = Daemon::start().await;
    let container = daemon.container("web", &["stubborn"]).await;
    let config = json!({"container_id": "web", "cmd": ["sleep"], "user": "www", "tty": "true"});
    let exec = id_of(daemon.post("/exec/create", config).await, 201);
    let (_, shown) = daemon.get(&format!("/exec/{exec}/inspect")).await;
    let wanted = json!({
        "id": exec, "container_id": container, "cmd": ["sleep"], "user": "www", "tty": true,
        "running": false, "pid": null, "exit_code": null, "started": null, "finished": null,
        "out_of_memory": false,
    });
    assert_eq!(shown, wanted);
    let init = daemon.run_detached("web").await;
    let (_, shown) = daemon.get(&format!("/exec/{init}/inspect")).await;
    assert!(
        shown["running"].as_bool().unwrap() && shown["pid"].is_u64(),
        "{shown}"
    );
    let stop = format!("/exec/{init}/stop");
    let missing = daemon
        .post(&format!("{stop}?force_stop=true"), json!({}))
        .await;
    assert_eq!(
        message(missing, 400),
        "the query parameter 'stop_container' is missing"
    );
    let gentle = format!("{stop}?force_stop=false&stop_container=false");
    assert_eq!(
        daemon.post(&gentle, json!({})).await,
        (200, json!({"id": init.as_str()}))
    );
    daemon.wait(&init, |seen| seen.signals == [15]);
    let hard = format!("{stop}?force_stop=true&stop_container=true");
    assert_eq!(daemon.post(&hard, json!({})).await.0, 200);
    assert!(message(daemon.post(&hard, json!({})).await, 404).contains("does not run"));
    let none = daemon.get("/exec/abc/inspect").await;
    assert_eq!(message(none, 404), "no such execution instance 'abc'");
    let bad = json!({"container_id": "web", "env": ["="]});
    assert!(message(daemon.post("/exec/create", bad).await, 400).contains("NAME=VALUE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn images() {
    let daemon = Daemon::start().await;
    let (_, list) = daemon.get("/images/list").await;
    let id = list[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (list[0]["name"].as_str(), list[0]["tag"].as_str()),
        (Some("base"), Some("latest"))
    );
    let tag = daemon
        .post("/images/base/tag?nametag=my/base:1", json!({}))
        .await;
    assert_eq!(tag, (200, json!({"id": id})));
    // Slashes come encoded or as they are.
    for name in ["my/base:1", "my%2Fbase%3A1", &id, &id[..5]] {
        let (status, shown) = daemon.get(&format!("/images/{name}/inspect")).await;
        assert_eq!((status, &shown["id"]), (200, &json!(id)), "{name}");
    }
    for (path, wanted) in [
        ("/images/base/inspect", "image not found"),
        ("/images/no/such:tag/inspect", "image not found"),
    ] {
        assert_eq!(message(daemon.get(path).await, 404), wanted);
    }
    let no_image = daemon.post("/images/none/tag?nametag=x", json!({})).await;
    assert_eq!(message(no_image, 404), "image not found");
    let bad = daemon
        .post("/images/my/base:1/tag?nametag=a%20b", json!({}))
        .await;
    assert!(message(bad, 400).contains("invalid image reference"));
    let missing = daemon.post("/images/my/base:1/tag", json!({})).await;
    assert_eq!(
        message(missing, 400),
        "the query parameter 'nametag' is missing"
    );
    let config = json!({"image": "my/base:1", "network_driver": "host"});
    let container = id_of(daemon.post("/containers/create", config).await, 201);
    let used = message(daemon.delete("/images/my/base:1").await, 404);
    let wanted =
        format!("could not remove image {id} since it is used for containers:\n{container}");
    assert_eq!(used, wanted);
    assert_eq!(
        daemon.delete(&format!("/containers/{container}")).await.0,
        200
    );
    assert_eq!(
        daemon.post("/images/prune", json!({})).await,
        (200, json!([]))
    );
    assert_eq!(
        daemon.post("/images/prune?all=true", json!({})).await,
        (200, json!([id]))
    );
    assert_eq!(
        message(daemon.delete("/images/base").await, 404),
        "no such image 'base'"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_not_there_yet() {
    let daemon = Daemon::start().await;
    assert_eq!(daemon.get("/networks/list").await, (200, json!([])));
    assert_eq!(
        daemon.post("/networks/prune", json!({})).await,
        (200, json!([]))
    );
    assert_eq!(
        message(daemon.get("/networks/n/inspect").await, 404),
        "network not found"
    );
    assert_eq!(
        message(daemon.delete("/networks/n").await, 404),
        "network not found."
    );
    let disconnect = daemon.post("/networks/n/disconnect/c", json!({})).await;
    assert_eq!(message(disconnect, 404), "network not found");
    let network = json!({"name": "n", "type": "bridge", "subnet": "10.0.0.0/24"});
    let created = message(daemon.post("/networks/create", network).await, 409);
    assert!(
        created.contains("use network driver 'host' or 'disabled'"),
        "{created}"
    );
    let endpoint = json!({"container": "c", "network": "n", "ip_address": "<auto>"});
    assert_eq!(daemon.post("/networks/connect", endpoint).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_describes_itself() {
    let daemon = Daemon::start().await;
    let (status, info) = daemon.get("/info").await;
    assert_eq!(
        (status, info["storage_driver"].as_str()),
        (200, Some("memory"))
    );
    let (status, document) = daemon.get("/openapi.json").await;
    assert_eq!(status, 200);
    assert!(document["paths"]["/volumes/{name}/inspect"]["get"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_look_like_paths() {
    let daemon = Daemon::start().await;
    for name in ["list", "create", "prune"] {
        assert_eq!(
            daemon
                .post("/volumes/create", json!({"name": name}))
                .await
                .0,
            201
        );
        let removed = daemon.delete(&format!("/volumes/{name}")).await;
        assert_eq!(removed, (200, json!({"id": name})));
        daemon.container(name, &[]).await;
        assert_eq!(daemon.delete(&format!("/containers/{name}")).await.0, 200);
        let tag = format!("/images/base/tag?nametag={name}");
        assert_eq!(daemon.post(&tag, json!({})).await.0, 200);
        assert_eq!(daemon.delete(&format!("/images/{name}")).await.0, 200);
        let (code, _) = daemon
            .create_image(json!({"method": "host", "tag": "base"}))
            .await;
        assert_eq!(code, 1000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_wrong() {
    let daemon = Daemon::start().await;
    daemon.container("web", &[]).await;
    for path in [
        "/containers/create",
        "/containers/web/update",
        "/exec/create",
        "/volumes/create",
        "/networks/create",
        "/networks/connect",
    ] {
        for (body, part) in [
            ("", "has no body"),
            ("nonsense", "invalid JSON"),
            ("{\"name\": ", "line 1 column"),
            ("[]", "an object is wanted"),
            (
                "{\"name\": 1, \"cmd\": 1, \"container_id\": 1, \"container\": 1}",
                "field '",
            ),
            ("{\"no_such_field\": 1}", "no_such_field"),
            ("{} trailing", "invalid JSON"),
            ("\u{0}", "invalid JSON"),
        ] {
            let answer = message(daemon.raw("POST", path, body).await, 400);
            assert!(answer.contains(part), "{path} {body:?}: {answer}");
        }
        let large = vec![b' '; (16 << 20) + 1];
        let answer = message(daemon.raw("POST", path, large).await, 400);
        assert!(answer.contains("too large"), "{path}: {answer}");
    }
    assert_eq!(daemon.get("/volumes/list").await.1, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_types_do_not_matter() {
    let daemon = Daemon::start().await;
    for (name, kind) in [
        ("a", "text/plain"),
        ("b", "application/json; charset=utf-8"),
        ("c", ""),
    ] {
        let request = Request::post("/volumes/create").header("content-type", kind);
        let body = json!({"name": name}).to_string();
        let answer = daemon.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.0, 201, "{}", answer.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_that_are_wrong() {
    let daemon = Daemon::start().await;
    for (method, path, status, part) in [
        ("GET", "/", 404, "GET /openapi.json lists all"),
        ("GET", "/volume/list", 404, "GET /volumes/list"),
        ("GET", "/volumes/lst", 405, "GET /volumes/list"),
        (
            "POST",
            "/containers/web/stpo",
            404,
            "POST /containers/{id}/stop",
        ),
        ("GET", "/containers//inspect", 404, "container not found"),
        ("GET", "/images/base", 404, "GET /images/"),
        ("POST", "/images/base/inspect", 404, "/images/{image}"),
        ("POST", "/volumes/list", 405, "GET /volumes/list"),
        ("PUT", "/images/x", 405, "/images/{image}"),
        ("GET", "/containers/%ff/inspect", 400, "UTF-8"),
        (
            "GET",
            "/volumes/list?x=1",
            400,
            "unknown query parameter 'x'",
        ),
        (
            "GET",
            "/containers/list?all=perhaps",
            400,
            "give true or false",
        ),
        ("GET", "/exec/start", 400, "WebSocket"),
        ("GET", "/images/create", 400, "WebSocket"),
    ] {
        let answer = message(daemon.raw(method, path, Body::empty()).await, status);
        assert!(answer.contains(part), "{method} {path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_are_turned_away() {
    let daemon = Daemon::start().await;
    let from = async |origin: &str| {
        let request = Request::post("/volumes/create").header("host", "127.0.0.1:8085");
        let request = request.header("origin", origin);
        daemon
            .send(request.body(Body::from("{\"name\": \"x\"}")).unwrap())
            .await
    };
    for origin in ["https://evil.example", "null", "http://127.0.0.1:8086"] {
        assert!(message(from(origin).await, 403).contains("another origin"));
    }
    assert_eq!(daemon.get("/volumes/list").await.1, json!([]));
    assert_eq!(from("http://127.0.0.1:8085").await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_are_nobodys_fault() {
    let daemon = Daemon::start().await;
    let full = StorageError::NoSpace {
        dataset: "v".into(),
        root: "/memory".into(),
    };
    daemon.storage.fail_next(Operation::Create, full);
    let create = async || daemon.post("/volumes/create", json!({"name": "v"})).await;
    assert!(message(create().await, 409).contains("no space left"));
    let broken = StorageError::Failed {
        action: "creating",
        dataset: "v".into(),
        source: "the disk is on fire".into(),
    };
    daemon.storage.fail_next(Operation::Create, broken);
    assert!(message(create().await, 500).contains("on fire"));
    assert_eq!(daemon.get("/volumes/list").await.1, json!([]));
    assert_eq!(create().await.0, 201);
    daemon.container("web", &[]).await;
    daemon.run_detached("web").await;
    daemon.host.fail_next(Op::Terminate);
    assert_eq!(daemon.post("/containers/web/stop", json!({})).await.0, 500);
    assert_eq!(daemon.post("/containers/web/stop", json!({})).await.0, 200);
}
