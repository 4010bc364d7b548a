//! Every operation, killed at every step: before and after everything that it does to the machine. A
//! daemon that is started afterwards finds records and machine in agreement, and nothing is left when
//! everything has been removed.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use kleene_tests::crash::{self, Operation};
use kleene_tests::{Daemon, Leaks, Room, Traces, archive};
use serde_json::Value;

/// More steps than any operation has.
const MANY: usize = 200;

/// Interrupts an operation at each of its steps. `name` is that of the calling test.
fn matrix(name: &str, operation: Operation, room: Room) {
    crash::if_child();
    let mut daemon = Daemon::empty(room);
    let root = daemon.mountpoint();
    let image = archive(daemon.directory());
    let url = format!("file://{}", image.display());
    let mut ids = BTreeSet::new();
    let mut steps = 0;
    for step in 0.. {
        assert!(step < MANY, "{operation:?} never finishes");
        for tag in ["base", "spare"] {
            if daemon.klee(&["image", "inspect", tag]).code != 0 {
                daemon
                    .klee(&["image", "create", "-t", tag, "fetch", &url])
                    .ok();
            }
        }
        let look = || match operation {
            // Whether images are there is checked; they stay from one step to the next.
            _ if operation.is_of_images() => Traces::look(&root).without_images(),
            _ => Traces::look(&root),
        };
        let before = look();
        for command in operation.prepare() {
            daemon.klee(command).ok();
        }
        ids.extend(daemon.containers());
        daemon.terminate();
        let died = crash::interrupted(name, operation, &daemon.kleene_root(), step);
        daemon.start();
        let place = format!("{operation:?}, step {step}");
        check(&daemon, &root, operation, &place);
        ids.extend(daemon.containers());
        clean(&daemon, operation);
        // The monitor of what was removed may need a moment to its end.
        let deadline = Instant::now() + Duration::from_secs(20);
        while look() != before && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(look(), before, "{place}");
        if !died {
            break;
        }
        steps = step + 1;
    }
    assert!(steps >= 2, "{operation:?} has no steps");
    let ids: Vec<String> = ids.into_iter().collect();
    let groups = Leaks::look(&root, &ids).cgroups();
    assert!(groups.is_empty(), "{groups:?}");
    let log = daemon.log();
    assert!(!log.contains("could not be put right"), "{log}");
}

/// Records and machine agree.
fn check(daemon: &Daemon, root: &Path, operation: Operation, place: &str) {
    let traces = Traces::look(root);
    let list = |arguments: &[&str], key: &str| -> BTreeSet<String> {
        let text = daemon.klee(arguments).ok();
        let values: Vec<Value> = serde_json::from_str(&text).unwrap();
        values
            .iter()
            .map(|value| value[key].as_str().unwrap().to_owned())
            .collect()
    };
    let containers = list(&["container", "ls", "-a", "--format", "json"], "id");
    let volumes = list(&["volume", "ls", "--format", "json"], "name");
    let images = list(&["image", "ls", "-a", "--format", "json"], "id");
    assert_eq!(traces.datasets("container"), containers, "{place}");
    assert_eq!(traces.datasets("volumes"), volumes, "{place}");
    assert_eq!(traces.datasets("image"), images, "{place}");
    let mut execs = BTreeSet::new();
    for id in &containers {
        let shown = daemon.inspect("container", id);
        for exec in shown["container_execs"].as_array().unwrap() {
            execs.insert(exec["id"].as_str().unwrap().to_owned());
        }
        if shown["container"]["running"] == true {
            daemon.klee(&["exec", "-q", id, "true"]).ok();
        }
    }
    let unknown: Vec<&String> = traces.instances().difference(&execs).collect();
    assert!(unknown.is_empty(), "{place}: {unknown:?} of {execs:?}");
    if operation.is_of_images() {
        // An image that is there is whole.
        let made = daemon.klee(&["image", "export", "-o", "made.tar", "made"]);
        if made.code == 0 && operation != Operation::CreateImage {
            let file = std::fs::File::open(daemon.directory().join("made.tar")).unwrap();
            let mut archive = tar::Archive::new(file);
            let mut entries = archive.entries().unwrap();
            let is_last =
                |path: &Path| path == Path::new("done") || path == Path::new("bin/busybox");
            let found = entries.any(|entry| is_last(&entry.unwrap().path().unwrap()));
            assert!(found, "{place}");
        }
    }
    if operation == Operation::Create {
        assert_eq!(containers.is_empty(), volumes.is_empty(), "{place}");
        if !containers.is_empty() {
            let listing = [
                "run", "-q", "--rm", "-m", "www:/www", "base", "ls", "-A", "/www",
            ];
            assert_eq!(daemon.klee(&listing).ok().lines().count(), 3, "{place}");
        }
    }
}

fn clean(daemon: &Daemon, operation: Operation) {
    for id in daemon.containers() {
        daemon.klee(&["container", "rm", "-f", &id]).ok();
    }
    daemon.klee(&["volume", "prune", "-f"]).ok();
    if operation.is_of_images() {
        daemon.klee(&["image", "rm", "made"]);
    }
}

/// One test an operation, so that they run side by side.
macro_rules! matrix {
    ($($name:ident $operation:ident $room:ident;)+) => {
        $(#[test]
        fn $name() {
            matrix(stringify!($name), Operation::$operation, Room::$room);
        })+
    };
}

matrix! {
    creating_a_container Create Dir;
    starting_a_container Start Dir;
    stopping_a_container Stop Dir;
    restarting_a_container Restart Dir;
    updating_a_container Update Dir;
    removing_a_container RemoveContainer Dir;
    creating_a_volume CreateVolume Dir;
    removing_a_volume RemoveVolume Dir;
    creating_an_image CreateImage Dir;
    removing_an_image RemoveImage Dir;
    building_an_image Build Dir;
    pulling_an_image Pull Dir;
    loading_an_image Load Dir;
    committing_a_container Commit Dir;
    creating_a_container_on_zfs Create Zfs;
    removing_a_container_on_zfs RemoveContainer Zfs;
    creating_a_volume_on_zfs CreateVolume Zfs;
    removing_a_volume_on_zfs RemoveVolume Zfs;
    creating_an_image_on_zfs CreateImage Zfs;
    removing_an_image_on_zfs RemoveImage Zfs;
    building_an_image_on_zfs Build Zfs;
    pulling_an_image_on_zfs Pull Zfs;
}
