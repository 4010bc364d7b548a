//! Output: that none of it is lost, however it is read, and what becomes of it in the log.
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
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::{Container, PATIENCE, Running, World, await_end, await_that, monitor_of, process};
use kleene_doors::frames::Frame;
use kleene_doors::host::{Host, Process, Stdin};
use kleene_doors::log::{FILE_HEADER, RECORD_HEADER, Stream, next_record, parse_file_header};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};

/// Starts with a log of this size.
fn logging<'w>(container: &'w Container<'w>, process: Process, limit: u64) -> Running<'w> {
    let mut request = container.request(process);
    request.log_limit = limit;
    let started = container.world.host.start(&request).unwrap();
    let id = container.id.clone();
    Running::new(container.world, id, request.exec, started)
}

/// One file of a log.
struct LogFile {
    position: u64,
    size: u64,
    records: Vec<(Stream, Vec<u8>)>,
}

fn read_log(running: &Running<'_>, name: &str) -> LogFile {
    let path = running.world.tmp.path().join("run");
    let bytes = fs::read(path.join(running.exec.as_str()).join(name)).unwrap();
    let (header, mut rest) = bytes.split_first_chunk().unwrap();
    let mut records = Vec::new();
    while let Some(record) = next_record(rest).unwrap() {
        records.push((record.stream, record.data.to_vec()));
        rest = &rest[record.size()..];
    }
    assert!(rest.is_empty(), "a torn record");
    LogFile {
        position: parse_file_header(*header).unwrap(),
        size: bytes.len() as u64,
        records,
    }
}

/// A further connection that begins with this frame.
fn connect(running: &Running<'_>, first: &Frame) -> UnixStream {
    let path = running.world.tmp.path().join("run");
    let path = path.join(running.exec.as_str()).join("attach.sock");
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    first.write(&mut stream).unwrap();
    stream
}

#[test]
fn the_log_keeps_the_last_of_it_within_bounds() {
    let world = World::new();
    let container = world.container();
    let script = "echo first; dd if=/dev/zero bs=1M count=10 2>/dev/null; echo last >&2";
    let mut running = logging(&container, process(&["sh", "-c", script]), 3 << 20);
    while running.receive() {}
    let old = read_log(&running, "output.log.1");
    let new = read_log(&running, "output.log");
    let all_of = |log: &LogFile| log.position + log.size - FILE_HEADER as u64;
    assert_eq!(all_of(&old), new.position);
    let records = all_of(&new) - ((10 << 20) + 6 + 5);
    assert!(records.is_multiple_of(RECORD_HEADER as u64), "{records}");
    for log in [&old, &new] {
        assert!(log.size <= 3 << 19, "{}", log.size);
    }
    assert!(old.size > (3 << 19) - (64 << 10) - 100, "{}", old.size);
    assert!(
        new.records.contains(&(Stream::Stderr, b"last\n".to_vec())),
        "standard error is missing"
    );
    world.host.clean(&container.id).unwrap();
}

#[test]
fn nothing_written_before_the_exit_is_lost() {
    let world = World::new();
    let container = world.container();
    let script = "dd if=/dev/zero bs=1M count=100 2>/dev/null; printf end >&2";
    let mut running = logging(&container, process(&["sh", "-c", script]), 1 << 20);
    let (mut size, mut rested) = (0, 0);
    while running.receive() {
        let got = std::mem::take(&mut running.received.stdout);
        assert!(got.iter().all(|byte| *byte == 0));
        size += got.len();
        // Slower than the process writes, so that it waits, and later than its end.
        if size >> 20 > rested {
            rested = size >> 20;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(size, 100 << 20);
    assert_eq!(running.received.stderr(), "end");
    assert_eq!(running.received.code, Some(0));
    let new = read_log(&running, "output.log");
    assert!(new.position > 99 << 20, "{}", new.position);
    world.host.clean(&container.id).unwrap();
}

/// In packet mode each read gives one write, however small: `O_DIRECT` in pipe(2).
#[test]
fn small_pieces_left_in_a_pipe_are_not_lost() {
    let world = World::new();
    let container = world.container();
    let script = "read x; for n in $(seq 200); do echo $n; done";
    let waiting = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", script])
    };
    let mut running = container.start(waiting).unwrap();
    let process = Pid::from_raw(running.pid.cast_signed()).unwrap();
    let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let stdout = pidfd_getfd(process, 1, PidfdGetfdFlags::empty()).unwrap();
    fcntl_setfl(&stdout, OFlags::DIRECT).unwrap();
    drop(stdout);
    running.type_in("\n");
    // The monitor has passed the line on once this is answered, and sees nothing of the output.
    let mut answered = connect(&running, &Frame::Watch);
    drop(Frame::read(&mut answered).unwrap());
    let monitor = Pid::from_raw(monitor_of(running.pid).cast_signed()).unwrap();
    kill_process(monitor, Signal::STOP).unwrap();
    await_end(running.pid);
    kill_process(monitor, Signal::CONT).unwrap();
    let expected: String = (1..=200).map(|number| format!("{number}\n")).collect();
    assert_eq!(running.finish().stdout(), expected);
    world.host.clean(&container.id).unwrap();
}

#[test]
fn followers_hear_of_every_growth() {
    let world = World::new();
    let container = world.container();
    let echo = Process {
        stdin: Stdin::Stream,
        ..process(&["cat"])
    };
    let mut running = container.start(echo).unwrap();
    let mut follower = connect(&running, &Frame::Follow);
    let started = Frame::read(&mut follower).unwrap();
    assert_eq!(started, Some(Frame::Started(running.pid)));
    for line in ["one", "two", "three"] {
        running.type_in(&format!("{line}\n"));
        assert_eq!(Frame::read(&mut follower).unwrap(), Some(Frame::Grown));
        let log = read_log(&running, "output.log");
        let last = log.records.last().unwrap();
        assert_eq!(last.1, format!("{line}\n").as_bytes());
    }
    running.send(&Frame::StdinEnd);
    let ended = Frame::read(&mut follower).unwrap();
    assert!(matches!(ended, Some(Frame::Exited(status)) if status.code == 0));
    assert_eq!(Frame::read(&mut follower).unwrap(), None);
    assert_eq!(running.finish().stdout(), "one\ntwo\nthree\n");
    world.host.clean(&container.id).unwrap();
}

#[test]
fn a_follower_that_does_not_read_holds_nobody_up() {
    let world = World::new();
    let container = world.container();
    let script = "read x; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i + 1)); done; exit 4";
    let waiting = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", script])
    };
    let mut running = container.start(waiting).unwrap();
    let mut follower = connect(&running, &Frame::Follow);
    let started = Frame::read(&mut follower).unwrap();
    assert_eq!(started, Some(Frame::Started(running.pid)));
    running.type_in("\n");
    assert_eq!(running.finish().code, Some(4));
    let mut growths = 0;
    loop {
        match Frame::read(&mut follower).unwrap() {
            Some(Frame::Grown) => growths += 1,
            Some(Frame::Exited(status)) => break assert_eq!(status.code, 4),
            other => panic!("{other:?}"),
        }
    }
    assert!(growths > 0);
    world.host.clean(&container.id).unwrap();
}

