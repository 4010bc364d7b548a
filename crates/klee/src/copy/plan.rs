//! Which name something gets where it is copied to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::place::names_directory;
use crate::error::CommandError;

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name; `None`: it has none, as `/`.
    pub name: Option<OsString>,
    /// Whether it is a directory.
    pub directory: bool,
    /// Whether only what is in it shall be copied, where the destination is a directory.
    pub contents: bool,
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// Something else.
    Other,
}

/// Where something goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The directory, which has to exist.
    pub directory: PathBuf,
    /// The new name in it; `.`: the contents come into the directory itself.
    pub name: PathBuf,
}

/// Says where something goes: what is no directory yet is the new name, a directory is where it
/// comes into, with its own name.
///
/// # Errors
/// When something that is no directory would have to be one.
pub fn plan(source: &Source, destination: &Path, found: Found) -> Result<Plan, CommandError> {
    let shown = destination.display();
    let wants_directory = names_directory(destination.as_os_str());
    match (source.directory, found) {
        (directory, Found::Directory) => {
            let name = source
                .name
                .clone()
                .filter(|_| !(directory && source.contents));
            Ok(Plan {
                directory: destination.to_owned(),
                name: name.map_or_else(|| PathBuf::from("."), PathBuf::from),
            })
        }
        (true, Found::Other) => Err(CommandError::failure(format!(
            "can't copy a directory to '{shown}', which is none"
        ))),
        (false, Found::Other) if wants_directory => Err(CommandError::failure(format!(
            "'{shown}' is not a directory"
        ))),
        (false, Found::Nothing) if wants_directory => Err(CommandError::failure(format!(
            "there is no directory '{shown}'"
        ))),
        (_, Found::Nothing | Found::Other) => match (destination.parent(), destination.file_name())
        {
            (Some(parent), Some(name)) => Ok(Plan {
                directory: match parent.as_os_str().is_empty() {
                    true => PathBuf::from("."),
                    false => parent.to_owned(),
                },
                name: PathBuf::from(name),
            }),
            _ => Err(CommandError::failure(format!(
                "there is no directory '{shown}'"
            ))),
        },
    }
}

/// Whether something may take the place of what has its name already.
///
/// # Errors
/// When one of them is a directory and the other is not.
pub fn check_replaced(source: &Source, at: &Path, found: Found) -> Result<(), CommandError> {
    match (source.directory, found) {
        (true, Found::Other) => Err(CommandError::failure(format!(
            "'{}' exists and is not a directory",
            at.display()
        ))),
        (false, Found::Directory) => Err(CommandError::failure(format!(
            "'{}' is a directory already",
            at.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(source: (bool, bool), to: &str, found: Found) -> Result<(String, String), String> {
        let source = Source {
            name: Some("src".into()),
            directory: source.0,
            contents: source.1,
        };
        match plan(&source, Path::new(to), found) {
            Ok(plan) => Ok((
                plan.directory.display().to_string(),
                plan.name.display().to_string(),
            )),
            Err(error) => Err(error.message),
        }
    }

    #[test]
    fn names() {
        const FILE: (bool, bool) = (false, false);
        const DIRECTORY: (bool, bool) = (true, false);
        const CONTENTS: (bool, bool) = (true, true);
        for (source, to, found, directory, name) in [
            (FILE, "new", Found::Nothing, ".", "new"),
            (FILE, "/a/new", Found::Nothing, "/a", "new"),
            (FILE, "old", Found::Other, ".", "old"),
            (FILE, "dir", Found::Directory, "dir", "src"),
            (FILE, "/", Found::Directory, "/", "src"),
            (DIRECTORY, "new", Found::Nothing, ".", "new"),
            (DIRECTORY, "/a/new/", Found::Nothing, "/a", "new"),
            (DIRECTORY, "dir", Found::Directory, "dir", "src"),
            (CONTENTS, "new", Found::Nothing, ".", "new"),
            (CONTENTS, "dir", Found::Directory, "dir", "."),
        ] {
            assert_eq!(
                planned(source, to, found),
                Ok((directory.to_owned(), name.to_owned())),
                "{source:?} {to}"
            );
        }
        for (source, to, found, message) in [
            (FILE, "new/", Found::Nothing, "there is no directory 'new/'"),
            (FILE, "old/", Found::Other, "'old/' is not a directory"),
            (
                DIRECTORY,
                "old",
                Found::Other,
                "can't copy a directory to 'old', which is none",
            ),
            (
                CONTENTS,
                "old",
                Found::Other,
                "can't copy a directory to 'old', which is none",
            ),
        ] {
            assert_eq!(planned(source, to, found), Err(message.to_owned()), "{to}");
        }
    }
}
