//! Containers whose process 1 is a minimal one.
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
use std::path::Path;

use common::direct::{Direct, Limited};
use common::{Container, Running, World, await_that, process, terminal};
use kleene_doors::frames::Frame;
use kleene_doors::host::{Host, HostError, Probe, Process, Stdin};
use kleene_types::Init;
use rustix::process::{Pid, Signal, kill_process};

fn container(world: &World, init: Init) -> Container<'_> {
    let mut container = world.container();
    container.setup.init = init;
    container
}

fn script(script: &str) -> Process {
    Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", script])
    }
}

/// A field of a process's status.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim().to_owned()
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children
        .split_whitespace()
        .map(|child| child.parse().unwrap())
        .collect()
}

/// Kills the container, and waits until nothing is left of it.
fn kill(running: Running<'_>) {
    let (world, container) = (running.world, running.container.clone());
    world.host.kill(&container, &running.exec).unwrap();
    assert_eq!(running.finish().code, Some(137));
    world.host.clean(&container).unwrap();
}

#[test]
fn exit_codes_streams_and_signals_are_those_of_the_command() {
    let world = World::new();
    for init in [Init::Main, Init::All] {
        let container = container(&world, init);
        let echo = script("cat; echo err >&2; exit 7");
        let mut running = container.start(echo).unwrap();
        running.type_in("typed\n");
        running.send(&Frame::StdinEnd);
        let seen = running.finish();
        assert_eq!(
            (seen.stdout().as_str(), seen.stderr().as_str(), seen.code),
            ("typed\n", "err\n", Some(7))
        );
        // Unlike process 1, the command has no excuse: signals do what they do.
        let seen = container.run(&["sh", "-c", "kill -9 $$; echo alive"]);
        assert_eq!((seen.stdout().as_str(), seen.code), ("", Some(137)));
        let sleeping = container.start(process(&["sleep", "1000"])).unwrap();
        world.host.terminate(&container.id, &sleeping.exec).unwrap();
        assert_eq!(sleeping.finish().code, Some(143));
        for (name, number) in [("HUP", 1), ("USR1", 10), ("WINCH", 28), ("RTMIN", 34)] {
            let trap =
                format!("trap 'echo got {name}; exit 3' {number}; echo ready; read x; read x");
            let mut running = container.start(script(&trap)).unwrap();
            assert_eq!(running.read_line(), "ready");
            running.send(&Frame::Signal(number));
            assert_eq!(running.read_line(), format!("got {name}"));
            assert_eq!(running.finish().code, Some(3));
        }
        world.host.clean(&container.id).unwrap();
    }
}

#[test]
fn programs_that_cannot_be_run_are_told_as_ever() {
    let world = World::new();
    let container = container(&world, Init::Main);
    for (program, code) in [("nosuch", 127), ("/etc/passwd", 126)] {
        let failure = container.refused(process(&[program]));
        assert_eq!(failure.code, code, "{failure}");
    }
    let as_user = Process {
        user: "nobody".into(),
        ..process(&["true"])
    };
    assert_eq!(container.refused(as_user).code, 125);
}

