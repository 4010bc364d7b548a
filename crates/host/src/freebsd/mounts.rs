//! Mounts that a container sees, made on the host beneath its root, and what is left of them.
//!
//! A jail that ends leaves its mounts, /dev among them; a daemon that dies may leave some half made. The
//! kernel's table has them all.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use kleene_command::{Argv, CommandError, Runner};
use kleene_doors::host::{HostError, Mount};
use serde::Deserialize;

use super::{failed, list, run};

/// How long the processes of a removed jail may take until what they used is looked at again: from the
/// first of these, twice as long each time, until the second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// File systems that are mounted for containers. Others are somebody else's.
const OURS: &[&str] = &["devfs", "fdescfs", "nullfs", "procfs", "tmpfs"];

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Mounted {
    /// What is mounted: a path for nullfs.
    #[serde(rename = "special")]
    pub source: PathBuf,
    /// Where.
    #[serde(rename = "node")]
    pub place: PathBuf,
    /// Its file system.
    #[serde(rename = "fstype")]
    pub kind: String,
    /// As mount(8) prints them: `read-only`, `local` and so on.
    #[serde(default, rename = "opts")]
    pub options: Vec<String>,
}

impl Mounted {
    /// Whether it is a file system that holds files, and no view of the kernel's.
    pub fn is_ordinary(&self) -> bool {
        const KERNELS: &[&str] = &["devfs", "fdescfs", "linprocfs", "linsysfs", "procfs"];
        !KERNELS.contains(&self.kind.as_str())
    }
}

/// All mounts of this host, in the order in which they were made.
///
/// # Errors
/// What mount(8) says, or that its answer can't be understood.
pub fn all(runner: &dyn Runner) -> Result<Vec<Mounted>, HostError> {
    let command = Argv::new("mount").args(["--libxo", "json"]);
    list(runner, &command, ["mount", "mounted"], "listing mounts")
}

/// Mounts a directory or a file over another one, with the options of the container's mount that it is
/// made for. Mounts beneath the source don't show.
///
/// # Errors
/// What mount_nullfs(8) says.
pub fn mount_nullfs(
    runner: &dyn Runner,
    source: &Path,
    place: &Path,
    mount: &Mount,
) -> Result<(), HostError> {
    // mount_nullfs takes `ro,nosuid` for one option, which nobody knows: it mounts with neither.
    let options: &[&str] = match (mount.read_only, mount.nosuid) {
        (false, false) => &[],
        (true, false) => &["-o", "ro"],
        (false, true) => &["-o", "nosuid"],
        (true, true) => &["-o", "ro", "-o", "nosuid"],
    };
    let command = Argv::new("mount_nullfs")
        .args(options.iter().copied())
        .arg(source)
        .arg(place);
    run(
        runner,
        &command,
        &format!("mounting {} at {}", source.display(), place.display()),
    )
}

/// Unmounts what is mounted at a path. When nothing is, that's fine.
///
/// # Errors
/// What umount(8) says: that it is busy, most of all.
pub fn ensure_unmounted(runner: &dyn Runner, place: &Path) -> Result<(), HostError> {
    let command = Argv::new("umount").arg(place);
    let nothing_there = |complaint: &str| {
        let ends = |end: &str| complaint.ends_with(end);
        ends(": not a file system root directory") || ends(": unknown file system")
    };
    match runner.run(&command) {
        Ok(_) => Ok(()),
        Err(error) if error.stderr().is_some_and(nothing_there) => Ok(()),
        Err(error) => Err(failed(&format!("unmounting {}", place.display()))(error)),
    }
}

/// What a container's mounts are known by.
#[derive(Debug, Clone, Copy)]
pub enum Its<'a> {
    /// They lie beneath its root, a path without links.
    Beneath(&'a Path),
    /// They lie beneath a directory with its id for a name.
    Named(&'a str),
}

impl Its<'_> {
    /// The root's own mount isn't one of them.
    fn is(self, place: &Path) -> bool {
        match self {
            Self::Beneath(root) => place.starts_with(root) && place != root,
            Self::Named(id) => {
                let mut above = place.ancestors().skip(1);
                above.any(|directory| directory.file_name().is_some_and(|name| name == id))
            }
        }
    }
}

/// Unmounts all that is mounted for a container, the latest first.
///
/// # Errors
/// As for [`all`] and [`ensure_unmounted`]: the first one, but all are tried.
pub fn clear(runner: &dyn Runner, its: &Its<'_>) -> Result<(), HostError> {
    let mounts = all(runner)?;
    let is_its = |mount: &&Mounted| its.is(&mount.place) && OURS.contains(&mount.kind.as_str());
    let leftovers = mounts.iter().rev().filter(is_its);
    let mut all = Ok(());
    for mount in leftovers {
        all = all.and(unmount_soon(runner, &mount.place));
    }
    all
}

/// Unmounts what processes that are ending may still use; what they don't let go of is taken from them.
///
/// # Errors
/// As for [`ensure_unmounted`].
pub fn unmount_soon(runner: &dyn Runner, place: &Path) -> Result<(), HostError> {
    let mut pause = FIRST_PAUSE;
    while pause < LAST_PAUSE {
        match ensure_unmounted(runner, place) {
            Err(error) if is_busy(&error) => thread::sleep(pause),
            other => return other,
        }
        pause *= 2;
    }
    let command = Argv::new("umount").arg("-f").arg(place);
    run(runner, &command, &format!("unmounting {}", place.display()))
}

