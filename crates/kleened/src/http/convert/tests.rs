//! Tests of the conversions.

use super::*;
use kleene_types::ExecId;

fn config(json: serde_json::Value) -> api::ContainerConfig {
    serde_json::from_value(json).unwrap()
}

fn refusal(json: serde_json::Value) -> String {
    new_container(config(json))
        .expect_err("refused")
        .to_string()
}

fn record() -> ContainerRecord {
    ContainerRecord {
        id: ContainerId::random(),
        name: "web".parse().unwrap(),
        image: kleene_types::ImageId::random(),
        cmd: vec!["/bin/sh".into()],
        user: String::new(),
        env: vec!["A=1".parse().unwrap()],
        network_driver: NetworkDriver::Host,
        jail_params: Vec::new(),
        restart_policy: RestartPolicy::No,
        persist: false,
        auto_remove: false,
        created: "2024-02-29T14:54:05.317207Z".parse().unwrap(),
        mounts: vec![MountSpec::new("data", "/data", true).unwrap()],
        last_run: None,
        resources: Default::default(),
        init: Default::default(),
        health_check: None,
        stop_signal: None,
        stop_timeout: None,
        working_dir: None,
        stopped_by_user: false,
        restarts: 0,
        anonymous_volumes: Vec::new(),
        snapshot: None,
    }
}

#[test]
fn a_container_with_nothing_but_an_image_gets_the_defaults() {
    let new = new_container(config(serde_json::json!({"image": "base"}))).unwrap();
    assert_eq!(new.image.to_string(), "base");
    assert_eq!(new.name, None);
    assert_eq!(new.network_driver, NetworkDriver::Ipnet);
    assert_eq!(new.restart_policy, RestartPolicy::No);
    assert!(!new.persist && !new.auto_remove && new.mounts.is_empty());
}

#[test]
fn a_container_with_everything() {
    let new = new_container(config(serde_json::json!({
        "name": "/web", "image": "base:1@snap", "cmd": ["/bin/sh", "-c", "true"], "user": "www:www",
        "env": ["A=b=c"], "persist": true, "auto_remove": true,
        "mounts": [
            {"type": "volume", "source": "data", "destination": "/data", "read_only": true},
            {"type": "nullfs", "source": "/srv", "destination": "/srv"},
        ],
        "jail_param": ["allow.raw_sockets"], "network_driver": "host",
        "public_ports": [{"host_port": "80", "container_port": "80"}],
        "restart_policy": "on-startup",
    })))
    .unwrap();
    assert_eq!(new.name.unwrap().as_str(), "web");
    assert_eq!(new.image.to_string(), "base:1@snap");
    assert_eq!(new.mounts[0].to_string(), "data:/data:ro");
    assert_eq!(new.mounts[1].kind.name(), "nullfs");
    assert_eq!(new.published_ports, 1);
    assert_eq!(new.restart_policy, RestartPolicy::OnStartup);
    assert!(new.persist && new.auto_remove);
}

