//! Images, volumes and containers that are out to get at the host: their links, their odd files,
//! and what they do while others start.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Container, World, mounted_beneath, process};
use kleene_doors::host::{Host, Stdin};
use kleene_types::ExecId;
use rustix::fs::{CWD, Mode, RenameFlags, mkfifoat, renameat_with};

/// A name that nothing on the host has.
fn unique() -> String {
    format!("kleene-hostile-{}", ExecId::random())
}

/// A directory with the file `here` in it.
fn data(world: &World) -> PathBuf {
    let path = world.tmp.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("here"), "the volume's").unwrap();
    path
}

fn refusal(container: &Container<'_>) -> String {
    let failure = container.refused(process(&["true"]));
    assert_eq!(failure.code, 125, "{failure}");
    assert_eq!(
        mounted_beneath(container.world.tmp.path()),
        Vec::<String>::new()
    );
    failure.message
}

#[test]
fn links_to_the_hosts_directories_lead_to_the_containers() {
    let world = World::new();
    let data = data(&world);
    symlink("/etc", world.image.join("app")).unwrap();
    symlink("../../../../../../../../etc", world.image.join("up")).unwrap();
    symlink("/up/deep", world.image.join("far")).unwrap();
    let before = fs::metadata("/etc").unwrap();
    let name = unique();

    // The link itself, a directory and a file to be made beyond it, and a link to what is missing.
    let seen = world.container().mount(&data, "/app", false).run(&[
        "sh",
        "-c",
        "cat /etc/here; echo x > /app/new; ls /up/new; mount | grep -c ' /etc '",
    ]);
    assert_eq!(seen.ok(), "the volume's/up/new\n1\n");
    assert!(data.join("new").exists());
    let container = world
        .container()
        .mount(&data, &format!("/up/{name}"), false)
        .mount(data.join("here"), &format!("/app/{name}-file"), true)
        .mount(&data, &format!("/far/{name}"), true);
    let script = format!("cat /etc/{name}/here /etc/{name}-file /etc/deep/{name}/here");
    assert_eq!(
        container.run(&["sh", "-c", &script]).ok(),
        "the volume's".repeat(3)
    );

    let after = fs::metadata("/etc").unwrap();
    assert_eq!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec())
    );
    for made in [name.clone(), format!("{name}-file"), "deep".to_owned()] {
        assert!(!Path::new("/etc").join(made).exists());
    }
}

#[test]
fn nothing_stands_in_for_proc() {
    let world = World::new();
    let data = data(&world);
    for (name, target) in [
        ("app", "/proc"),
        ("kernel", "/proc/sys"),
        ("me", "/proc/self"),
        ("host", "/proc/self/root"),
        ("init", "/proc/1/root/etc"),
        ("here", "/proc/self/cwd"),
        ("fd", "/proc/self/fd/3"),
        ("dev-fd", "/dev/fd/3"),
    ] {
        symlink(target, world.image.join(name)).unwrap();
        for rest in ["", "/x", "/x/y"] {
            let destination = format!("/{name}{rest}");
            let directory = world.container().mount(&data, &destination, false);
            let message = refusal(&directory);
            assert!(message.contains(&format!("on {destination}")), "{message}");
            refusal(
                &world
                    .container()
                    .mount(data.join("here"), &destination, false),
            );
        }
    }
    // As a volume's links can do it to the mounts that come after it.
    symlink("/proc", data.join("proc")).unwrap();
    refusal(
        &world
            .container()
            .mount(&data, "/v", false)
            .mount(&data, "/v/proc", false),
    );
    assert_eq!(fs::read_dir(&data).unwrap().count(), 2);
}

/// Processes that join a container need its devices and terminals.
#[test]
fn nothing_stands_in_for_devices() {
    let world = World::new();
    let data = data(&world);
    for (name, target) in [("d", "/dev"), ("s", "../sys"), ("n", "/dev/null")] {
        symlink(target, world.image.join(name)).unwrap();
    }
    for (destination, reason) in [
        ("/dev", "it is /dev,"),
        ("/d", "it is /dev,"),
        ("/sys", "it is /sys,"),
        ("/s", "it is /sys,"),
        ("/d/pts", "it lies in /dev/pts,"),
    ] {
        let message = refusal(&world.container().mount(&data, destination, false));
        assert!(message.contains(reason), "{message}");
    }
    refusal(&world.container().mount(data.join("here"), "/n", false));

    let container = world
        .container()
        .mount(&data, "/dev/shm", false)
        .mount(&data, "/d/new/deep", false)
        .mount(data.join("here"), "/dev/file", true);
    let init = container.idle();
    let seen = init.exec("cat /dev/shm/here /dev/new/deep/here /dev/file </dev/null");
    assert_eq!(seen.ok(), "the volume's".repeat(3));
    init.kill();
}

#[test]
fn impossible_destinations_fail_the_start() {
    let world = World::new();
    let data = data(&world);
    symlink("trip", world.image.join("round")).unwrap();
    symlink("round", world.image.join("trip")).unwrap();
    symlink("itself/x", world.image.join("itself")).unwrap();
    mkfifoat(CWD, world.image.join("fifo"), Mode::RWXU).unwrap();
    let long = format!("/{}", "x".repeat(256));
    for destination in [
        "/round",
        "/round/x",
        "/itself/x",
        "/etc/passwd/x",
        "/fifo",
        "/fifo/x",
        &long,
    ] {
        let container = world.container().mount(&data, destination, false);
        let message = refusal(&container);
        assert!(message.contains(destination), "{message}");
    }
    // A file covers anything but a directory; the FIFO isn't opened for that.
    let container = world.container().mount(data.join("here"), "/fifo", false);
    assert_eq!(container.run(&["cat", "/fifo"]).ok(), "the volume's");
}

