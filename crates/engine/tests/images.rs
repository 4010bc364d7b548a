//! Images from elsewhere and of containers: what they share, what is pruned, and what is left when the
//! making of one fails, or the daemon dies, at any step.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::ops::ControlFlow;
use std::sync::Barrier;

use kleene_doors::distribution::{Compression, Distribution, ImageConfig, OutgoingImage};
use kleene_doors::storage::{Dataset, Storage, StorageError};
use kleene_engine::{
    Changes, Engine, EngineError, ImagePrune, NewBuild, NewCommit, NewImport, NewPull,
};
use kleene_host::fake::Op;
use kleene_storage::memory::Operation;
use kleene_types::ImageId;
use support::images::{
    build, furnish, in_image, layer, name, new_build, offer, pull, remote_config, try_build, world,
};
use support::interrupt::at_every_step;
use support::{World, named, start};

#[test]
fn pruning() {
    let (world, engine) = world();
    let (first, _) = build(
        &engine,
        "FROM base AS kept\nCOPY a /\nFROM base\nCOPY --from=kept /a /\n",
    );
    let (second, _) = build(&engine, "FROM base\nCOPY b /\n");
    let mut new = new_build(&format!("FROM {second}\nCOPY a /z\n"));
    new.name = None;
    let (child, _) = try_build(&engine, &new).unwrap();
    let prune = |all, build_cache, dry_run| {
        let prune = ImagePrune {
            all,
            build_cache,
            dry_run,
            ..ImagePrune::default()
        };
        engine.image_prune(&prune).unwrap().images
    };
    let base = engine.image_inspect("base").unwrap().record.id;
    let cache: Vec<ImageId> = engine
        .image_list(true)
        .unwrap()
        .into_iter()
        .map(|image| image.record)
        .filter(|image| image.build_cache)
        .map(|image| image.id)
        .collect();
    assert_eq!(cache.len(), 1);
    let before = world.datasets();
    // Without a name and not needed: the oldest first.
    assert_eq!(prune(false, false, true), [first.clone(), child.clone()]);
    // Children before parents, also in what is only said.
    let all = prune(true, true, true);
    let place = |id: &ImageId| all.iter().position(|it| it == id).unwrap();
    assert!(
        place(&child) < place(&second) && place(&second) < place(&base),
        "{all:?}"
    );
    assert!(place(&cache[0]) < place(&base));
    assert_eq!(world.datasets(), before, "nothing is removed");
    assert_eq!(prune(false, false, false), [first, child]);
    assert_eq!(prune(false, true, false), cache);
    // What a container was made of stays, and what that was made of.
    let mut new = named("cc", &[]);
    new.image = "app".parse().unwrap();
    engine.container_create(new).unwrap();
    assert!(prune(true, true, true).is_empty());
    assert!(prune(true, true, false).is_empty());
    engine.container_remove("cc", false).unwrap();
    assert_eq!(prune(true, false, false), [second, base]);
    assert!(world.datasets().is_empty());
}

#[test]
fn pulls_at_once_share_a_layer() {
    for round in 0..20 {
        let (world, engine) = world();
        offer(&world, "r.example/one:1", &["shared", "one"]);
        offer(&world, "r.example/two:1", &["shared", "two"]);
        let together = Barrier::new(3);
        std::thread::scope(|scope| {
            for name in ["one", "two", "two"] {
                let (engine, together) = (&engine, &together);
                scope.spawn(move || {
                    together.wait();
                    pull(engine, &format!("r.example/{name}:1")).unwrap();
                });
            }
        });
        for name in ["one", "two"] {
            let image = engine
                .image_inspect(&format!("r.example/{name}:1"))
                .unwrap();
            let id = image.record.id;
            assert_eq!(
                in_image(&world, &id, "shared").as_deref(),
                Some("shared"),
                "round {round}"
            );
            assert_eq!(
                in_image(&world, &id, name).as_deref(),
                Some(name),
                "round {round}"
            );
        }
        assert!(world.distribution.blobs().is_empty(), "round {round}");
        let third = pull(&engine, "r.example/two:1").unwrap();
        let fetched = world.distribution.fetched().len();
        assert_eq!(pull(&engine, "r.example/two:1").unwrap(), third);
        assert_eq!(world.distribution.fetched().len(), fetched, "it is here");
    }
}

