//! The method `fetch`: a tar archive from the daemon's host or the network.

mod download;
mod format;
mod http;
mod location;
mod part;
mod unpack;

use std::fs::File;
use std::io;
use std::path::Path;

use self::location::Location;
use crate::error::io_error;
use crate::progress::Reporter;
use kleene_doors::userland::UserlandError;

/// Fills the empty directory `into` from the archive at `url`. Unfinished downloads are kept in
/// `cache_dir`.
pub(crate) fn fill(
    cache_dir: &Path,
    url: &str,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    match Location::parse(url).map_err(UserlandError::Invalid)? {
        Location::File(path) => {
            let file = open(&path)?;
            unpack::unpack(&file, &path.display().to_string(), into, reporter)
        }
        Location::Http(url) => {
            let part = download::download(&cache_dir.join("downloads"), &url, reporter)?;
            let result = unpack::unpack(part.file(), &url.shown(), into, reporter);
            // What is whole but can't be unpacked for want of space needn't be fetched again; a bad
            // archive must be.
            if matches!(result, Ok(()) | Err(UserlandError::Invalid(_))) {
                part.remove();
            }
            result
        }
    }
}

fn open(path: &Path) -> Result<File, UserlandError> {
    let invalid = |why: &str| UserlandError::Invalid(format!("'{}' {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            invalid("doesn't exist on the daemon's host")
        }
        _ => io_error(format!("opening {}", path.display()), error),
    })?;
    if metadata.is_dir() {
        return Err(invalid("is a directory: pack it into a tar archive first"));
    }
    if !metadata.is_file() {
        return Err(invalid("isn't a regular file"));
    }
    File::open(path).map_err(|error| io_error(format!("opening {}", path.display()), error))
}
