//! Tests of the in-memory host.

use std::io::Read;

use kleene_doors::frames::Frame;
use kleene_doors::host::{ContainerSetup, Mount, Network, Process as Wanted, Stdin};

use super::*;

fn host() -> FakeHost {
    let fs = MemFs::new();
    fs.create_dir_all(Path::new("/k/container/c/app"));
    fs.write(Path::new("/k/container/c/app/default"), b"1");
    fs.create_dir_all(Path::new("/k/volumes/v"));
    let host = FakeHost::new(fs);
    let output = b"hi\n".to_vec();
    host.program("hello", Program::Exits { code: 3, output });
    host.program("nginx", Program::Runs);
    host.program("stubborn", Program::Stubborn);
    host.program("cat", Program::Echoes);
    host.program("data", Program::NotExecutable);
    host
}

fn root() -> Root {
    let path = PathBuf::from("/k/container/c");
    Root::Directory { path }
}

fn request(program: &str, place: Option<ExecId>) -> StartRequest {
    let setup = ContainerSetup {
        hostname: "c".to_owned(),
        root: root(),
        mounts: vec![Mount {
            source: PathBuf::from("/k/volumes/v"),
            destination: "/srv/data".parse().unwrap(),
            read_only: false,
        }],
        network: Network::Host,
        limits: Default::default(),
        shm_size: None,
        init: Default::default(),
    };
    StartRequest {
        exec: ExecId::random(),
        container: "cccccccccccc".parse().unwrap(),
        place: place.map_or(Place::New(Box::new(setup)), |init| Place::Running { init }),
        process: Wanted {
            argv: vec![program.to_owned()],
            env: Vec::new(),
            user: String::new(),
            cwd: None,
            ulimits: Vec::new(),
            tty: false,
            window: None,
            stdin: Stdin::Stream,
        },
        jail_params: Vec::new(),
        log_limit: kleene_doors::log::DEFAULT_LIMIT,
        attach: true,
    }
}

fn frames(stream: &mut impl Read) -> Vec<Frame> {
    std::iter::from_fn(|| Frame::read(stream).unwrap()).collect()
}