#[test]
fn bad_containers_are_refused_by_name() {
    let with = |key: &str, value: serde_json::Value| {
        let mut json = serde_json::json!({"image": "base"});
        json[key] = value;
        refusal(json)
    };
    let mount = |kind: &str, source: &str, destination: &str| {
        let mount = serde_json::json!({"type": kind, "source": source, "destination": destination});
        with("mounts", serde_json::json!([mount]))
    };
    for (message, part) in [
        (refusal(serde_json::json!({})), "no image is given"),
        (
            refusal(serde_json::json!({"image": ""})),
            "no image is given",
        ),
        (
            refusal(serde_json::json!({"image": "a b"})),
            "invalid image reference",
        ),
        (with("name", "x y".into()), "invalid container name"),
        (with("env", serde_json::json!(["X"])), "NAME=VALUE"),
        (
            with("network_driver", "bridge".into()),
            "use one of ipnet, host, vnet, disabled",
        ),
        (
            with("restart_policy", "sometimes".into()),
            "use one of no, on-startup, on-failure[:TIMES], always",
        ),
        (
            mount("volume", "/srv", "/x"),
            "the type is 'volume', but the source is a path",
        ),
        (
            mount("nullfs", "data", "/x"),
            "the type is 'nullfs', but the source is the name",
        ),
        (mount("bind", "data", "/x"), "invalid mount type 'bind'"),
        (mount("volume", "../x", "/x"), "must be absolute"),
        (mount("volume", "data", "x"), "relative"),
        (mount("volume", "data", "/../etc"), "'..'"),
        (mount("volume", "data", "/"), "'/'"),
    ] {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn updates_leave_out_what_is_null_and_refuse_what_cannot_change() {
    let changes = |json| container_changes(config(json), &record());
    let none = changes(serde_json::json!({"name": null, "image": "ignored", "mounts": []}));
    let none = none.unwrap();
    assert!(none.name.is_none() && none.cmd.is_none() && none.env.is_none());
    let some = changes(serde_json::json!({"name": "db", "env": [], "persist": true})).unwrap();
    assert_eq!(some.name.unwrap().as_str(), "db");
    assert_eq!(some.env, Some(Vec::new()));
    assert_eq!(some.persist, Some(true));
    let same = serde_json::json!({
        "network_driver": "host", "auto_remove": false,
        "mounts": [
            {"type": "volume", "source": "data", "destination": "/data", "read_only": true},
        ],
    });
    assert!(changes(same).is_ok());
    for json in [
        serde_json::json!({"network_driver": "vnet"}),
        serde_json::json!({"auto_remove": true}),
        serde_json::json!({"public_ports": [{"host_port": "1", "container_port": "1"}]}),
        serde_json::json!({"mounts": [{"type": "volume", "source": "x", "destination": "/x"}]}),
    ] {
        let error = changes(json.clone()).expect_err("refused");
        assert!(matches!(error, EngineError::Conflict(_)), "{json}: {error}");
    }
}

#[test]
fn images_come_from_the_methods_of_the_contract() {
    let new = |json: serde_json::Value| {
        let config: api::ImageCreateConfig = serde_json::from_value(json).unwrap();
        new_image(config)
    };
    let fetch = new(serde_json::json!({
        "method": "fetch", "url": "file:///x.tar", "tag": "", "zfs_dataset": "", "dns": false,
        "localtime": "true", "update": "false", "autotag": true,
    }))
    .unwrap();
    assert!(matches!(
        fetch.source,
        ImageSource::Userland(Source::Archive { .. })
    ));
    assert!(fetch.reference.is_none() && !fetch.autotag);
    assert!(!fetch.extras.resolv_conf && fetch.extras.localtime);
    let auto =
        |tag: &str| new(serde_json::json!({"method": "fetch-auto", "tag": tag, "autotag": true}));
    assert!(auto("").unwrap().autotag && !auto("x").unwrap().autotag);
    let host = new(serde_json::json!({"method": "host", "tag": "base:1", "add": ["/bin/ls"]}));
    let (name, tag) = host.unwrap().reference.unwrap();
    assert_eq!((name.as_str(), tag.as_str()), ("base", "1"));
    let copy = new(serde_json::json!({"method": "zfs-copy", "zfs_dataset": "tank/x"})).unwrap();
    let copied = |source| {
        matches!(
            source,
            ImageSource::Zfs {
                mode: AdoptMode::Copy,
                ..
            }
        )
    };
    assert!(copied(copy.source));
    for (json, part) in [
        (
            serde_json::json!({"method": "fetch"}),
            "needs the field 'url'",
        ),
        (
            serde_json::json!({"method": "zfs-clone", "url": "x"}),
            "needs the field 'zfs_dataset'",
        ),
        (
            serde_json::json!({"method": "fetsh"}),
            "did you mean 'fetch'?",
        ),
        (
            serde_json::json!({"method": "pull"}),
            "use one of fetch, fetch-auto, host",
        ),
        (
            serde_json::json!({"method": "host", "tag": "a@b"}),
            "without a snapshot",
        ),
        (
            serde_json::json!({"method": "host", "tag": "a b"}),
            "invalid image reference",
        ),
        (
            serde_json::json!({"method": "host", "update": true}),
            "'update' belongs to",
        ),
        (
            serde_json::json!({"method": "fetch", "url": "x", "add": ["/x"]}),
            "belongs to the method 'host'",
        ),
    ] {
        let message = new(json).expect_err(part).to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn containers_are_shown_with_the_contracts_fields() {
    let mut record = record();
    let (started, ended) = (Timestamp::now(), Timestamp::now());
    record.last_run = Some(kleene_store::LastRun {
        init: ExecId::random(),
        started,
        ended: Some((ended, 3)),
        out_of_memory: false,
    });
    let view = ContainerView {
        state: kleene_engine::ContainerState::Exited,
        health: None,
        size: None,
        image: Some(("base".parse().unwrap(), ImageTag::latest())),
        dataset: "zroot/kleene/container/x".into(),
        number: Some(42),
        record,
    };
    let summary = serde_json::to_value(container_summary(&view)).unwrap();
    assert_eq!(summary["created"], "2024-02-29T14:54:05.317207Z");
    assert_eq!(summary["image_name"], "base");
    assert_eq!(summary["image_tag"], "latest");
    assert_eq!(summary["jid"], 42);
    assert_eq!(summary["running"], true);
    assert_eq!(summary["exit_code"], 3);
    assert_eq!(summary["network_driver"], "host");
    let instance = ExecRecord {
        id: ExecId::random(),
        container: view.record.id.clone(),
        cmd: vec!["/bin/sh".into()],
        env: Vec::new(),
        user: "root".into(),
        tty: false,
        created: started,
        started: Some((started, 42)),
        ended: None,
        first: true,
        working_dir: None,
        out_of_memory: true,
    };
    let execs = std::slice::from_ref(&instance);
    let inspect = serde_json::to_value(container_inspect(&view, execs)).unwrap();
    let shown = &inspect["container_execs"][0];
    assert_eq!(shown["id"], instance.id.as_str());
    assert_eq!(
        (&shown["running"], &shown["pid"]),
        (&true.into(), &42.into())
    );
    assert_eq!(shown["out_of_memory"], true);
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        keys(&inspect["container_mountpoints"][0]),
        ["container_id", "destination", "read_only", "source", "type"]
    );
    assert_eq!(inspect["container_mountpoints"][0]["type"], "volume");
    let nameless = ContainerView {
        image: None,
        ..view
    };
    assert_eq!(container_summary(&nameless).image_name, "");
}
