//! Containers from their start to their end.

use std::fs;
use std::path::Path;

use kleene_doors::files::FilesOf;
use kleene_doors::frames::Frame;
use kleene_doors::host::{ContainerSetup, Host, HostError, Network};
use kleene_doors::storage::Root;
use kleene_host::freebsd::simulated::Moment;
use kleene_types::{Init, Limits, SwapLimit};

use crate::golden::Story;
use crate::world::{
    CONTAINER, ROOT, VOLUME, World, chain, container, first, frame, joining, mount, setup,
};

fn with_params(params: &[&str]) -> kleene_doors::host::StartRequest {
    let mut request = first(setup(Vec::new()), &["sleep"]);
    request.jail_params = params.iter().map(|&param| param.to_owned()).collect();
    request
}

#[test]
fn a_life() {
    let (mut story, world) = (Story::default(), World::new());
    let request = first(setup(Vec::new()), &["sleep"]);
    let mut started = world.start(&request).unwrap();
    story.tell("the first container of a daemon starts", world.commands());
    assert_eq!(world.room.number(&container()), Some(1));
    let devices = world.machine.devices(CONTAINER).unwrap();
    assert_eq!(devices[..2], ["hide", "path null unhide"]);
    let joined = joining(&request.exec, &["hello"]);
    let mut watch = world.start(&joined).unwrap().watch;
    let Frame::Exited(status) = frame(&mut watch) else {
        panic!()
    };
    assert_eq!(status.code, 3);
    story.tell("another process joins it", world.commands());
    world.room.send_signal(&request.exec, 28).unwrap();
    let listed = world.room.processes(&container(), &request.exec).unwrap();
    assert_eq!((listed.len(), listed[0].command.as_str()), (1, "sleep"));
    let stats = world.room.stats(&container(), &request.exec).unwrap();
    assert_eq!(stats.pids.unwrap().current, 1);
    story.tell("it is looked at", world.commands());
    world.room.terminate(&container(), &request.exec).unwrap();
    let Frame::Exited(status) = frame(&mut started.watch) else {
        panic!()
    };
    assert_eq!(status.code, 143);
    assert_eq!(world.probe(&request.exec), "exited 143");
    assert_eq!(
        world.processes().seen(&request.exec).unwrap().signals,
        [28, 15]
    );
    story.tell("it is asked to end, and does", world.commands());
    world.tidy();
    story.tell("it is taken away", world.commands());
    let again = first(setup(Vec::new()), &["sleep"]);
    world.start(&again).unwrap();
    story.tell("it starts again", world.commands());
    world.room.kill(&container(), &again.exec).unwrap();
    assert_eq!(world.probe(&again.exec), "exited 137");
    world.tidy();
    story.tell("it is killed and taken away", world.commands());
    story.check("life");
}

#[test]
fn programs_that_are_not_there() {
    let world = World::new();
    let request = first(setup(Vec::new()), &["missing"]);
    match world.start(&request).unwrap_err() {
        HostError::Start(failure) => assert_eq!(failure.code, 127),
        other => panic!("{other}"),
    }
    assert_eq!(world.traces(), Vec::<String>::new());
    // One that joins leaves nothing of its own, and the container alone.
    let request = first(setup(Vec::new()), &["sleep"]);
    world.start(&request).unwrap();
    let before = world.traces();
    world
        .start(&joining(&request.exec, &["missing"]))
        .unwrap_err();
    assert_eq!(world.traces(), before);
    world.end(&request.exec);
}

#[test]
fn parameters_decide() {
    let mut story = Story::default();
    for params in [
        &["mount.nodevfs"][..],
        &["devfs_ruleset=5", "host.hostname=own"],
        &["vnet", "exec.noclean"],
        &["ip4.addr=10.0.0.2", "allow.raw_sockets", "exec.timeout=3"],
    ] {
        let world = World::new();
        let request = with_params(params);
        world.start(&request).unwrap();
        let has_dev = world.machine.devices(CONTAINER).is_some();
        assert_eq!(has_dev, params != ["mount.nodevfs"]);
        let mut commands = world.commands();
        commands.retain(|command| command.starts_with("jail "));
        story.tell(&params.join(" "), commands);
        world.end(&request.exec);
    }
    let world = World::new();
    let setup = ContainerSetup {
        network: Network::Disabled,
        ..setup(Vec::new())
    };
    world.start(&first(setup, &["sleep"])).unwrap();
    let mut commands = world.commands();
    commands.retain(|command| command.starts_with("jail "));
    story.tell("no network", commands);
    story.check("parameters");
    let error = world.start(&with_params(&["allow.nonsense"])).unwrap_err();
    let said = chain(&error);
    assert!(
        said.contains("jail: unknown parameter: allow.nonsense"),
        "{said}"
    );
}