#[test]
fn odd_and_deep_names() {
    let world = World::new();
    let data = data(&world);
    let odd = "a b\\040\n\"c\" ü";
    fs::create_dir(world.image.join(odd)).unwrap();
    symlink(format!("/{odd}"), world.image.join("odd")).unwrap();
    let deep = format!("/{}", vec!["d"; 500].join("/"));
    let container = world
        .container()
        .mount(&data, "/odd/made", false)
        .mount(&data, &deep, true);
    let script = format!("cat '/{odd}/made/here' {deep}/here");
    assert_eq!(
        container.run(&["sh", "-c", &script]).ok(),
        "the volume's".repeat(2)
    );

    // A link to where more directories would have to be made than anybody needs.
    symlink("e/".repeat(1000), world.image.join("endless")).unwrap();
    refusal(&world.container().mount(&data, "/endless", false));
}

/// The files that say who a user is are the image's, and read by the daemon's monitor.
#[test]
fn odd_files_in_etc_neither_block_nor_lead_out() {
    let world = World::new();
    let passwd = world.image.join("etc/passwd");
    let of_www = |world: &World| {
        let mut wanted = process(&["true"]);
        wanted.user = "www".to_owned();
        world.container().refused(wanted).message
    };
    let secret = world.tmp.path().join("secret");
    fs::write(&secret, "www:x:0:0::/:/bin/sh\n").unwrap();
    let link = |target: &str| symlink(target, &passwd).unwrap();
    let spoil: [(&dyn Fn(), &str); 6] = [
        (
            &|| mkfifoat(CWD, &passwd, Mode::RWXU).unwrap(),
            "can't be read",
        ),
        (&|| link("/proc/kmsg"), "of the kernel's own"),
        (&|| link("/dev/tty"), "can't be read"),
        (
            &|| link(&format!("/proc/1/root{}", secret.display())),
            "can't be read",
        ),
        (&|| link(secret.to_str().unwrap()), "can't be read"),
        (&|| fs::create_dir(&passwd).unwrap(), "can't be read"),
    ];
    for (spoil, reason) in spoil {
        fs::remove_file(&passwd).unwrap();
        spoil();
        let message = of_www(&world);
        assert!(
            message.contains("'www'") && message.contains(reason),
            "{message}"
        );
    }
}

/// A container may put anything in the place of its devices before another process joins it.
#[test]
fn replaced_devices_are_not_trusted() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    for (replace, is_device) in [
        ("rm -f /dev/null; mkfifo /dev/null", false),
        ("rm -f /dev/null; ln -s /dev/zero /dev/null", false),
        ("rm -f /dev/null; touch /dev/null", false),
        ("rm -f /dev/null; mknod -m 666 /dev/null c 1 3", true),
    ] {
        // With a standard input of its own, the process doesn't need the device.
        let mut replacing = process(&["busybox", "sh", "-c", replace]);
        replacing.stdin = Stdin::Stream;
        let replaced = init.join(replacing).finish();
        if is_device && replaced.code != Some(0) {
            // Without a control group for devices, containers make none.
            continue;
        }
        assert_eq!(replaced.code, Some(0), "{replace}: {replaced:?}");
        // What isn't the device isn't opened: an empty pipe takes its place.
        let seen = init.exec("readlink /proc/self/fd/0; cat").ok();
        let (input, read) = seen.split_once('\n').unwrap();
        assert_eq!((input == "/dev/null", read), (is_device, ""), "{replace}");
    }
    init.kill();
}

/// One container exchanges a directory and a link in a shared volume while others are started whose
/// mounts go through it.
#[test]
fn races_in_shared_volumes_stay_in_the_container() {
    let world = World::new();
    let data = data(&world);
    let volume = world.tmp.path().join("volume");
    let outside = world.tmp.path().join("outside");
    fs::create_dir_all(volume.join("dir")).unwrap();
    fs::create_dir(&outside).unwrap();
    let link = volume.join("link");
    symlink(format!("../../../../../..{}", outside.display()), &link).unwrap();
    let stop = AtomicBool::new(false);
    let exchange = || {
        while !stop.load(Ordering::Relaxed) {
            let (dir, link) = (volume.join("dir"), volume.join("link"));
            renameat_with(CWD, dir, CWD, link, RenameFlags::EXCHANGE).unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(exchange);
        for round in 0..30 {
            let container = world.container().mount(&volume, "/v", false).mount(
                &data,
                &format!("/v/dir/{round}"),
                false,
            );
            // Whichever of the two it meets: it runs, or says why not.
            match container.start(process(&["sh", "-c", "echo x > /done"])) {
                Ok(running) => assert_eq!(running.finish().code, Some(0)),
                Err(error) => assert!(error.to_string().contains("on /v/dir/"), "{error}"),
            }
            world.host.clean(&container.id).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(mounted_beneath(world.tmp.path()), Vec::<String>::new());
}
