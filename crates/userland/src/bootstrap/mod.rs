//! The minimal system of the host's own distribution, installed from its packages.
//!
//! mmdebstrap(1) or debootstrap(8) do it, with the archives and keys of the host's own apt. They
//! mount file systems in the tree that they make, and start programs of its packages as root in
//! there, so they never work in the image itself but in a private directory, and in namespaces of
//! their own: when they end, in whatever way, all their processes and mounts are gone.

mod apt;
mod programs;
mod suite;
mod work;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use kleene_doors::userland::{Defaults, UserlandError};
use kleene_tree::{CopyOptions, Open, TreeError, copy_tree, create_dirs_in_root, open_in_root};

use self::programs::{Job, Program};
pub(crate) use self::suite::Suite;
use self::work::WorkDir;
use crate::auto::{OTHERS, OsRelease, release_of};
use crate::error::{io_error, tree_error};
use crate::progress::Reporter;
use crate::{SystemUserland, archive, defaults, extras};

/// Made from the host's by the programs, and no part of an image.
const HOSTS_FILES: [&str; 2] = ["resolv.conf", "hostname"];

/// What debootstrap leaves in these directories is for itself.
const UNNEEDED: [&str; 3] = ["dev", "var/cache/apt/archives", "var/lib/apt/lists"];

/// Fills the empty directory `into`.
pub(crate) fn fill(
    userland: &SystemUserland,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<Defaults, UserlandError> {
    let unsupported = |why: String| UserlandError::Unsupported(format!("{why}. {OTHERS}"));
    let host = &userland.host;
    let os = OsRelease::of_root(&host.root).filter(|_| host.system == "Linux");
    let Some((os, suite)) = os.and_then(|os| Suite::of(&os).map(|suite| (os, suite))) else {
        return Err(unsupported(format!(
            "a minimal system can only be installed from packages on Debian, Ubuntu and what is \
             like them, not on this {}",
            host.system
        )));
    };
    let sources = apt::sources(host, &os, &suite);
    if sources.is_empty() {
        return Err(unsupported(format!(
            "apt's configuration in {} has no archive of {} that is signed with the \
             distribution's key and reached over http:// or https://",
            host.root.join("etc/apt").display(),
            suite.name
        )));
    }
    let Some(program) = Program::find(userland) else {
        return Err(unsupported(
            "installing a minimal system needs the program mmdebstrap or debootstrap: install one \
             (apt-get install mmdebstrap)"
                .into(),
        ));
    };
    let work = WorkDir::new(&userland.cache_dir.join("bootstrap"))?;
    let job = Job {
        userland,
        suite: &suite,
        sources: &sources,
        work: work.path(),
    };
    match program {
        Program::Mmdebstrap(path) => {
            let tar = job.mmdebstrap(&path, reporter)?;
            let file = File::open(&tar)
                .map_err(|error| io_error(format!("opening {}", tar.display()), error))?;
            archive::unpack_file(&file, "the new system", into, reporter)?;
        }
        Program::Debootstrap(path) => {
            let tree = job.debootstrap(&path, reporter)?;
            copy(&tree, into, reporter)?;
            configure_apt(&job, into)?;
        }
    }
    let action = || format!("cleaning {}", into.display());
    let root = File::open(into).map_err(|error| io_error(action(), error))?;
    let etc = open_in_root(root.as_fd(), Path::new("etc"), Open::Directory)
        .map_err(|error| tree_error(action(), error))?;
    for name in HOSTS_FILES {
        extras::remove(etc.as_fd(), name).map_err(|error| io_error(action(), error))?;
    }
    Ok(Defaults {
        name: OsRelease::of_root(into).map(|os| release_of(&os).name),
        ..defaults::of_tree(into)
    })
}

/// Copies the tree without its device nodes, as archives are unpacked, and without what was
/// downloaded.
fn copy(tree: &Path, into: &Path, reporter: &mut Reporter<'_>) -> Result<(), UserlandError> {
    let action = || format!("copying the new system to {}", into.display());
    let io = |error| io_error(action(), error);
    let source = File::open(tree).map_err(io)?;
    let target = File::open(into).map_err(io)?;
    reporter.step("copying", 0, None)?;
    let copied = empty(source.as_fd())
        .and_then(|()| copy_tree(source.as_fd(), target.as_fd(), &CopyOptions::default()));
    let copied = copied.map_err(|error| tree_error(action(), error))?;
    reporter.step("copying", copied.bytes, Some(copied.bytes))
}

fn empty(tree: BorrowedFd<'_>) -> Result<(), TreeError> {
    for dir in UNNEEDED {
        match open_in_root(tree, Path::new(dir), Open::Directory) {
            Ok(dir) => kleene_tree::remove_contents(dir.as_fd())?,
            Err(TreeError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// debootstrap knows one archive only; the image gets all that belong to the release.
fn configure_apt(job: &Job<'_>, into: &Path) -> Result<(), UserlandError> {
    let action = || format!("configuring apt in {}", into.display());
    let io = |error| io_error(action(), error);
    let root = File::open(into).map_err(io)?;
    let apt = create_dirs_in_root(root.as_fd(), Path::new("etc/apt"), 0o755)
        .map_err(|error| tree_error(action(), error))?;
    extras::remove(apt.as_fd(), "sources.list").map_err(io)?;
    let parts = create_dirs_in_root(root.as_fd(), Path::new("etc/apt/sources.list.d"), 0o755)
        .map_err(|error| tree_error(action(), error))?;
    let text = apt::deb822(job.sources);
    extras::replace(parts.as_fd(), &job.suite.file_name(), text.as_bytes()).map_err(io)
}
