//! An archive's files, put aside until all of them are there: the list of images is often the last.
//!
//! Nothing is written under the names that the archive has. They are only looked up.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use kleene_doors::distribution::DistributionError;
use kleene_types::{Digest, DigestAlgorithm};
use tar::{Entry, EntryType};

use super::invalid;
use crate::blobs::{Blobs, Place};
use crate::error::{harmless, io_error};
use crate::hash::{Hasher, HashingAside};
use crate::layer::{self, Kind};
use crate::pieces;

/// More files than any image archive has.
const MAX_FILES: usize = 100_000;
/// Files up to this size are kept in memory.
const SMALL: u64 = 64 << 10;
/// As long as it isn't more than that in all.
const MAX_MEMORY: u64 = 64 << 20;
/// A link leads to a file in so many steps.
const MAX_LINKS: usize = 8;

/// The files of an archive.
pub(super) struct Spool<'b> {
    blobs: &'b Blobs,
    files: BTreeMap<String, Spooled>,
    links: BTreeMap<String, String>,
    memory: u64,
}

/// One file.
pub(super) struct Spooled {
    content: Content,
    pub size: u64,
    /// Made with the algorithm that its name asks for, or with SHA-256.
    pub digest: Digest,
    /// What it looks like.
    pub kind: Kind,
}

enum Content {
    Memory(Vec<u8>),
    File(Place),
    /// It has become a blob.
    Kept,
}

impl<'b> Spool<'b> {
    pub fn new(blobs: &'b Blobs) -> Self {
        Self {
            blobs,
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            memory: 0,
        }
    }

    /// Takes one entry of the archive.
    pub fn add(&mut self, entry: Entry<'_, impl Read>) -> Result<(), DistributionError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| invalid("it has a file whose name isn't UTF-8"))?;
        let outside = || invalid(format!("'{}' leads out of it", harmless(&name)));
        let place = inside("", &name).ok_or_else(outside)?;
        if self.files.len() + self.links.len() >= MAX_FILES {
            return Err(invalid(format!("it has more than {MAX_FILES} files")));
        }
        match kind {
            EntryType::Directory => Ok(()),
            EntryType::Regular | EntryType::Continuous => {
                let file = self.file(entry, &place)?;
                self.files.insert(place, file);
                Ok(())
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = String::from_utf8(target).map_err(|_| outside())?;
                let directory = match (kind, place.rsplit_once('/')) {
                    (EntryType::Symlink, Some((directory, _))) => directory,
                    _ => "",
                };
                let target = inside(directory, &target).ok_or_else(outside)?;
                self.links.insert(place, target);
                Ok(())
            }
            _ => Err(invalid(format!(
                "'{}' is neither a file nor a directory nor a link",
                harmless(&name)
            ))),
        }
    }

    fn file(&mut self, mut entry: impl Read, name: &str) -> Result<Spooled, DistributionError> {
        // What is sparse is of another type, and refused.
        let room = MAX_MEMORY.saturating_sub(self.memory).min(SMALL);
        let mut head = Vec::new();
        // One byte more tells that there is more.
        let read = entry.by_ref().take(room + 1).read_to_end(&mut head);
        read.map_err(damaged)?;
        let kind = layer::kind(&head);
        let mut hasher = Hasher::new(algorithm(name));
        hasher.update(&head);
        let content = if head.len() as u64 <= room {
            self.memory += head.len() as u64;
            Content::Memory(head)
        } else {
            let mut incoming = self.blobs.incoming().map_err(failed)?;
            incoming.file.write_all(&head).map_err(failed)?;
            hasher = put_aside(&mut entry, &mut incoming.file, hasher)?;
            Content::File(incoming.place)
        };
        Ok(Spooled {
            content,
            size: hasher.length(),
            digest: hasher.finish(),
            kind,
        })
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The name and the file that a name leads to.
    pub fn find(&self, name: &str) -> Option<(&str, &Spooled)> {
        let mut name = inside("", name)?;
        for _ in 0..MAX_LINKS {
            if let Some((name, file)) = self.files.get_key_value(&name) {
                return Some((name, file));
            }
            name.clone_from(self.links.get(&name)?);
        }
        None
    }

    /// The file that a blob is in, verified.
    pub fn blob(&self, digest: &Digest) -> Result<(&str, &Spooled), DistributionError> {
        let name = format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
        let (name, file) = self
            .find(&name)
            .ok_or_else(|| invalid(format!("it lacks {digest}")))?;
        if file.digest != *digest {
            return Err(invalid(format!(
                "{digest} is damaged: its digest is {}",
                file.digest
            )));
        }
        Ok((name, file))
    }

    /// A file's content, of at most so many bytes.
    pub fn read(&self, file: &Spooled, limit: u64) -> Result<Vec<u8>, DistributionError> {
        if file.size > limit {
            return Err(invalid(format!(
                "one of its descriptions is larger than {limit} bytes"
            )));
        }
        match &file.content {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::File(place) => {
                let mut bytes = Vec::new();
                place
                    .open()
                    .and_then(|mut file| file.read_to_end(&mut bytes))
                    .map_err(failed)?;
                Ok(bytes)
            }
            Content::Kept => Err(invalid("a layer of it is a description, too")),
        }
    }

    /// Makes a file a blob.
    pub fn keep(&mut self, blobs: &Blobs, name: &str, digest: &Digest) -> io::Result<()> {
        let Some(file) = self.files.get_mut(name) else {
            return Ok(());
        };
        match std::mem::replace(&mut file.content, Content::Kept) {
            Content::Kept => Ok(()),
            Content::File(place) => blobs.keep(place, digest),
            Content::Memory(bytes) => {
                let mut incoming = blobs.incoming()?;
                incoming.file.write_all(&bytes)?;
                blobs.keep(incoming.place, digest)
            }
        }
    }
}

/// Writes what is left of an entry to a file, and hashes it meanwhile.
fn put_aside(
    from: &mut dyn Read,
    to: &mut File,
    hasher: Hasher,
) -> Result<Hasher, DistributionError> {
    let mut hashing = HashingAside::start(hasher).map_err(failed)?;
    let mut piece = Vec::new();
    loop {
        pieces::next(from, &mut piece).map_err(damaged)?;
        if piece.is_empty() {
            return hashing.finish().map_err(failed);
        }
        to.write_all(&piece).map_err(failed)?;
        piece = hashing.update(piece);
    }
}

fn failed(error: io::Error) -> DistributionError {
    io_error("reading the archive", error)
}

fn damaged(error: io::Error) -> DistributionError {
    invalid(format!("it is damaged: {error}"))
}

/// The algorithm of a blob's digest, by its name.
fn algorithm(name: &str) -> DigestAlgorithm {
    if name.starts_with("blobs/sha512/") {
        DigestAlgorithm::Sha512
    } else {
        DigestAlgorithm::Sha256
    }
}

/// A name relative to a directory of the archive, without dots; `None` when it leads out of it.
fn inside(directory: &str, name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for (directory, name, expected) in [
            ("", "./a/b", Some("a/b")),
            ("", "a//b/.", Some("a/b")),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b", "../../c", Some("c")),
            ("a", "../../c", None),
            ("", "../c", None),
            ("", "a/../../c", None),
            ("a", "/etc/passwd", None),
            ("", "/etc/passwd", None),
            ("", "a\0b", None),
        ] {
            assert_eq!(
                inside(directory, name).as_deref(),
                expected,
                "{directory} {name}"
            );
        }
    }
}
