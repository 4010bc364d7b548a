//! Tests of the in-memory host.

use std::io::Read;

use kleene_doors::files::{FilesOf, PathKind, UnpackOptions};
use kleene_doors::frames::Frame;
use kleene_doors::host::{
    ContainerSetup, CopyUp, Host, Mount, Network, Probe, Process as Wanted, SourceKind, Stdin,
};
use kleene_doors::log::{FILE_HEADER, next_record, parse_file_header};
use kleene_doors::storage::Root;
use kleene_types::{Limits, Span};

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
            nosuid: false,
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

#[test]
fn output_is_logged_and_followed() {
    let host = host();
    let request = request("nginx", None);
    let exec = &request.exec;
    host.start(&request).unwrap();
    assert!(host.log(exec).unwrap().is_empty());
    let mut follower = host.follow(exec).unwrap();
    for (number, text) in ["one", "two", "three"].iter().enumerate() {
        host.print(exec, text.as_bytes());
        if number < 2 {
            host.rotate_log(exec);
        }
    }
    host.print_error(exec, b"four");
    let mut texts = Vec::new();
    for mut file in host.log(exec).unwrap() {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let (header, mut rest) = bytes.split_first_chunk::<FILE_HEADER>().unwrap();
        texts.push(parse_file_header(*header).unwrap().to_string());
        while let Some(record) = next_record(rest).unwrap() {
            texts.push(String::from_utf8_lossy(record.data).into_owned());
            rest = &rest[record.size()..];
        }
    }
    // The first file is gone: a record of 13 + 3 bytes.
    assert_eq!(texts, ["16", "two", "32", "three", "four"]);
    host.finish(exec, 0);
    let seen = frames(&mut follower);
    assert!(matches!(seen[0], Frame::Started(_)));
    assert_eq!(seen[1..5], vec![Frame::Grown; 4]);
    assert_eq!(code(&seen[5..]), 0);
    assert!(host.follow(exec).is_err());
    host.forget(exec).unwrap();
    assert!(host.log(exec).unwrap().is_empty());
}

#[test]
fn a_pause_holds_signals_back() {
    let host = host();
    let request = request("nginx", None);
    let (id, exec) = (&request.container, &request.exec);
    let mut watch = host.start(&request).unwrap().watch;
    host.pause(id, exec).unwrap();
    let paused = |exec| match host.probe(exec).unwrap() {
        Probe::Running { paused, .. } => Some(paused),
        _ => None,
    };
    assert_eq!(paused(exec), Some(true));
    host.terminate(id, exec).unwrap();
    assert_eq!(paused(exec), Some(true));
    host.unpause(id, exec).unwrap();
    assert_eq!(code(&frames(&mut watch)), 143);
    assert!(host.pause(id, exec).is_err());
}

#[test]
fn programs_in_turn_and_such_that_stop_the_container() {
    let host = host();
    let fails = Program::Exits {
        code: 1,
        output: Vec::new(),
    };
    host.program("app", Program::InTurn(vec![fails, Program::Runs]));
    host.program("stop", Program::Signals(15));
    let mut watch = host.start(&request("app", None)).unwrap().watch;
    assert_eq!(code(&frames(&mut watch)), 1);
    let init = request("app", None);
    let mut watch = host.start(&init).unwrap().watch;
    let stop = request("stop", Some(init.exec.clone()));
    let mut stopping = host.start(&stop).unwrap().watch;
    assert_eq!(code(&frames(&mut stopping)), 0);
    assert_eq!(code(&frames(&mut watch)), 143);
}

#[test]
fn limits_and_what_is_used() {
    let host = host();
    host.warn_of_limits(&["no swap space"]);
    let limits = Limits {
        pids: Some(10),
        ..Limits::default()
    };
    let warnings = host.check_limits(&limits, None, &[]).unwrap();
    assert_eq!(warnings, ["no swap space"]);
    let request = request("nginx", None);
    let (id, exec) = (&request.container, &request.exec);
    assert!(matches!(
        host.stats(id, exec),
        Err(HostError::NotRunning(_))
    ));
    host.start(&request).unwrap();
    host.update_limits(id, exec, &limits).unwrap();
    assert_eq!(host.seen(exec).unwrap().limits, limits);
    assert_eq!(host.stats(id, exec).unwrap().pids.unwrap().current, 1);
    assert_eq!(host.processes(id, exec).unwrap()[0].command, "nginx");
    host.set_stats(id, Stats::default());
    assert_eq!(host.stats(id, exec).unwrap(), Stats::default());
    host.set_processes(id, Vec::new());
    assert_eq!(host.processes(id, exec).unwrap(), []);
    assert_eq!(host.instances().unwrap(), std::slice::from_ref(exec));
    host.finish_out_of_memory(exec);
    let Ok(Probe::Exited(status)) = host.probe(exec) else {
        panic!("still there");
    };
    assert!(status.out_of_memory && status.code == 137);
}

