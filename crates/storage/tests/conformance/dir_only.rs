//! What is special about directories: the root, crashes, full disks.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use kleene_doors::storage::{
    AdoptMode, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError,
};
use kleene_storage::DirStorage;
use kleene_storage::conformance::Room as _;
use kleene_storage::testkit::{btrfs, scratch, tmpfs};
use kleene_types::{ContainerId, ImageId};

use crate::host_room::{HostRoom, names};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn volume(name: &str) -> Dataset {
    Dataset::Volume(name.parse().unwrap())
}

fn image() -> Dataset {
    Dataset::Image(ImageId::random())
}

fn container() -> Dataset {
    Dataset::Container(ContainerId::random())
}

fn at(dataset: &Dataset) -> Snapshot {
    Snapshot {
        dataset: dataset.clone(),
        name: "image".parse().unwrap(),
    }
}

/// Why the directory isn't accepted as a root.
fn refusal(path: &Path) -> String {
    match DirStorage::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(StorageError::Invalid(message)) => message,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn others_see_no_more_than_they_need() {
    let ground = scratch();
    let root = ground.path().join("a/kleene");
    let storage = DirStorage::open(&root).unwrap();
    let volume = volume("web");
    storage.create(&volume).unwrap();
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("volumes")), 0o700);
    for private in ["image", "container", "metadata", "trash"] {
        assert_eq!(mode(&root.join(private)), 0o700, "{private}");
    }
    assert_eq!(storage.info().metadata, root.join("metadata"));
    assert_eq!(
        storage.name(&volume),
        root.join("volumes/web").display().to_string()
    );
    assert_eq!(storage.mountpoint(&volume), root.join("volumes/web"));
    assert!(matches!(
        storage.root(&volume).unwrap(),
        Root::Directory { path } if path == root.join("volumes/web")
    ));
}

