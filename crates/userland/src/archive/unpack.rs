//! Unpacks a tar archive, compressed or not, into an image's root.

use std::cell::{Cell, RefCell};
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kleene_doors::userland::UserlandError;
use kleene_tree::{TreeError, UnpackOptions, unpack_tar};

use super::format;
use crate::error::{io_error, tree_error};
use crate::progress::Reporter;

/// Read from the archive at once.
const CHUNK: usize = 256 * 1024;

/// As much of what it holds as tells what it is.
const HEAD: usize = 512;

/// As much of a bad archive is looked at to find out whether it is damaged.
const MAX_READ_ON: u64 = 1 << 30;

/// An archive to unpack.
pub(crate) struct Input<'r> {
    /// Reads it from its start.
    pub reader: &'r mut dyn Read,
    /// How people know it: a name in quotes.
    pub shown: &'r str,
    /// Its size, where that is known.
    pub total: Option<u64>,
}

/// Unpacks an archive into the empty directory `into`. The reporter is told how much of the archive
/// has been read.
pub(crate) fn unpack(
    input: Input<'_>,
    into: &Path,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let Input {
        reader,
        shown,
        total,
    } = input;
    let action = || format!("unpacking {shown}");
    let failed = |error| io_error(action(), error);
    reporter.step("unpacking", 0, total)?;
    // An archive that has no entry for its root leaves it so.
    fs::set_permissions(into, Permissions::from_mode(0o755)).map_err(failed)?;
    let root = File::open(into).map_err(failed)?;

    let raw = Raw {
        reader: RefCell::new(reader),
        position: Cell::new(0),
        error: RefCell::new(None),
    };
    let reading = |error| io_error(format!("reading {shown}"), error);
    let mut watched = Watched {
        inner: decoder(&raw).map_err(|error| reading(raw.error.take().unwrap_or(error)))?,
        head: Vec::new(),
        error: None,
    };
    let mut told = Ok(());
    let mut progress = |_| {
        told = reporter.done(raw.position.get());
        if told.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    // Device nodes are left out: a container gets its own /dev, and no other access to devices.
    let options = UnpackOptions {
        skip_devices: true,
        ..UnpackOptions::default()
    };
    let result = unpack_tar(&mut watched, root.as_fd(), &options, &mut progress);
    told?;
    let unpacked = match result {
        Ok(unpacked) => unpacked,
        Err(error) => {
            if let Some(error) = raw.error.take() {
                return Err(reading(error));
            }
            if matches!(error, TreeError::Hostile { .. }) {
                watched.read_on();
            }
            return Err(explain(error, &watched, shown));
        }
    };
    if unpacked.entries == 0 {
        return Err(UserlandError::Invalid(format!(
            "{shown} holds no files: give the archive of a root file system"
        )));
    }
    if unpacked.skipped_devices > 0 {
        let count = unpacked.skipped_devices;
        let step = format!("leaving out {count} device nodes");
        reporter.step(step, raw.position.get(), total)?;
    }
    reporter.step("unpacking", total.unwrap_or(raw.position.get()), total)
}

/// The archive as it is stored. Remembers how much of it was read, and how reading failed.
struct Raw<'f> {
    reader: RefCell<&'f mut dyn Read>,
    position: Cell<u64>,
    error: RefCell<Option<io::Error>>,
}

impl Read for &Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.reader.borrow_mut().read(into) {
            Ok(read) => {
                self.position.set(self.position.get() + read as u64);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                *self.error.borrow_mut() = Some(error);
                Err(kind.into())
            }
        }
    }
}

fn decoder<'r>(raw: &'r Raw<'_>) -> io::Result<Box<dyn Read + 'r>> {
    let mut head = Vec::new();
    raw.take(kleene_compress::HEAD as u64)
        .read_to_end(&mut head)?;
    let compression = kleene_compress::compression(&head);
    let input = BufReader::with_capacity(CHUNK, Cursor::new(head).chain(raw));
    kleene_compress::decoder(compression, input)
}

/// The decompressed stream. Remembers how it began and how it failed.
struct Watched<'r> {
    inner: Box<dyn Read + 'r>,
    head: Vec<u8>,
    error: Option<(io::ErrorKind, String)>,
}

impl Watched<'_> {
    /// What looks like a malicious entry may come of a damaged file. Most compressed formats have
    /// checksums, but only behind the data.
    fn read_on(&mut self) {
        // What fails is remembered.
        let _ = io::copy(&mut self.take(MAX_READ_ON), &mut io::sink());
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Ok(read) => {
                let wanted = HEAD.saturating_sub(self.head.len()).min(read);
                self.head
                    .extend_from_slice(into.get(..wanted).unwrap_or_default());
                Ok(read)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.error = Some((error.kind(), error.to_string()));
                }
                Err(error)
            }
        }
    }
}

/// Says what is wrong with an archive.
fn explain(error: TreeError, watched: &Watched<'_>, shown: &str) -> UserlandError {
    let invalid = |text: String| UserlandError::Invalid(text);
    match &watched.error {
        Some((kind, why)) if *kind != io::ErrorKind::UnexpectedEof => {
            return invalid(format!("{shown} is damaged: {why}"));
        }
        _ => {}
    }
    match error {
        TreeError::Truncated { after } => {
            invalid(format!("{shown} is incomplete: it is cut short {after}"))
        }
        TreeError::NotAnArchive { reason } => invalid(match format::other_format(&watched.head) {
            Some(what) => format!("{shown} isn't a tar archive, but {what}"),
            None => format!("{shown} isn't a tar archive: {reason}"),
        }),
        TreeError::Hostile { .. }
        | TreeError::Exists { .. }
        | TreeError::IsADirectory { .. }
        | TreeError::NotADirectory { .. }
        | TreeError::LoopedLinks { .. }
        | TreeError::OutsideRoot { .. } => invalid(format!("{shown} can't be used: {error}")),
        other => tree_error(format!("unpacking {shown}"), other),
    }
}
