//! A scripted daemon on a Unix socket, and the real `klee` run against it.

pub mod daemon;
pub mod klee;

pub use daemon::FakeDaemon;
pub use klee::Klee;

use serde_json::{Value, json};

/// An RFC 3339 time some seconds ago.
pub fn seconds_ago(seconds: i64) -> String {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
    format!("{then:.6}")
}

/// A volume of the API.
pub fn volume(name: &str, seconds: i64) -> Value {
    json!({
        "created": seconds_ago(seconds),
        "dataset": format!("zroot/kleene/volumes/{name}"),
        "mountpoint": format!("/zroot/kleene/volumes/{name}"),
        "name": name,
    })
}

/// A container of the API's listing.
pub fn container(id: &str, name: &str, running: bool) -> Value {
    json!({
        "id": id, "name": name, "image_id": "abcdef012345", "cmd": ["/bin/sh", "-c", "sleep 1000"],
        "user": "root", "env": ["A=b"], "network_driver": "host", "public_ports": [],
        "jail_param": [], "restart_policy": "no", "persist": false,
        "created": seconds_ago(3700), "dataset": format!("zroot/kleene/container/{id}"),
        "running": running, "auto_remove": false, "exit_code": null, "started": null,
        "finished": null, "status": if running { "running" } else { "exited" },
        "out_of_memory": false, "restart_count": 0, "health": null, "init": "none",
        "limits": {
            "memory": null, "memory_swap": null, "cpus": null, "cpuset": null, "pids": null,
            "io_weight": null, "ulimits": [], "shm_size": null, "storage_quota": null,
            "log_limit": null,
        },
        "health_check": null, "stop_signal": null, "stop_timeout": null, "working_dir": "",
        "mounts": [], "image_name": "FreeBSD", "image_tag": "latest",
        "jid": running.then_some(4711),
    })
}
