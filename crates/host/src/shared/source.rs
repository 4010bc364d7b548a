//! What the sources of nullfs mounts are.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use kleene_doors::host::{HostError, SourceKind};

/// What a mount's source is; links are followed, as a user of the host expects.
///
/// # Errors
/// [`HostError::Source`] when it can't be mounted, with what it is and what to do.
pub fn inspect_source(path: &Path) -> Result<SourceKind, HostError> {
    match fs::metadata(path) {
        Ok(meta) => kind(path, meta.file_type()),
        Err(error) => Err(unreachable(path, &error)),
    }
}

fn kind(path: &Path, found: FileType) -> Result<SourceKind, HostError> {
    let what = if found.is_dir() {
        return Ok(SourceKind::Directory);
    } else if found.is_file() {
        return Ok(SourceKind::File);
    } else if found.is_socket() {
        "a socket"
    } else if found.is_fifo() {
        "a FIFO"
    } else if found.is_block_device() {
        "a block device"
    } else if found.is_char_device() {
        "a character device"
    } else {
        "something else"
    };
    Err(HostError::Source(format!(
        "the mount's source '{}' is {what}: only directories and regular files can be mounted; \
         mount the directory that it lies in",
        path.display()
    )))
}

fn unreachable(path: &Path, error: &io::Error) -> HostError {
    let shown = path.display();
    // `metadata` has followed the link, so one that is there leads nowhere.
    let link = fs::read_link(path).ok();
    HostError::Source(match (error.kind(), link) {
        (io::ErrorKind::NotFound, Some(target)) => format!(
            "the mount's source '{shown}' is a link to '{}', which doesn't exist: create that \
             first, since mounts never create their source",
            target.display()
        ),
        (io::ErrorKind::NotFound, None) => format!(
            "the mount's source '{shown}' doesn't exist: create it first, since mounts never \
             create their source"
        ),
        (io::ErrorKind::NotADirectory, _) => format!(
            "the mount's source '{shown}' doesn't exist: a part of its path is not a directory"
        ),
        _ => format!("the mount's source '{shown}' can't be used: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    fn refusal(path: &Path) -> String {
        match inspect_source(path) {
            Err(HostError::Source(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn directories_and_files_are_taken_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a file\nwith a newline");
        fs::write(&file, "x").unwrap();
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(inspect_source(dir.path()).unwrap(), SourceKind::Directory);
        assert_eq!(inspect_source(&file).unwrap(), SourceKind::File);
        assert_eq!(inspect_source(&link).unwrap(), SourceKind::File);
    }

    #[test]
    fn what_is_missing_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing/deep");
        assert!(refusal(&missing).contains("create it first"));
        assert!(!dir.path().join("missing").exists());

        let link = dir.path().join("link");
        symlink(&missing, &link).unwrap();
        let message = refusal(&link);
        assert!(message.contains("is a link to") && message.contains("missing/deep"));

        fs::write(dir.path().join("file"), "x").unwrap();
        let beneath = refusal(&dir.path().join("file/x"));
        assert!(beneath.contains("not a directory"), "{beneath}");

        let round = dir.path().join("round");
        symlink(&round, &round).unwrap();
        assert!(refusal(&round).contains("can't be used"));
    }

    #[test]
    fn what_else_there_is_gets_named() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(refusal(&socket).contains("is a socket"));
        let fifo = dir.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
        assert!(refusal(&fifo).contains("is a FIFO"));
        assert!(refusal(Path::new("/dev/null")).contains("is a character device"));
    }
}
