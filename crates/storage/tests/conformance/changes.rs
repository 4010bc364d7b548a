//! What containers make of their images, on real file systems.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::sync::Arc;

use kleene_command::System;
use kleene_doors::storage::{Dataset, Snapshot, Storage};
use kleene_storage::conformance::changes_of;
use kleene_storage::testkit::{ZfsPool, btrfs, scratch};
use kleene_storage::{DirStorage, ZfsStorage};
use kleene_types::{ContainerId, ImageId};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use crate::host_room::HostRoom;

/// Runs a test in every room on this machine; it is told whether the room keeps extended attributes.
fn everywhere(test: impl Fn(&dyn Kept)) {
    let room = |ground: &Path, open: fn(&Path) -> Result<DirStorage, _>| HostRoom {
        storage: open(&ground.join("kleene")).unwrap(),
        leftovers: |()| Vec::new(),
        ground: (),
    };
    let (memory, disk) = (scratch(), btrfs());
    test(&room(memory.path(), DirStorage::open));
    let copies = scratch();
    test(&room(copies.path(), DirStorage::open_copying));
    test(&room(disk.path(), DirStorage::open));
    let pool = ZfsPool::create();
    test(&HostRoom {
        storage: ZfsStorage::open(Arc::new(System), &pool.kleene_root()).unwrap(),
        leftovers: |()| Vec::new(),
        ground: (),
    });
}

/// A room, whatever its storage.
trait Kept: kleene_storage::conformance::Room {
    /// Does something with the root of a dataset's tree.
    fn at(&self, dataset: &Dataset, act: &dyn Fn(&Path));
}

impl<S: Storage> Kept for HostRoom<S, ()> {
    fn at(&self, dataset: &Dataset, act: &dyn Fn(&Path)) {
        self.with(dataset, ".", |path| act(path));
    }
}

/// An image of these contents, and a container of it.
fn container_of(room: &dyn Kept, fill: &dyn Fn(&Path)) -> Dataset {
    let image = Dataset::Image(ImageId::random());
    let container = Dataset::Container(ContainerId::random());
    let snapshot = Snapshot {
        dataset: image.clone(),
        name: "image".parse().unwrap(),
    };
    let storage = room.storage();
    storage.create(&image).unwrap();
    room.at(&image, fill);
    storage.snapshot(&snapshot).unwrap();
    storage.clone_snapshot(&snapshot, &container).unwrap();
    container
}