#[test]
fn limits() {
    let (mut story, world) = (Story::default(), World::new());
    let limits = Limits {
        memory: Some("64m".parse().unwrap()),
        memory_swap: Some(SwapLimit::Total("96m".parse().unwrap())),
        cpus: Some("1.5".parse().unwrap()),
        cpuset: Some("0-1,3".parse().unwrap()),
        pids: Some(100),
        io_weight: None,
    };
    world.room.check_limits(&limits, None, &[]).unwrap();
    story.tell("they are checked", world.commands());
    let request = first(
        ContainerSetup {
            limits: limits.clone(),
            ..setup(Vec::new())
        },
        &["sleep"],
    );
    world.start(&request).unwrap();
    assert_eq!(world.machine.processors(CONTAINER).unwrap(), "0-1,3");
    story.tell("a container starts with all of them", world.commands());
    let stats = world.room.stats(&container(), &request.exec).unwrap();
    assert_eq!(stats.memory.unwrap().limit, 64 << 20);
    assert_eq!(stats.pids.unwrap().limit, Some(100));
    world.commands();
    let more = Limits {
        memory: Some("128m".parse().unwrap()),
        ..limits.clone()
    };
    world
        .room
        .update_limits(&container(), &request.exec, &more)
        .unwrap();
    let rules = world.machine.traces();
    let of_memory = rules.iter().filter(|it| it.contains(":memoryuse:"));
    assert!(
        of_memory.clone().all(|rule| rule.ends_with("=134217728")),
        "{rules:?}"
    );
    assert_eq!(of_memory.count(), 2);
    story.tell("it has more memory", world.commands());
    let fewer = Limits {
        pids: Some(50),
        ..Limits::default()
    };
    world
        .room
        .update_limits(&container(), &request.exec, &fewer)
        .unwrap();
    assert_eq!(world.machine.processors(CONTAINER).unwrap(), "0-63");
    let rules: Vec<String> = world.machine.traces();
    let rules: Vec<&String> = rules.iter().filter(|it| it.starts_with("rule")).collect();
    assert_eq!(rules, [&format!("rule jail:{CONTAINER}:maxproc:deny=50")]);
    story.tell("it has fewer limits", world.commands());
    world.end(&request.exec);
    story.tell("it is killed and taken away", world.commands());
    // One that had none gets some, and loses them with everything else.
    let request = first(setup(Vec::new()), &["sleep"]);
    world.start(&request).unwrap();
    world
        .room
        .update_limits(&container(), &request.exec, &fewer)
        .unwrap();
    world.end(&request.exec);
    // Where the kernel doesn't count, processors can be had all the same.
    world.machine.count(false);
    let processors = |list: &str| Limits {
        cpuset: Some(list.parse().unwrap()),
        ..Limits::default()
    };
    let request = first(
        ContainerSetup {
            limits: processors("0"),
            ..setup(Vec::new())
        },
        &["sleep"],
    );
    world.start(&request).unwrap();
    let update = world
        .room
        .update_limits(&container(), &request.exec, &processors("1"));
    update.unwrap();
    assert_eq!(world.machine.processors(CONTAINER).unwrap(), "1");
    let stats = world.room.stats(&container(), &request.exec).unwrap();
    assert_eq!(stats.pids.unwrap().current, 1, "by its processes");
    world.end(&request.exec);
    let said = chain(&world.room.check_limits(&limits, None, &[]).unwrap_err());
    assert!(said.contains("kern.racct.enable=1"), "{said}");
    story.check("limits");
}

#[test]
fn pausing() {
    let (mut story, mut world) = (Story::default(), World::new());
    let request = first(setup(Vec::new()), &["sleep"]);
    world.start(&request).unwrap();
    let joined = joining(&request.exec, &["sleep"]);
    world.start(&joined).unwrap();
    world.commands();
    world.room.pause(&container(), &request.exec).unwrap();
    assert_eq!(world.probe(&request.exec), "is paused");
    assert!(world.processes().seen(&joined.exec).unwrap().paused);
    story.tell("it is paused", world.commands());
    let error = world
        .start(&joining(&request.exec, &["hello"]))
        .unwrap_err();
    assert!(chain(&error).contains("unpause it first"), "{error}");
    world.reopen();
    assert_eq!(world.probe(&request.exec), "is paused");
    world.room.unpause(&container(), &request.exec).unwrap();
    assert_eq!(world.probe(&request.exec), "runs");
    story.tell("another daemon lets it go on", world.commands());
    world.room.pause(&container(), &request.exec).unwrap();
    world.commands();
    world.room.terminate(&container(), &request.exec).unwrap();
    story.tell("it is asked to end while it is paused", world.commands());
    assert_eq!(world.probe(&request.exec), "exited 143");
    world.tidy();
    story.check("pausing");
}

