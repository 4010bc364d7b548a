//! What builds know from earlier ones, how images made of each other hang together, and what is left of
//! builds that fail.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod support;

use std::path::Path;

use kleene_doors::storage::{Dataset, Storage};
use kleene_engine::{Cancel, Changes, DockerfileSource, Engine, EngineError, NewBuild, NewCommit};
use kleene_host::fake::Program;
use kleene_tree::memory::Node;
use kleene_types::{ContainerId, ImageId};
use support::images::{CONTEXT, Told, build, in_image, name, new_build, try_build, world, write};
use support::{World, container, make_image};

const DOCKERFILE: &str = "FROM base\nARG V=1\nENV E=1\nCOPY a dir /x/\nRUN [\"work\"]\n";

/// What has an influence on a step is done again, and nothing else is.
#[test]
fn what_is_known_from_earlier_builds() {
    type Change = Box<dyn Fn(&World, &mut NewBuild)>;
    let text = |from: &'static str, to: &'static str| -> Change {
        Box::new(move |_, new| {
            let changed = DOCKERFILE.replace(from, to);
            assert_ne!(changed, DOCKERFILE);
            new.dockerfile = DockerfileSource::Text(changed);
        })
    };
    let with = |change: fn(&mut NewBuild)| -> Change { Box::new(move |_, new| change(new)) };
    let file = |name: &'static str, content: &'static str| -> Change {
        Box::new(move |world, _| write(world, name, content))
    };
    // How many steps are known after a change, and whether the image is the same one.
    let cases: Vec<(&str, usize, bool, Change)> = vec![
        ("nothing", 2, true, with(|_| {})),
        (
            "another name",
            2,
            false,
            with(|new| new.name = name("other")),
        ),
        ("no name", 2, true, with(|new| new.name = None)),
        ("a comment", 2, true, text("FROM", "# About it.\nFROM")),
        ("spaces", 2, true, text("COPY a dir", "COPY  a   dir")),
        (
            "a secret",
            2,
            true,
            with(|new| drop(new.secrets.0.insert("s".into(), b"x".to_vec()))),
        ),
        (
            "an unknown argument",
            2,
            true,
            with(|new| drop(new.args.insert("NOPE".into(), "x".into()))),
        ),
        (
            "the same argument",
            2,
            true,
            with(|new| drop(new.args.insert("V".into(), "1".into()))),
        ),
        ("another file", 2, true, file("other", "x")),
        ("a file that isn't copied", 2, true, file("b", "changed")),
        (
            "a label",
            2,
            false,
            with(|new| drop(new.labels.insert("l".into(), "x".into()))),
        ),
        ("LABEL", 2, false, text("RUN", "LABEL l=x\nRUN")),
        ("CMD", 2, false, text("RUN", "CMD [\"x\"]\nRUN")),
        ("EXPOSE", 2, false, text("RUN", "EXPOSE 80\nRUN")),
        (
            "an argument",
            1,
            false,
            with(|new| drop(new.args.insert("V".into(), "2".into()))),
        ),
        ("ARG", 1, false, text("V=1", "V=2")),
        ("ENV", 1, false, text("E=1", "E=2")),
        ("USER", 1, false, text("RUN", "USER root\nRUN")),
        ("WORKDIR", 1, false, text("RUN", "WORKDIR /w\nRUN")),
        ("RUN", 1, false, text("[\"work\"]", "[\"work\", \"x\"]")),
        ("RUN's network", 1, false, text("RUN", "RUN --network=none")),
        (
            "the container's variables",
            1,
            false,
            with(|new| new.container.env = vec!["X=y".parse().unwrap()]),
        ),
        (
            "the container's user",
            1,
            false,
            with(|new| new.container.user = "www".into()),
        ),
        ("a copied file", 0, false, file("a", "changed")),
        (
            "a file in a copied directory",
            0,
            false,
            file("dir/c", "changed"),
        ),
        (
            "a new file in a copied directory",
            0,
            false,
            file("dir/d", ""),
        ),
        (
            "a mode",
            0,
            false,
            Box::new(|world, _| {
                let node = Node::File {
                    bytes: b"a".to_vec(),
                    mode: 0o755,
                };
                world.fs.put(&Path::new(CONTEXT).join("a"), node);
            }),
        ),
        ("the destination", 0, false, text("/x/", "/y/")),
        ("--chown", 0, false, text("COPY", "COPY --chown=1:1")),
        ("--chmod", 0, false, text("COPY", "COPY --chmod=600")),
        ("--exclude", 0, false, text("COPY", "COPY --exclude=dir/c")),
        ("--parents", 0, false, text("COPY", "COPY --parents")),
        ("ADD", 0, false, text("COPY", "ADD")),
        ("the base", 0, false, text("FROM base", "FROM second")),
        (
            "--from",
            0,
            false,
            with(|new| new.from = Some("second".into())),
        ),
        (
            "an ignored file",
            0,
            false,
            file(".dockerignore", "dir/c\n"),
        ),
        ("--no-cache", 0, false, with(|new| new.no_cache = true)),
    ];
    for (what, known, same, change) in cases {
        let (world, engine) = world();
        make_image(&engine, "second").unwrap();
        let (first, _) = build(&engine, DOCKERFILE);
        let mut new = new_build(DOCKERFILE);
        change(&world, &mut new);
        let (second, found) = try_build(&engine, &new).unwrap();
        assert_eq!((found, first == second), (known, same), "{what}");
        // And once more, with all of it.
        new.no_cache = false;
        let (third, found) = try_build(&engine, &new).unwrap();
        assert_eq!((found, third), (2, second), "{what}, again");
    }
}