#[test]
fn process_one_is_out_of_reach() {
    let world = World::new();
    for user in ["", "www"] {
        let container = container(&world, Init::Main);
        let looking = Process {
            user: user.into(),
            ..script(
                "echo $$; cat /proc/1/comm; cat /proc/1/cmdline | tr '\\0' '!'; echo; \
                 for f in exe cwd root ns/mnt; do readlink /proc/1/$f && echo read $f; done; \
                 for f in mem environ maps syscall; do cat /proc/1/$f | wc -c; done; \
                 ls /proc/1/fd; ls /proc/self/fd; id -u; ps -o pid,args | head -n 2; read x",
            )
        };
        let mut running = container.start(looking).unwrap();
        running.send(&Frame::StdinEnd);
        let pid = running.pid;
        let seen = running.finish();
        let lines: Vec<&str> = seen
            .stdout
            .split(|byte| *byte == b'\n')
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        assert_eq!(lines[..3], ["2", "kleene-init", "kleene-init!"], "{seen:?}");
        // Nothing could be read, and nothing is open.
        assert_eq!(lines[3..7], ["0"; 4], "{seen:?}");
        assert_eq!(lines[7..11], ["0", "1", "2", "3"], "{seen:?}");
        assert!(lines[13].ends_with("1 kleene-init"), "{seen:?}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}

/// What the host sees of it: no file is open, and it is as confined as the command.
#[test]
fn process_one_holds_nothing_and_may_do_nothing() {
    let world = World::new();
    let container = container(&world, Init::Main);
    let as_www = Process {
        user: "www".into(),
        cwd: Some("/tmp/deep".parse().unwrap()),
        stdin: Stdin::Stream,
        ..process(&["cat"])
    };
    let mut running = container.start(as_www).unwrap();
    let init = running.pid;
    let [main] = children(init)[..] else {
        panic!("{:?}", children(init))
    };
    assert_eq!(fs::read_dir(format!("/proc/{init}/fd")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(format!("/proc/{main}/fd")).unwrap().count(), 3);
    assert_eq!(
        fs::read_link(format!("/proc/{init}/cwd")).unwrap(),
        Path::new("/")
    );
    for field in [
        "Uid:",
        "Gid:",
        "Groups:",
        "CapEff:",
        "CapBnd:",
        "NoNewPrivs:",
        "Seccomp:",
    ] {
        assert_eq!(status(init, field), status(main, field), "{field}");
    }
    assert_eq!(status(init, "Seccomp:"), "2");
    assert_eq!(status(main, "SigBlk:"), "0000000000000000");
    assert_eq!(status(main, "SigIgn:"), "0000000000000000");
    // A copy in memory, which nobody can write to.
    let program = fs::read_link(format!("/proc/{init}/exe")).unwrap();
    let program = program.to_str().unwrap();
    assert!(program.starts_with("/memfd:kleene-monitor"), "{program}");
    assert!(
        fs::File::options()
            .write(true)
            .open(format!("/proc/{init}/exe"))
            .is_err()
    );
    for pid in [init, common::monitor_of(init)] {
        let memory = common::private_memory(pid);
        assert!(memory <= 1 << 20, "{memory}");
    }
    running.send(&Frame::StdinEnd);
    assert_eq!(running.finish().code, Some(0));
    world.host.clean(&container.id).unwrap();
}

#[test]
fn orphans_are_reaped() {
    let world = World::new();
    let container = container(&world, Init::Main);
    let mut running = container
        .start(script(
            "(for n in $(seq 50); do sleep 0 & done) ; echo made; read x; ps",
        ))
        .unwrap();
    assert_eq!(running.read_line(), "made");
    await_that("zombies stay", || children(running.pid).len() == 1);
    running.type_in("\n");
    let seen = running.finish();
    assert_eq!(seen.code, Some(0));
    world.host.clean(&container.id).unwrap();
}

#[test]
fn the_end_of_the_command_is_the_end_of_main() {
    let world = World::new();
    let container = container(&world, Init::Main);
    let running = container
        .start(script("sleep 1000 & setsid sleep 1001 & exit 4"))
        .unwrap();
    assert_eq!(running.finish().code, Some(4));
    world.host.clean(&container.id).unwrap();
}

/// Lets a command that waits for a line go on, to its end.
fn end_of_command(running: &mut Running<'_>) {
    let [command, ..] = children(running.pid)[..] else {
        panic!("there is none")
    };
    running.type_in("\n");
    common::await_end(command);
}

#[test]
fn all_lives_as_long_as_any_process_does() {
    let world = World::new();
    let container = container(&world, Init::All);
    // As /etc/rc does: starts things, and ends. Their streams are their own.
    let start = "busybox mkfifo /gate; echo started; \
                 setsid sh -c 'read y < /gate; exit 9' </dev/null >/dev/null 2>&1 & read x; exit 6";
    let mut running = container.start(script(start)).unwrap();
    assert_eq!(running.read_line(), "started");
    let (exec, pid) = (running.exec.clone(), running.pid);
    end_of_command(&mut running);
    let probe = world.host.probe(&exec).unwrap();
    assert!(matches!(probe, Probe::Running { .. }), "{probe:?}");
    // It can be joined, and a process that has joined counts.
    let mut joined = running.join(script("echo joined; read x"));
    assert_eq!(joined.read_line(), "joined");
    assert_eq!(running.exec("echo y > /gate").code, Some(0));
    await_that("the orphan stays", || children(pid).is_empty());
    assert_eq!(running.exec("echo still here").ok(), "still here\n");
    joined.type_in("\n");
    assert_eq!(joined.finish().code, Some(0));
    assert_eq!(running.watched(), Some(6));
    let late = running.join_request(process(&["true"]));
    let refused = world.host.start(&late).unwrap_err();
    assert!(matches!(refused, HostError::NotRunning(_)), "{refused:?}");
    while running.receive() {}
    assert_eq!(running.received.code, Some(6));
    world.host.clean(&container.id).unwrap();
}

#[test]
fn all_can_be_stopped_before_and_after_the_command_has_ended() {
    let world = World::new();
    let daemon = "trap 'echo bye; exit 0' TERM; echo daemon; read y <&3";
    for code in [5, 143] {
        let container = container(&world, Init::All);
        let start = format!(
            "busybox mkfifo /tmp/$$; exec 3<>/tmp/$$; setsid sh -c \"{daemon}\" & read x; exit 5"
        );
        let mut running = container.start(script(&start)).unwrap();
        assert_eq!(running.read_line(), "daemon");
        if code == 5 {
            end_of_command(&mut running);
        }
        world.host.terminate(&container.id, &running.exec).unwrap();
        assert_eq!(running.read_line(), "bye");
        assert_eq!(running.finish().code, Some(code));
        world.host.clean(&container.id).unwrap();
    }
}

#[test]
fn terminals_have_job_control() {
    let world = World::new();
    for init in [Init::Main, Init::All] {
        let container = container(&world, init);
        let mut running = container.start(terminal(&["sh"], 24, 80)).unwrap();
        // Waits for a text behind the one that was waited for before.
        let mut seen = 0;
        let mut wait_for = |running: &mut Running<'_>, text: &str| {
            loop {
                let bytes = &running.received.stdout[seen..];
                let found = bytes
                    .windows(text.len())
                    .position(|part| part == text.as_bytes());
                if let Some(found) = found {
                    break seen += found + text.len();
                }
                assert!(running.receive());
            }
        };
        running.type_in("tty; stat -c %t:%T /dev/console; stty size; echo $$ con''trol\n");
        wait_for(&mut running, "2 control\r\n");
        running.type_in("sleep 1000; echo status $?.\n");
        // Once it runs in the foreground, it can be stopped, and go on in the background.
        await_that("no job", || {
            children(running.pid)
                .iter()
                .any(|shell| !children(*shell).is_empty())
        });
        let shell = children(running.pid)[0];
        let job = children(shell)[0];
        let in_foreground = || {
            let stat = fs::read_to_string(format!("/proc/{job}/stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            (fields[2] == fields[5]).then_some(fields[0].to_owned())
        };
        await_that("not in the foreground", || in_foreground().is_some());
        // The shell's own processes don't care, until they become what they are for.
        let ignores = |job| u64::from_str_radix(&status(job, "SigIgn:"), 16).unwrap() >> 19 & 1;
        await_that("it can't be stopped", || ignores(job) == 0);
        running.type_in("\u{1a}");
        wait_for(&mut running, "Stopped");
        wait_for(&mut running, "# ");
        assert!(status(job, "State:").starts_with('T'));
        running.type_in("bg; fg\n");
        await_that("not in the foreground", || {
            in_foreground().is_some_and(|state| state == "S")
        });
        running.type_in("\u{3}");
        wait_for(&mut running, "# ");
        // A program that takes the whole screen.
        running.type_in("vi /tmp/text\n");
        wait_for(&mut running, "- /tmp/text");
        running.type_in("iwritten");
        wait_for(&mut running, "written");
        running.type_in("\u{1b}");
        wait_for(&mut running, "- /tmp/text [Modified]");
        running.type_in(":x\n");
        wait_for(&mut running, "# ");
        running.type_in("cat /tmp/text; exit 6\n");
        let seen = running.finish();
        assert_eq!(seen.code, Some(6));
        let text = seen.stdout();
        for part in ["/dev/pts/0\r\n", "88:0\r\n", "24 80\r\n", "written\r\n"] {
            assert!(text.contains(part), "{part:?}: {text:?}");
        }
        world.host.clean(&container.id).unwrap();
    }
}

#[test]
fn a_fork_bomb_ends_with_its_container() {
    let world = World::new();
    let container = container(&world, Init::All);
    let mut limited = Limited::new(&container.id);
    limited.limit_processes("40");
    let direct = Direct::new(&world);
    // Starts more until it can't, and then itself anew, in its own place.
    let bomb = "exec 2>/dev/null; trap 'exec sh -c \"$1\" bomb \"$1\"' EXIT; echo lit; \
                while :; do (sleep 0 &); sleep 1000 & done";
    let arguments = [
        "sh",
        "-c",
        "sh -c \"$1\" bomb \"$1\" & exit 3",
        "first",
        bomb,
    ];
    let mut message = direct.message(&container, process(&arguments));
    message.cgroups = limited.plan.clone();
    let mut running = direct.start(&message);
    for _ in 0..100 {
        assert_eq!(running.read_line(), "lit");
    }
    // Somebody else starts none, then.
    let pid = Pid::from_raw(running.pid.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    while running.receive() {}
    assert_eq!(running.received.code, Some(137));
    for members in limited.members() {
        assert_eq!(members, Vec::<u32>::new());
    }
}

#[test]
fn a_limit_that_leaves_no_room_for_the_command_is_told() {
    let world = World::new();
    let container = container(&world, Init::Main);
    let mut limited = Limited::new(&container.id);
    limited.limit_processes("1");
    let direct = Direct::new(&world);
    let mut message = direct.message(&container, process(&["true"]));
    message.cgroups = limited.plan.clone();
    let failure = direct.refused(&message);
    assert_eq!(failure.code, 125);
    let wanted = "making the container's main process beside its init failed";
    assert!(failure.message.starts_with(wanted), "{failure}");
}

#[test]
fn stopping_process_one_stops_nothing_else() {
    let world = World::new();
    let container = container(&world, Init::Main);
    let mut running = container
        .start(script("echo ready; read x; echo $x; exit 8"))
        .unwrap();
    assert_eq!(running.read_line(), "ready");
    running.send(&Frame::Signal(19));
    await_that("it isn't stopped", || {
        status(running.pid, "State:").starts_with('T')
    });
    running.type_in("typed\n");
    assert_eq!(running.read_line(), "typed");
    running.send(&Frame::Signal(18));
    assert_eq!(running.finish().code, Some(8));
    world.host.clean(&container.id).unwrap();
}

#[test]
fn a_command_that_closes_its_streams_lives_on() {
    let world = World::new();
    let container = container(&world, Init::Main);
    let mut running = container
        .start(script("echo before; exec >&- 2>&-; read x; exit 2"))
        .unwrap();
    assert_eq!(running.read_line(), "before");
    running.type_in("\n");
    assert_eq!(running.finish().code, Some(2));
    let running = container
        .start(script("exec <&- >&- 2>&-; exec sleep 1000"))
        .unwrap();
    let [main] = children(running.pid)[..] else {
        panic!()
    };
    await_that("they stay open", || {
        fs::read_dir(format!("/proc/{main}/fd")).unwrap().count() == 0
    });
    kill(running);
}

/// With its monitor, everything ends.
#[test]
fn a_killed_monitor_takes_all_along() {
    let world = World::new();
    let container = container(&world, Init::All);
    let mut running = container
        .start(script("setsid sleep 1000 & echo ready; read x"))
        .unwrap();
    assert_eq!(running.read_line(), "ready");
    let everybody: Vec<u32> = [vec![running.pid], children(running.pid)].concat();
    let monitor = Pid::from_raw(common::monitor_of(running.pid).cast_signed()).unwrap();
    kill_process(monitor, Signal::KILL).unwrap();
    for pid in everybody {
        common::await_end(pid);
    }
    assert_eq!(Frame::read(&mut running.watch).unwrap(), None);
    world.host.clean(&container.id).unwrap();
}
