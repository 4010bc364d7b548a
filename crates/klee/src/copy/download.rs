//! Out of a container.

use std::fs::{File, FileTimes, Permissions};
use std::io::{self, IoSlice, IsTerminal};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use kleene_api::PathStat;
use kleene_client::{Client, ClientError, Download};
use kleene_tree::{Rename, TreeError, UnpackOptions, Unpacked, unpack_tar};
use kleene_types::Timestamp;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use tokio::sync::mpsc::{Sender, channel};

use super::How;
use super::place::{is_contents, names_directory};
use super::plan::{Found, Source, check_replaced, plan};
use super::remote::{Remote, text};
use crate::error::{CommandError, CommandResult, chain};
use crate::gather;
use crate::pieces::{PieceReader, WAITING};
use crate::progress::Transfer;
use crate::ui::Ui;

/// Copies what is at a path in a container to a path here.
///
/// # Errors
/// When there is nothing, it can't be transferred, or not be written here.
pub async fn download(
    ui: Ui,
    client: &Client,
    container: &str,
    path: &str,
    to: &Path,
    how: How,
) -> CommandResult<()> {
    let (remote, source) = find(client, container, path, how).await?;
    let plan = plan(&source, to, found(to)?)?;
    let into = open_directory(&plan.directory)?;
    let name = plan.name;
    let own_name = name != Path::new(".");
    if own_name {
        let at = plan.directory.join(&name);
        // A link that is there is never followed: a former copy may have brought it.
        check_replaced(&source, &at, found_by(&at, std::fs::symlink_metadata(&at))?)?;
    }
    // The contents of a directory come into that and nothing around it, whatever links they hold; a
    // file is a single entry.
    let root = match source.directory && own_name {
        true => Some(make_directory(&into, &name)?),
        false => None,
    };
    let from = remote.path.file_name();
    let rename = Rename {
        from: from.map_or_else(|| PathBuf::from("."), PathBuf::from),
        to: match source.directory {
            true => PathBuf::from("."),
            false => name.clone(),
        },
    };
    let options = UnpackOptions {
        owner: (!how.archive).then(own_ids),
        plain: !how.archive,
        skip_devices: true,
        // The daemon says how large files are, and it is trusted.
        max_holes: u64::MAX,
        max_entries: (!source.directory).then_some(1),
        rename: Some(rename),
        ..UnpackOptions::default()
    };
    let within = |error: CommandError| error.within(&format!("copying to '{}'", to.display()));
    let target = root.as_ref().map_or(&into, |(root, _)| root).try_clone()?;
    let unpacked = match open(client, container, &remote.path).await {
        Ok(archive) => transfer(archive, target, options).await.map_err(within),
        Err(error) => Err(error),
    };
    if let (Some((_, true)), Err(_)) = (&root, &unpacked) {
        // It stays if something has come into it. What went wrong first is what is told.
        let _ = rustix::fs::unlinkat(&into, &name, AtFlags::REMOVEDIR);
    }
    let unpacked = unpacked?;
    if let (Some((root, true)), Some(stat)) = (&root, &remote.stat) {
        finish_directory(root, stat, how).map_err(|error| within(error.into()))?;
    }
    if unpacked.skipped_devices > 0 {
        ui.warnings(&[format!(
            "{} device nodes were left out",
            unpacked.skipped_devices
        )]);
    }
    Ok(())
}

/// Opens a directory in another one, where it is made if there is none. The answer tells whether it
/// was.
fn make_directory(parent: &OwnedFd, name: &Path) -> CommandResult<(OwnedFd, bool)> {
    let failed = |error: Errno| {
        let error = io::Error::from(error);
        CommandError::failure(format!("can't make '{}': {error}", name.display()))
    };
    let made = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(failed(error)),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
    Ok((opened, made))
}

/// Gives a directory that was made the attributes of the one in the container.
fn finish_directory(directory: &OwnedFd, stat: &PathStat, how: How) -> io::Result<()> {
    let bits = if how.archive { 0o7777 } else { 0o1777 };
    if how.archive {
        let owner = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
        rustix::fs::fchown(directory, Some(owner.0), Some(owner.1))?;
    }
    let directory = File::from(directory.try_clone()?);
    directory.set_permissions(Permissions::from_mode(stat.mode & bits))?;
    if let Ok(modified) = stat.modified.parse::<Timestamp>() {
        let time = Duration::from_micros(modified.microseconds());
        let times = FileTimes::new().set_modified(UNIX_EPOCH + time);
        directory.set_times(times)?;
    }
    Ok(())
}