#[test]
fn known_layers_are_not_fetched_again() {
    let (world, engine) = world();
    offer(&world, "r.example/one:1", &["x", "y"]);
    offer(&world, "r.example/two:1", &["x", "y", "z"]);
    offer(&world, "r.example/other:1", &["y", "x"]);
    let one = pull(&engine, "r.example/one:1").unwrap();
    assert_eq!(world.distribution.fetched().len(), 2);
    let two = pull(&engine, "r.example/two:1").unwrap();
    assert_eq!(world.distribution.fetched().len(), 3);
    let parent = engine
        .image_inspect(two.as_str())
        .unwrap()
        .record
        .parent
        .unwrap();
    assert_eq!(parent.image, one);
    // In another order they make another tree.
    pull(&engine, "r.example/other:1").unwrap();
    assert_eq!(world.distribution.fetched().len(), 5);
    assert!(engine.image_remove(one.as_str()).is_err());
    engine.image_remove(two.as_str()).unwrap();
    engine.image_remove(one.as_str()).unwrap();
    pull(&engine, "r.example/two:1").unwrap();
    assert_eq!(
        world.distribution.fetched().len(),
        8,
        "what is gone is fetched again"
    );
}

/// An archive with an image of two layers.
fn saved(world: &World) -> Vec<u8> {
    let room = &world.distribution;
    let layers: Vec<_> = ["one", "two"]
        .iter()
        .map(|name| {
            let mut write = |to: &mut dyn std::io::Write| to.write_all(&layer(name));
            room.add_layer(Compression::None, &mut write).unwrap()
        })
        .collect();
    let config = ImageConfig {
        diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        ..remote_config()
    };
    let image = OutgoingImage {
        config_json: config.to_json(),
        layers,
        related: Vec::new(),
    };
    let mut archive = Vec::new();
    let name = "docker.io/library/made:latest".parse().unwrap();
    room.write_archive(&[(vec![name], image)], &mut archive)
        .unwrap();
    let blobs = room.blobs();
    room.discard(&blobs).unwrap();
    archive
}

fn load(world: &World, engine: &Engine) -> Result<(), EngineError> {
    let archive = saved(world);
    let go_on = &mut |_| ControlFlow::Continue(());
    engine
        .image_load(&mut archive.as_slice(), None, go_on)
        .map(drop)
}

