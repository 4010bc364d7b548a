//! The suite that every storage room passes.
//!
//! A room is tested through [`Room`]: its storage, and a way to look into a dataset's tree as a
//! container would see it. Each function here is one test; [`suite!`](crate::conformance_suite) makes
//! `#[test]` functions of all of them for one room.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "these functions are tests"
)]

mod basics;
mod changes;
mod clones;
mod many;

pub use basics::*;
pub use changes::*;
pub use clones::*;
pub use many::*;

use kleene_doors::storage::{Dataset, Snapshot, Storage};
use kleene_types::{ContainerId, ImageId, SnapshotName, VolumeName};

/// A room under test, empty at first.
///
/// Paths are relative to the dataset's root, and parents exist. The functions panic when they fail.
pub trait Room {
    /// The storage.
    fn storage(&self) -> &dyn Storage;
    /// Writes a file.
    fn write(&self, dataset: &Dataset, path: &str, text: &str);
    /// Makes a directory with its parents.
    fn make_dir(&self, dataset: &Dataset, path: &str);
    /// A file's text; `None` when there is no such file.
    fn read(&self, dataset: &Dataset, path: &str) -> Option<String>;
    /// Removes a file, or a directory with everything in it.
    fn remove(&self, dataset: &Dataset, path: &str);
    /// The names in a directory (`.` is the root), sorted.
    fn names(&self, dataset: &Dataset, path: &str) -> Vec<String>;
    /// The permission bits of the root.
    fn mode(&self, dataset: &Dataset) -> u32;
    /// Changes the permission bits of the root.
    fn set_mode(&self, dataset: &Dataset, mode: u32);
    /// What lies around that is no dataset: unfinished things, rubbish.
    fn leftovers(&self) -> Vec<String>;
}

/// Makes a `#[test]` function of every function of the suite, for the room that the expression makes.
#[macro_export]
macro_rules! conformance_suite {
    ($room:expr) => {
        $crate::conformance_suite!($room;
            datasets_come_and_go,
            a_new_dataset_is_empty_and_roots,
            failures_say_what_they_are_and_change_nothing,
            a_dataset_keeps_what_is_written,
            kinds_do_not_mix,
            names_at_the_limits,
            usage_grows,
            snapshots_do_not_change,
            clones_are_independent,
            clones_hide_what_was_removed,
            clones_look_like_their_origin,
            chains_of_clones,
            snapshots_of_one_dataset,
            clones_keep_their_origin,
            a_snapshot_of_a_clone_is_whole,
            three_hundred_snapshots_in_a_row,
            changes_are_told,
            changes_of_directories,
            changes_leave_out_mount_points,
            changes_along_a_chain,
            changes_of_nothing,
            quotas_are_set_and_taken_away,
            two_hundred_volumes,
            everybody_at_once,
        );
    };
    ($room:expr; $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$name(&$room);
            }
        )*
    };
}

fn image() -> Dataset {
    Dataset::Image(ImageId::random())
}

fn container() -> Dataset {
    Dataset::Container(ContainerId::random())
}

fn volume(name: &str) -> Dataset {
    Dataset::Volume(name.parse::<VolumeName>().unwrap())
}

fn at(dataset: &Dataset, name: &str) -> Snapshot {
    Snapshot {
        dataset: dataset.clone(),
        name: name.parse::<SnapshotName>().unwrap(),
    }
}

/// An image with a few files and the snapshot `@image`.
fn base_image(room: &dyn Room) -> Dataset {
    let image = image();
    let storage = room.storage();
    storage.create(&image).unwrap();
    room.make_dir(&image, "etc/deep/er");
    room.write(&image, "etc/motd", "base");
    room.write(&image, "etc/deep/er/file", "base");
    room.write(&image, "other", "base");
    storage.snapshot(&at(&image, "image")).unwrap();
    image
}

/// A clone of an image's snapshot `@image`.
fn clone_of(room: &dyn Room, origin: &Dataset, dataset: Dataset) -> Dataset {
    let storage = room.storage();
    storage
        .clone_snapshot(&at(origin, "image"), &dataset)
        .unwrap();
    dataset
}

fn no_leftovers(room: &dyn Room) {
    assert_eq!(room.leftovers(), Vec::<String>::new());
}
