//! What the names in a layer of an image mean, and what the layer itself has added so far.
//!
//! See the OCI image specification, `layer.md`, and what AUFS has left behind in old layers.

use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::archive::{Kind, Member, hostile};
use crate::attributes::is_overlays;
use crate::error::TreeError;
use crate::meta::Id;

/// What names of whiteouts begin with.
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// Hides what lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the names of AUFS's own files begin with.
const AUFS: &[u8] = b".wh..wh.";

/// What an entry of a layer is.
pub(super) enum Meaning {
    /// Something to be created.
    Entry,
    /// What lower layers have there is gone.
    Whiteout(PathBuf),
    /// What lower layers have in this directory is gone.
    Opaque(PathBuf),
    /// Something that no tree has.
    Nothing,
}

/// Makes the names relative, and drops attributes that would be orders to an overlay file system.
/// Gives the number of these.
pub(super) fn tame(member: &mut Member) -> u64 {
    relative(&mut member.name);
    if member.kind == Kind::HardLink {
        relative(&mut member.link);
    }
    let before = member.xattrs.len();
    member.xattrs.retain(|(name, _)| !is_overlays(name));
    (before - member.xattrs.len()) as u64
}

fn relative(name: &mut Vec<u8>) {
    let slashes = name.iter().take_while(|byte| **byte == b'/').count();
    if slashes == 0 {
        return;
    }
    name.drain(..slashes);
    if name.is_empty() {
        name.push(b'.');
    }
}

/// What an entry of this path, which has been cleaned, means. `member` is for the error alone.
pub(super) fn meaning(path: &Path, member: &Member) -> Result<Meaning, TreeError> {
    let refuse = |reason: &str| Err(hostile(&member.name, reason));
    let Some(name) = path.file_name().map(OsStrExt::as_bytes) else {
        return Ok(Meaning::Entry);
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    for part in parent.components() {
        let Component::Normal(part) = part else {
            continue;
        };
        if part.as_bytes().starts_with(AUFS) {
            return Ok(Meaning::Nothing);
        }
        if part.as_bytes().starts_with(WHITEOUT) {
            return refuse("a whiteout with something in it");
        }
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque(parent.to_owned()));
    }
    if name.starts_with(AUFS) {
        return Ok(Meaning::Nothing);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Entry),
        Some(b"" | b"." | b"..") => refuse("a whiteout of something that can't be there"),
        Some(name) => {
            let name = std::ffi::OsStr::from_bytes(name);
            Ok(Meaning::Whiteout(parent.join(name)))
        }
    }
}

/// The entries that a layer has added: whiteouts mustn't take them away again. They are known by the
/// directory that they really are in, whichever links led there.
///
/// Only digests are kept: a layer may have millions of entries. Their key is random, so nobody can
/// choose names that look the same.
#[derive(Default)]
pub(super) struct Added {
    digests: HashSet<u64>,
    key: RandomState,
    /// Paths of device nodes that were left out, for the hard links to them.
    devices: HashSet<u64>,
}

impl Added {
    pub fn insert(&mut self, directory: Id, name: &CStr) {
        let digest = self.key.hash_one((directory, name));
        self.digests.insert(digest);
    }

    pub fn contains(&self, directory: Id, name: &CStr) -> bool {
        self.digests.contains(&self.key.hash_one((directory, name)))
    }

    pub fn insert_device(&mut self, path: &Path) {
        self.devices.insert(self.key.hash_one(path));
    }

    pub fn is_device(&self, path: &Path) -> bool {
        !self.devices.is_empty() && self.devices.contains(&self.key.hash_one(path))
    }
}