#[test]
fn hooks_are_what_parameters_say() {
    let host = host();
    let params = ["exec.prestart=echo a", "exec.stop=/bin/stop", "x=y"].map(str::to_owned);
    let hooks = host.hooks(&params, &[]).unwrap();
    assert_eq!(hooks.prestart, [["echo", "a"]]);
    assert_eq!(hooks.stop.unwrap(), ["/bin/stop"]);
    assert!(host.hooks(&["stop.timeout=x".to_owned()], &[]).is_err());
    let id = "cccccccccccc".parse().unwrap();
    let second = Span::from_millis(1000);
    host.run_host_command(&id, &hooks.prestart[0], second)
        .unwrap();
    let last = host.calls().pop().unwrap();
    assert_eq!(last.object, "cccccccccccc echo a");
    host.fail_next(Op::RunHostCommand);
    assert!(host.run_host_command(&id, &[], second).is_err());
}

#[test]
fn files_are_copied_in_and_out() {
    let host = host();
    let fs = host.fs();
    fs.symlink(Path::new("/k/container/c/data"), Path::new("../srv/data"));
    fs.create_dir_all(Path::new("/k/container/c/srv/data"));
    fs.write(Path::new("/k/volumes/v/x"), b"volume");
    let long = "n".repeat(150);
    fs.symlink(&Path::new("/k/volumes/v").join(&long), Path::new("/app"));
    let mounts = |read_only| {
        vec![Mount {
            source: PathBuf::from("/k/volumes/v"),
            destination: "/srv/data".parse().unwrap(),
            read_only,
            nosuid: false,
        }]
    };
    let of = |read_only| FilesOf::Stopped {
        root: root(),
        mounts: mounts(read_only),
    };
    let stat = |path: &str| host.stat_path(&of(false), Path::new(path)).unwrap();
    let link = stat("/data").unwrap();
    assert_eq!(link.target.as_deref(), Some("../srv/data"));
    assert_eq!(link.leads_to, Some(PathKind::Directory));
    assert_eq!(stat("/data/x").unwrap().size, 6);
    assert_eq!(stat("/").unwrap().name, "/");
    assert_eq!(stat("/nothing"), None);

    let mut archive = Vec::new();
    host.read_archive(&of(false), Path::new("/srv"), &mut archive)
        .unwrap();
    let write = |directory: &str, read_only, archive: &[u8]| {
        let options = UnpackOptions::default();
        let from = &mut &*archive;
        host.write_archive(&of(read_only), Path::new(directory), from, options)
    };
    write("/app", true, &archive).unwrap();
    let copied = fs.read(Path::new("/k/container/c/app/srv/data/x"));
    assert_eq!(copied.as_deref(), Some(&b"volume"[..]));
    assert!(fs.exists(&Path::new("/k/container/c/app/srv/data").join(&long)));
    for (directory, archive) in [
        ("/data", archive.as_slice()),
        ("/nothing", &archive),
        ("/app", &[1; 512]),
        ("/app", &archive[..1000]),
    ] {
        let refused = write(directory, true, archive);
        assert!(matches!(refused, Err(HostError::Source(_))), "{directory}");
    }
}

#[test]
fn layers_come_and_go() {
    use kleene_doors::layers::LayerOptions;
    let host = host();
    let fs = host.fs();
    let place = |name: &str| Root::Directory {
        path: Path::new("/k").join(name),
    };
    for name in ["old", "new", "again"] {
        fs.write(&Path::new("/k").join(name).join("etc/motd"), b"hello");
        fs.write(&Path::new("/k").join(name).join("gone/file"), b"x");
    }
    fs.write(Path::new("/k/new/etc/motd"), b"changed");
    fs.remove_all(Path::new("/k/new/gone"));
    fs.symlink(Path::new("/k/new/link"), Path::new("/etc"));
    let (old, new, again) = (place("old"), place("new"), place("again"));
    let mut layer = Vec::new();
    let packed = host.pack_layer(Some(&old), &new, &mut layer).unwrap();
    assert_eq!((packed.entries, packed.whiteouts, packed.bytes), (3, 1, 7));
    let options = LayerOptions::default();
    let go_on = &mut |_| std::ops::ControlFlow::Continue(());
    let applied = host.apply_layer(&again, &mut layer.as_slice(), &options, go_on);
    assert_eq!(applied.unwrap().entries, 3);
    let mut difference = Vec::new();
    let packed = host
        .pack_layer(Some(&new), &again, &mut difference)
        .unwrap();
    assert_eq!(packed.entries, 0);
    let stop = &mut |_| std::ops::ControlFlow::Break(());
    let cancelled = host.apply_layer(&again, &mut layer.as_slice(), &options, stop);
    assert!(matches!(cancelled, Err(HostError::Cancelled(_))));
    let bad = host.apply_layer(&again, &mut &[1; 600][..], &options, go_on);
    assert!(matches!(bad, Err(HostError::Source(_))));
}

