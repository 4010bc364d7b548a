//! The guide's transcripts, on every storage room.

use kleene_tests::{Daemon, Room, transcript};

#[test]
fn volumes_on_dir() {
    transcript::play(
        &Daemon::new(Room::Dir),
        include_str!("../transcripts/volumes.txt"),
    );
}

#[test]
fn volumes_on_zfs() {
    transcript::play(
        &Daemon::new(Room::Zfs),
        include_str!("../transcripts/volumes.txt"),
    );
}

/// The read-only mount in `container inspect`, with exactly the contract's keys.
#[test]
fn container_inspect_shows_the_mounts() {
    let daemon = Daemon::new(Room::Dir);
    let mount = "nginx-vol:/usr/local/www/nginx:ro";
    let id = daemon
        .klee(&["create", "--name", "nginxtest", "--mount", mount, "nginx"])
        .ok();
    let inspected = daemon.inspect("container", "nginxtest");
    assert_eq!(
        inspected["container_mountpoints"],
        serde_json::json!([{
            "container_id": id.trim(),
            "destination": "/usr/local/www/nginx",
            "read_only": true,
            "source": "nginx-vol",
            "type": "volume"
        }])
    );
}
