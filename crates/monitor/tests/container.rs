//! Containers: what is in them, what isn't, and that nothing of them stays on the host.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, their helpers included"
)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{World, check_meeting_mounts, check_nosuid_mounts, groups, mounted_beneath, process};
use kleene_doors::host::{Host, Network, Probe};
use kleene_doors::storage::Root;

#[test]
fn a_container_is_a_world_of_its_own() {
    let world = World::new();
    let container = world.container();
    let script = "hostname; ps -o pid,comm; cat /proc/self/cgroup; ls / /dev; echo to > /new";
    let seen = container.run(&["sh", "-c", script]).ok();
    assert!(seen.starts_with("tester\n"), "{seen}");
    assert!(seen.contains("1 sh"), "{seen}");
    assert!(!seen.contains("kleene"), "{seen}");
    for device in [
        "console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
    ] {
        assert_eq!(
            seen.contains(&format!("{device}\n")),
            device != "console",
            "{device}: {seen}"
        );
    }
    let upper = world.tmp.path().join(format!("{}/upper/new", container.id));
    assert_eq!(fs::read_to_string(upper).unwrap(), "to\n");
    assert!(!world.image.join("new").exists());
}

#[test]
fn a_root_may_be_a_plain_directory() {
    let world = World::new();
    let mut container = world.container();
    container.setup.root = Root::Directory {
        path: world.image.clone(),
    };
    assert_eq!(
        container.run(&["sh", "-c", "echo x > /made; pwd"]).ok(),
        "/\n"
    );
    assert_eq!(fs::read_to_string(world.image.join("made")).unwrap(), "x\n");
}

#[test]
fn long_names_are_cut_to_a_host_name() {
    let world = World::new();
    let mut container = world.container();
    container.setup.hostname = "n".repeat(100);
    assert_eq!(
        container.run(&["hostname"]).ok(),
        format!("{}\n", "n".repeat(64))
    );
}

#[test]
fn nothing_is_mounted_but_the_containers_own() {
    let world = World::new();
    let script = "while read -r _ _ _ _ point _; do echo $point; done < /proc/self/mountinfo";
    let seen = world.sh(script).ok();
    for point in seen.lines().filter(|point| *point != "/") {
        let known = ["/proc", "/sys", "/dev"]
            .iter()
            .any(|top| point.starts_with(top));
        assert!(known, "{point}: {seen}");
    }
    assert!(seen.starts_with("/\n/proc\n/sys\n/dev\n"), "{seen}");
}

#[test]
fn privileges_are_the_usual_few() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    let script = "grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/self/status";
    let seen = init.exec(script).ok();
    let devices = Path::new("/sys/fs/cgroup/devices/kleene")
        .join(container.id.as_str())
        .exists();
    let capabilities = if devices {
        "00000000a80425fb"
    } else {
        "00000000a00425fb"
    };
    for line in [
        "CapInh:\t0000000000000000".to_owned(),
        format!("CapPrm:\t{capabilities}"),
        format!("CapEff:\t{capabilities}"),
        format!("CapBnd:\t{capabilities}"),
        "CapAmb:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ] {
        assert!(seen.contains(&line), "{line}: {seen}");
    }
    init.kill();
    // The container's first process has the same.
    assert_eq!(world.sh(script).ok(), seen);
    assert_ne!(world.sh("mount -t tmpfs none /tmp").code, Some(0));
    assert_ne!(world.sh("hostname other").code, Some(0));
}

#[test]
fn joined_processes_are_in_the_same_container() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    let list = "for n in pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
    let inside = init.exec(list).ok();
    let of_init: String = ["pid", "mnt", "uts", "ipc", "net", "cgroup"]
        .map(|name| fs::read_link(format!("/proc/{}/ns/{name}", init.pid)).unwrap())
        .map(|link| format!("{}\n", link.display()))
        .concat();
    assert_eq!(inside, of_init);
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert!(!inside.contains(own.to_str().unwrap()));

    let sleeping = init.join(process(&["sleep", "1000"]));
    let group = |pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(group(sleeping.pid), group(init.pid));
    assert!(init.exec("ps").ok().contains("sleep 1000"));
    init.kill();
    assert_eq!(sleeping.finish().code, Some(137));
}