/// Reads now and then a byte, so that something always moves.
#[test]
fn a_client_that_hardly_reads_does_not_keep_the_monitor() {
    let world = World::new();
    let container = world.container();
    // More than the client's socket takes, less than what pipe and monitor keep for it.
    let script = "head -c 1500000 /dev/zero";
    let mut running = container.start(process(&["sh", "-c", script])).unwrap();
    let monitor = monitor_of(running.pid);
    let mut stream = running.stream.try_clone().unwrap();
    assert_eq!(running.watched(), Some(0));
    let ended = || !Path::new(&format!("/proc/{monitor}")).exists();
    let mut read = 0;
    await_that("the monitor waits for ever", || {
        let mut byte = [0];
        if read_one(&stream, &mut byte) {
            std::thread::sleep(Duration::from_millis(20));
        }
        ended()
    });
    while stream.read(&mut [0; 65_536]).is_ok_and(|count| {
        read += count;
        count > 0
    }) {}
    assert!(read < 1_000_000, "it has got {read} bytes");
    await_end(monitor);
    world.host.clean(&container.id).unwrap();
}

fn read_one(mut stream: &UnixStream, byte: &mut [u8; 1]) -> bool {
    stream.read(byte).is_ok_and(|count| count > 0)
}

/// Together, clients that don't read cost no more memory than one.
#[test]
fn many_slow_clients_cost_little_memory() {
    const SIZE: usize = 100 << 16;
    let world = World::new();
    let container = world.container();
    let script = "read x; dd if=/dev/zero bs=64k count=100 2>/dev/null; read y; exit 3";
    let waiting = Process {
        stdin: Stdin::Stream,
        ..process(&["sh", "-c", script])
    };
    let mut running = container.start(waiting).unwrap();
    let mut clients: Vec<UnixStream> = (0..50).map(|_| connect(&running, &Frame::Attach)).collect();
    clients.push(running.stream.try_clone().unwrap());
    // Answered after all of those were taken.
    let mut last = connect(&running, &Frame::Watch);
    let started = Frame::read(&mut last).unwrap();
    assert_eq!(started, Some(Frame::Started(running.pid)));
    let monitor = monitor_of(running.pid);
    let before = peak(monitor);
    running.type_in("\n");
    await_that("nothing waits", || peak(monitor) > before + (1 << 20));
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut size = 0;
                while size < SIZE {
                    match Frame::read(&mut client).unwrap() {
                        Some(Frame::Stdout(data)) => size += data.len(),
                        other => panic!("{other:?}"),
                    }
                }
                size
            })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), SIZE);
    }
    // A backlog for all of them, and for each at most one piece more.
    let used = peak(monitor) - before;
    assert!(used < 16 << 20, "{used}");
    running.type_in("\n");
    assert_eq!(running.watched(), Some(3));
    world.host.clean(&container.id).unwrap();
}

/// Most bytes that a process has had in memory at once.
fn peak(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.unwrap().split_whitespace().next().unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}