fn set_mtime(path: &Path, seconds: i64) {
    let stamp = Timespec {
        tv_sec: seconds,
        tv_nsec: 7,
    };
    let times = Timestamps {
        last_access: stamp,
        last_modification: stamp,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// `false` where the file system has no such attributes.
fn set_attribute(path: &Path, value: &[u8]) -> bool {
    let flags = rustix::fs::XattrFlags::empty();
    match rustix::fs::setxattr(path, "user.test", value, flags) {
        Ok(()) => true,
        Err(rustix::io::Errno::OPNOTSUPP) => false,
        Err(errno) => panic!("{errno}"),
    }
}

#[test]
fn every_attribute_counts() {
    everywhere(|room| {
        let names = [
            "attribute",
            "device",
            "directory",
            "file-to-fifo",
            "file-to-link",
            "grown",
            "link",
            "mode",
            "owner",
            "same",
            "time",
            "written-again",
        ];
        let container = container_of(room, &|root| {
            for name in names {
                let path = root.join(name);
                match name {
                    "device" => {
                        let kind = FileType::CharacterDevice;
                        mknodat(CWD, &path, kind, Mode::RWXU, makedev(1, 3)).unwrap();
                    }
                    "directory" => fs::create_dir(&path).unwrap(),
                    "link" => symlink("one", &path).unwrap(),
                    _ => fs::write(&path, "text").unwrap(),
                }
                set_mtime(&path, 1_000_000_000);
            }
        });
        assert_eq!(changes_of(room, &container), Vec::<String>::new());
        room.at(&container, &|root| {
            let path = |name: &str| root.join(name);
            fs::remove_file(path("device")).unwrap();
            let kind = FileType::CharacterDevice;
            mknodat(CWD, path("device"), kind, Mode::RWXU, makedev(1, 5)).unwrap();
            set_mode(&path("directory"), 0o700);
            fs::remove_file(path("file-to-fifo")).unwrap();
            mknodat(CWD, path("file-to-fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
            fs::remove_file(path("file-to-link")).unwrap();
            symlink("mode", path("file-to-link")).unwrap();
            fs::write(path("grown"), "longer text").unwrap();
            set_mtime(&path("grown"), 1_000_000_000);
            fs::remove_file(path("link")).unwrap();
            symlink("two", path("link")).unwrap();
            set_mode(&path("mode"), 0o600);
            chown(path("owner"), Some(70), None).unwrap();
            // Changed, and changed back: what the layers have is still another file.
            set_mode(&path("same"), 0o600);
            set_mode(&path("same"), 0o644);
            set_mtime(&path("time"), 1_000_000_001);
            fs::write(path("written-again"), "next").unwrap();
        });
        let mut expected: Vec<String> = names.map(|name| format!("C /{name}")).to_vec();
        expected.retain(|line| line != "C /same" && line != "C /attribute");
        assert_eq!(changes_of(room, &container), expected);

        let kept = std::cell::Cell::new(false);
        room.at(&container, &|root| {
            kept.set(set_attribute(&root.join("attribute"), b"new"))
        });
        if kept.get() {
            expected.insert(0, "C /attribute".to_owned());
        }
        assert_eq!(changes_of(room, &container), expected);
    });
}

#[test]
fn attributes_of_the_image_count_as_well() {
    everywhere(|room| {
        let kept = std::cell::Cell::new(false);
        let container = container_of(room, &|root| {
            for name in ["gone", "other", "same"] {
                fs::write(root.join(name), "text").unwrap();
                kept.set(set_attribute(&root.join(name), b"value"));
            }
            fs::create_dir(root.join("directory")).unwrap();
            set_attribute(&root.join("directory"), b"value");
        });
        if !kept.get() {
            return;
        }
        room.at(&container, &|root| {
            rustix::fs::removexattr(root.join("gone"), "user.test").unwrap();
            set_attribute(&root.join("other"), b"another");
            set_attribute(&root.join("same"), b"another");
            set_attribute(&root.join("same"), b"value");
            set_attribute(&root.join("directory"), b"another");
        });
        let expected = ["C /directory", "C /gone", "C /other"];
        assert_eq!(changes_of(room, &container), expected);
    });
}

#[test]
fn what_was_renamed_went_and_came() {
    everywhere(|room| {
        let container = container_of(room, &|root| {
            fs::create_dir_all(root.join("old/inner")).unwrap();
            fs::write(root.join("old/inner/file"), "text").unwrap();
            fs::write(root.join("file"), "text").unwrap();
            fs::write(root.join("over"), "another text").unwrap();
            fs::write(root.join("linked"), "text").unwrap();
        });
        room.at(&container, &|root| {
            // Overlays leave it to programs to copy a directory of the image.
            if fs::rename(root.join("old"), root.join("new")).is_err() {
                fs::create_dir_all(root.join("new/inner")).unwrap();
                fs::copy(root.join("old/inner/file"), root.join("new/inner/file")).unwrap();
                fs::remove_dir_all(root.join("old")).unwrap();
            }
            fs::rename(root.join("file"), root.join("over")).unwrap();
            fs::hard_link(root.join("linked"), root.join("second-name")).unwrap();
            // One that is the container's own can be renamed everywhere.
            fs::create_dir_all(root.join("made/inner")).unwrap();
            fs::rename(root.join("made"), root.join("old")).unwrap();
        });
        let expected = [
            "D /file",
            "A /new",
            "A /new/inner",
            "A /new/inner/file",
            "C /old/inner",
            "D /old/inner/file",
            "C /over",
            "A /second-name",
        ];
        let changes = changes_of(room, &container);
        assert_eq!(changes, expected);
    });
}

#[test]
fn links_are_never_followed() {
    everywhere(|room| {
        let outside = scratch();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let target = outside.path().to_owned();
        let container = container_of(room, &|root| {
            fs::create_dir(root.join("directory")).unwrap();
            fs::write(root.join("directory/file"), "x").unwrap();
            symlink(&target, root.join("link")).unwrap();
        });
        room.at(&container, &|root| {
            fs::remove_dir_all(root.join("directory")).unwrap();
            symlink(&target, root.join("directory")).unwrap();
            fs::remove_file(root.join("link")).unwrap();
            fs::create_dir(root.join("link")).unwrap();
            symlink(&target, root.join("link/again")).unwrap();
            symlink("/", root.join("proc")).unwrap();
        });
        let expected = ["C /directory", "C /link", "A /link/again", "A /proc"];
        assert_eq!(changes_of(room, &container), expected);
    });
}

/// Odd names, many entries, and a depth that no path can have.
#[test]
fn shapes_are_no_trouble() {
    everywhere(|room| {
        let odd = "new\nline \\ and \t tab";
        let container = container_of(room, &|root| {
            fs::create_dir(root.join("many")).unwrap();
            for number in 0..300 {
                fs::write(root.join(format!("many/{number}")), "x").unwrap();
            }
            fs::write(root.join(odd), "x").unwrap();
        });
        let depth = 900;
        room.at(&container, &|root| {
            fs::remove_file(root.join("many/17")).unwrap();
            fs::remove_file(root.join(odd)).unwrap();
            let flags = rustix::fs::OFlags::PATH;
            let mut here = rustix::fs::open(root, flags, Mode::empty()).unwrap();
            for _ in 0..depth {
                rustix::fs::mkdirat(&here, "level", Mode::RWXU).unwrap();
                here = rustix::fs::openat(&here, "level", flags, Mode::empty()).unwrap();
            }
        });
        let changes = changes_of(room, &container);
        let levels = changes.iter().filter(|line| line.starts_with("A /level"));
        assert_eq!(levels.count(), depth);
        let rest: Vec<_> = changes
            .iter()
            .filter(|line| !line.starts_with("A /level"))
            .map(String::as_str)
            .collect();
        let gone = format!("D /{odd}");
        assert_eq!(rest, ["C /many", "D /many/17", gone.as_str()]);
    });
}
