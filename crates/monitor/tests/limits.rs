//! What a process and a container may use, and what jail parameters change.
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
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::direct::{Direct, Limited, setup_of};
use common::{World, monitor_of, mounted_beneath, process, terminal};
use kleene_doors::frames::Frame;
use kleene_doors::host::{ExitStatus, Host, HostError, Process, Stdin};
use kleene_monitor::proto::{Jail, Setting};
use kleene_types::ByteSize;
use rustix::process::{Resource, getrlimit};

fn in_directory(path: &str, script: &str) -> Process {
    Process {
        cwd: Some(path.parse().unwrap()),
        ..process(&["sh", "-c", script])
    }
}

#[test]
fn working_directories_are_made_and_entered() {
    let world = World::new();
    let container = world.container();
    let script = "pwd; stat -c '%a %u:%g' /srv /srv/work";
    let as_www = Process {
        user: "www".into(),
        ..in_directory("/srv/work", script)
    };
    let seen = container.run_process(as_www).ok();
    assert_eq!(seen, "/srv/work\n755 0:0\n755 0:0\n");
    // One that is there stays as it is, and is where relative programs are looked for.
    let own = world.image.join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&own, Some(80), Some(81)).unwrap();
    symlink("/bin/busybox", own.join("pwd")).unwrap();
    let relative = Process {
        argv: vec!["./pwd".into()],
        user: "www".into(),
        ..in_directory("/own", "")
    };
    assert_eq!(container.run_process(relative).ok(), "/own\n");

    let init = container.idle();
    let joined = init.join(in_directory("/srv/work", "pwd"));
    assert_eq!(joined.finish().ok(), "/srv/work\n");
    // Nothing is made for a process that joins.
    let misspelt = init.join_request(in_directory("/srv/wrok", "pwd"));
    let Err(HostError::Start(failure)) = world.host.start(&misspelt) else {
        panic!("it was started");
    };
    assert_eq!(failure.code, 125);
    let wanted = "the working directory '/srv/wrok' is not in the container";
    assert!(failure.message.starts_with(wanted), "{failure}");
    assert_eq!(init.exec("ls -d /srv/w*").ok(), "/srv/work\n");
    init.kill();
}

/// A container that has lost its `/dev/null` can still be looked after.
#[test]
fn processes_without_input_need_no_device() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    assert_eq!(init.exec("rm /dev/null; echo gone").ok(), "gone\n");
    assert_eq!(init.exec("cat; echo read").ok(), "read\n");
    init.kill();
}