/// A signal that ends nobody.
const WINCH: i32 = 28;

/// What the boot script has started lives on without it.
#[test]
fn containers_that_boot() {
    let (mut story, world) = (Story::default(), World::new());
    let boots = ContainerSetup {
        init: Init::All,
        ..setup(Vec::new())
    };
    let mut request = first(boots, &["/etc/rc"]);
    request.attach = true;
    let started = world.start(&request).unwrap();
    let (mut watch, mut attached) = (started.watch, started.attached.unwrap());
    let service = joining(&request.exec, &["sleep"]);
    world.start(&service).unwrap();
    world.commands();
    world.processes().finish(&request.exec, 0);
    let Frame::LivesOn(status) = frame(&mut attached) else {
        panic!()
    };
    assert_eq!(status.code, 0);
    assert_eq!(world.probe(&request.exec), "runs");
    let more = joining(&request.exec, &["sleep"]);
    world.start(&more).unwrap();
    story.tell(
        "the script has ended, and another process joins",
        world.commands(),
    );
    world.room.send_signal(&request.exec, WINCH).unwrap();
    story.tell("a signal is for those that live on", world.commands());
    world.room.terminate(&container(), &request.exec).unwrap();
    let Frame::Exited(status) = frame(&mut watch) else {
        panic!()
    };
    assert_eq!(status.code, 0, "that of the script");
    assert_eq!(world.probe(&service.exec), "exited 143");
    story.tell("all are asked to end, and do", world.commands());
    world.tidy();
    story.tell("it is taken away", world.commands());
    story.check("boot");
}

/// A jail that persists is there without processes, until somebody ends it.
#[test]
fn containers_that_persist() {
    let (mut story, world) = (Story::default(), World::new());
    let mut request = with_params(&["persist"]);
    let kleene_doors::host::Place::New(setup) = &mut request.place else {
        panic!()
    };
    setup.init = Init::All;
    let mut watch = world.start(&request).unwrap().watch;
    world.processes().finish(&request.exec, 4);
    assert_eq!(world.probe(&request.exec), "runs");
    world.commands();
    world.start(&joining(&request.exec, &["hello"])).unwrap();
    story.tell("a process joins one without processes", world.commands());
    assert!(
        world
            .room
            .processes(&container(), &request.exec)
            .unwrap()
            .is_empty()
    );
    world.commands();
    world.room.terminate(&container(), &request.exec).unwrap();
    let Frame::Exited(status) = frame(&mut watch) else {
        panic!()
    };
    assert_eq!(status.code, 4);
    story.tell("it is asked to end", world.commands());
    world.tidy();
    story.check("persist");
}

/// A program that makes processes of its own is ended with them.
#[test]
fn sessions() {
    let (mut story, world) = (Story::default(), World::new());
    let request = first(setup(Vec::new()), &["sleep"]);
    world.start(&request).unwrap();
    let joined = joining(&request.exec, &["stubborn"]);
    let pid = world.start(&joined).unwrap().pid;
    world.commands();
    story.call(pid, "PID");
    world.room.end_session(&joined.exec).unwrap();
    assert_eq!(world.probe(&joined.exec), "exited 137");
    assert_eq!(world.probe(&request.exec), "runs");
    world.room.end_session(&joined.exec).unwrap();
    story.tell("a session is ended twice", world.commands());
    story.check("session");
    world.end(&request.exec);
}

/// Another daemon finds what runs, with its streams and its end, and makes nothing anew.
#[test]
fn another_daemon() {
    let mut world = World::new();
    let request = first(setup(vec![mount(VOLUME, "/data", false)]), &["sleep"]);
    world.start(&request).unwrap();
    let ended = joining(&request.exec, &["sleep"]);
    world.start(&ended).unwrap();
    let before = world.traces();
    world.commands();
    world.processes().disconnect();
    world.processes().finish(&ended.exec, 7);
    world.reopen();
    assert_eq!(world.commands(), Vec::<String>::new());
    assert_eq!(world.traces(), before);
    assert_eq!(world.probe(&request.exec), "runs");
    assert_eq!(world.probe(&ended.exec), "exited 7");
    assert_eq!(world.room.number(&container()), Some(1));
    let mut attached = world.room.attach(&request.exec).unwrap();
    world
        .processes()
        .wait_until(&request.exec, |seen| seen.attached == 1);
    world.processes().print(&request.exec, b"still here");
    assert_eq!(frame(&mut attached), Frame::Stdout(b"still here".to_vec()));
    world.start(&joining(&request.exec, &["hello"])).unwrap();
    world.end(&request.exec);
}

