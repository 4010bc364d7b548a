//! Archives that are written here.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IoSlice, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kleene_client::Download;

use crate::error::{CommandError, CommandResult};
use crate::gather;
use crate::progress::Transfer;

/// Where an archive goes to.
pub enum Destination {
    /// Standard output, which is no terminal.
    Stdout,
    /// Something that is written as it is: a device, a pipe.
    Special(File),
    /// A file, which gets its name when all of it is there.
    File(Part),
}

impl Destination {
    /// Opens it; no path, or `-`: standard output.
    ///
    /// # Errors
    /// When that is a terminal, or the file can't be written.
    pub fn open(path: Option<&Path>) -> CommandResult<Self> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return match io::stdout().is_terminal() {
                true => Err(CommandError::usage(
                    "an archive doesn't belong on a terminal: send it to a file or a pipe",
                )
                .hint("give a file with --output")),
                false => Ok(Self::Stdout),
            };
        };
        let failed = |error: io::Error| {
            CommandError::failure(format!("can't write '{}': {error}", path.display()))
        };
        match fs::metadata(path) {
            Ok(found) if found.is_file() => {
                let real = fs::canonicalize(path).map_err(failed)?;
                let mode = found.permissions().mode();
                Part::create(real, mode).map(Self::File).map_err(failed)
            }
            Ok(_) => {
                let opened = OpenOptions::new().write(true).open(path);
                opened.map(Self::Special).map_err(failed)
            }
            // What an image holds may be nobody else's business.
            Err(_) => Part::create(path.to_owned(), 0o600)
                .map(Self::File)
                .map_err(failed),
        }
    }

    /// Writes the archive, and shows how far that has come.
    ///
    /// # Errors
    /// When it doesn't come, or can't be written: then there is no file.
    pub async fn write(mut self, mut archive: Download) -> CommandResult<()> {
        let mut progress = Transfer::new();
        while let Some(piece) = archive.chunk().await? {
            self.add(&piece)?;
            progress.add(piece.len());
        }
        match self {
            Self::File(part) => part.publish(),
            Self::Stdout | Self::Special(_) => Ok(()),
        }
    }

    fn add(&mut self, piece: &[u8]) -> CommandResult<()> {
        match self {
            Self::Stdout => gather::write_all(rustix::stdio::stdout(), &mut [IoSlice::new(piece)]),
            Self::Special(file) => Ok(file.write_all(piece)?),
            Self::File(part) => part
                .file
                .write_all(piece)
                .map_err(|error| part.failed(&error)),
        }
    }
}

/// A file that isn't complete yet, under a name of its own; gone when it is dropped before it is.
pub struct Part {
    file: File,
    path: PathBuf,
    whole: PathBuf,
}

impl Part {
    fn create(whole: PathBuf, mode: u32) -> io::Result<Self> {
        let Some(name) = whole.file_name() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let mut part = name.to_owned();
        part.push(".part");
        let path = whole.with_file_name(part);
        // Of one that was killed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        Ok(Self { file, path, whole })
    }

    fn publish(self) -> CommandResult<()> {
        let published = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.whole));
        published.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> CommandError {
        CommandError::failure(format!("can't write '{}': {error}", self.whole.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It isn't there any more when it is complete.
        let _ = fs::remove_file(&self.path);
    }
}