fn is_busy(error: &HostError) -> bool {
    let HostError::Failed { source, .. } = error else {
        return false;
    };
    let command = source.downcast_ref::<CommandError>();
    let said = command.and_then(CommandError::stderr);
    said.is_some_and(|said| said.ends_with("Device busy"))
}

#[cfg(test)]
mod tests {
    use kleene_command::{Answer, Scripted};

    use super::super::samples::{answer, chain, failure, sample, success};
    use super::*;

    const ROOT: &str = "/zroot/kleene/container/c1";
    const TABLE: [&str; 3] = ["mount", "--libxo", "json"];

    #[test]
    fn the_table_is_read() {
        let table = all(&sample(&TABLE, success)).unwrap();
        assert_eq!(table.len(), 18);
        let wanted = Mounted {
            source: "/zroot/kleene/volumes/my-vol".into(),
            place: Path::new(ROOT).join("mnt"),
            kind: "nullfs".to_owned(),
            options: ["local", "read-only", "nfsv4acls"]
                .map(str::to_owned)
                .to_vec(),
        };
        assert!(table.contains(&wanted), "{table:#?}");
        let devfs = table.iter().find(|mount| mount.kind == "devfs").unwrap();
        assert!(devfs.options.is_empty());
    }

    #[test]
    fn leftovers_go_in_reverse_order_and_nothing_else_does() {
        let runner = sample(&TABLE, success);
        for name in ["tmp", "file", "etc/group", "mnt", "app"] {
            runner.then(&["umount", &format!("{ROOT}/{name}")], Answer::ok(""));
        }
        clear(&runner, &Its::Beneath(Path::new(ROOT))).unwrap();
        runner.finish().unwrap();
    }

    #[test]
    fn neighbours_and_datasets_stay() {
        for root in ["/zroot/kleene/container/c", "/zroot/kleene/volumes"] {
            let runner = sample(&TABLE, success);
            clear(&runner, &Its::Beneath(Path::new(root))).unwrap();
            runner.finish().unwrap();
        }
    }

    #[test]
    fn mounts_of_a_container_whose_root_is_not_known() {
        let its = |place: &str| Its::Named("c1").is(Path::new(place));
        assert!(its("/zroot/kleene/container/c1/dev") && its("/k/c1/a/b"));
        assert!(!its("/zroot/kleene/container/c1") && !its("/k/c10/dev") && !its("/k/dev/c1"));
    }

    #[test]
    fn unmounting_is_idempotent() {
        let dev = format!("{ROOT}/dev");
        for ending in [success, failure] {
            let runner = sample(&["umount", &dev], ending);
            ensure_unmounted(&runner, Path::new(&dev)).unwrap();
        }
        let absent = format!("{ROOT}/notmounted");
        let runner = sample(&["umount", &absent], failure);
        ensure_unmounted(&runner, Path::new(&absent)).unwrap();
        let busy = Answer::fail(1, format!("umount: unmount of {dev} failed: Device busy"));
        let runner = Scripted::new().expect(&["umount", &dev], busy);
        ensure_unmounted(&runner, Path::new(&dev)).unwrap_err();
    }

    fn asked(read_only: bool, nosuid: bool) -> Mount {
        Mount {
            source: "/asked".into(),
            destination: "/asked".parse().unwrap(),
            read_only,
            nosuid,
        }
    }

    #[test]
    fn directories_and_files_are_mounted() {
        let (volume, place) = ("/zroot/kleene/volumes/my-vol", format!("{ROOT}/mnt"));
        let runner = sample(&["mount_nullfs", "-o", "ro", volume, &place], success);
        let mount = |runner: &Scripted, source: &str, place: &str, like: &Mount| {
            mount_nullfs(runner, Path::new(source), Path::new(place), like).unwrap();
            runner.finish().unwrap();
        };
        mount(&runner, volume, &place, &asked(true, false));
        let file = format!("{ROOT}/file");
        let runner = sample(&["mount_nullfs", "/etc/group", &file], success);
        mount(&runner, "/etc/group", &file, &asked(false, false));
        let nosuid = ["mount_nullfs", "-o", "nosuid", volume, &place];
        let runner = Scripted::new().expect(&nosuid, Answer::ok(""));
        mount(&runner, volume, &place, &asked(false, true));
        let both = ["mount_nullfs", "-o", "ro", "-o", "nosuid", volume, &place];
        let runner = Scripted::new().expect(&both, Answer::ok(""));
        mount(&runner, volume, &place, &asked(true, true));
    }

    #[test]
    fn what_mount_nullfs_says_is_passed_on() {
        let place = format!("{ROOT}/app");
        for (source, complaint) in [
            ("/nowhere", "No such file or directory"),
            ("/zroot/kleene/volumes/my-vol", "Resource deadlock avoided"),
        ] {
            let words = ["mount_nullfs", source, &place];
            let runner = Scripted::new().expect(&words, answer(&words, failure));
            let (source, asked) = (Path::new(source), asked(false, false));
            let error = mount_nullfs(&runner, source, Path::new(&place), &asked);
            let said = chain(&error.unwrap_err());
            assert!(said.ends_with(complaint), "{said}");
        }
    }
}
