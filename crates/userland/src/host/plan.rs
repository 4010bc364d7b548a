//! What will be in the image, decided before anything is written.
//!
//! Paths in a plan are those of the host with every link resolved, and each link on the way is an
//! entry of its own. So the image has the host's layout (`/bin -> usr/bin` and the like), and
//! writing an entry never passes through a link.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Links on the way to one path: as many as Linux follows.
const MAX_LINKS: usize = 40;

/// One entry of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Dir {
        mode: u32,
        owner: (u32, u32),
    },
    Link(PathBuf),
    /// The host's file at the same path.
    File {
        size: u64,
    },
    /// A file with this content.
    Text {
        content: String,
        mode: u32,
    },
}

/// The entries of an image by path. The first entry for a path stays.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    entries: BTreeMap<PathBuf, Entry>,
    trees: Vec<PathBuf>,
}

/// What to do where the host has no directory of that name.
#[derive(Clone, Copy)]
enum Absent {
    Fail,
    Create { mode: u32 },
}

impl Plan {
    /// All entries, directories before what is in them.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_path(), entry))
    }

    /// The directories that are copied as a whole.
    pub fn trees(&self) -> &[PathBuf] {
        &self.trees
    }

    /// The sizes of the host's files that are copied one by one.
    pub fn bytes(&self) -> u64 {
        let size = |entry: &Entry| {
            if let Entry::File { size } = entry {
                *size
            } else {
                0
            }
        };
        self.entries.values().map(size).sum()
    }

    /// Follows `path` on the host; the directories and links on the way become entries.
    ///
    /// # Errors
    /// What the system says of a path that can't be followed.
    pub fn resolve(&mut self, path: &Path) -> io::Result<(PathBuf, Metadata)> {
        let resolved = self.follow(path, Absent::Fail)?;
        let metadata = fs::symlink_metadata(&resolved)?;
        Ok((resolved, metadata))
    }

    /// Takes the host's regular file at `path`, and returns its path without links.
    ///
    /// # Errors
    /// As [`Plan::resolve`]; `InvalidInput` when it is no regular file.
    pub fn file(&mut self, path: &Path) -> io::Result<PathBuf> {
        let (resolved, metadata) = self.resolve(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        self.insert(
            &resolved,
            Entry::File {
                size: metadata.len(),
            },
        )?;
        Ok(resolved)
    }

    /// Takes the whole directory at `path`, which is one that [`Plan::resolve`] returned.
    pub fn tree(&mut self, path: PathBuf) {
        if !self.covers(&path) {
            self.trees.retain(|tree| !tree.starts_with(&path));
            self.trees.push(path);
        }
    }

    /// Makes a directory of root's where the host's path `path` leads.
    ///
    /// # Errors
    /// When something else is in the way.
    pub fn dir(&mut self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        self.follow(path.as_ref(), Absent::Create { mode })
            .map(drop)
    }

    /// Makes a file with this content, whatever the host has there.
    ///
    /// # Errors
    /// When its directory can't be made.
    pub fn text(&mut self, path: &str, mode: u32, content: String) -> io::Result<()> {
        self.made(path, Entry::Text { content, mode })
    }

    /// Makes a link, whatever the host has there.
    ///
    /// # Errors
    /// When its directory can't be made.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.made(path, Entry::Link(target.into()))
    }

    fn made(&mut self, path: &str, entry: Entry) -> io::Result<()> {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = self.follow(parent, Absent::Create { mode: 0o755 })?;
        self.insert(&parent.join(name), entry)
    }

    /// Whether there is an entry for a path without links.
    pub fn has(&self, path: &str) -> bool {
        let path = Path::new(path);
        self.entries.contains_key(path) || self.covers(path)
    }

    fn covers(&self, path: &Path) -> bool {
        self.trees.iter().any(|tree| path.starts_with(tree))
    }

    fn insert(&mut self, path: &Path, entry: Entry) -> io::Result<()> {
        let inside_tree = self
            .trees
            .iter()
            .any(|tree| path != tree && path.starts_with(tree));
        if inside_tree || self.entries.contains_key(path) {
            return Ok(());
        }
        // Writing must never pass through a link: the host may have changed since the link was
        // planned, or the plan may have a link where the host has a directory.
        let parent = path.parent().unwrap_or(Path::new("/"));
        let parent_is_dir = matches!(self.entries.get(parent), Some(Entry::Dir { .. }));
        if parent != Path::new("/") && !parent_is_dir {
            let message = format!("{} isn't a directory", parent.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    fn follow(&mut self, path: &Path, absent: Absent) -> io::Result<PathBuf> {
        let mut pending: VecDeque<OsString> = names(path).collect();
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(name);
            let metadata = match (fs::symlink_metadata(&next), absent) {
                (Err(error), Absent::Create { mode })
                    if error.kind() == io::ErrorKind::NotFound =>
                {
                    self.insert(
                        &next,
                        Entry::Dir {
                            mode,
                            owner: (0, 0),
                        },
                    )?;
                    here = next;
                    continue;
                }
                (result, _) => result?,
            };
            if metadata.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::other("too many levels of symbolic links"));
                }
                let target = fs::read_link(&next)?;
                for name in names(&target).rev() {
                    pending.push_front(name);
                }
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                self.insert(&next, Entry::Link(target))?;
                continue;
            }
            if metadata.is_dir() {
                let entry = match absent {
                    Absent::Create { mode } if pending.is_empty() => Entry::Dir {
                        mode,
                        owner: (0, 0),
                    },
                    _ => Entry::Dir {
                        mode: metadata.mode() & 0o7777,
                        owner: (metadata.uid(), metadata.gid()),
                    },
                };
                self.insert(&next, entry)?;
            } else if !pending.is_empty() || matches!(absent, Absent::Create { .. }) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            here = next;
        }
        Ok(here)
    }
}