#[test]
fn working_directories_that_cannot_be_entered_are_named() {
    let world = World::new();
    let closed = world.image.join("closed");
    fs::create_dir_all(closed.join("open")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let container = world.container();
    for path in ["/closed", "/closed/open", "/closed/new"] {
        let as_www = Process {
            user: "www".into(),
            ..in_directory(path, "true")
        };
        let failure = container.refused(as_www);
        assert_eq!(failure.code, 125);
        let wanted = format!("entering the working directory '{path}' failed: ");
        assert!(failure.message.starts_with(&wanted), "{failure}");
        assert!(failure.message.contains("ermission denied"), "{failure}");
    }
    for path in ["/etc/passwd", "/proc/new"] {
        let failure = container.refused(in_directory(path, "true"));
        let wanted = format!("making the working directory '{path}' failed: ");
        assert!(failure.message.starts_with(&wanted), "{failure}");
    }
}

/// Neither by links nor by descriptors that are open while the process is made (CVE-2024-21626).
#[test]
fn working_directories_stay_in_the_container() {
    let world = World::new();
    let outside = world.tmp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, world.image.join("link")).unwrap();
    let up = format!("../../../../../../../..{}", outside.display());
    symlink(up, world.image.join("up")).unwrap();
    let container = world.container();
    for path in ["/link/new", "/up/new"] {
        let seen = container.run_process(in_directory(path, "pwd")).ok();
        assert_eq!(seen, format!("{}/new\n", outside.display()));
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    for fd in 3..32 {
        let path = format!("/proc/self/fd/{fd}");
        container.refused(in_directory(&path, "true"));
    }
    container.refused(in_directory("/proc/1/cwd", "true"));
}

#[test]
fn ulimits_are_set_and_cut_to_what_may_be() {
    let world = World::new();
    let container = world.container();
    let hard = getrlimit(Resource::Nofile).maximum.unwrap();
    let limited = |user: &str| Process {
        user: user.into(),
        ulimits: ["nofile=7:9", "core=0", "nproc=5000", "memlock=4096:8192"]
            .map(|text| text.parse().unwrap())
            .into(),
        ..process(&["sh", "-c", "cat /proc/self/limits"])
    };
    let line = |seen: &str, name: &str| {
        let line = seen.lines().find(|line| line.starts_with(name)).unwrap();
        let words: Vec<&str> = line
            .strip_prefix(name)
            .unwrap()
            .split_whitespace()
            .collect();
        format!("{} {}", words[0], words[1])
    };
    let check = |seen: &str| {
        assert_eq!(line(seen, "Max open files"), "7 9");
        assert_eq!(line(seen, "Max core file size"), "0 0");
        assert_eq!(line(seen, "Max processes"), "5000 5000");
        assert_eq!(line(seen, "Max locked memory"), "4096 8192");
    };
    check(&container.run_process(limited("")).ok());
    let init = container.idle();
    check(&init.join(limited("www")).finish().ok());
    // The monitor's own are as they were.
    let own = fs::read_to_string(format!("/proc/{}/limits", monitor_of(init.pid))).unwrap();
    assert_eq!(
        line(&own, "Max open files").split_once(' ').unwrap().1,
        hard.to_string()
    );
    init.kill();

    let endless = Process {
        ulimits: vec!["nofile=unlimited".parse().unwrap()],
        ..limited("")
    };
    let seen = container.run_process(endless).ok();
    let (soft, now) = line(&seen, "Max open files")
        .split_once(' ')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert_eq!(soft, now);
    assert!(now.parse::<u64>().unwrap() >= hard, "{now}");
    // Nothing more can be opened by then, and nothing more is.
    let narrow = Process {
        ulimits: vec!["nofile=3".parse().unwrap()],
        cwd: Some("/tmp".parse().unwrap()),
        ..process(&["echo", "narrow"])
    };
    assert_eq!(container.run_process(narrow).ok(), "narrow\n");
}

#[test]
fn shared_memory_has_the_size_that_was_asked_for() {
    let world = World::new();
    let mut container = world.container();
    let script = "df -k /dev/shm | while read -r _ size _; do echo $size; done";
    assert!(
        container
            .run(&["sh", "-c", script])
            .ok()
            .ends_with("65536\n")
    );
    for (bytes, shown) in [(3 << 20, "3072\n"), (0, "4\n")] {
        container.setup.shm_size = Some(ByteSize::new(bytes));
        let seen = container.run(&["sh", "-c", script]).ok();
        assert!(seen.ends_with(shown), "{seen}");
    }
}

#[test]
fn processes_are_in_all_groups_and_within_their_limits() {
    let world = World::new();
    let container = world.container();
    let mut limited = Limited::new(&container.id);
    limited.limit_processes("6");
    limited.limit_memory("67108864");
    let direct = Direct::new(&world);
    let idle = ["sh", "-c", "echo ready; read x"];
    let waiting = Process {
        stdin: Stdin::Stream,
        ..process(&idle)
    };
    let mut message = direct.message(&container, waiting.clone());
    message.cgroups = limited.plan.clone();
    let mut init = direct.start(&message);
    assert_eq!(init.read_line(), "ready");
    let mut joined = direct.start(&direct.joining(&init, &message, waiting));
    assert_eq!(joined.read_line(), "ready");
    for members in limited.members() {
        assert_eq!(members, [init.pid, joined.pid]);
    }
    let bomb = process(&[
        "sh",
        "-c",
        "for n in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all",
    ]);
    let outcome = direct
        .start(&direct.joining(&init, &message, bomb))
        .finish();
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr().contains("can't fork"), "{outcome:?}");
    // Their end is that of process 1.
    init.type_in("\n");
    assert_eq!(init.finish().code, Some(0));
    assert_eq!(joined.finish().code, Some(137));
}

