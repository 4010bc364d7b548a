//! Finds what the sources of a `COPY` in a Dockerfile name beneath a directory that strangers have
//! filled. Links are followed as if that directory were `/`.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::error::{InStep, Step, TreeError};
use crate::filter::{Filter, Keep, holds_kept};
use crate::meta::Meta;
use crate::pattern::{Pattern, has_wildcards};
use crate::resolve::{Open, open_in_root};
use crate::sys;

/// One thing that a source names.
pub(crate) struct Source {
    /// Its path beneath the root, as text; empty for the root.
    pub path: PathBuf,
    /// The part of the path that the destination gets, too, if parents are made there.
    pub below: PathBuf,
    /// What it is, or what it is a link to.
    pub kind: FileType,
}

/// What the sources of a copy name.
pub(crate) struct Sources {
    /// In the order of the sources, and by name.
    pub found: Vec<Source>,
    /// Whether the destination must be a directory.
    pub into_directory: bool,
}

/// Finds them all.
///
/// # Errors
/// [`TreeError::NoSource`] for a source that names nothing, or nothing that is kept.
pub(crate) fn select(
    root: BorrowedFd<'_>,
    sources: &[String],
    filter: Option<Filter<'_>>,
) -> Result<Sources, TreeError> {
    let mut all = Sources {
        found: Vec::new(),
        into_directory: sources.len() > 1,
    };
    for source in sources {
        let wild = has_wildcards(source);
        all.into_directory |= wild;
        let paths = if wild {
            matching(root, source)?
        } else {
            vec![clean(source)]
        };
        let before = all.found.len();
        for path in paths {
            let kind = kind_of(root, &path)?;
            // What is left out may as well be a link that leads nowhere.
            let supposed = kind.unwrap_or(FileType::Symlink);
            if !is_kept(root, filter, &path, supposed)? {
                continue;
            }
            let Some(kind) = kind else {
                // Only a link that leads nowhere is an error where names were to be found.
                if wild && existing(open_in_root(root, &path, Open::HandleNoFollow))?.is_none() {
                    continue;
                }
                let pattern = match wild {
                    true => path.to_string_lossy().into_owned(),
                    false => source.clone(),
                };
                return Err(TreeError::NoSource { pattern });
            };
            let below = below(source, &path);
            all.found.push(Source { path, below, kind });
        }
        if all.found.len() == before {
            return Err(TreeError::NoSource {
                pattern: source.clone(),
            });
        }
    }
    Ok(all)
}

/// The names of a path; `..` doesn't lead above the root.
fn names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

fn clean(text: &str) -> PathBuf {
    names(text).iter().collect()
}

/// The part of a path that the destination gets, too.
fn below(source: &str, path: &Path) -> PathBuf {
    let left_out = source
        .split_once("/./")
        .map_or(0, |(before, _)| names(before).len());
    path.iter().skip(left_out).collect()
}

/// The paths that fit a pattern, sorted.
fn matching(root: BorrowedFd<'_>, pattern: &str) -> Result<Vec<PathBuf>, TreeError> {
    let malformed = |_| TreeError::NoSource {
        pattern: format!("{pattern} (a malformed pattern)"),
    };
    let mut paths = vec![PathBuf::new()];
    let names = names(pattern);
    for (number, name) in names.iter().enumerate() {
        if !has_wildcards(name) && !name.contains('\\') {
            paths.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let is_last = number + 1 == names.len();
        let name = Pattern::parse(name).map_err(malformed)?;
        let mut next = Vec::new();
        for path in paths {
            let found = fitting(root, &path, &name, is_last)?;
            next.extend(found.into_iter().map(|name| path.join(name)));
        }
        paths = next;
    }
    Ok(paths)
}

/// The names in a directory that fit; when others follow, of directories only.
fn fitting(
    root: BorrowedFd<'_>,
    path: &Path,
    pattern: &Pattern,
    is_last: bool,
) -> Result<Vec<OsString>, TreeError> {
    let Some(dir) = existing(open_in_root(root, path, Open::Directory))? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let entries = sys::entries(dir.as_fd()).step(Step::Reading);
    for entry in entries.map_err(|fault| fault.at(path))? {
        let name = OsStr::from_bytes(entry.name.to_bytes());
        let may_lead_on = || match entry.kind {
            FileType::Unknown => Meta::at(dir.as_fd(), &entry.name).is_ok_and(|meta| meta.is_dir()),
            kind => kind == FileType::Directory,
        };
        if pattern.fits(&name.to_string_lossy()) && (is_last || may_lead_on()) {
            found.push(name.to_owned());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What is at a path; `None`: nothing.
fn kind_of(root: BorrowedFd<'_>, path: &Path) -> Result<Option<FileType>, TreeError> {
    let Some(handle) = existing(open_in_root(root, path, Open::Handle))? else {
        return Ok(None);
    };
    let meta = Meta::of(&handle).step(Step::Reading);
    Ok(Some(meta.map_err(|fault| fault.at(path))?.kind))
}

fn existing<T>(opened: Result<T, TreeError>) -> Result<Option<T>, TreeError> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(TreeError::NotFound { .. } | TreeError::NotADirectory { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a source, and each directory on the way to it, is kept.
fn is_kept(
    root: BorrowedFd<'_>,
    filter: Option<Filter<'_>>,
    path: &Path,
    kind: FileType,
) -> Result<bool, TreeError> {
    let Some(filter) = filter.filter(|_| !path.as_os_str().is_empty()) else {
        return Ok(true);
    };
    let mut above = path.ancestors().skip(1);
    if above.any(|above| !above.as_os_str().is_empty() && filter(above, true) == Keep::No) {
        return Ok(false);
    }
    let is_dir = kind == FileType::Directory;
    match filter(path, is_dir) {
        Keep::Yes => Ok(true),
        Keep::Descend if is_dir => {
            holds_kept(filter, open_in_root(root, path, Open::Directory)?, path)
        }
        Keep::No | Keep::Descend => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_cut() {
        for (source, path, part) in [
            (".", "", ""),
            ("/", "", ""),
            ("/a//b/", "a/b", "a/b"),
            ("../../a/./b/../c", "a/c", "c"),
            ("x/y/./z/f", "x/y/z/f", "z/f"),
            ("./x/f", "x/f", "x/f"),
            ("x/./y/./f", "x/y/f", "y/f"),
        ] {
            let cleaned = clean(source);
            assert_eq!(cleaned, Path::new(path), "{source}");
            assert_eq!(below(source, &cleaned), Path::new(part), "{source}");
        }
    }
}
