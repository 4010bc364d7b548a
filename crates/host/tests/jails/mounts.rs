//! What containers have mounted.

use std::path::Path;

use kleene_doors::host::{Host, HostError, Mount};
use kleene_host::freebsd::simulated::{Fault, Moment};

use crate::golden::Story;
use crate::world::{ROOT, VOLUME, World, chain, first, mount, setup};

fn read(world: &World, path: &str) -> Option<String> {
    let behind = world.machine.behind(&Path::new(ROOT).join(path))?;
    let bytes = world.machine.fs().read(&behind)?;
    Some(String::from_utf8(bytes).unwrap())
}

#[test]
fn directories_files_and_what_is_beneath() {
    let (mut story, world) = (Story::default(), World::new());
    let fs = world.machine.fs();
    fs.write(&Path::new(VOLUME).join("file"), b"in the volume");
    for (dataset, path) in [
        ("zroot/home", "/zroot/home"),
        ("zroot/home/ann", "/zroot/home/ann"),
        ("zroot/homes", "/zroot/homes"),
    ] {
        world.machine.mount(dataset, Path::new(path), "zfs");
    }
    world
        .machine
        .mount("devfs", Path::new("/zroot/home/ann/dev"), "devfs");
    fs.write(Path::new("/zroot/home/ann/letter"), b"dear Bob");
    fs.symlink(Path::new("/people"), Path::new("/zroot/home"));
    fs.symlink(&Path::new(ROOT).join("www"), Path::new("/srv/www"));
    let mounts = vec![
        mount(VOLUME, "/data", false),
        mount(VOLUME, "/www/html", true),
        mount("/etc/hosts", "/etc/hosts", true),
        mount("/people", "/home", false),
        mount("/etc/hosts", "/data/hosts", false),
        Mount {
            nosuid: true,
            ..mount(VOLUME, "/strangers", true)
        },
    ];
    let request = first(setup(mounts), &["sleep"]);
    world.start(&request).unwrap();
    story.tell(
        "a container starts with all kinds of mounts",
        world.commands(),
    );
    for (path, text) in [
        ("data/file", "in the volume"),
        ("srv/www/html/file", "in the volume"),
        ("etc/hosts", "::1 localhost\n"),
        ("data/hosts", "::1 localhost\n"),
        ("home/ann/letter", "dear Bob"),
    ] {
        assert_eq!(read(&world, path).as_deref(), Some(text), "{path}");
    }
    // The mount point for a file in a volume is made there.
    assert_eq!(fs.read(&Path::new(VOLUME).join("hosts")), Some(Vec::new()));
    world.end(&request.exec);
    story.tell("it is killed and taken away", world.commands());
    story.check("mounts");
}

/// A container that somebody else runs in the same datasets keeps what it has.
#[test]
fn neighbours_keep_theirs() {
    let world = World::new();
    let other = Path::new("/zroot/kleene/container/c0ffee000002");
    world.machine.mount("zroot/x", other, "zfs");
    world.machine.fs().create_dir_all(&other.join("dev"));
    let mut theirs = first(setup(vec![mount(VOLUME, "/data", false)]), &["sleep"]);
    theirs.container = "c0ffee000002".parse().unwrap();
    if let kleene_doors::host::Place::New(setup) = &mut theirs.place {
        setup.root = kleene_doors::storage::Root::Directory {
            path: other.to_owned(),
        };
    }
    world.start(&theirs).unwrap();
    let before = world.machine.traces();
    let ours = first(setup(vec![mount(VOLUME, "/data", false)]), &["sleep"]);
    world.start(&ours).unwrap();
    world.room.kill(&ours.container, &ours.exec).unwrap();
    world.room.clean(&ours.container).unwrap();
    assert_eq!(world.machine.traces(), before);
    assert_eq!(world.probe(&theirs.exec), "runs");
}

/// What ending processes still use is unmounted a little later, and by force at last.
#[test]
fn busy_mounts() {
    let (mut story, world) = (Story::default(), World::new());
    let data = Path::new(ROOT).join("data");
    for (times, title) in [(3, "busy for a moment"), (1000, "busy for ever")] {
        let request = first(setup(vec![mount(VOLUME, "/data", false)]), &["sleep"]);
        world.start(&request).unwrap();
        world.commands();
        world.machine.keep_busy(&data, times);
        world.end(&request.exec);
        story.tell(title, world.commands());
        world.machine.keep_busy(&data, 0);
    }
    story.check("busy");
}

