//! Into a container.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use kleene_client::Client;
use kleene_tree::{Packed, TreeError, pack_tar};
use rustix::fs::{Mode, OFlags};

use super::How;
use super::place::{is_contents, names_directory};
use super::plan::{Found, Plan, Source, check_replaced, plan};
use super::remote::{Remote, text};
use crate::attach::Reader;
use crate::error::{CommandError, CommandResult};
use crate::pieces::{Packing, PieceWriter, WithoutFirst, remarks};
use crate::progress::Transfer;
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
    let pack = move |writer: &mut PieceWriter| local.pack(&name, writer);
    let (packing, archive) = Packing::start(Transfer::new(), |_| {}, pack);
    let sent = client
        .put_archive(container, text(&directory)?, how.archive, archive)
        .await;
    let packed = packing
        .end()
        .await
        .map_err(|error| error.within(&format!("copying '{}'", from.display())))?;
    sent.map_err(|error| CommandError::about("container", container, error))?;
    ui.warnings(&packed.as_ref().map(remarks).unwrap_or_default());
    Ok(())
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
    let input = (Reader::stdin(), Transfer::new());
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
        match as_name == Path::new(".") {
            true => {
                let mut rest = WithoutFirst::new(writer);
                pack_tar(directory, &self.name, as_name, &mut rest)
            }
            false => pack_tar(directory, &self.name, as_name, writer),
        }
    }
}