/// The names of a path, `..` included.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_on_the_way_become_entries() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("usr/bin")).unwrap();
        fs::write(dir.join("usr/bin/tool"), "x").unwrap();
        symlink("usr/bin", dir.join("bin")).unwrap();
        symlink(dir.join("usr/../bin/tool"), dir.join("alias")).unwrap();
        let mut plan = Plan::default();
        assert_eq!(
            plan.file(&dir.join("alias")).unwrap(),
            dir.join("usr/bin/tool")
        );
        let entry = |name: &str| plan.entries.get(&dir.join(name)).unwrap().clone();
        assert_eq!(entry("bin"), Entry::Link("usr/bin".into()));
        assert_eq!(entry("alias"), Entry::Link(dir.join("usr/../bin/tool")));
        assert_eq!(entry("usr/bin/tool"), Entry::File { size: 1 });
        assert!(matches!(entry("usr/bin"), Entry::Dir { .. }));
    }

    #[test]
    fn loops_and_files_used_as_directories_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        symlink("loop", dir.join("loop")).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        let mut plan = Plan::default();
        assert!(plan.resolve(&dir.join("loop")).is_err());
        let error = plan.resolve(&dir.join("file/x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert!(plan.dir(dir.join("file"), 0o755).is_err());
    }

    #[test]
    fn nothing_is_planned_behind_a_planned_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/pid"), "1").unwrap();
        let run = dir.path().join("run");
        let mut plan = Plan::default();
        plan.link(run.to_str().unwrap(), "/etc").unwrap();
        assert!(plan.file(&run.join("pid")).is_err());
    }

    #[test]
    fn whole_directories_cover_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("www")).unwrap();
        fs::write(dir.path().join("www/index.html"), "hello").unwrap();
        let mut plan = Plan::default();
        let (www, _) = plan.resolve(&dir.path().join("www")).unwrap();
        plan.tree(www.join("sub"));
        plan.tree(www.clone());
        plan.tree(www.join("sub"));
        assert_eq!(plan.trees(), std::slice::from_ref(&www));
        plan.file(&www.join("index.html")).unwrap();
        assert_eq!(plan.bytes(), 0);
    }
}