#[test]
fn what_other_stages_and_texts_hold_counts() {
    let (world, engine) = world();
    let stages = "FROM base AS one\nCOPY a /\nFROM base\nCOPY --from=one /a /z\nRUN [\"work\"]\n";
    let (first, known) = build(&engine, stages);
    assert_eq!(known, 0);
    assert_eq!(build(&engine, stages), (first.clone(), 3));
    write(&world, "a", "new");
    let (second, known) = build(&engine, stages);
    assert_eq!(known, 0);
    assert_eq!(in_image(&world, &second, "z").as_deref(), Some("new"));
    let unneeded = stages.replace("FROM base\n", "FROM base AS two\nCOPY b /\nFROM base\n");
    assert_eq!(build(&engine, &unneeded), (second, 3));
    let inline = |text: &str| format!("FROM base\nENV X={text}\nCOPY <<F /f\n$X\nF\nCOPY a /\n");
    assert_eq!(build(&engine, &inline("1")).1, 0);
    assert_eq!(build(&engine, &inline("1")).1, 2);
    let (id, known) = build(&engine, &inline("2"));
    assert_eq!(
        (known, in_image(&world, &id, "f").as_deref()),
        (0, Some("2\n"))
    );
}

/// Twenty steps, all known: the image is the very same, and nothing new is made.
#[test]
fn twenty_steps_again() {
    let (world, engine) = world();
    let steps: String = (0..20)
        .map(|n| format!("COPY a /{n}\nENV E{n}={n}\n"))
        .collect();
    let dockerfile = format!("FROM base\n{steps}CMD [\"x\"]\n");
    let (id, known) = build(&engine, &dockerfile);
    assert_eq!(known, 0);
    let before = world.datasets();
    assert_eq!(build(&engine, &dockerfile), (id.clone(), 20));
    assert_eq!(world.datasets(), before);
    // Until it is gone.
    engine.image_remove(id.as_str()).unwrap();
    let (again, known) = build(&engine, &dockerfile);
    assert!(again != id && known == 0);
}

/// One name isn't taken away for another, however alike the images are.
#[test]
fn the_same_under_two_names() {
    let (_world, engine) = world();
    let built = |text: &str| {
        let mut new = new_build("FROM base\nCOPY a /a\n");
        new.name = name(text);
        try_build(&engine, &new).unwrap().0
    };
    let (one, two) = (built("one"), built("two"));
    assert_ne!(one, two);
    assert_eq!((built("one"), built("two")), (one.clone(), two.clone()));
    // Renamed since.
    let (repository, tag) = name("three").unwrap();
    engine.image_tag(one.as_str(), repository, tag).unwrap();
    assert_ne!(built("one"), one);
    assert_eq!(built("two"), two);
    assert_eq!(engine.image_inspect("three").unwrap().record.id, one);
}

