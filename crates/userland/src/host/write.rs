//! Writes a plan into the image's empty root.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink,
};
use std::path::{Path, PathBuf};

use kleene_doors::userland::UserlandError;
use kleene_tree::{CopyOptions, Existing, TreeError, copy_tree};
use rustix::fs::OFlags;

use super::plan::{Entry, Plan};
use crate::error::{io_error, tree_error};
use crate::progress::Reporter;

/// Writes everything in `plan` into the empty directory `into`.
///
/// The entries come first, while there are no links but the plan's own, then the directories that
/// are copied as a whole: those may hold anything, and are copied by descriptor.
pub(crate) fn write(
    plan: &Plan,
    tree_bytes: u64,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let mut writer = Writer {
        into,
        links: HashMap::new(),
    };
    let total = plan.bytes() + tree_bytes;
    let mut done = 0;
    for (path, entry) in plan.entries() {
        if let Entry::File { size } = entry {
            reporter.step(format!("copying {}", path.display()), done, Some(total))?;
            done += size;
        }
        let failed = |error| io_error(format!("copying {}", path.display()), error);
        writer.entry(path, entry).map_err(failed)?;
    }
    for tree in plan.trees() {
        done += writer.tree(tree, done, total, reporter)?;
    }
    reporter.step("copying", total, Some(total))
}

struct Writer<'p> {
    into: &'p Path,
    /// Where the copies of host files with several names are.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Writer<'_> {
    fn target(&self, path: &Path) -> PathBuf {
        self.into.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn entry(&mut self, path: &Path, entry: &Entry) -> io::Result<()> {
        let target = self.target(path);
        match entry {
            Entry::Dir { mode, owner } => {
                fs::DirBuilder::new().mode(0o700).create(&target)?;
                let made = fs::symlink_metadata(&target)?;
                if (made.uid(), made.gid()) != *owner {
                    chown(&target, Some(owner.0), Some(owner.1))?;
                }
                fs::set_permissions(&target, Permissions::from_mode(*mode))
            }
            Entry::Link(text) => symlink(text, &target),
            Entry::Text { content, mode } => {
                let mut file = create(&target)?;
                file.write_all(content.as_bytes())?;
                file.set_permissions(Permissions::from_mode(*mode))
            }
            Entry::File { .. } => self.file(path, &target),
        }
    }

    fn file(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        // It was a regular file when it was planned; NONBLOCK in case that it is a FIFO now.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut source = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let metadata = source.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it changed while it was copied"));
        }
        if metadata.nlink() > 1 {
            let id = (metadata.dev(), metadata.ino());
            if let Some(copy) = self.links.get(&id) {
                return fs::hard_link(copy, target);
            }
            self.links.insert(id, target.to_owned());
        }
        let mut copy = create(target)?;
        io::copy(&mut source, &mut copy)?;
        let made = copy.metadata()?;
        if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid()) {
            fchown(&copy, Some(metadata.uid()), Some(metadata.gid()))?;
        }
        // After the owner: a change of owner takes set-id bits and capabilities away.
        copy.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777))?;
        copy_capabilities(&source, &copy)?;
        copy.set_times(FileTimes::new().set_modified(metadata.modified()?))
    }

    /// Copies a whole directory, and returns the bytes of its files.
    fn tree(
        &self,
        tree: &Path,
        done: u64,
        total: u64,
        reporter: &mut Reporter<'_>,
    ) -> Result<u64, UserlandError> {
        let step = format!("copying {}", tree.display());
        reporter.step(step.clone(), done, Some(total))?;
        let opened = |error| io_error(step.clone(), error);
        let source = File::open(tree).map_err(opened)?;
        let target = File::open(self.target(tree)).map_err(opened)?;
        let outcome = RefCell::new(Ok(()));
        let reporter = RefCell::new(reporter);
        let progress = |copied: &kleene_tree::Copied| {
            let told = reporter.borrow_mut().done(done + copied.bytes);
            let flow = if told.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            };
            *outcome.borrow_mut() = told;
            flow
        };
        let options = CopyOptions {
            existing: Existing::Merge,
            progress: Some(&progress),
            ..CopyOptions::default()
        };
        match copy_tree(source.as_fd(), target.as_fd(), &options) {
            Ok(copied) => Ok(copied.bytes),
            Err(TreeError::Cancelled) => Err(UserlandError::Cancelled),
            Err(error) => Err(tree_error(step, error)),
        }
    }
}

fn create(target: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
}

/// Copies file capabilities, which programs such as `ping` have in place of a set-user-id bit. Not
/// every file system can hold them.
#[cfg(target_os = "linux")]
fn copy_capabilities(source: &File, copy: &File) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
    use rustix::io::Errno;
    const NAME: &str = "security.capability";
    // The kernel's largest form (version 3) has 24 bytes.
    let mut value = [0; 64];
    let length = match fgetxattr(source, NAME, &mut value) {
        Ok(length) => length,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let value = value.get(..length).unwrap_or_default();
    match fsetxattr(copy, NAME, value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn copy_capabilities(_: &File, _: &File) -> io::Result<()> {
    Ok(())
}