#[test]
fn dangerous_parts_are_hidden_or_read_only() {
    let world = World::new();
    let script = "for f in kcore keys timer_list sched_debug; do
          if [ -e /proc/$f ]; then stat -c %t:%T /proc/$f; wc -c < /proc/$f; fi
        done
        ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v -e : -e '^$'
        for f in /proc/sysrq-trigger /proc/sys/kernel/hostname /proc/irq/x /sys/x; do
          (echo h > $f) 2>/dev/null && echo wrote $f
        done
        (echo x > /sys/firmware/x) 2>/dev/null && echo wrote /sys/firmware
        echo done";
    let seen = world.sh(script).ok();
    let lines: Vec<&str> = seen.lines().collect();
    let (last, hidden) = lines.split_last().unwrap();
    assert_eq!(*last, "done", "{seen}");
    assert!(!hidden.is_empty(), "{seen}");
    for pair in hidden.chunks(2) {
        assert_eq!(pair, ["1:3", "0"], "{seen}");
    }
}

#[test]
fn devices_of_the_host_are_out_of_reach() {
    let world = World::new();
    let container = world.container();
    let script = "mknod /dev/disk b 254 0 && cat /dev/disk; mknod /disk b 254 0 && cat /disk; \
                  cat /dev/null; head -c 4 /dev/urandom | wc -c";
    let seen = container.run(&["sh", "-c", script]);
    assert_eq!(seen.stdout(), "4\n");
    for line in ["/dev/disk", "/disk"] {
        assert!(seen.stderr().contains(line), "{seen:?}");
    }
}

#[test]
fn mounts_show_their_sources() {
    let world = World::new();
    let data = world.tmp.path().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("file"), "from the host\n").unwrap();
    let container = world
        .container()
        .mount(&data, "/srv/deep/data", false)
        .mount(data.join("file"), "/srv/note", true)
        .mount(&data, "/etc/covered", true);
    let script = "cat /srv/deep/data/file /srv/note /etc/covered/file; echo new > /srv/deep/data/new
        for f in /srv/note /etc/covered/x; do (echo x > $f) 2>/dev/null && echo wrote $f; done; true";
    assert_eq!(
        container.run(&["sh", "-c", script]).ok(),
        "from the host\n".repeat(3)
    );
    assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "new\n");
    assert_eq!(mounted_beneath(world.tmp.path()), Vec::<String>::new());
}

#[test]
fn read_only_mounts_are_so_recursively() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let world = World::new();
    let data = world.tmp.path().join("data");
    let inner = data.join("inner");
    fs::create_dir_all(&inner).unwrap();
    mount("none", &inner, "tmpfs", MountFlags::empty(), c"size=64k").unwrap();
    fs::write(inner.join("file"), "inner\n").unwrap();
    let seen = world.container().mount(&data, "/data", true).run(&[
        "sh",
        "-c",
        "cat /data/inner/file; echo x > /data/inner/new; echo x > /data/new",
    ]);
    let writable = world.container().mount(&data, "/data", false).run(&[
        "sh",
        "-c",
        "echo x > /data/inner/new",
    ]);
    unmount(&inner, UnmountFlags::DETACH).unwrap();
    assert_eq!(seen.stdout(), "inner\n");
    assert_eq!(
        seen.stderr().matches("Read-only file system").count(),
        2,
        "{seen:?}"
    );
    assert_eq!(writable.code, Some(0));
}

#[test]
fn nosuid_mounts_are_so_recursively() {
    let world = World::new();
    check_nosuid_mounts(&world);
}

