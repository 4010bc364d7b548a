//! Files of the system that are written or changed.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::InitError;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It was there and is as it was.
    There,
    /// It has been written.
    New,
}

impl Written {
    pub(super) fn done(self) -> bool {
        self == Self::New
    }
}

/// Writes a file that isn't there, with the directories above it. One that is there stays as it is.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> Result<Written, InitError> {
    let write = || -> io::Result<Written> {
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)?;
        }
        // Whole or not at all, and never over a file that has come meanwhile.
        let staged = staged(path);
        fill(&staged, text, mode)?;
        let linked = fs::hard_link(&staged, path);
        fs::remove_file(&staged)?;
        match linked {
            Ok(()) => Ok(Written::New),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Written::There),
            Err(error) => Err(error),
        }
    };
    write().map_err(|source| InitError::File {
        path: path.to_owned(),
        verb: "written",
        source,
    })
}

/// Sets a variable in a file of lines `NAME=VALUE` such as loader.conf(5). The file is made where it
/// isn't there; all else in it stays.
pub(super) fn set_variable(path: &Path, name: &str, value: &str) -> Result<Written, InitError> {
    // A link stays one: the file that it leads to is changed.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let file = |verb, source| InitError::File {
        path: path.clone(),
        verb,
        source,
    };
    let (text, mode) = match fs::read_to_string(path) {
        Ok(text) => {
            let metadata = fs::metadata(path).map_err(|error| file("read", error))?;
            (text, metadata.permissions().mode() & 0o7777)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), 0o644),
        Err(error) => return Err(file("read", error)),
    };
    if assigned(&text, name).is_some_and(|found| found == value) {
        return Ok(Written::There);
    }
    let mut changed: String = text
        .lines()
        .filter(|line| assignment(line).is_none_or(|(found, _)| found != name))
        .flat_map(|line| [line, "\n"])
        .collect();
    changed.push_str(&format!("{name}=\"{value}\"\n"));
    let staged = staged(path);
    fill(&staged, &changed, mode)
        .and_then(|()| fs::rename(&staged, path))
        .map_err(|error| file("written", error))?;
    Ok(Written::New)
}

/// The value of a variable in such a file's text: the last one counts.
pub(super) fn assigned<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(assignment);
    let found = values.rfind(|(found, _)| *found == name);
    found.map(|(_, value)| value)
}

/// Name and value of a line `NAME=VALUE  # comment`, where it is one.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim_start().split_once('=')?;
    let rest = rest.trim_start();
    let value = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(['#', ' ', '\t']).next(),
    };
    Some((name.trim_end(), value?))
}

/// Where a file is written before it takes its place.
fn staged(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".kleened");
    name.into()
}

fn fill(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_there_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c.conf");
        assert_eq!(write_new(&path, "one\n", 0o640).unwrap(), Written::New);
        assert_eq!(write_new(&path, "two\n", 0o640).unwrap(), Written::There);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
        let entries = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn variables_are_set_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loader.conf");
        let set = || set_variable(&path, "kern.racct.enable", "1").unwrap();
        assert_eq!(set(), Written::New);
        assert_eq!(set(), Written::There);
        let cases = [
            ("zfs_load=\"YES\"", "zfs_load=\"YES\"\n"),
            ("# kern.racct.enable=1\n", "# kern.racct.enable=1\n"),
            ("kern.racct.enable=0 # no\na=b\n", "a=b\n"),
            ("kern.racct.enable=1\nkern.racct.enable=\"0\"\n", ""),
        ];
        for (before, kept) in cases {
            fs::write(&path, before).unwrap();
            assert_eq!(set(), Written::New, "{before}");
            let after = format!("{kept}kern.racct.enable=\"1\"\n");
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
        let link = directory.path().join("link.conf");
        std::os::unix::fs::symlink("loader.conf", &link).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(set_variable(&link, "a", "b").unwrap(), Written::New);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a=\"b\"\n");
        for there in ["kern.racct.enable=1", "  kern.racct.enable = \"1\" # on\n"] {
            fs::write(&path, there).unwrap();
            assert_eq!(set(), Written::There, "{there}");
            assert_eq!(fs::read_to_string(&path).unwrap(), there);
        }
    }
}
