//! Archives made entry by entry, also such as no library would write.

use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;

use crate::common::{Dir, scratch};
use kleene_tree::{TreeError, UnpackOptions, Unpacked, unpack_tar};
use tar::{EntryType, Header};
use tempfile::TempDir;

pub struct Room {
    pub scratch: TempDir,
    pub root: Dir,
}

pub fn room() -> Room {
    let scratch = scratch();
    let root = Dir::new(&scratch, "root");
    Room { scratch, root }
}

impl Room {
    pub fn unpack_with(
        &self,
        archive: &[u8],
        options: &UnpackOptions,
    ) -> Result<Unpacked, TreeError> {
        let mut progress = |_| ControlFlow::Continue(());
        unpack_tar(
            &mut Cursor::new(archive),
            self.root.fd(),
            options,
            &mut progress,
        )
    }

    pub fn unpack(&self, archive: &[u8]) -> Result<Unpacked, TreeError> {
        self.unpack_with(archive, &UnpackOptions::default())
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }
}

/// A header whose name is written as it is, without the checks of the builder.
pub fn header(kind: EntryType, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name);
    bytes[157..157 + link.len()].copy_from_slice(link);
    header.set_cksum();
    header
}

pub fn entry(kind: EntryType, name: &str, link: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, name.as_bytes(), link.as_bytes(), data.len() as u64)
        .as_bytes()
        .to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub fn file(name: &str, data: &str) -> Vec<u8> {
    entry(EntryType::Regular, name, "", data.as_bytes())
}

pub fn dir(name: &str) -> Vec<u8> {
    entry(EntryType::Directory, name, "", b"")
}

pub fn link(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Symlink, name, target, b"")
}

pub fn hard(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Link, name, target, b"")
}

pub fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length += 1;
        }
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    entry(EntryType::XHeader, "pax", "", &data)
}

pub fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

#[track_caller]
pub fn assert_hostile(entries: &[Vec<u8>]) {
    let room = room();
    let outside = Dir::new(&room.scratch, "outside");
    fs::write(outside.join("file"), "untouched").unwrap();
    let result = room.unpack(&archive(entries));
    assert!(
        matches!(result, Err(TreeError::Hostile { .. })),
        "{result:?}"
    );
    assert_eq!(
        fs::read_to_string(outside.join("file")).unwrap(),
        "untouched"
    );
    assert_eq!(fs::read_dir(&outside.path).unwrap().count(), 1);
    assert_eq!(fs::read_dir(room.scratch.path()).unwrap().count(), 2);
}

/// GNU's old format, with part of the map in a second block.
pub fn gnu_sparse(real_size: u64, data: &[u8]) -> Vec<u8> {
    let octal = |value: u64| format!("{value:011o}\0").into_bytes()[..12].to_vec();
    let mut header = header(EntryType::GNUSparse, b"sparse", b"", data.len() as u64);
    let bytes = header.as_mut_bytes();
    let first = [octal(0), octal(512)].concat();
    bytes[386..386 + 24].copy_from_slice(&first);
    bytes[482] = 1;
    bytes[483..495].copy_from_slice(&octal(real_size));
    header.set_cksum();
    let mut more = [octal(900_000), octal(100), octal(real_size), octal(0)].concat();
    more.resize(512, 0);
    let mut all = [header.as_bytes().to_vec(), more, data.to_vec()].concat();
    all.resize(all.len().next_multiple_of(512), 0);
    all
}
