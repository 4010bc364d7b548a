//! Archives from the daemon's host, the network, or a stream; and plain files from the network.

mod checked;
mod download;
mod format;
mod http;
mod location;
mod name;
mod part;
mod unpack;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use kleene_doors::userland::{Downloaded, UserlandError};
use kleene_types::Checksum;

use self::download::Fetched;
use self::location::{Location, Url};
use self::part::Part;
use self::unpack::Input;
use crate::SystemUserland;
use crate::error::io_error;
use crate::progress::Reporter;

/// The largest text that is taken from a server.
const MAX_TEXT: u64 = 1 << 20;

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
            unpack_file(&file, &format!("'{}'", path.display()), into, reporter)
        }
        Location::Http(url) => {
            let part = fetch(cache_dir, &url, u64::MAX, reporter)?.part;
            unpack_part(part, &url, into, reporter)
        }
    }
}

/// As [`fill`] for an archive on the network that must have this checksum before it is unpacked.
pub(crate) fn fill_checked(
    cache_dir: &Path,
    url: &str,
    checksum: &Checksum,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let url = http_url(url)?;
    let part = fetch(cache_dir, &url, u64::MAX, reporter)?.part;
    let (part, _) = checked::check(part, &url, Some(checksum), reporter)?;
    unpack_part(part, &url, into, reporter)
}

/// Fills the empty directory `into` from the archive that arrives as a stream.
pub(crate) fn fill_from(
    mut from: &mut dyn Read,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let input = Input {
        reader: &mut from,
        shown: "the archive",
        total: None,
    };
    unpack::unpack(input, into, reporter)
}

/// Fills the empty directory `into` from an archive that is a file.
pub(crate) fn unpack_file(
    mut file: &File,
    shown: &str,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let total = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.metadata())
        .map_err(|error| io_error(format!("reading {shown}"), error))?
        .len();
    let input = Input {
        reader: &mut file,
        shown,
        total: Some(total),
    };
    unpack::unpack(input, into, reporter)
}

/// The short text at `url`.
pub(crate) fn text(
    cache_dir: &Path,
    url: &str,
    reporter: &mut Reporter<'_>,
) -> Result<String, UserlandError> {
    let url = http_url(url)?;
    let part = fetch(cache_dir, &url, MAX_TEXT, reporter)?.part;
    let mut text = String::new();
    let result = part
        .file()
        .seek(SeekFrom::Start(0))
        .and_then(|_| part.file().read_to_string(&mut text));
    part.remove();
    match result {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(UserlandError::Invalid(
            format!("'{}' isn't text", url.shown()),
        )),
        Err(error) => Err(io_error(format!("reading '{}'", url.shown()), error)),
    }
}

/// See [`kleene_doors::userland::Userland::download`].
pub(crate) fn save(
    userland: &SystemUserland,
    url: &str,
    checksum: Option<&Checksum>,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<Downloaded, UserlandError> {
    let url = http_url(url)?;
    let fetched = fetch(&userland.cache_dir, &url, userland.max_download, reporter)?;
    let (part, sha256) = checked::check(fetched.part, &url, checksum, reporter)?;
    let name = name::of(&url, fetched.said.disposition.as_deref());
    let path = into.join(&name);
    let failed = |error| {
        io_error(
            format!("saving '{}' as {}", url.shown(), path.display()),
            error,
        )
    };
    let bytes = part.length().map_err(failed)?;
    part.publish(into, &path).map_err(failed)?;
    Ok(Downloaded {
        name,
        bytes,
        sha256,
        last_modified: fetched.said.last_modified,
        path,
    })
}

fn fetch(
    cache_dir: &Path,
    url: &Url,
    max_bytes: u64,
    reporter: &mut Reporter<'_>,
) -> Result<Fetched, UserlandError> {
    download::download(&cache_dir.join("downloads"), url, max_bytes, reporter)
}

fn http_url(text: &str) -> Result<Url, UserlandError> {
    match Location::parse(text).map_err(UserlandError::Invalid)? {
        Location::Http(url) => Ok(url),
        Location::File(_) => Err(UserlandError::Invalid(format!(
            "'{text}' is a file of the daemon's host: only http:// and https:// can be downloaded"
        ))),
    }
}

fn unpack_part(
    part: Part,
    url: &Url,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let result = unpack_file(part.file(), &format!("'{}'", url.shown()), into, reporter);
    // What is whole but can't be unpacked for want of space needn't be fetched again; a bad archive
    // must be.
    if matches!(result, Ok(()) | Err(UserlandError::Invalid(_))) {
        part.remove();
    }
    result
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
