//! The files of an execution instance's output log.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use kleene_doors::log::FILE_HEADER;
use kleene_monitor::status::{OUTPUT_LOG, OUTPUT_LOG_OLD};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// How often a log that is being rotated is looked at again. Each time, a whole file must have been
/// filled meanwhile.
const TRIES: usize = 64;

/// Opens the log in an instance's directory: the older file first. None when there is no directory,
/// or no log in it.
///
/// # Errors
/// When something can't be opened.
pub fn open(directory: &Path) -> io::Result<Vec<File>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(directory, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let mut files = open_both(&directory)?;
    for _ in 0..TRIES {
        if is_current(&directory, files.first())? {
            break;
        }
        files = open_both(&directory)?;
    }
    let mut begun = Vec::new();
    for file in files.into_iter().flatten() {
        if has_header(&file)? {
            begun.push(file);
        }
    }
    Ok(begun)
}

/// The older file and the current one. The older one comes first: a file that is renamed in between
/// is missed then, which shows, and not met twice.
fn open_both(directory: &OwnedFd) -> io::Result<[Option<File>; 2]> {
    Ok([
        open_one(directory, OUTPUT_LOG_OLD)?,
        open_one(directory, OUTPUT_LOG)?,
    ])
}

fn open_one(directory: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the older file is still the one that was opened.
fn is_current(directory: &OwnedFd, old: Option<&Option<File>>) -> io::Result<bool> {
    let opened = match old.and_then(Option::as_ref) {
        Some(file) => Some(file.metadata()?.ino()),
        None => None,
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let there = match rustix::fs::statat(directory, OUTPUT_LOG_OLD, flags) {
        Ok(stat) => Some(stat.st_ino),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno.into()),
    };
    Ok(opened == there)
}

/// Whether a file has been begun: one that was made a moment ago may be empty still.
fn has_header(file: &File) -> io::Result<bool> {
    let mut header = [0; FILE_HEADER];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};

    use kleene_doors::log::{file_header, parse_file_header};

    #[test]
    fn files_come_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(&dir.path().join("nothing")).unwrap().is_empty());
        assert!(open(dir.path()).unwrap().is_empty());
        fs::write(dir.path().join(OUTPUT_LOG), "").unwrap();
        assert!(open(dir.path()).unwrap().is_empty());
        fs::write(dir.path().join(OUTPUT_LOG), file_header(10)).unwrap();
        fs::write(dir.path().join(OUTPUT_LOG_OLD), file_header(3)).unwrap();
        let positions = |files: Vec<File>| files.into_iter().map(position).collect::<Vec<_>>();
        assert_eq!(positions(open(dir.path()).unwrap()), [3, 10]);
        fs::remove_file(dir.path().join(OUTPUT_LOG)).unwrap();
        std::os::unix::fs::symlink(OUTPUT_LOG_OLD, dir.path().join(OUTPUT_LOG)).unwrap();
        assert!(open(dir.path()).is_err());
    }

    fn position(mut file: File) -> u64 {
        let mut header = [0; FILE_HEADER];
        file.read_exact(&mut header).unwrap();
        parse_file_header(header).unwrap()
    }

    #[test]
    fn rotation_neither_loses_nor_doubles_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let [new, old] = [OUTPUT_LOG, OUTPUT_LOG_OLD].map(|name| dir.path().join(name));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _end = SetAtEnd(&done);
            scope.spawn(|| {
                for number in 0_u64.. {
                    fs::write(&new, file_header(number)).unwrap();
                    // As long as a monitor needs to fill a file, at the very least.
                    std::thread::yield_now();
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    fs::rename(&new, &old).unwrap();
                }
            });
            let mut newest = 0;
            for _ in 0..20_000 {
                let files = open(dir.path()).unwrap();
                let positions: Vec<u64> = files.into_iter().map(position).collect();
                if let [old, new] = positions[..] {
                    assert_eq!(old + 1, new);
                }
                let last = positions.last().copied().unwrap_or(newest);
                assert!(last >= newest, "{last} after {newest}");
                newest = last;
            }
        });
    }

    /// Ends the other thread, however the test ends.
    struct SetAtEnd<'a>(&'a AtomicBool);

    impl Drop for SetAtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
