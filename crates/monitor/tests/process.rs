//! Processes: how they start, what they get, how they end.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic, their helpers included"
)]

mod common;

use common::{World, process};
use kleene_doors::frames::Frame;
use kleene_doors::host::{Process, Stdin};

#[test]
fn exit_codes_and_streams_come_back() {
    let world = World::new();
    let outcome = world.sh("echo out; echo err >&2; exit 3");
    assert_eq!(outcome.code, Some(3));
    assert_eq!(
        (outcome.stdout(), outcome.stderr()),
        ("out\n".into(), "err\n".into())
    );
    assert_eq!(world.container().run(&["true"]).code, Some(0));
    assert_eq!(world.container().run(&["false"]).code, Some(1));
}

#[test]
fn programs_that_cannot_be_run() {
    let world = World::new();
    let bin = world.image.join("bin");
    std::fs::write(bin.join("plain"), "nothing").unwrap();
    std::fs::write(bin.join("garbage"), [0_u8; 64]).unwrap();
    std::fs::write(bin.join("script"), "#!/no/such/interpreter\n").unwrap();
    for name in ["garbage", "script"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join(name), mode).unwrap();
    }
    let container = world.container();
    for (program, code, text) in [
        (
            "nosuch",
            127,
            "executable 'nosuch' not found in the container's PATH",
        ),
        ("/bin/nosuch", 127, "executable '/bin/nosuch' not found"),
        ("plain", 126, "permission denied"),
        ("/etc", 126, "is a directory"),
        ("garbage", 126, "no program for this machine"),
        (
            "script",
            127,
            "its interpreter or loader is not in the container",
        ),
    ] {
        let failure = container.refused(process(&[program]));
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(text), "{failure}");
    }
}

#[test]
fn users_are_the_containers_own() {
    let world = World::new();
    let container = world.container();
    let as_user = |user: &str| Process {
        user: user.into(),
        ..process(&["sh", "-c", "id; env"])
    };
    let www = container.run_process(as_user("www")).ok();
    assert!(
        www.contains("uid=80(www) gid=81(www) groups=81(www),90(logs)"),
        "{www}"
    );
    assert!(www.contains("HOME=/tmp\n"), "{www}");
    let numbers = container.run_process(as_user("80:90")).ok();
    assert!(numbers.contains("uid=80(www) gid=90(logs)"), "{numbers}");
    let root = container.run_process(as_user("")).ok();
    assert!(
        root.contains("uid=0(root) gid=0(root)") && root.contains("HOME=/root\n"),
        "{root}"
    );

    let failure = container.refused(as_user("daemon"));
    assert_eq!(failure.code, 125);
    assert!(failure.message.contains("user 'daemon'"), "{failure}");
    assert!(
        failure.message.contains("/etc/passwd in the container"),
        "{failure}"
    );

    let empty = world.tmp.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let failure = world
        .container()
        .mount(empty, "/etc", true)
        .refused(as_user("www"));
    assert!(
        failure.message.contains("does a mount hide it"),
        "{failure}"
    );
}

#[test]
fn a_burst_before_the_exit_arrives_whole() {
    let world = World::new();
    let outcome = world.sh("dd if=/dev/zero bs=1M count=20 2>/dev/null; printf end >&2");
    assert_eq!(outcome.stdout.len(), 20 << 20);
    assert_eq!((outcome.stderr(), outcome.code), ("end".into(), Some(0)));
}

#[test]
fn input_reaches_the_process_and_ends() {
    let world = World::new();
    let container = world.container();
    let counting = Process {
        stdin: Stdin::Stream,
        ..process(&["wc", "-c"])
    };
    let mut running = container.start(counting).unwrap();
    let chunk = vec![b'x'; 64 << 10];
    for _ in 0..64 {
        running.send(&Frame::Stdin(chunk.clone()));
    }
    running.send(&Frame::StdinEnd);
    assert_eq!(running.finish().ok(), "4194304\n");

    let none = container.run(&["sh", "-c", "cat; readlink /proc/self/fd/0"]);
    assert_eq!(none.ok(), "/dev/null\n");
}

#[test]
fn signals_reach_the_process_alone() {
    let world = World::new();
    let container = world.container();
    let init = container.idle();
    let sleeping = init.join(process(&["sleep", "1000"]));
    kleene_doors::host::Host::signal(&world.host, &sleeping.exec, 15).unwrap();
    assert_eq!(sleeping.finish().code, Some(143));
    let mut sleeping = init.join(process(&["sleep", "1000"]));
    sleeping.send(&Frame::Signal(9));
    assert_eq!(sleeping.finish().code, Some(137));
    init.kill();
}

#[test]
fn nothing_is_left_open_or_ignored() {
    let world = World::new();
    let seen = world
        .sh("ls /proc/self/fd; grep Sig /proc/self/status; pwd; umask")
        .ok();
    // ls itself has the directory open as 3.
    assert!(seen.starts_with("0\n1\n2\n3\n"), "{seen}");
    assert!(!seen.starts_with("0\n1\n2\n3\n4"), "{seen}");
    for line in [
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "/\n0022\n",
    ] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
}