/// After a restart of the machine, records are all that is left.
#[test]
fn the_machine_restarts() {
    let mut world = World::new();
    let request = first(setup(vec![mount(VOLUME, "/data", false)]), &["sleep"]);
    world.start(&request).unwrap();
    world.processes().reboot();
    world.reopen();
    assert_eq!(world.probe(&request.exec), "is lost");
    assert!(world.room.processes(&container(), &request.exec).is_err());
    world.room.forget(&request.exec).unwrap();
    assert_eq!(world.traces(), Vec::<String>::new());
    let again = first(setup(Vec::new()), &["sleep"]);
    world.start(&again).unwrap();
    let shows = world.machine.devices(CONTAINER).unwrap();
    assert_eq!(shows[0], "hide", "the new kernel has no rules of its own");
    world.end(&again.exec);
}

/// An image whose `/dev` is a link has its devices nowhere.
#[test]
fn devices_are_not_mounted_through_links() {
    let world = World::new();
    let dev = Path::new(ROOT).join("dev");
    world.machine.fs().create_dir_all(Path::new("/usr/local"));
    world.machine.fs().symlink(&dev, Path::new("/usr/local"));
    let error = world
        .start(&first(setup(Vec::new()), &["sleep"]))
        .unwrap_err();
    assert!(chain(&error).contains("is a symbolic link"), "{error}");
    assert_eq!(world.traces(), Vec::<String>::new());
}

/// Whoever removes a jail behind our back ends its container.
#[test]
fn a_jail_is_removed_by_somebody() {
    let world = World::new();
    let request = first(setup(Vec::new()), &["sleep"]);
    let mut watch = world.start(&request).unwrap().watch;
    let argv = kleene_command::Argv::new("jail").args(["-R", CONTAINER]);
    kleene_command::Runner::run(&world.machine, &argv).unwrap();
    assert!(matches!(frame(&mut watch), Frame::Exited(status) if status.code == 137));
    world.tidy();
    // One that does it at once is told to be.
    let machine = world.machine.clone();
    world.machine.watch(move |moment, command| {
        if moment == Moment::After && command.starts_with("jail -c") {
            let argv = kleene_command::Argv::new("jail").args(["-R", CONTAINER]);
            kleene_command::Runner::run(&machine, &argv).unwrap();
        }
    });
    let error = world
        .start(&first(setup(Vec::new()), &["sleep"]))
        .unwrap_err();
    assert!(
        chain(&error).contains("who else removes jails here?"),
        "{error}"
    );
    assert_eq!(world.traces(), Vec::<String>::new());
}

/// The files of a container that doesn't run are looked at with its mounts.
#[test]
fn looking_at_files() {
    let (mut story, world) = (Story::default(), World::new());
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    fs::write(root.join("etc/motd"), "hello").unwrap();
    world.machine.fs().create_dir_all(&root);
    story.call(root.display(), "ROOT");
    let of = |mounts| FilesOf::Stopped {
        root: Root::Directory { path: root.clone() },
        mounts,
    };
    let look = |mounts| world.room.stat_path(&of(mounts), Path::new("/etc/motd"));
    assert_eq!(look(Vec::new()).unwrap().unwrap().size, 5);
    story.tell("without mounts", world.commands());
    let found = look(vec![mount(VOLUME, "/data", false)]).unwrap().unwrap();
    assert_eq!(found.size, 5);
    let mut commands = world.commands();
    let name = commands
        .iter()
        .find_map(|it| it.strip_prefix("jail -f - -r "));
    story.call(&name.unwrap()[..12], "LOOK");
    story.tell("with a volume", std::mem::take(&mut commands));
    story.check("look");
    assert_eq!(world.traces(), Vec::<String>::new());
    look(vec![mount("/nowhere", "/data", false)]).unwrap_err();
    assert_eq!(world.traces(), Vec::<String>::new());
    // Of one that runs, its root is looked at as it is.
    let request = first(
        ContainerSetup {
            root: Root::Directory { path: root.clone() },
            ..setup(Vec::new())
        },
        &["sleep"],
    );
    world.machine.fs().create_dir_all(&root.join("dev"));
    world.start(&request).unwrap();
    let running = FilesOf::Running {
        init: request.exec.clone(),
    };
    let found = world.room.stat_path(&running, Path::new("/etc/motd"));
    assert_eq!(found.unwrap().unwrap().size, 5);
    world.end(&request.exec);
    assert!(
        !Path::new(ROOT).exists(),
        "nothing of the simulated machine is real"
    );
}