/// Has `/usr/local` of the host take the place of this path of the volume as soon as something is to be
/// mounted there.
fn lead_out(world: &World, path: &str) {
    let machine = world.machine.clone();
    machine.fs().create_dir_all(Path::new("/usr/local"));
    let end = format!("/data/{path}");
    let swapped = Path::new(VOLUME).join(path);
    world.machine.watch(move |moment, command| {
        if moment == Moment::Before
            && command.starts_with("mount_nullfs")
            && command.ends_with(&end)
        {
            machine.fs().symlink(&swapped, Path::new("/usr/local"));
        }
    });
}

/// Whoever writes to a volume can put a link in the place of a mount point that lies in it, between its
/// being found and its being used. Nothing stays mounted outside then, and the start says why it failed.
#[test]
fn a_link_takes_the_place_of_a_mount_point() {
    let (mut story, world) = (Story::default(), World::new());
    lead_out(&world, "sub");
    let mounts = || {
        vec![
            mount(VOLUME, "/data", false),
            mount("/etc", "/data/sub", false),
        ]
    };
    let error = world
        .start(&first(setup(mounts()), &["sleep"]))
        .unwrap_err();
    assert!(matches!(error, HostError::Source(_)), "{error:?}");
    assert!(
        chain(&error).contains("a link has taken its place"),
        "{error}"
    );
    assert_eq!(world.traces(), Vec::<String>::new());
    story.tell("a link leads out of the container", world.commands());
    // A link that was there before leads to where it leads in the container.
    world.machine.unwatch();
    let request = first(setup(mounts()), &["sleep"]);
    world.start(&request).unwrap();
    assert_eq!(
        read(&world, "usr/local/hosts").as_deref(),
        Some("::1 localhost\n")
    );
    assert!(world.machine.fs().list(Path::new("/usr/local")).is_empty());
    world.end(&request.exec);
    world.commands();
    // What comes next may fail, which has to look at what was mounted before, too.
    for fault in [None, Some(Fault::HangsAfterwards)] {
        let world = World::new();
        lead_out(&world, "sub");
        let mut mounts = mounts();
        match fault {
            None => mounts.push(mount("/nowhere", "/more", false)),
            Some(fault) => world.machine.fault_at("mount_nullfs /etc ", fault),
        }
        let error = world.start(&first(setup(mounts), &["sleep"])).unwrap_err();
        let said = chain(&error);
        assert!(
            said.contains("/nowhere") || said.contains("took longer"),
            "{said}"
        );
        assert_eq!(world.traces(), Vec::<String>::new());
        story.tell(
            "then another mount fails, or this one hangs",
            world.commands(),
        );
    }
    story.check("link");
}

/// Of mounts beneath a source, those that are seen are made; others are hidden by later ones.
#[test]
fn what_is_hidden_beneath_a_source_stays_hidden() {
    let (mut story, world) = (Story::default(), World::new());
    for (source, place) in [
        ("zroot/home", "/zroot/home"),
        ("zroot/home/ann", "/zroot/home/ann"),
        ("zroot/home/bob", "/zroot/home/bob"),
        ("zroot/home/bob/old", "/zroot/home/bob/old"),
        ("tank/ann", "/zroot/home/ann"),
        ("tank/bob", "/zroot/home/bob"),
    ] {
        world.machine.mount(source, Path::new(place), "zfs");
    }
    let request = first(
        setup(vec![mount("/zroot/home", "/home", false)]),
        &["sleep"],
    );
    world.start(&request).unwrap();
    let mut commands = world.commands();
    commands.retain(|command| command.starts_with("mount_nullfs"));
    story.tell("homes have moved to another pool", commands);
    world.end(&request.exec);
    story.check("hidden");
}

#[test]
fn what_cannot_be_mounted() {
    let world = World::new();
    for (mounts, named) in [
        (vec![mount("/nowhere", "/data", false)], "/nowhere"),
        (vec![mount(VOLUME, "/etc/passwd", false)], "/etc/passwd"),
        (vec![mount("/etc/hosts", "/etc", false)], "/etc"),
        (vec![mount(VOLUME, "/etc/passwd/x", false)], "/etc/passwd/x"),
        (
            vec![
                mount(VOLUME, "/data", true),
                mount("/etc", "/data/new", false),
            ],
            "/data/new",
        ),
        (
            vec![mount(VOLUME, "/data", false), mount(VOLUME, "/data", false)],
            "Resource deadlock avoided",
        ),
    ] {
        let error = world.start(&first(setup(mounts), &["sleep"])).unwrap_err();
        assert!(chain(&error).contains(named), "{}", chain(&error));
        assert_eq!(world.traces(), Vec::<String>::new());
    }
}
