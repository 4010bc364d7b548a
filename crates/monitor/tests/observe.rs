//! Logs and files of real containers, through the host door.
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
use std::io::Read;
use std::path::Path;

use common::{World, process};
use kleene_doors::files::{FilesOf, PathKind, UnpackOptions};
use kleene_doors::frames::Frame;
use kleene_doors::host::{Host, HostError};
use kleene_doors::log::{FILE_HEADER, Stream, next_record, parse_file_header};
use kleene_types::ExecId;

/// What the log holds of a stream, and the position at which its first file begins.
fn logged(world: &World, exec: &ExecId, wanted: Stream) -> (Option<u64>, Vec<u8>) {
    let (mut begin, mut end, mut data) = (None, None, Vec::new());
    for mut file in world.host.log(exec).unwrap() {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let (header, mut rest) = bytes.split_first_chunk::<FILE_HEADER>().unwrap();
        let position = parse_file_header(*header).unwrap();
        assert!(end.is_none_or(|end| end == position), "a gap at {position}");
        begin.get_or_insert(position);
        end = Some(position + rest.len() as u64);
        while let Some(record) = next_record(rest).unwrap() {
            if record.stream == wanted {
                data.extend_from_slice(record.data);
            }
            rest = &rest[record.size()..];
        }
    }
    (begin, data)
}

#[test]
fn output_is_logged_and_followed() {
    let world = World::new();
    let container = world.container();
    let script = "read x; echo out; echo err >&2; read x; exit 7";
    let mut wanted = process(&["sh", "-c", script]);
    wanted.stdin = kleene_doors::host::Stdin::Stream;
    let mut running = container.start(wanted).unwrap();
    let exec = running.exec.clone();
    let instances = world.host.instances().unwrap();
    assert_eq!(instances, std::slice::from_ref(&exec));
    let mut follower = world.host.follow(&exec).unwrap();
    follower.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut next = || Frame::read(&mut follower).unwrap();
    assert_eq!(next(), Some(Frame::Started(running.pid)));
    running.type_in("\n");
    while logged(&world, &exec, Stream::Stderr).1 != b"err\n" {
        assert_eq!(next(), Some(Frame::Grown));
    }
    assert_eq!(
        logged(&world, &exec, Stream::Stdout),
        (Some(0), b"out\n".to_vec())
    );
    running.type_in("\n");
    assert_eq!(running.finish().code, Some(7));
    let end = std::iter::from_fn(next).find(|frame| *frame != Frame::Grown);
    assert!(matches!(end, Some(Frame::Exited(status)) if status.code == 7));
    // The monitor may not have gone yet: then it says how it ended, or hangs up.
    match world.host.follow(&exec) {
        Err(HostError::NotRunning(_)) => {}
        Ok(mut late) => assert!(matches!(
            Frame::read(&mut late),
            Ok(None | Some(Frame::Exited(_))) | Err(_)
        )),
        Err(other) => panic!("{other}"),
    }
    // The log stays until the instance is forgotten.
    assert_eq!(logged(&world, &exec, Stream::Stdout).1, b"out\n");
    world.host.forget(&exec).unwrap();
    assert!(world.host.log(&exec).unwrap().is_empty());
    assert_eq!(world.host.instances().unwrap(), []);
    world.host.clean(&container.id).unwrap();
}

#[test]
fn a_log_that_is_rotated_has_its_end_without_gaps() {
    let world = World::new();
    let container = world.container();
    let mut request = container.request(process(&["seq", "1", "300000"]));
    request.log_limit = 1 << 20;
    let started = world.host.start(&request).unwrap();
    let exec = request.exec.clone();
    let running = common::Running::new(&world, container.id.clone(), exec.clone(), started);
    let written = running.finish().stdout;
    let (begin, kept) = logged(&world, &exec, Stream::Stdout);
    assert!(begin.unwrap() > 0 && kept.len() > 400_000, "{}", kept.len());
    assert!(written.ends_with(&kept));
    world.host.clean(&container.id).unwrap();
}

#[test]
fn files_of_a_running_container_are_copied() {
    let world = World::new();
    let volume = world.tmp.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let container =
        world
            .container()
            .mount(&volume, "/srv/data", false)
            .mount(&volume, "/srv/fixed", true);
    let running = container.idle();
    assert_eq!(
        running
            .exec("echo text > /srv/data/file; ln -s /srv/data /way")
            .ok(),
        ""
    );
    let of = FilesOf::Running {
        init: running.exec.clone(),
    };
    let stat = |path: &str| world.host.stat_path(&of, Path::new(path)).unwrap();
    assert_eq!(stat("/way").unwrap().leads_to, Some(PathKind::Directory));
    assert_eq!(stat("/way/file").unwrap().size, 5);
    let mut archive = Vec::new();
    let read = |path: &str, to: &mut Vec<u8>| world.host.read_archive(&of, Path::new(path), to);
    read("/way/file", &mut archive).unwrap();
    let write = |path: &str| {
        let options = UnpackOptions::default();
        let from = &mut archive.as_slice();
        world
            .host
            .write_archive(&of, Path::new(path), from, options)
    };
    write("/tmp").unwrap();
    write("/dev/shm").unwrap();
    assert_eq!(
        running.exec("cat /tmp/file /dev/shm/file").ok(),
        "text\ntext\n"
    );
    for place in [
        "/srv/fixed",
        "/sys",
        "/proc",
        "/proc/1/root/tmp",
        "/nothing",
    ] {
        let refused = write(place);
        assert!(
            matches!(refused, Err(HostError::Source(_))),
            "{place}: {refused:?}"
        );
    }
    read("/", &mut Vec::new()).unwrap();
    let (setup, host) = (container.setup.clone(), &world.host);
    running.kill();
    assert!(matches!(write("/tmp"), Err(HostError::NotRunning(_))));
    // What was written is there when it doesn't run.
    let of = FilesOf::Stopped {
        root: setup.root,
        mounts: setup.mounts,
    };
    for path in ["/tmp/file", "/srv/fixed/file", "/way/file"] {
        assert_eq!(
            host.stat_path(&of, Path::new(path)).unwrap().unwrap().size,
            5
        );
    }
}
