//! Snapshots above too many layers, which are made whole.

use std::fs;
use std::path::Path;

use kleene_doors::storage::{Dataset, Root, Snapshot, Storage};
use kleene_storage::DirStorage;
use kleene_storage::conformance::Room as _;
use kleene_storage::testkit::scratch;
use kleene_types::ContainerId;

use crate::host_room::{HostRoom, names};

fn container() -> Dataset {
    Dataset::Container(ContainerId::random())
}

fn at(dataset: &Dataset) -> Snapshot {
    Snapshot {
        dataset: dataset.clone(),
        name: "image".parse().unwrap(),
    }
}

/// How many layers a dataset lies on.
fn lower(storage: &DirStorage, dataset: &Dataset) -> Vec<std::path::PathBuf> {
    match storage.root(dataset).unwrap() {
        Root::Overlay { lower, .. } => lower,
        root @ Root::Directory { .. } => panic!("{root:?}"),
    }
}

/// Takes snapshots of a container, and writes down which, until there are as many layers as there may
/// be.
fn up_to_the_deepest<G>(room: &HostRoom<DirStorage, G>, dataset: &Dataset) -> usize {
    room.storage.create(dataset).unwrap();
    room.write(dataset, "kept", "kept");
    room.write(dataset, "gone", "gone");
    room.make_dir(dataset, "opaque/inner");
    for number in 1.. {
        room.write(dataset, "number", &number.to_string());
        let mut snapshot = at(dataset);
        snapshot.name = format!("s{number}").parse().unwrap();
        room.storage.snapshot(&snapshot).unwrap();
        if number == 3 {
            room.remove(dataset, "gone");
            room.remove(dataset, "opaque");
            room.make_dir(dataset, "opaque");
        }
        let layers = lower(&room.storage, dataset).len();
        assert!(layers <= 96);
        if number > 1 && layers == 1 {
            panic!("a snapshot was made whole too early");
        }
        if layers == 96 {
            return number;
        }
    }
    0
}

fn expect_flat<G>(room: &HostRoom<DirStorage, G>, dataset: &Dataset, number: usize) {
    assert_eq!(room.names(dataset, "."), ["kept", "number", "opaque"]);
    assert_eq!(room.names(dataset, "opaque"), Vec::<String>::new());
    let text = room.read(dataset, "number");
    assert_eq!(text, Some(number.to_string()));
}

#[test]
fn a_snapshot_above_too_many_layers_is_made_whole() {
    let ground = scratch();
    let room = HostRoom {
        storage: DirStorage::open(ground.path()).unwrap(),
        leftovers: |()| Vec::new(),
        ground: (),
    };
    let dataset = container();
    let number = up_to_the_deepest(&room, &dataset);
    room.set_mode(&dataset, 0o711);
    room.storage.snapshot(&at(&dataset)).unwrap();
    assert_eq!(lower(&room.storage, &dataset).len(), 1);
    expect_flat(&room, &dataset, number);
    assert_eq!(room.mode(&dataset), 0o711);
    // What the top had is in the layer; and overlayfs's own attributes are nobody else's.
    let place = ground.path().join(dataset.to_string());
    assert_eq!(names(&place.join("top")), Vec::<String>::new());
    assert_eq!(names(&place), ["layers", "snapshots.json", "top", "work"]);
    assert_eq!(names(&ground.path().join("trash")), Vec::<String>::new());
    let mut list = [0; 256];
    let opaque = place.join("layers/image/opaque");
    let length = rustix::fs::listxattr(&opaque, &mut list[..]).unwrap();
    assert_eq!(length, 0, "{:?}", String::from_utf8_lossy(&list[..length]));

    // From here on it goes on as before, in clones as well, and older snapshots are as they were.
    let clone = container();
    room.storage.clone_snapshot(&at(&dataset), &clone).unwrap();
    assert_eq!(lower(&room.storage, &clone).len(), 1);
    expect_flat(&room, &clone, number);
    let Dataset::Container(id) = &clone else {
        panic!("{clone}");
    };
    assert_eq!(room.storage.changes(id).unwrap(), []);
    room.remove(&clone, "kept");
    assert_eq!(room.storage.changes(id).unwrap().len(), 1);
    let old = container();
    let mut second = at(&dataset);
    second.name = "s2".parse().unwrap();
    room.storage.clone_snapshot(&second, &old).unwrap();
    assert_eq!(room.names(&old, "."), ["gone", "kept", "number", "opaque"]);
    assert_eq!(room.names(&old, "opaque"), ["inner"]);
    room.storage.destroy(&old).unwrap();
    room.storage.destroy(&clone).unwrap();
    room.storage.destroy(&dataset).unwrap();
}