fn import(engine: &Engine, url: &str) -> Result<(), EngineError> {
    let import = NewImport {
        name: name("made"),
        comment: "remark".to_owned(),
        changes: Changes::parse(&["ENV A=b".to_owned()]).unwrap(),
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    engine
        .image_import(&import, &mut url.as_bytes(), go_on)
        .map(drop)
}

fn commit_running(engine: &Engine) -> Result<(), EngineError> {
    let commit = NewCommit {
        container: "cc".to_owned(),
        name: name("made"),
        comment: String::new(),
        pause: true,
        changes: Changes::default(),
    };
    engine.container_commit(&commit).map(drop)
}

fn build_made(engine: &Engine, cleanup: bool) -> Result<(), EngineError> {
    let dockerfile = "FROM base\nCOPY a /\nRUN [\"work\"]\nCOPY dir /dir\nENV X=y\n";
    let new = NewBuild {
        name: name("made"),
        cleanup,
        ..new_build(dockerfile)
    };
    let built = try_build(engine, &new).map(drop);
    built.map_err(|failed| failed.error)
}

/// Everything that makes an image `made`, with what it needs.
struct Making {
    what: &'static str,
    prepare: fn(&World, &Engine),
    make: fn(&World, &Engine) -> Result<(), EngineError>,
    /// A file that the image has, and what is in it.
    file: (&'static str, &'static str),
}

const MAKINGS: [Making; 6] = [
    Making {
        what: "build",
        prepare: |world, _| furnish(world),
        make: |_, engine| build_made(engine, false),
        file: ("dir/c", "dir/c"),
    },
    Making {
        what: "build with cleanup",
        prepare: |world, _| furnish(world),
        make: |_, engine| build_made(engine, true),
        file: ("dir/c", "dir/c"),
    },
    Making {
        what: "pull",
        prepare: |world, _| offer(world, "r.example/made:latest", &["one", "two"]),
        make: |_, engine| {
            let id = pull(engine, "r.example/made:latest")?;
            let (name, tag) = name("made").unwrap();
            engine.image_tag(id.as_str(), name, tag).map(drop)
        },
        file: ("two", "two"),
    },
    Making {
        what: "load",
        prepare: |_, _| {},
        make: load,
        file: ("two", "two"),
    },
    Making {
        what: "import",
        prepare: |_, _| {},
        make: |_, engine| import(engine, "good"),
        file: ("bin/sh", "#!"),
    },
    Making {
        what: "commit",
        prepare: |world, engine| {
            let id = engine.container_create(named("cc", &[])).unwrap().id;
            start(engine, &id);
            let root = world.storage.mountpoint(&Dataset::Container(id));
            world.fs.write(&root.join("new"), b"new");
        },
        make: |_, engine| commit_running(engine),
        file: ("new", "new"),
    },
];

/// The image `made` is there as a whole, or not at all.
fn whole(world: &World, engine: &Engine, making: &Making) -> bool {
    let Ok(image) = engine.image_inspect("made") else {
        return false;
    };
    let content = in_image(world, &image.record.id, making.file.0);
    assert_eq!(content.as_deref(), Some(making.file.1), "{}", making.what);
    true
}

/// The daemon dies at every step of making an image: nothing half-done is left, and making it again
/// works.
#[test]
fn dying_while_an_image_is_made() {
    for making in &MAKINGS {
        at_every_step(making.prepare, making.make, |world, engine, survived| {
            let there = whole(world, engine, making);
            // A pull that was done has only missed its name.
            assert!(there || !survived, "{}", making.what);
            let left = engine.image_list(true).unwrap().len();
            assert!(
                left <= 2 && (left == 2 || !there),
                "{}: {left}",
                making.what
            );
            assert!(world.distribution.blobs().is_empty(), "{}", making.what);
            let commits = usize::from(making.what == "commit");
            let running = world.host.running();
            assert_eq!(running.len(), commits, "{}", making.what);
            for exec in running {
                assert!(!world.host.seen(&exec).unwrap().paused, "{}", making.what);
            }
            if !survived {
                (making.make)(world, engine).unwrap();
                assert!(whole(world, engine, making));
            }
        });
    }
}

/// Each of the doors fails in turn: the failure is told, nothing half-done is left, and making it
/// again works.
#[test]
fn failing_while_an_image_is_made() {
    let ops = [
        Op::CopyIn,
        Op::DigestSources,
        Op::Start,
        Op::ApplyLayer,
        Op::PackLayer,
        Op::Pause,
        Op::Forget,
        Op::Clean,
    ];
    let operations = [Operation::Create, Operation::Snapshot, Operation::Clone];
    let mut failures = 0;
    for making in &MAKINGS {
        for (op, operation) in ops
            .iter()
            .map(|op| (Some(op), None))
            .chain(operations.iter().map(|it| (None, Some(it))))
        {
            let world = World::new();
            let (engine, _) = world.with_image();
            (making.prepare)(&world, &engine);
            if let Some(op) = op {
                world.host.fail_next(*op);
            }
            if let Some(operation) = operation {
                let error = StorageError::Unsupported("it fails".to_owned());
                world.storage.fail_next(*operation, error);
            }
            let place = format!("{}: {op:?} {operation:?}", making.what);
            let made = (making.make)(&world, &engine);
            assert_eq!(made.is_ok(), whole(&world, &engine, making), "{place}");
            failures += usize::from(made.is_err());
            let images = engine.image_list(true).unwrap();
            let recorded: Vec<String> = images
                .iter()
                .map(|image| format!("image/{}", image.record.id))
                .collect();
            let datasets = world.datasets();
            let datasets: Vec<&String> = datasets
                .iter()
                .filter(|it| it.starts_with("image/"))
                .collect();
            assert_eq!(datasets.len(), recorded.len(), "{place}: {made:?}");
            assert!(
                datasets.iter().all(|dataset| recorded.contains(dataset)),
                "{place}"
            );
            if making.what != "build" && made.is_err() {
                assert_eq!(recorded.len(), 1, "{place}");
            }
            for exec in world.host.running() {
                assert!(!world.host.seen(&exec).unwrap().paused, "{place}");
            }
            if made.is_err() {
                (making.make)(&world, &engine).unwrap();
                assert!(whole(&world, &engine, making), "{place}");
            }
        }
    }
    assert!(failures > 15, "{failures}");
}

#[test]
fn damaged_sources() {
    let (world, engine) = world();
    let before = (world.datasets(), engine.image_list(true).unwrap().len());
    assert!(import(&engine, "broken").is_err());
    offer(&world, "r.example/bad:1", &["good", "bad"]);
    let mut damaged = false;
    let pull = NewPull {
        reference: "r.example/bad:1".to_owned(),
        platform: None,
        name: None,
        identity: None,
    };
    let bad = engine.image_pull(&pull, &mut |progress| {
        if !damaged && progress.step == kleene_doors::distribution::BlobStep::Unpacking {
            damaged = true;
            let blobs = world.distribution.blobs();
            blobs
                .iter()
                .filter(|blob| **blob != progress.digest)
                .for_each(|blob| world.distribution.damage(blob));
        }
        ControlFlow::Continue(())
    });
    assert!(damaged && bad.is_err(), "{bad:?}");
    let cancelled = engine.image_pull(&pull, &mut |_| ControlFlow::Break(()));
    assert!(
        matches!(cancelled, Err(EngineError::Cancelled)),
        "{cancelled:?}"
    );
    let nonsense = engine.image_load(&mut &b"nonsense"[..], None, &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(nonsense.is_err());
    assert_eq!(
        (world.datasets(), engine.image_list(true).unwrap().len()),
        before
    );
}