#[test]
fn files_that_are_not_there_are_told_with_their_line() {
    let (_world, engine) = world();
    for line in ["COPY nope /x", "ADD nope /x"] {
        let new = new_build(&format!("FROM base\n{line}\n"));
        let error = try_build(&engine, &new).unwrap_err().error.to_string();
        assert!(error.starts_with(&format!("line 2: {line}: ")), "{error}");
        assert!(error.contains("nope"), "{error}");
    }
}

/// Names of what is in a container's root.
fn tree(world: &World, container: &ContainerId) -> Vec<String> {
    let root = world
        .storage
        .mountpoint(&Dataset::Container(container.clone()));
    let mut names = world.fs.list(&root);
    names.retain(|name| name.len() == 1);
    names.sort();
    names
}

/// Snapshots that several generations of images share are found where they were taken.
#[test]
fn snapshots_of_earlier_generations() {
    let (world, engine) = world();
    let dockerfile = |last: &str| format!("FROM base\nCOPY a /\nCOPY b /\nCOPY dir/c /{last}\n");
    let (oldest, _) = build(&engine, &dockerfile("c"));
    let mut new = new_build(&dockerfile("d"));
    new.name = name("second");
    let (second, known) = try_build(&engine, &new).unwrap();
    assert_eq!(known, 2);
    let mut new = new_build("FROM second\nCOPY a /e\n");
    new.name = name("third");
    let (third, _) = try_build(&engine, &new).unwrap();
    let shown = |image: &ImageId| engine.image_inspect(image.as_str()).unwrap().record;
    let snapshots = |image: &ImageId| -> Vec<String> {
        let steps = shown(image).instructions.into_iter();
        steps
            .filter_map(|(_, name)| Some(name?.to_string()))
            .collect()
    };
    let (of_second, of_third) = (snapshots(&second), snapshots(&third));
    assert_eq!(of_second[..2], snapshots(&oldest)[..2]);
    let created = |image: &str| {
        let mut new = container(&[]);
        new.image = image.parse().unwrap();
        let id = engine.container_create(new).unwrap().id;
        let tree = tree(&world, &id);
        engine.container_remove(id.as_str(), false).unwrap();
        tree
    };
    assert_eq!(created(&format!("second@{}", of_second[0])), ["a"]);
    assert_eq!(created(&format!("second@{}", of_second[1])), ["a", "b"]);
    assert_eq!(
        created(&format!("second@{}", of_second[2])),
        ["a", "b", "d"]
    );
    assert_eq!(
        created(&format!("third@{}", of_third[0])),
        ["a", "b", "d", "e"]
    );
    assert_eq!(created("third"), ["a", "b", "d", "e"]);
    // Others' aren't its own.
    let last = snapshots(&oldest)[2].clone();
    let mut foreign = container(&[]);
    foreign.image = format!("second@{last}").parse().unwrap();
    assert!(engine.container_create(foreign).is_err());
    // Builds find them, too.
    let mut new = new_build(&format!("FROM second@{}\nCOPY a /f\n", of_second[0]));
    new.name = name("fourth");
    try_build(&engine, &new).unwrap();
    assert_eq!(created("fourth"), ["a", "f"]);
    // Nothing that others hang on can go; from the ends on everything can.
    for (image, by) in [(&oldest, &second), (&second, &third)] {
        let error = engine.image_remove(image.as_str()).unwrap_err().to_string();
        let words = format!("could not remove image {image} since it is used for images:\n");
        assert!(
            error.starts_with(&words) && error.contains(by.as_str()),
            "{error}"
        );
    }
    for image in ["fourth", "third", "second", "app", "base"] {
        engine.image_remove(image).unwrap();
    }
    assert!(world.datasets().is_empty());
}

