//! `klee network …`.

use serde_json::{Value, json};

use crate::common::{FakeDaemon, Klee};

#[test]
fn creation() {
    let daemon = FakeDaemon::script()
        .on(
            "POST",
            "/networks/create",
            201,
            json!({"id": "0123456789ab"}),
        )
        .on(
            "POST",
            "/networks/create",
            501,
            json!({"message": "networks can't be created yet"}),
        )
        .start();
    let create = [
        "network",
        "create",
        "-t",
        "bridge",
        "--subnet",
        "10.0.0.0/8",
        "--no-icc",
        "net",
    ];
    Klee::new(&daemon, &create)
        .run()
        .assert(0, "0123456789ab\n", "");
    let expected = json!({
        "name": "net", "type": "bridge", "interface": "", "subnet": "10.0.0.0/8", "subnet6": "",
        "gateway": "<auto>", "gateway6": "<auto>", "nat": "<host-gateway>", "icc": false,
        "internal": false,
    });
    assert_eq!(daemon.body("/networks/create"), expected);
    let output = Klee::new(&daemon, &["network", "create", "--no-nat", "net"]).run();
    output.assert(
        1,
        "",
        "error: network 'net': networks can't be created yet\n",
    );
    let second = &daemon.requests()[1].body;
    assert_eq!(
        (&second["nat"], &second["gateway"]),
        (&json!(""), &json!(""))
    );
}

#[test]
fn the_listing() {
    let networks = json!([
        {"id": "0123456789ab", "name": "net", "type": "bridge", "subnet": "10.0.0.0/8"},
        {"id": "1123456789ab", "name": "n", "type": "loopback"},
    ]);
    let daemon = FakeDaemon::script()
        .on("GET", "/networks/list", 200, networks)
        .start();
    let expected = format!(
        " ID             NAME   TYPE       SUBNET\n{}\n 0123456789ab   net    bridge     \
         10.0.0.0/8\n 1123456789ab   n      loopback\n",
        "─".repeat(45)
    );
    Klee::new(&daemon, &["lsn"]).run().assert(0, &expected, "");
}

#[test]
fn connections() {
    let daemon = FakeDaemon::script()
        .on("POST", "/networks/connect", 204, Value::Null)
        .on("POST", "/networks/net/disconnect/web", 204, Value::Null)
        .on(
            "POST",
            "/networks/net/disconnect/x",
            404,
            json!({"message": "container not found"}),
        )
        .start();
    let connect = ["network", "connect", "--ip6", "fd00::7", "net", "web"];
    Klee::new(&daemon, &connect).run().assert(0, "", "");
    let expected = json!({
        "container": "web", "network": "net", "ip_address": "<auto>", "ip_address6": "fd00::7",
    });
    assert_eq!(daemon.body("/networks/connect"), expected);
    Klee::new(&daemon, &["network", "disconnect", "net", "web"])
        .run()
        .assert(0, "", "");
    let output = Klee::new(&daemon, &["network", "disconnect", "net", "x"]).run();
    output.assert(1, "", "error: network 'net': container not found\n");
}