#[test]
fn destinations_stay_in_the_container() {
    let world = World::new();
    let outside = world.tmp.path().join("outside");
    let data = world.tmp.path().join("data");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("here"), "").unwrap();
    symlink(&outside, world.image.join("app")).unwrap();
    symlink(
        "../../../../../..".to_owned() + outside.to_str().unwrap(),
        world.image.join("up"),
    )
    .unwrap();
    let container = world
        .container()
        .mount(&data, "/app/one", false)
        .mount(&data, "/up/two", true);
    let shown = outside.display();
    let seen = container
        .run(&["sh", "-c", &format!("ls {shown}/one {shown}/two /app/one")])
        .ok();
    assert_eq!(seen.matches("here").count(), 3, "{seen}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// By links in the image, destinations may meet that look unrelated: then no data goes elsewhere.
#[test]
fn mounts_that_would_hide_each_other_are_refused() {
    let world = World::new();
    check_meeting_mounts(&world);
}

#[test]
fn a_mount_that_fails_fails_the_start() {
    let world = World::new();
    let missing = world.container().mount("/no/such/source", "/data", false);
    let failure = missing.refused(process(&["true"]));
    assert_eq!(failure.code, 125);
    assert!(
        failure
            .message
            .contains("mounting /no/such/source on /data"),
        "{failure}"
    );

    let file = world
        .container()
        .mount(world.tmp.path(), "/etc/passwd", false);
    let failure = file.refused(process(&["true"]));
    assert!(failure.message.contains("on /etc/passwd"), "{failure}");

    let device = world.container().mount("/dev/null", "/data", false);
    let failure = device.refused(process(&["true"]));
    assert!(
        failure
            .message
            .contains("neither a directory nor a regular file"),
        "{failure}"
    );
    assert_eq!(mounted_beneath(world.tmp.path()), Vec::<String>::new());
}

#[test]
fn links_in_place_of_system_directories_are_refused() {
    let world = World::new();
    fs::remove_dir(world.image.join("proc")).unwrap();
    symlink("/tmp", world.image.join("proc")).unwrap();
    let failure = world.container().refused(process(&["true"]));
    assert!(failure.message.contains("mounting /proc"), "{failure}");
}

#[test]
fn a_disabled_network_has_nothing_but_loopback() {
    let world = World::new();
    let mut container = world.container();
    container.setup.network = Network::Disabled;
    let seen = container.run(&[
        "sh",
        "-c",
        "ls /sys/class/net; ip -o addr; ping -c1 127.0.0.1",
    ]);
    let seen = seen.ok();
    assert!(seen.starts_with("lo\n"), "{seen}");
    assert!(
        seen.contains("127.0.0.1/8") && seen.contains("1 packets received"),
        "{seen}"
    );
}

#[test]
fn nothing_of_a_container_stays() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    let sleeping = init.join(process(&["sleep", "1000"]));
    let pids = [init.pid, sleeping.pid];
    assert!(!groups(&container.id).is_empty());
    assert_eq!(mounted_beneath(world.tmp.path()), Vec::<String>::new());
    init.kill();
    assert_eq!(sleeping.finish().code, Some(137));
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
    // Idempotent, also for what never was.
    world.host.clean(&container.id).unwrap();
    world.host.forget(&kleene_types::ExecId::random()).unwrap();
}

#[test]
fn stopping_asks_first_those_that_can_hear() {
    let world = World::new();
    let container = world.container();
    let handling = container.idle();
    world.host.terminate(&container.id, &handling.exec).unwrap();
    assert_eq!(handling.finish().code, Some(3));

    let deaf = container.start(process(&["sleep", "1000"])).unwrap();
    world.host.terminate(&container.id, &deaf.exec).unwrap();
    let exec = deaf.exec.clone();
    assert_eq!(deaf.finish().code, Some(137));
    assert!(
        matches!(world.host.probe(&exec).unwrap(), Probe::Exited(status) if status.code == 137)
    );
    world.host.clean(&container.id).unwrap();
    assert!(world.host.terminate(&container.id, &exec).is_err());
}