#[test]
fn histories() {
    let (_world, engine) = world();
    let (base, _) = build(&engine, "FROM base\nCOPY a /\nENV X=y\nCOPY b /\n");
    let mut new = new_build("FROM base\nCOPY a /\nENV X=y\nCOPY dir/c /\n");
    new.name = name("second");
    try_build(&engine, &new).unwrap();
    let mut new = new_build("FROM second\nUSER www\nCOPY a /z\n");
    new.name = name("third");
    let (third, _) = try_build(&engine, &new).unwrap();
    let told = |image: &str| -> Vec<String> {
        let steps = engine.image_history(image).unwrap().into_iter();
        steps
            .map(|step| step.created_by)
            .filter(|text| !text.is_empty())
            .collect()
    };
    let second = ["COPY dir/c /", "ENV X=y", "COPY a /", "FROM base"];
    assert_eq!(told("second"), second);
    let own = ["COPY a /z", "USER www", "FROM second"];
    assert_eq!(told("third"), [&own[..], &second[..]].concat());
    let committed = commit(&engine, "third", "remark");
    let history = engine.image_history(committed.as_str()).unwrap();
    assert_eq!(history[0].comment, "remark");
    assert!(
        history[0].created_by.starts_with("COMMIT "),
        "{:?}",
        history[0]
    );
    assert_eq!(history[1].created_by, "COPY a /z");
    let owners: Vec<&ImageId> = history.iter().map(|step| &step.image).collect();
    assert!(
        owners.contains(&&third) && !owners.contains(&&base),
        "{owners:?}"
    );
}

/// Commits a container of an image.
fn commit(engine: &Engine, image: &str, comment: &str) -> ImageId {
    let mut new = container(&[]);
    new.image = image.parse().unwrap();
    let id = engine.container_create(new).unwrap().id;
    let commit = NewCommit {
        container: id.to_string(),
        name: None,
        comment: comment.to_owned(),
        pause: true,
        changes: Changes::default(),
    };
    engine.container_commit(&commit).unwrap()
}

/// A build that fails keeps what it has made, under a name that tells; one that is cancelled keeps
/// nothing of the step, and `cleanup` nothing at all.
#[test]
fn failed_and_cancelled_builds() {
    let (world, engine) = world();
    let exits = Program::Exits {
        code: 3,
        output: Vec::new(),
    };
    world.host.program("fails", exits);
    let dockerfile = "FROM base\nCOPY a /\nRUN [\"fails\"]\n";
    let failed = try_build(&engine, &new_build(dockerfile)).unwrap_err();
    let message = "The command 'fails' returned a non-zero code: 3";
    assert_eq!(failed.error.to_string(), message);
    let kept = engine.image_inspect("app:failed").unwrap().record;
    let snapshot = failed.snapshot.unwrap();
    assert_eq!(kept.instructions.last().unwrap().1, Some(snapshot));
    assert_eq!(in_image(&world, &kept.id, "a").as_deref(), Some("a"));
    // The next one takes over the name.
    try_build(&engine, &new_build(dockerfile)).unwrap_err();
    let next = engine.image_inspect("app:failed").unwrap().record;
    assert_ne!(next.id, kept.id);
    assert_eq!(next.parent.unwrap().image, kept.id);
    let mut new = new_build(dockerfile);
    new.cleanup = true;
    let before = world.datasets();
    let failed = try_build(&engine, &new).unwrap_err();
    assert_eq!((failed.snapshot, world.datasets()), (None, before.clone()));
    // Cancelled while a process runs.
    let new = new_build("FROM base\nRUN [\"sleep\"]\n");
    let cancel = Cancel::default();
    std::thread::scope(|scope| {
        let building = scope.spawn(|| engine.image_build(&new, &Told::default(), &cancel));
        while world.host.running().is_empty() {
            std::thread::yield_now();
        }
        cancel.cancel();
        let failed = building.join().unwrap().unwrap_err();
        assert!(matches!(failed.error, EngineError::Cancelled), "{failed:?}");
    });
    assert!(world.host.running().is_empty() && world.host.known().is_empty());
    assert_eq!(world.datasets(), before);
}
