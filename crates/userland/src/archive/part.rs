//! Unfinished downloads on disk.
//!
//! A download is two files: `NAME.part` with what has arrived, and `NAME.notes` with what the
//! server has called it, so that the rest can be asked for later, also by another daemon. The part
//! is locked while it is worked on; a second download of the same URL at the same time gets files
//! of its own.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::location::Url;

/// As many downloads of one URL may go on at once.
const MAX_AT_ONCE: usize = 16;

/// Nobody comes back for what was left longer ago.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the server has said of the file whose beginning we have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// A strong entity tag or a date of change: the rest is only of use while it stays the same.
    pub validator: Option<String>,
    /// The whole file's size.
    pub total: Option<u64>,
}

impl Notes {
    /// Whether these can't be of one and the same file.
    pub fn contradict(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        differ(self.validator.as_ref(), other.validator.as_ref())
            || differ(self.total.as_ref(), other.total.as_ref())
    }
}

/// A download's files, locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    url: String,
    notes: Notes,
}

impl Part {
    /// Opens what there is of `url` in the directory `dir`, which is made if need be.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(dir: &Path, url: &Url) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        remove_old(dir);
        for number in 0..MAX_AT_ONCE {
            let suffix = if number == 0 {
                String::new()
            } else {
                format!("-{number}")
            };
            let path = dir.join(format!("{}{suffix}.part", url.file_name()));
            if let Some(file) = open_locked(&path)? {
                let mut part = Self {
                    file,
                    path,
                    url: url.shown(),
                    notes: Notes::default(),
                };
                match part.read_notes() {
                    Some(notes) => part.notes = notes,
                    None => part.restart(Notes::default())?,
                }
                return Ok(part);
            }
        }
        Err(io::Error::other(
            "the same URL is being downloaded too often at the same time",
        ))
    }

    /// What is known of the whole file.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// How much has arrived.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// What has arrived.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Adds to what has arrived.
    pub fn append(&self, data: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(data, at)
    }

    /// Throws away what has arrived; another file, of which `notes` are known, follows.
    pub fn restart(&mut self, notes: Notes) -> io::Result<()> {
        // In this order a crash in between leaves nothing that looks like a beginning.
        let _ = fs::remove_file(self.notes_path());
        self.file.set_len(0)?;
        if let Some(validator) = &notes.validator {
            let total = notes
                .total
                .map(|total| format!("total {total}\n"))
                .unwrap_or_default();
            let text = format!("url {}\nvalidator {validator}\n{total}", self.url);
            let new = self.path.with_extension("new");
            fs::write(&new, text)?;
            fs::rename(new, self.notes_path())?;
        }
        self.notes = notes;
        Ok(())
    }

    /// Gives the complete file a name of its own, `path` in the directory `dir`.
    pub fn publish(self, dir: &Path, path: &Path) -> io::Result<()> {
        match fs::rename(&self.path, path) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let new = dir.join(".kleene-download");
                let copied = self.copy(&new).and_then(|()| fs::rename(&new, path));
                if copied.is_err() {
                    let _ = fs::remove_file(&new);
                    return copied;
                }
            }
            other => other?,
        }
        self.remove();
        Ok(())
    }

    fn copy(&self, to: &Path) -> io::Result<()> {
        let _ = fs::remove_file(to);
        let options = &mut OpenOptions::new();
        let mut copy = options.write(true).create_new(true).mode(0o600).open(to)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        io::copy(&mut file, &mut copy)?;
        Ok(())
    }

    /// Removes the files: nobody needs them any more.
    pub fn remove(self) {
        // What can't be removed now is found and removed later.
        let _ = fs::remove_file(self.notes_path());
        let _ = fs::remove_file(&self.path);
    }

    fn notes_path(&self) -> PathBuf {
        self.path.with_extension("notes")
    }

    /// `None` when the beginning that is there is of no use.
    fn read_notes(&self) -> Option<Notes> {
        let text = fs::read_to_string(self.notes_path()).ok()?;
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .map(str::to_owned)
        };
        if value("url")? != self.url {
            return None;
        }
        let total = value("total").and_then(|total| total.parse().ok());
        Some(Notes {
            validator: Some(value("validator")?),
            total,
        })
    }
}

/// Opens and locks the file; `None` when somebody else works on it.
fn open_locked(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Its last user may have removed it between our opening and locking it.
    let ours = file.metadata()?;
    let there = fs::symlink_metadata(path);
    let same = there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    Ok(same.then_some(file))
}

fn remove_old(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > MAX_AGE));
        let is_part = path
            .extension()
            .is_some_and(|extension| extension == "part");
        if is_old && is_part && open_locked(&path).is_ok_and(|locked| locked.is_some()) {
            let _ = fs::remove_file(path.with_extension("notes"));
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::location::Location;
    use super::*;

    fn url(text: &str) -> Url {
        match Location::parse(text) {
            Ok(Location::Http(url)) => url,
            other => panic!("{other:?}"),
        }
    }

    fn notes(validator: &str) -> Notes {
        Notes {
            validator: Some(validator.into()),
            total: Some(9),
        }
    }

    #[test]
    fn a_beginning_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let url = url("http://user:secret@h/a.tar");
        let mut part = Part::open(dir.path(), &url).unwrap();
        part.restart(notes("\"tag with spaces\"")).unwrap();
        part.append(b"abc", 0).unwrap();
        drop(part);
        let part = Part::open(dir.path(), &url).unwrap();
        assert_eq!(
            (part.length().unwrap(), part.notes()),
            (3, &notes("\"tag with spaces\""))
        );
        for entry in fs::read_dir(dir.path()).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("secret"), "{text}");
        }
        part.remove();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_beginning_without_notes_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let url = url("http://h/a.tar");
        let part = Part::open(dir.path(), &url).unwrap();
        part.append(b"abc", 0).unwrap();
        drop(part);
        assert_eq!(Part::open(dir.path(), &url).unwrap().length().unwrap(), 0);
    }

    #[test]
    fn two_at_once_have_files_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let url = url("http://h/a.tar");
        let first = Part::open(dir.path(), &url).unwrap();
        let second = Part::open(dir.path(), &url).unwrap();
        assert_ne!(first.path, second.path);
    }

    #[test]
    fn old_parts_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old.part"), dir.path().join("new.part"));
        for path in [&old, &new] {
            fs::write(path, "x").unwrap();
        }
        let long_ago = SystemTime::now() - MAX_AGE - Duration::from_secs(60);
        File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        Part::open(dir.path(), &url("http://h/a.tar")).unwrap();
        assert!(!old.exists() && new.exists());
    }
}