#[test]
fn the_changes_of_a_container_that_was_made_whole() {
    let ground = scratch();
    let room = HostRoom {
        storage: DirStorage::open(ground.path()).unwrap(),
        leftovers: |()| Vec::new(),
        ground: (),
    };
    let dataset = container();
    up_to_the_deepest(&room, &dataset);
    let mut last = at(&dataset);
    last.name = "s96".parse().unwrap();
    let clone = container();
    room.storage.clone_snapshot(&last, &clone).unwrap();
    room.write(&clone, "new", "new");
    room.storage.snapshot(&at(&clone)).unwrap();
    assert_eq!(lower(&room.storage, &clone).len(), 1);
    room.remove(&clone, "kept");
    let Dataset::Container(id) = &clone else {
        panic!("{clone}");
    };
    let changes = room.storage.changes(id).unwrap();
    let paths: Vec<_> = changes
        .iter()
        .map(|change| change.path.to_str().unwrap())
        .collect();
    assert_eq!(paths, ["/kept", "/new"]);
}

#[test]
fn a_whole_snapshot_that_was_cut_short_is_finished_or_undone() {
    type Crash = fn(&Path);
    // The state after each step, made from the state after the last one.
    let listed: Crash = |place| {
        fs::rename(place.join("layers/image"), place.join("whole")).unwrap();
    };
    let placed: Crash = |_| {};
    let unlisted: Crash = |place| {
        fs::rename(place.join("layers/image"), place.join("whole")).unwrap();
        let list = fs::read_to_string(place.join("snapshots.json")).unwrap();
        let list = list.replace(r#",{"name":"image","whole":true}"#, "");
        assert!(!list.contains("image"));
        fs::write(place.join("snapshots.json"), list).unwrap();
    };
    for (crash, is_there) in [(listed, true), (placed, true), (unlisted, false)] {
        let ground = scratch();
        let open = || HostRoom {
            storage: DirStorage::open(ground.path()).unwrap(),
            leftovers: |()| Vec::new(),
            ground: (),
        };
        let dataset = container();
        let place = ground.path().join(dataset.to_string());
        let number = {
            let room = open();
            let number = up_to_the_deepest(&room, &dataset);
            room.write(&dataset, "last", "in the top only");
            // The top that the crash finds is still the one from before.
            let kept = ground.path().join("kept-top");
            copy_layer(&place.join("top"), &kept);
            room.storage.snapshot(&at(&dataset)).unwrap();
            fs::remove_dir_all(place.join("top")).unwrap();
            fs::rename(&kept, place.join("top")).unwrap();
            number
        };
        crash(&place);
        let room = open();
        assert!(!place.join("whole").exists());
        assert_eq!(place.join("layers/image").exists(), is_there);
        for _again in 0..2 {
            assert_eq!(
                room.names(&dataset, "."),
                ["kept", "last", "number", "opaque"]
            );
            assert_eq!(room.names(&dataset, "opaque"), Vec::<String>::new());
            assert_eq!(room.read(&dataset, "number"), Some(number.to_string()));
        }
        let clone = container();
        let cloned = room.storage.clone_snapshot(&at(&dataset), &clone);
        assert_eq!(cloned.is_ok(), is_there);
        let mut next = at(&dataset);
        next.name = "next".parse().unwrap();
        room.write(&dataset, "last", "changed");
        room.storage.snapshot(&next).unwrap();
        assert_eq!(room.read(&dataset, "last").as_deref(), Some("changed"));
        if is_there {
            assert_eq!(
                room.read(&clone, "last").as_deref(),
                Some("in the top only")
            );
        }
    }
}

/// A copy of a layer with what overlayfs keeps on it.
fn copy_layer(from: &Path, to: &Path) {
    use std::os::fd::AsFd as _;
    fs::create_dir(to).unwrap();
    let [from, to] = [from, to].map(|path| fs::File::open(path).unwrap());
    kleene_tree::copy_tree(from.as_fd(), to.as_fd(), &Default::default()).unwrap();
}