#[test]
fn a_setting_that_is_refused_fails_the_start() {
    let world = World::new();
    let container = world.container();
    let mut limited = Limited::new(&container.id);
    limited.limit_processes("many");
    let direct = Direct::new(&world);
    let mut message = direct.message(&container, process(&["true"]));
    message.cgroups = limited.plan.clone();
    let failure = direct.refused(&message);
    assert_eq!(failure.code, 125);
    let wanted = "setting the limit of many processes in /sys/fs/cgroup/";
    assert!(failure.message.starts_with(wanted), "{failure}");
    assert!(
        failure.message.ends_with("Invalid argument (os error 22)"),
        "{failure}"
    );

    // Nobody joins a container beside its groups.
    let mut message = direct.message(&container, process(&["sleep", "1000"]));
    let init = direct.start(&message);
    message.cgroups.legacy = vec!["/sys/fs/cgroup/no/such".into()];
    let failure = direct.refused(&direct.joining(&init, &message, process(&["true"])));
    assert_eq!(failure.code, 125);
    assert!(
        failure
            .message
            .contains("/sys/fs/cgroup/no/such is missing"),
        "{failure}"
    );
    init.world.host.kill(&init.container, &init.exec).unwrap();
    init.finish();
}

/// The status that an ended process's watch has.
fn status(running: &mut common::Running<'_>) -> ExitStatus {
    match Frame::read(&mut running.watch).unwrap() {
        Some(Frame::Exited(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_for_want_of_memory_is_told() {
    let world = World::new();
    let container = world.container();
    let mut limited = Limited::new(&container.id);
    limited.limit_memory("16777216");
    let direct = Direct::new(&world);
    let start = |argv: &[&str]| {
        let mut message = direct.message(&container, process(argv));
        message.cgroups = limited.plan.clone();
        direct.start(&message)
    };
    // Holds what it reads without a line's end.
    let mut greedy = start(&["grep", "x", "/dev/zero"]);
    let ended = status(&mut greedy);
    assert_eq!((ended.code, ended.out_of_memory), (137, true));
    // What was before doesn't count.
    let mut modest = start(&["true"]);
    let ended = status(&mut modest);
    assert_eq!((ended.code, ended.out_of_memory), (0, false));
    // Nor does the main process end when a child does; it is told nevertheless.
    let mut parent = start(&["sh", "-c", "grep x /dev/zero; true"]);
    let ended = status(&mut parent);
    assert_eq!((ended.code, ended.out_of_memory), (0, true));
}

#[test]
fn raw_sockets_are_for_those_who_may() {
    let world = World::new();
    let container = world.container();
    let direct = Direct::new(&world);
    let script = "grep Cap /proc/self/status; echo ready; read x";
    let asking = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", script])
    };
    const NET_RAW: u64 = 1 << 13;
    for allowed in [true, false] {
        let mut message = direct.message(&container, asking.clone());
        message.jail.raw_sockets = allowed;
        let mut init = direct.start(&message);
        let mut joined = direct.start(&direct.joining(&init, &message, asking.clone()));
        for running in [&mut init, &mut joined] {
            let mut union = 0;
            loop {
                let line = running.read_line();
                let Some((_, mask)) = line.split_once(":\t") else {
                    break;
                };
                union |= u64::from_str_radix(mask, 16).unwrap();
            }
            assert_eq!(union & NET_RAW != 0, allowed);
            assert!(union & 1 != 0);
        }
        init.send(&Frame::StdinEnd);
        init.finish();
        joined.finish();
    }
}

#[test]
fn the_hosts_ipc_is_shared_on_request() {
    let world = World::new();
    let container = world.container();
    let direct = Direct::new(&world);
    let asking = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", "readlink /proc/self/ns/ipc; read x"])
    };
    let own = fs::read_link("/proc/self/ns/ipc").unwrap();
    for shared in [true, false] {
        let mut message = direct.message(&container, asking.clone());
        message.jail.host_ipc = shared;
        let mut init = direct.start(&message);
        let mut joined = direct.start(&direct.joining(&init, &message, asking.clone()));
        let seen = init.read_line();
        assert_eq!(Path::new(&seen) == own, shared);
        assert_eq!(joined.read_line(), seen);
        init.send(&Frame::StdinEnd);
        init.finish();
        joined.finish();
    }
}

#[test]
fn without_devfs_the_images_dev_is_seen() {
    let world = World::new();
    fs::write(world.image.join("dev/own"), "the image's\n").unwrap();
    let data = world.tmp.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("here"), "the volume's\n").unwrap();
    let container = world.container().mount(&data, "/dev/data", true);
    let direct = Direct::new(&world);
    let script = "ls /dev; cat /dev/own /dev/data/here; cat; grep -c ' /dev' /proc/mounts; \
        for f in kcore keys timer_list; do [ -e /proc/$f ] && wc -c < /proc/$f; done; \
        stat -L -c %t:%T /proc/self/fd/0; umount /proc; echo x > /proc/sys/kernel/domainname; \
        while read -r _ _ _ _ point _; do echo $point; done < /proc/self/mountinfo | grep -c '^/proc$'";
    let without = |process: Process| {
        let mut message = direct.message(&container, process);
        message.jail = Jail {
            devfs: false,
            ..Jail::default()
        };
        message
    };
    let seen = direct
        .start(&without(process(&["sh", "-c", script])))
        .finish();
    let wanted = "data\nown\nthe image's\nthe volume's\n1\n";
    let rest = seen.stdout();
    let rest = rest
        .strip_prefix(wanted)
        .unwrap_or_else(|| panic!("{seen:?}"));
    let (masked, rest) = rest
        .split_once("1:3\n")
        .unwrap_or_else(|| panic!("{seen:?}"));
    assert!(
        !masked.is_empty() && masked.lines().all(|size| size == "0"),
        "{masked}"
    );
    assert_eq!(rest, "1\n", "{seen:?}");
    assert_eq!(seen.code, Some(0));

    let message = without(process(&["sleep", "1000"]));
    let init = direct.start(&message);
    let joining = direct.joining(&init, &message, process(&["sh", "-c", "cat; cat /dev/own"]));
    assert_eq!(direct.start(&joining).finish().ok(), "the image's\n");
    let joining = direct.joining(&init, &message, terminal(&["true"], 9, 9));
    for message in [&without(terminal(&["true"], 9, 9)), &joining] {
        let failure = direct.refused(message);
        assert_eq!(failure.code, 125);
        assert!(
            failure.message.starts_with("a terminal needs a /dev"),
            "{failure}"
        );
        assert!(failure.message.contains("mount.nodevfs"), "{failure}");
    }
    world.host.kill(&init.container, &init.exec).unwrap();
    init.finish();
    // Nothing is made there: not even what masks are made of.
    assert_eq!(fs::read_dir(world.image.join("dev")).unwrap().count(), 1);
    assert_eq!(mounted_beneath(world.tmp.path()), Vec::<String>::new());
}

#[test]
fn settings_come_before_anybody_is_in_the_group() {
    let world = World::new();
    let container = world.container();
    let mut limited = Limited::new(&container.id);
    limited.limit_processes("1");
    // The later one counts.
    limited.limit_processes("2");
    let Setting { file, value, .. } = limited.plan.settings.last().unwrap().clone();
    let direct = Direct::new(&world);
    let mut message = direct.message(
        &container,
        process(&["sh", "-c", "sleep 1000 & sleep 1000 & wait"]),
    );
    message.cgroups = limited.plan.clone();
    setup_of(&mut message).hostname = "limited".into();
    let outcome = direct.start(&message).finish();
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), value);
    assert!(outcome.stderr().contains("can't fork"), "{outcome:?}");
    assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
}
