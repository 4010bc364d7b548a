//! Into a container.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use kleene_client::Client;
use kleene_tree::{Packed, Step, TreeError, pack_tar};
use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc::channel;

use super::How;
use super::pieces::{PieceWriter, WAITING, WithoutFirst};
use super::place::{is_contents, names_directory};
use super::plan::{Found, Plan, Source, check_replaced, plan};
use super::progress::Progress;
use super::remote::{Remote, text};
use crate::attach::Reader;
use crate::error::{CommandError, CommandResult, chain};
use crate::ui::Ui;

/// Bytes that are read from standard input at once.
const PIECE: usize = 256 << 10;

/// Copies what is at a path here to a path in a container.
///
/// # Errors
/// When there is nothing, it can't be read, or the daemon refuses it.
pub async fn upload(
    ui: Ui,
    client: &Client,
    from: &Path,
    container: &str,
    path: &str,
    how: How,
) -> CommandResult<()> {
    let local = Local::find(from, how.follow)?;
    let remote = Remote::find(client, container, Path::new(path), true).await?;
    let plan = plan(
        &local.source,
        &keep_slash(path, remote.path.clone()),
        remote.found(),
    )?;
    if plan.name != Path::new(".") && remote.found() == Found::Directory {
        let at = plan.directory.join(&plan.name);
        let there = Remote::find(client, container, &at, local.source.directory).await?;
        check_replaced(&local.source, &at, there.found())?;
    }
    let Plan { directory, name } = plan;
    let (pieces, mut waiting) = channel::<io::Result<Bytes>>(WAITING);
    let packing = tokio::task::spawn_blocking(move || {
        let mut writer = PieceWriter::new(pieces);
        let packed = local.pack(&name, &mut writer);
        if packed.is_err() {
            writer.fail();
        }
        packed
    });
    let mut progress = Progress::new();
    let archive = stream::poll_fn(move |context| {
        waiting.poll_recv(context).map(|piece| {
            let length = piece.as_ref().and_then(|piece| piece.as_ref().ok());
            progress.add(length.map_or(0, Bytes::len));
            piece
        })
    });
    let sent = client
        .put_archive(container, text(&directory)?, how.archive, archive)
        .await;
    let packed = packing
        .await
        .map_err(|error| CommandError::failure(format!("packing failed: {error}")))?;
    let within = |error: CommandError| error.within(&format!("copying '{}'", from.display()));
    match (sent, packed) {
        // It was the daemon that wanted no more.
        (
            Err(error),
            Ok(_)
            | Err(TreeError::Io {
                step: Step::Writing,
                ..
            }),
        ) => Err(CommandError::about("container", container, error)),
        (_, Err(error)) => Err(within(CommandError::failure(chain(&error)))),
        (Ok(()), Ok(packed)) => {
            ui.warnings(&remarks(&packed));
            Ok(())
        }
    }
}

/// Unpacks a tar archive from standard input in a directory of a container.
///
/// # Errors
/// When there is no such directory, or the daemon refuses the archive.
pub async fn upload_archive(
    client: &Client,
    container: &str,
    path: &str,
    how: How,
) -> CommandResult<()> {
    if io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "an archive doesn't come from a terminal: give it by a file or a pipe",
        ));
    }
    let remote = Remote::find(client, container, Path::new(path), true).await?;
    if remote.found() != Found::Directory {
        return Err(CommandError::failure(format!(
            "'{path}' is not a directory in container '{container}'"
        )));
    }
    let input = (Reader::stdin(), Progress::new());
    let archive = stream::unfold(input, async |(mut stdin, mut progress)| {
        let mut buffer = vec![0; PIECE];
        match stdin.read(&mut buffer).await {
            Ok(0) => None,
            Ok(count) => {
                buffer.truncate(count);
                progress.add(count);
                Some((Ok(Bytes::from(buffer)), (stdin, progress)))
            }
            Err(error) => Some((Err(error), (stdin, progress))),
        }
    });
    let directory = text(&remote.path)?;
    let sent = client
        .put_archive(container, directory, how.archive, archive)
        .await;
    sent.map_err(|error| CommandError::about("container", container, error))
}

/// The path behind links, with the slash that said that it is a directory.
fn keep_slash(given: &str, path: PathBuf) -> PathBuf {
    match names_directory(OsStr::new(given)) && !names_directory(path.as_os_str()) {
        // Joining nothing adds a slash.
        true => path.join(""),
        false => path,
    }
}

fn remarks(packed: &Packed) -> Vec<String> {
    let mut remarks = Vec::new();
    if packed.skipped_sockets > 0 {
        remarks.push(format!("{} sockets were left out", packed.skipped_sockets));
    }
    if packed.changed > 0 {
        remarks.push(format!(
            "{} files changed while they were read",
            packed.changed
        ));
    }
    remarks
}

/// Something here that is copied.
struct Local {
    source: Source,
    /// The directory that it is in, or that it is.
    directory: OwnedFd,
    /// Its name in there; `.`: the directory itself.
    name: PathBuf,
}

impl Local {
    /// Finds what is to be copied.
    fn find(path: &Path, follow: bool) -> CommandResult<Self> {
        let shown = path.display();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => CommandError::failure(format!("'{shown}' doesn't exist")),
            _ => CommandError::failure(format!("can't read '{shown}': {error}")),
        };
        let as_directory = names_directory(path.as_os_str());
        // `..` and the like have no name of their own.
        let real = match follow || as_directory || path.file_name().is_none() {
            true => std::fs::canonicalize(path).map_err(failed)?,
            false => path.to_owned(),
        };
        let directory = std::fs::symlink_metadata(&real).map_err(failed)?.is_dir();
        if as_directory && !directory {
            return Err(CommandError::failure(format!(
                "'{shown}' is not a directory"
            )));
        }
        let (parent, name) = match (directory, real.parent(), real.file_name()) {
            (false, Some(parent), Some(name)) => (parent, PathBuf::from(name)),
            _ => (real.as_path(), PathBuf::from(".")),
        };
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(parent, flags, Mode::empty());
        Ok(Self {
            source: Source {
                name: path.file_name().or(real.file_name()).map(ToOwned::to_owned),
                directory,
                contents: is_contents(path.as_os_str()),
            },
            directory: opened.map_err(|error| failed(error.into()))?,
            name,
        })
    }

    /// Packs it under another name.
    fn pack(&self, as_name: &Path, writer: &mut PieceWriter) -> Result<Packed, TreeError> {
        let directory = self.directory.as_fd();
        let packed = if as_name == Path::new(".") {
            let mut rest = WithoutFirst::new(&mut *writer);
            pack_tar(directory, &self.name, as_name, &mut rest)?
        } else {
            pack_tar(directory, &self.name, as_name, writer)?
        };
        writer.flush().map_err(|source| TreeError::Io {
            step: Step::Writing,
            path: as_name.to_owned(),
            source,
        })?;
        Ok(packed)
    }
}