#[test]
fn files_are_copied_in() {
    use kleene_doors::layers::{CopyIn, CopySource, Keep, KeepFn};
    use std::ops::ControlFlow;
    let host = host();
    let fs = host.fs();
    let disk = tempfile::tempdir().unwrap();
    for (name, text) in [("a.txt", "a"), ("dir/one", "1"), ("dir/two.log", "2")] {
        fs.write(&Path::new("/context").join(name), text.as_bytes());
        std::fs::create_dir_all(disk.path().join("dir")).unwrap();
        std::fs::write(disk.path().join(name), text).unwrap();
    }
    let keep: KeepFn<'_> = &|path, _| match path.extension().is_some_and(|it| it == "log") {
        true => Keep::No,
        false => Keep::Yes,
    };
    let root = root();
    for from in [Path::new("/context"), disk.path()] {
        let copy = |sources: &[&str], destination| {
            let sources: Vec<String> = sources.iter().map(|name| (*name).to_owned()).collect();
            let from = CopySource::Directory(from);
            let digest = host.digest_sources(&from, &sources, keep);
            let copied = host.copy_in(&CopyIn {
                root: &root,
                from,
                sources: &sources,
                destination,
                keep,
                owner: None,
                mode: None,
                parents: false,
                unpack: false,
                progress: &|_| ControlFlow::Continue(()),
            });
            assert!(digest.is_ok() || copied.is_err());
            copied.map(|copied| copied.entries)
        };
        fs.remove_all(Path::new("/k/container/c"));
        assert_eq!(copy(&["."], "/all/").unwrap(), 3);
        assert_eq!(copy(&["*.txt"], "/wild").unwrap(), 1);
        assert_eq!(copy(&["a.txt"], "/b.txt").unwrap(), 1);
        assert_eq!(copy(&["dir"], "/d").unwrap(), 1);
        for missing in ["missing", "*.rs", "dir/two.log"] {
            assert!(matches!(copy(&[missing], "/x"), Err(HostError::Source(_))));
        }
        assert!(matches!(
            copy(&["dir"], "/b.txt"),
            Err(HostError::Source(_))
        ));
        for (path, text) in [
            ("all/dir/one", "1"),
            ("wild/a.txt", "a"),
            ("b.txt", "a"),
            ("d/one", "1"),
        ] {
            let path = Path::new("/k/container/c").join(path);
            assert_eq!(fs.read(&path).as_deref(), Some(text.as_bytes()));
        }
        assert!(!fs.exists(Path::new("/k/container/c/all/dir/two.log")));
    }
    let sources = [".".to_owned()];
    let context = CopySource::Directory(Path::new("/context"));
    let before = host.digest_sources(&context, &sources, keep).unwrap();
    fs.write(Path::new("/context/dir/two.log"), b"changed");
    assert_eq!(
        host.digest_sources(&context, &sources, keep).unwrap(),
        before
    );
    fs.write(Path::new("/context/a.txt"), b"changed");
    assert_ne!(
        host.digest_sources(&context, &sources, keep).unwrap(),
        before
    );
}

#[test]
fn a_first_process_may_wait_for_all() {
    let host = host();
    let mut request = request("nginx", None);
    if let Place::New(setup) = &mut request.place {
        setup.init = kleene_types::Init::All;
    }
    request.attach = true;
    let mut started = host.start(&request).unwrap();
    let mut attached = started.attached.take().unwrap();
    let joined = self::request("nginx", Some(request.exec.clone()));
    host.start(&joined).unwrap();
    host.finish(&request.exec, 3);
    let code = |frame| match frame {
        Some(Frame::LivesOn(status)) => (status.code, true),
        Some(Frame::Exited(status)) => (status.code, false),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(Frame::read(&mut attached).unwrap()), (3, true));
    assert!(matches!(
        host.probe(&request.exec),
        Ok(Probe::Running { .. })
    ));
    host.finish(&joined.exec, 0);
    assert_eq!(code(Frame::read(&mut started.watch).unwrap()), (3, false));
    assert_eq!(code(Frame::read(&mut attached).unwrap()), (3, false));
    assert!(host.running().is_empty());
    // Without others it has nobody to wait for.
    let again = StartRequest {
        exec: ExecId::random(),
        ..request
    };
    let mut watch = host.start(&again).unwrap().watch;
    host.finish(&again.exec, 4);
    assert_eq!(code(Frame::read(&mut watch).unwrap()), (4, false));
}