/// Writes what is at a path in a container to standard output, as a tar archive.
///
/// # Errors
/// When there is nothing, it can't be transferred, or not be written.
pub async fn download_archive(
    client: &Client,
    container: &str,
    path: &str,
    how: How,
) -> CommandResult<()> {
    if io::stdout().is_terminal() {
        return Err(CommandError::usage(
            "an archive doesn't belong on a terminal: send it to a file or a pipe",
        ));
    }
    let (remote, _) = find(client, container, path, how).await?;
    let mut archive = open(client, container, &remote.path).await?;
    let mut progress = Transfer::new();
    while let Some(piece) = archive.chunk().await? {
        gather::write_all(rustix::stdio::stdout(), &mut [IoSlice::new(&piece)])?;
        progress.add(piece.len());
    }
    Ok(())
}

/// Finds what is to be copied.
async fn find(
    client: &Client,
    container: &str,
    path: &str,
    how: How,
) -> CommandResult<(Remote, Source)> {
    let given = Path::new(path);
    let follow = how.follow || names_directory(given.as_os_str());
    let remote = Remote::find(client, container, given, follow).await?;
    let missing = || format!("'{path}' doesn't exist in container '{container}'");
    let directory = match remote.found() {
        Found::Nothing => return Err(CommandError::failure(missing())),
        Found::Directory => true,
        Found::Other => false,
    };
    if !directory && names_directory(given.as_os_str()) {
        let message = format!("'{path}' is not a directory in container '{container}'");
        return Err(CommandError::failure(message));
    }
    let source = Source {
        name: given.file_name().map(ToOwned::to_owned),
        directory,
        contents: is_contents(given.as_os_str()),
    };
    Ok((remote, source))
}

async fn open(client: &Client, container: &str, path: &Path) -> CommandResult<Download> {
    let archive = client.get_archive(container, text(path)?).await;
    archive.map_err(|error| CommandError::about("container", container, error))
}

/// What is at a destination here.
fn found(path: &Path) -> CommandResult<Found> {
    found_by(path, std::fs::metadata(path))
}

fn found_by(path: &Path, metadata: io::Result<std::fs::Metadata>) -> CommandResult<Found> {
    match metadata {
        Ok(metadata) if metadata.is_dir() => Ok(Found::Directory),
        Ok(_) => Ok(Found::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(CommandError::failure(format!(
            "can't look at '{}': {error}",
            path.display()
        ))),
    }
}

fn open_directory(path: &Path) -> CommandResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
        let error = io::Error::from(error);
        CommandError::failure(format!(
            "can't open the directory '{}': {error}",
            path.display()
        ))
    })
}

fn own_ids() -> (u32, u32) {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    (user.as_raw(), group.as_raw())
}

/// Unpacks an archive while it comes in.
async fn transfer(
    archive: Download,
    root: OwnedFd,
    options: UnpackOptions,
) -> CommandResult<Unpacked> {
    let (pieces, waiting) = channel(WAITING);
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut reader = PieceReader::new(waiting);
        let go_on = &mut |_| ControlFlow::Continue(());
        unpack_tar(&mut reader, root.as_fd(), &options, go_on)
    });
    let received = receive(archive, pieces).await;
    let unpacked: Result<Unpacked, TreeError> = unpacking
        .await
        .map_err(|error| CommandError::failure(format!("unpacking failed: {error}")))?;
    // A connection that breaks is why the archive is cut.
    received?;
    unpacked.map_err(|error| CommandError::failure(chain(&error)))
}

/// Passes the archive on until its end, or until nobody takes it any more.
async fn receive(
    mut archive: Download,
    pieces: Sender<Option<bytes::Bytes>>,
) -> Result<(), ClientError> {
    let mut progress = Transfer::new();
    while let Some(piece) = archive.chunk().await? {
        progress.add(piece.len());
        if pieces.send(Some(piece)).await.is_err() {
            return Ok(());
        }
    }
    // One who has read enough doesn't wait for the end.
    let _ = pieces.send(None).await;
    Ok(())
}
