//! Unpacks tar archives beneath an open directory.
//!
//! An archive is a stranger's: its names, links, sizes and types are checked before anything is
//! created, and the directories its entries go to are resolved inside the root, so that links from
//! the archive (`bin -> usr/bin`) work as in the finished tree but never lead out.

mod archive;
mod header;
mod layer;
mod pax;
mod rename;
mod write;

use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::error::TreeError;
use archive::Archive;
pub(crate) use layer::WHITEOUT;
use write::Writer;

/// What an archive may do. The default takes every honest archive without device nodes.
#[derive(Debug, Clone)]
pub struct UnpackOptions {
    /// Whether device nodes are created. They are refused by default.
    pub devices: bool,
    /// Whether device nodes are left out instead of refused. Archives of whole systems often hold a
    /// few that nothing needs.
    pub skip_devices: bool,
    /// The largest sum of file contents in the archive, in bytes.
    pub max_bytes: Option<u64>,
    /// The largest size of a single file, holes included, in bytes.
    pub max_apparent: Option<u64>,
    /// The largest number of entries.
    pub max_entries: Option<u64>,
    /// How much larger than its stored data a sparse file may be, in bytes. 1 GiB by default.
    pub max_holes: u64,
    /// Whether an archive must have its end mark, two blocks of zeros. It must by default: without
    /// one nobody knows whether entries are missing. Switch it off where a digest of the whole
    /// stream is checked anyway (image layers, some of which lack the mark).
    pub end_mark: bool,
    /// Gives everything this owner (user, group) instead of its own.
    pub owner: Option<(u32, u32)>,
    /// Leaves out what gives rights to others than the owner of a file: set-id bits, and extended
    /// attributes, among them capabilities. File flags are left out, too.
    pub plain: bool,
    /// Where the archive's entries go, if not to the names that they have.
    pub rename: Option<Rename>,
}

/// Other names for an archive that holds one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// What all names in the archive begin with; `.`: nothing. Entries with another name are refused.
    pub from: PathBuf,
    /// What they begin with in the root; `.`: nothing. Then the entry of the thing itself is left
    /// out, since it would be the root's.
    pub to: PathBuf,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            devices: false,
            skip_devices: false,
            max_bytes: None,
            max_apparent: None,
            max_entries: None,
            max_holes: 1 << 30,
            end_mark: true,
            owner: None,
            plain: false,
            rename: None,
        }
    }
}

/// How much was unpacked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file contents stored in the archive.
    pub bytes: u64,
    /// Extended attributes that the target's file system can't hold, and entries whose file flags it
    /// can't.
    pub skipped_xattrs: u64,
    /// Device nodes that were left out, or that the system can't make.
    pub skipped_devices: u64,
}

/// Unpacks an uncompressed tar stream (v7, ustar, GNU, pax) into the directory `root`.
///
/// Kept are owners by number, modes with set-id bits, modification times, extended attributes, file
/// flags (where the system has them), hard links and holes. Missing parents are made with 0755. A later entry replaces an earlier one
/// or what the root had before; directories are kept, and a link to a directory stays where the
/// archive has a directory. A directory is only replaced by something else if it is empty.
///
/// `progress` is called with the number of bytes read from the stream so far, and may end the
/// unpacking with [`TreeError::Cancelled`]. At most 1 MiB after the archive's end is read.
///
/// # Errors
/// [`TreeError::Hostile`], [`TreeError::Truncated`], [`TreeError::NotAnArchive`] are the archive's
/// fault. What was unpacked before the error stays: it is up to the caller to remove it.
pub fn unpack_tar(
    archive: &mut dyn Read,
    root: BorrowedFd<'_>,
    options: &UnpackOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Unpacked, TreeError> {
    let mut archive = Archive::new(archive, progress, options.end_mark);
    let mut writer = Writer::new(root, options, false)?;
    while let Some(mut member) = archive.next()? {
        if options.plain {
            member.mode &= 0o1777;
            member.xattrs.clear();
            member.flags = 0;
        }
        if let Some(rename) = &options.rename
            && !rename::apply(rename, &mut member)?
        {
            continue;
        }
        writer.write(&mut archive, member)?;
    }
    writer.finish()
}

/// As much of a layer is read at once for headers and small files. Larger reads go past the buffer.
const BUFFER: usize = 64 << 10;

/// Applies an uncompressed layer of an image (OCI image specification, `layer.md`) to the directory
/// `root`.
///
/// Kept is what [`unpack_tar`] keeps. An entry replaces what is there, whatever it is and holds, but a
/// directory in place of a directory keeps its entries. `.wh.NAME` and `.wh..wh..opq` take away what
/// was there before, and never what the layer itself has added, in whichever order they come; AUFS's
/// other files are left out. Names with a slash at their beginning are taken to be relative. Of the
/// options the limits count: device nodes are always left out, and so are attributes of overlay file
/// systems, and an end mark isn't needed.
///
/// `root` may be (and for many layers is) a mounted overlay.
///
/// # Errors
/// As [`unpack_tar`]. What was applied before the error stays.
pub fn apply_layer(
    archive: &mut dyn Read,
    root: BorrowedFd<'_>,
    options: &UnpackOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Unpacked, TreeError> {
    let options = UnpackOptions {
        devices: false,
        skip_devices: true,
        end_mark: false,
        ..options.clone()
    };
    let mut buffered = BufReader::with_capacity(BUFFER, archive);
    let mut archive = Archive::new(&mut buffered, progress, options.end_mark);
    let mut writer = Writer::new(root, &options, true)?;
    while let Some(mut member) = archive.next()? {
        let dropped = layer::tame(&mut member);
        writer.write_layers(&mut archive, member, dropped)?;
    }
    writer.finish()
}

/// Whether a stream that begins like this is a tar archive with something in it.
pub(crate) fn begins_archive(head: &[u8]) -> bool {
    let Ok(block) = head.try_into() else {
        return false;
    };
    let header = header::Header(block);
    !header.is_zero() && header.checksum_fits()
}