fn code(frames: &[Frame]) -> i32 {
    match frames {
        [Frame::Exited(status)] => status.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn output_and_status_reach_client_and_watch() {
    let host = host();
    let request = request("hello", None);
    let mut started = host.start(&request).unwrap();
    let seen = frames(started.attached.as_mut().unwrap());
    assert_eq!(seen[0], Frame::Stdout(b"hi\n".to_vec()));
    assert_eq!(code(&seen[1..]), 3);
    assert_eq!(code(&frames(&mut started.watch)), 3);
    let Probe::Exited(status) = host.probe(&request.exec).unwrap() else {
        panic!("still there");
    };
    assert_eq!(status.code, 3);
    host.forget(&request.exec).unwrap();
    assert!(matches!(host.probe(&request.exec), Ok(Probe::Lost)));
}

#[test]
fn stop_ends_those_that_listen_and_kill_the_others() {
    let host = host();
    let init = request("stubborn", None);
    let other = request("nginx", Some(init.exec.clone()));
    let mut init_started = host.start(&init).unwrap();
    let mut other_started = host.start(&other).unwrap();
    host.terminate(&init.container, &init.exec).unwrap();
    assert_eq!(code(&frames(&mut other_started.watch)), 143);
    assert_eq!(host.running(), std::slice::from_ref(&init.exec));
    host.kill(&init.container, &init.exec).unwrap();
    assert_eq!(code(&frames(&mut init_started.watch)), 137);
    let again = host.kill(&init.container, &init.exec);
    assert!(matches!(again, Err(HostError::NotRunning(_))));
    assert_eq!(host.seen(&init.exec).unwrap().signals, [15, 9]);
}

#[test]
fn the_containers_end_takes_its_other_processes_along() {
    let host = host();
    let init = request("nginx", None);
    host.start(&init).unwrap();
    let other = request("stubborn", Some(init.exec.clone()));
    let mut started = host.start(&other).unwrap();
    host.finish(&init.exec, 0);
    assert_eq!(code(&frames(&mut started.watch)), 137);
    let late = request("nginx", Some(init.exec));
    assert!(matches!(host.start(&late), Err(HostError::NotRunning(_))));
}

#[test]
fn clients_reach_standard_input_and_window() {
    let host = host();
    let request = request("cat", None);
    let started = host.start(&request).unwrap();
    let mut client = started.attached.unwrap();
    let window = kleene_doors::host::WindowSize {
        rows: 50,
        columns: 132,
    };
    Frame::Resize(window).write(&mut client).unwrap();
    Frame::Stdin(b"abc".to_vec()).write(&mut client).unwrap();
    assert!(host.wait_until(&request.exec, |seen| seen.stdin == b"abc"));
    assert_eq!(host.seen(&request.exec).unwrap().window, Some(window));
    let mut second = host.attach(&request.exec).unwrap();
    Frame::StdinEnd.write(&mut second).unwrap();
    let seen = frames(&mut client);
    assert_eq!(seen[0], Frame::Stdout(b"abc".to_vec()));
    assert_eq!(code(&seen[1..]), 0);
    assert_eq!(code(&frames(&mut second)), 0);
}

#[test]
fn a_client_can_signal() {
    let host = host();
    let request = request("nginx", None);
    let mut client = host.start(&request).unwrap().attached.unwrap();
    Frame::Signal(28).write(&mut client).unwrap();
    Frame::Signal(15).write(&mut client).unwrap();
    assert_eq!(code(&frames(&mut client)), 143);
}

#[test]
fn a_daemons_end_leaves_processes_and_a_reboot_does_not() {
    let host = host();
    let request = request("nginx", None);
    let mut started = host.start(&request).unwrap();
    host.disconnect();
    assert_eq!(frames(&mut started.watch), []);
    let Probe::Running { pid, mut watch, .. } = host.probe(&request.exec).unwrap() else {
        panic!("gone");
    };
    assert_eq!(pid, started.pid);
    host.reboot();
    assert_eq!(frames(&mut watch), []);
    assert!(matches!(host.probe(&request.exec), Ok(Probe::Lost)));
}

#[test]
fn failures_are_those_of_the_door_and_leave_nothing() {
    let host = host();
    let start_code = |request| match host.start(&request) {
        Err(HostError::Start(failure)) => failure.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(start_code(request("nothing", None)), 127);
    assert_eq!(start_code(request("data", None)), 126);
    host.fs().remove_all(Path::new("/k/volumes/v"));
    assert_eq!(start_code(request("nginx", None)), 125);
    assert_eq!(host.known(), []);

    host.fail_next(Op::Clean);
    let container = "cccccccccccc".parse().unwrap();
    assert!(matches!(
        host.clean(&container),
        Err(HostError::Failed { .. })
    ));
    host.clean(&container).unwrap();
    let cleans = host.calls();
    assert_eq!(cleans.iter().filter(|call| call.op == Op::Clean).count(), 2);
}

#[test]
fn copy_up_fills_only_empty_directories() {
    let host = host();
    let (from, into) = ("/app".parse().unwrap(), Path::new("/k/volumes/v"));
    let absent = "/absent".parse().unwrap();
    assert_eq!(
        host.copy_up(&root(), &absent, into).unwrap(),
        CopyUp::NothingToCopy
    );
    let copied = CopyUp::Copied {
        entries: 1,
        bytes: 1,
    };
    assert_eq!(host.copy_up(&root(), &from, into).unwrap(), copied);
    assert_eq!(
        host.copy_up(&root(), &from, into).unwrap(),
        CopyUp::TargetNotEmpty
    );
    assert!(host.recover_copy_up(into).unwrap());
}

#[test]
fn sources_and_destinations_are_checked() {
    let host = host();
    host.fs().write(Path::new("/etc/motd"), b"hello");
    let kind = |path| host.inspect_source(Path::new(path));
    assert_eq!(kind("/etc").unwrap(), SourceKind::Directory);
    assert_eq!(kind("/etc/motd").unwrap(), SourceKind::File);
    assert!(
        kind("/nowhere")
            .unwrap_err()
            .to_string()
            .contains("create it first")
    );
    let check = |path: &str, kind| {
        let path = path.parse().unwrap();
        host.check_destination(&root(), &path, kind)
    };
    check("/app", SourceKind::Directory).unwrap();
    check("/new/deep", SourceKind::File).unwrap();
    check("/app/default", SourceKind::File).unwrap();
    assert!(check("/app", SourceKind::File).is_err());
    assert!(check("/app/default", SourceKind::Directory).is_err());
    assert!(check("/app/default/x", SourceKind::Directory).is_err());
}

#[test]
fn mounts_cover_what_is_beneath() {
    let host = host();
    let request = request("nginx", None);
    host.start(&request).unwrap();
    let at = |path| host.host_path(&request.exec, path).unwrap();
    assert_eq!(at("/srv/data/x"), Path::new("/k/volumes/v/x"));
    assert_eq!(at("/srv/data"), Path::new("/k/volumes/v"));
    assert_eq!(
        at("/srv/database"),
        Path::new("/k/container/c/srv/database")
    );
    assert!(host.fs().is_dir(Path::new("/k/container/c/srv/data")));
}