#[test]
fn directories_that_can_not_be_a_root_are_refused() {
    let ground = scratch();
    let place = |name: &str| ground.path().join(name);
    assert!(refusal(Path::new("/")).contains("whole file system"));
    assert!(refusal(Path::new("relative/kleene")).contains("absolute"));
    assert!(refusal(&place("x/../kleene")).contains("'..'"));

    fs::write(place("file"), "").unwrap();
    assert!(refusal(&place("file")).contains("isn't a directory"));

    fs::create_dir(place("open")).unwrap();
    fs::set_permissions(place("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(refusal(&place("open")).contains("writable by everyone"));
    assert_eq!(mode(&place("open")), 0o1777);

    fs::create_dir(place("theirs")).unwrap();
    chown(place("theirs"), Some(4711), None).unwrap();
    assert!(refusal(&place("theirs")).contains("belongs to user 4711"));

    fs::create_dir_all(place("home/alice")).unwrap();
    assert!(refusal(&place("home")).contains("holds 'alice'"));
    assert_eq!(names(&place("home")), ["alice"]);

    fs::create_dir_all(place("linked/trash")).unwrap();
    symlink("/etc", place("linked/volumes")).unwrap();
    assert!(refusal(&place("linked")).contains("symbolic link"));
}

#[test]
fn a_fresh_file_system_and_a_link_to_one_can_be_the_root() {
    let ground = scratch();
    let disk = ground.path().join("disk");
    fs::create_dir_all(disk.join("lost+found")).unwrap();
    let link = ground.path().join("kleene");
    symlink(&disk, &link).unwrap();
    let storage = DirStorage::open(&link).unwrap();
    storage.create(&volume("web")).unwrap();
    assert!(disk.join("volumes/web").is_dir());
    assert_eq!(storage.info().root, link.display().to_string());
}

#[test]
fn a_part_on_another_file_system_is_refused() {
    let ground = tmpfs("size=4m");
    let other = tmpfs("size=4m,mode=755");
    let root = ground.path().join("kleene");
    drop(DirStorage::open(&root).unwrap());
    let on = root.join("volumes");
    rustix::mount::mount_bind(other.path(), &on).unwrap();
    let message = refusal(&root);
    rustix::mount::unmount(&on, rustix::mount::UnmountFlags::empty()).unwrap();
    assert!(message.contains("another file system"), "{message}");
    DirStorage::open(&root).unwrap();
}

#[test]
fn one_daemon_a_root() {
    let ground = scratch();
    let first = DirStorage::open(ground.path()).unwrap();
    assert!(refusal(ground.path()).contains("another kleened"));
    first.create(&volume("web")).unwrap();
    drop(first);
    let second = DirStorage::open(ground.path()).unwrap();
    assert!(second.exists(&volume("web")).unwrap());
}

#[test]
fn rubbish_of_a_crash_is_removed_at_the_next_start() {
    let ground = tmpfs("size=4m");
    let root = ground.path().join("kleene");
    let storage = DirStorage::open(&root).unwrap();
    storage.create(&volume("web")).unwrap();
    fs::write(root.join("volumes/web/data"), "data").unwrap();
    drop(storage);
    let trash = root.join("trash");
    fs::create_dir_all(trash.join("0/top/deep")).unwrap();
    fs::write(trash.join("0/top/deep/file"), "x").unwrap();
    fs::create_dir_all(trash.join("17/stuck")).unwrap();
    rustix::mount::mount_bind(ground.path(), trash.join("17/stuck")).unwrap();

    // What can't be removed doesn't keep the daemon from starting, nor from working.
    let storage = DirStorage::open(&root).unwrap();
    assert_eq!(names(&trash), ["17"]);
    for number in 0..20 {
        storage.create(&volume(&format!("v{number}"))).unwrap();
    }
    storage.destroy(&volume("v3")).unwrap();
    drop(storage);
    rustix::mount::unmount(trash.join("17/stuck"), rustix::mount::UnmountFlags::empty()).unwrap();
    let storage = DirStorage::open(&root).unwrap();
    assert_eq!(names(&trash), Vec::<String>::new());
    assert_eq!(storage.list(DatasetKind::Volume).unwrap().len(), 20);
    assert_eq!(
        fs::read_to_string(root.join("volumes/web/data")).unwrap(),
        "data"
    );
}

/// Opens a room.
type Open = fn(&Path) -> Result<DirStorage, StorageError>;

/// A room with one container that has a file and maybe a snapshot `@first`, `open`ed again after
/// `crash` has changed its directory; what snapshot `@image` and the container then show of the file.
fn after_crash(open: Open, first: bool, crash: impl FnOnce(&Path)) -> [Option<String>; 2] {
    let ground = scratch();
    let room = |storage| HostRoom {
        storage,
        leftovers: |()| Vec::new(),
        ground: (),
    };
    let dataset = container();
    {
        let room = room(open(ground.path()).unwrap());
        room.storage.create(&dataset).unwrap();
        if first {
            let mut first = at(&dataset);
            first.name = "first".parse().unwrap();
            room.storage.snapshot(&first).unwrap();
        }
        room.write(&dataset, "file", "before");
        room.set_mode(&dataset, 0o711);
    }
    crash(&ground.path().join(dataset.to_string()));
    let room = room(open(ground.path()).unwrap());
    assert_eq!(room.mode(&dataset), 0o711);
    let now = room.read(&dataset, "file");
    room.write(&dataset, "file", "after");
    let clone = container();
    room.storage.clone_snapshot(&at(&dataset), &clone).unwrap();
    assert_eq!(room.read(&dataset, "file").as_deref(), Some("after"));
    [room.read(&clone, "file"), now]
}

#[test]
fn a_snapshot_that_was_cut_short_is_finished() {
    // What `open` makes of the first snapshot decides whether the second one is whole.
    let cases: [(Open, bool, &str); 4] = [
        (
            DirStorage::open,
            false,
            r#"[{"name":"image","whole":true}]"#,
        ),
        (
            DirStorage::open_copying,
            false,
            r#"[{"name":"image","whole":true}]"#,
        ),
        (
            DirStorage::open,
            true,
            r#"[{"name":"first","whole":true},{"name":"image","whole":false}]"#,
        ),
        (
            DirStorage::open_copying,
            true,
            r#"[{"name":"first","whole":true},{"name":"image","whole":true}]"#,
        ),
    ];
    let both = || [Some("before".to_owned()), Some("before".to_owned())];
    for (open, first, list) in cases {
        let listed = |place: &Path| {
            fs::create_dir_all(place.join("layers")).unwrap();
            fs::write(place.join("snapshots.json"), list).unwrap();
        };
        assert_eq!(after_crash(open, first, listed), both(), "{list}");
        let moved = |place: &Path| {
            listed(place);
            fs::rename(place.join("top"), place.join("layers/image")).unwrap();
        };
        assert_eq!(after_crash(open, first, moved), both(), "{list}");
    }
}

#[test]
fn a_damaged_dataset_is_nobody_elses_trouble() {
    let ground = scratch();
    let storage = DirStorage::open(ground.path()).unwrap();
    let (good, bad) = (image(), image());
    for image in [&good, &bad] {
        storage.create(image).unwrap();
        storage.snapshot(&at(image)).unwrap();
    }
    drop(storage);
    let list = ground.path().join(bad.to_string()).join("snapshots.json");
    fs::write(list, "[{").unwrap();
    let storage = DirStorage::open(ground.path()).unwrap();
    let error = storage.root(&bad).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("list of snapshots is damaged"), "{source}");
    storage.clone_snapshot(&at(&good), &container()).unwrap();
    assert_eq!(storage.list(DatasetKind::Image).unwrap().len(), 2);
}

#[test]
fn datasets_of_the_other_style_still_work() {
    let ground = scratch();
    let room = |storage| HostRoom {
        storage,
        leftovers: |()| Vec::new(),
        ground: (),
    };
    let base = image();
    let overlay = container();
    let copy = container();
    {
        let room = room(DirStorage::open(ground.path()).unwrap());
        room.storage.create(&base).unwrap();
        room.write(&base, "file", "base");
        room.storage.snapshot(&at(&base)).unwrap();
        room.storage.clone_snapshot(&at(&base), &overlay).unwrap();
        room.storage.snapshot(&at(&overlay)).unwrap();
    }
    {
        let room = room(DirStorage::open_copying(ground.path()).unwrap());
        room.storage.clone_snapshot(&at(&base), &copy).unwrap();
        assert_eq!(room.read(&copy, "file").as_deref(), Some("base"));
        room.remove(&copy, "file");
        room.storage.snapshot(&at(&copy)).unwrap();
        // Half a tree can't be copied.
        let refused = room.storage.clone_snapshot(&at(&overlay), &container());
        assert!(matches!(refused, Err(StorageError::Unsupported(_))));
    }
    let room = room(DirStorage::open(ground.path()).unwrap());
    let clone = container();
    room.storage.clone_snapshot(&at(&copy), &clone).unwrap();
    assert_eq!(room.read(&clone, "file"), None);
    assert_eq!(room.read(&overlay, "file").as_deref(), Some("base"));
}

#[test]
fn a_full_disk_is_said_to_be_full_and_nothing_stays_behind() {
    for open in [DirStorage::open, DirStorage::open_copying] {
        let ground = tmpfs("size=2m");
        let root = ground.path().join("kleene");
        let storage = open(&root).unwrap();
        let base = image();
        storage.create(&base).unwrap();
        let Root::Directory { path } = storage.root(&base).unwrap() else {
            panic!("an image without layers is a directory");
        };
        fs::write(path.join("large"), vec![1; 700 << 10]).unwrap();
        storage.snapshot(&at(&base)).unwrap();
        let rest = ground.path().join("rest");
        fs::write(&rest, vec![1; 1 << 20]).unwrap();

        let copied = storage.clone_snapshot(&at(&base), &container());
        if storage.uses_overlays() {
            copied.unwrap();
        } else {
            assert!(
                matches!(copied, Err(StorageError::NoSpace { .. })),
                "{copied:?}"
            );
            assert_eq!(storage.list(DatasetKind::Container).unwrap(), []);
        }
        assert_eq!(names(&root.join("trash")), Vec::<String>::new());
    }
}

#[test]
fn without_inodes_nothing_is_made() {
    let ground = tmpfs("size=4m,nr_inodes=60");
    let root = ground.path().join("kleene");
    let storage = DirStorage::open(&root).unwrap();
    let base = image();
    storage.create(&base).unwrap();
    storage.snapshot(&at(&base)).unwrap();
    let mut made = 0;
    while fs::write(ground.path().join(format!("f{made}")), "").is_ok() {
        made += 1;
    }
    let full = |result: Result<(), StorageError>| {
        assert!(
            matches!(result, Err(StorageError::NoSpace { .. })),
            "{result:?}"
        );
        assert_eq!(names(&root.join("trash")), Vec::<String>::new());
    };
    let (volume, clone) = (volume("web"), container());
    full(storage.create(&volume));
    full(storage.create(&image()));
    full(storage.clone_snapshot(&at(&base), &clone));
    // A clone needs four; it is stopped at each of them.
    for free in 1..4 {
        fs::remove_file(ground.path().join(format!("f{free}"))).unwrap();
        full(storage.clone_snapshot(&at(&base), &clone));
        assert!(!storage.exists(&clone).unwrap());
    }
    fs::remove_file(ground.path().join("f4")).unwrap();
    storage.clone_snapshot(&at(&base), &clone).unwrap();
    assert_eq!(storage.list(DatasetKind::Volume).unwrap(), []);
}

#[test]
fn a_snapshot_that_fails_changes_nothing() {
    let ground = tmpfs("size=4m,nr_inodes=60");
    let room = HostRoom {
        storage: DirStorage::open(&ground.path().join("kleene")).unwrap(),
        leftovers: |()| Vec::new(),
        ground: (),
    };
    let base = image();
    room.storage.create(&base).unwrap();
    room.write(&base, "file", "data");
    let mut made = 0;
    while fs::write(ground.path().join(format!("f{made}")), "").is_ok() {
        made += 1;
    }
    // Every step that needs an inode fails once.
    let mut failures = 0;
    while let Err(error) = room.storage.snapshot(&at(&base)) {
        assert!(matches!(error, StorageError::NoSpace { .. }), "{error:?}");
        let none = room.storage.clone_snapshot(&at(&base), &container());
        assert!(matches!(none, Err(StorageError::NotFound(_))), "{none:?}");
        assert_eq!(room.read(&base, "file").as_deref(), Some("data"));
        let top = room.storage.mountpoint(&base);
        assert_eq!(fs::read_to_string(top.join("file")).unwrap(), "data");
        let trash = ground.path().join("kleene/trash");
        assert_eq!(names(&trash), Vec::<String>::new());
        fs::remove_file(ground.path().join(format!("f{failures}"))).unwrap();
        failures += 1;
    }
    assert!(failures >= 4, "{failures} failures");
    assert_eq!(room.read(&base, "file").as_deref(), Some("data"));
}

#[test]
fn a_volume_with_mounts_is_kept() {
    let ground = scratch();
    let storage = DirStorage::open(ground.path()).unwrap();
    let web = volume("web");
    storage.create(&web).unwrap();
    let path = storage.mountpoint(&web);
    fs::create_dir(path.join("cache")).unwrap();
    fs::write(path.join("data"), "data").unwrap();
    let elsewhere = ground.path().join("metadata");
    for on in [path.clone(), path.join("cache"), elsewhere] {
        let what = if on.starts_with(&path) {
            ground.path()
        } else {
            &path
        };
        rustix::mount::mount_bind(what, &on).unwrap();
        let refused = storage.destroy(&web);
        rustix::mount::unmount(&on, rustix::mount::UnmountFlags::empty()).unwrap();
        let Err(StorageError::InUse { reason, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains(&on.display().to_string()), "{reason}");
        assert_eq!(fs::read_to_string(path.join("data")).unwrap(), "data");
    }
    storage.destroy(&web).unwrap();
    assert_eq!(names(&ground.path().join("trash")), Vec::<String>::new());
}

#[test]
fn what_needs_zfs_says_so() {
    let ground = scratch();
    let storage = DirStorage::open(ground.path()).unwrap();
    storage.create(&volume("web")).unwrap();
    let results = [
        storage.adopt("zroot/base", AdoptMode::Clone, &image()),
        storage.adopt("zroot/base", AdoptMode::Copy, &image()),
        storage.snapshot(&at(&volume("web"))),
    ];
    for result in results {
        let Err(StorageError::Unsupported(message)) = result else {
            panic!("{result:?}");
        };
        assert!(message.contains("ZFS"), "{message}");
    }
}

#[test]
fn strangers_in_the_directories_are_no_datasets() {
    let ground = scratch();
    let storage = DirStorage::open(ground.path()).unwrap();
    let volumes = ground.path().join("volumes");
    fs::write(volumes.join("file"), "").unwrap();
    fs::create_dir(volumes.join("a b")).unwrap();
    fs::create_dir(volumes.join(".hidden")).unwrap();
    symlink("/etc", volumes.join("link")).unwrap();
    fs::create_dir(ground.path().join("image/lost+found")).unwrap();
    assert_eq!(storage.list(DatasetKind::Volume).unwrap(), []);
    assert_eq!(storage.list(DatasetKind::Image).unwrap(), []);
    assert!(!storage.exists(&volume("link")).unwrap());
    assert!(storage.root(&volume("link")).is_err());
    assert!(storage.usage(&volume("link")).is_err());
}

#[test]
fn nothing_is_inherited_from_above_the_root() {
    let ground = scratch();
    // u::rwx g::rwx o::rwx for everything that is made inside; see acl(5).
    let entries = [(1_u16, 7_u16), (4, 7), (0x20, 7)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(u32::MAX.to_le_bytes());
    }
    let attribute = "system.posix_acl_default";
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(ground.path(), attribute, &acl, flags).unwrap();
    let storage = DirStorage::open(ground.path()).unwrap();
    storage.create(&volume("web")).unwrap();
    let path = storage.mountpoint(&volume("web"));
    let mut value = [0; 256];
    let inherited = rustix::fs::getxattr(&path, attribute, &mut value);
    assert_eq!(inherited, Err(rustix::io::Errno::NODATA));
    assert_eq!(mode(&path), 0o755);
}

#[test]
fn an_empty_layer_looks_like_the_one_below() {
    let ground = scratch();
    let room = HostRoom {
        storage: DirStorage::open(ground.path()).unwrap(),
        leftovers: |()| Vec::new(),
        ground: (),
    };
    let base = image();
    room.storage.create(&base).unwrap();
    let attribute = "trusted.kleene.test";
    room.with(&base, ".", |path| {
        chown(path, Some(12), Some(34)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o1770)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, attribute, b"value", flags).unwrap();
    });
    room.storage.snapshot(&at(&base)).unwrap();
    let clone = container();
    room.storage.clone_snapshot(&at(&base), &clone).unwrap();
    let layer = ground.path().join(base.to_string()).join("layers/image");
    let modified = fs::metadata(layer).unwrap().modified().unwrap();
    for dataset in [&base, &clone] {
        room.with(dataset, ".", |path| {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
            assert_eq!(metadata.mode() & 0o7777, 0o1770);
            assert_eq!(metadata.modified().unwrap(), modified);
            let mut value = [0; 16];
            let length = rustix::fs::getxattr(path, attribute, &mut value).unwrap();
            assert_eq!(&value[..length], b"value");
        });
    }
}

#[test]
fn copies_share_their_data_where_the_file_system_can() {
    let ground = btrfs();
    let root = ground.path().join("kleene");
    let storage = DirStorage::open_copying(&root).unwrap();
    let base = image();
    storage.create(&base).unwrap();
    let large: Vec<u8> = (0..40_u32 << 20).map(|n| (n >> 7) as u8).collect();
    fs::write(storage.mountpoint(&base).join("large"), &large).unwrap();
    storage.snapshot(&at(&base)).unwrap();
    let free = || {
        let place = fs::File::open(ground.path()).unwrap();
        rustix::fs::syncfs(&place).unwrap();
        let stat = rustix::fs::fstatvfs(&place).unwrap();
        stat.f_bfree * stat.f_frsize
    };
    let before = free();
    let clones: Vec<Dataset> = (0..4).map(|_| container()).collect();
    for clone in &clones {
        storage.clone_snapshot(&at(&base), clone).unwrap();
    }
    let taken = before.saturating_sub(free());
    assert!(taken < 20 << 20, "four clones of 40 MiB took {taken} bytes");
    let copy = fs::read(storage.mountpoint(&clones[3]).join("large")).unwrap();
    assert!(copy == large);
}
