//! Writes one entry's headers: ustar, with an extended header in front for what that can't say
//! (POSIX `pax`, GNU's sparse format 1.0, and `SCHILY.xattr` and `SCHILY.fflags` as several programs have
//! them).

use std::io::{self, Write};
use std::ops::Range;

use rustix::fs::{Timespec, major, minor};

use crate::attributes::Attributes;
use crate::flags;
use crate::meta::Meta;

/// Headers are one block long, contents are padded to whole blocks.
pub(super) const BLOCK: usize = 512;

/// The mark at an archive's end.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// As large as an extended header gets: what this crate reads, too.
const MAX_EXTENDED: usize = 1 << 20;

/// What is left of [`MAX_EXTENDED`] for the longest names there are.
const ROOM_FOR_NAMES: usize = 64 << 10;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: Range<usize> = 156..157;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;

/// The largest numbers that the fields hold.
const MAX_ID: u32 = 0o7_777_777;
const MAX_LONG: u64 = 0o77_777_777_777;

/// What an entry is; files with the bytes that follow.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    File(u64),
    SparseFile(u64),
    HardLink(&'a [u8]),
    Symlink(&'a [u8]),
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

impl Kind<'_> {
    fn flag(self) -> u8 {
        match self {
            Self::File(_) | Self::SparseFile(_) => b'0',
            Self::HardLink(_) => b'1',
            Self::Symlink(_) => b'2',
            Self::CharacterDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// An entry.
pub(super) struct Head<'a> {
    pub kind: Kind<'a>,
    pub name: &'a [u8],
    pub meta: &'a Meta,
    pub attributes: &'a Attributes,
}

impl Head<'_> {
    /// Writes the headers; gives the number of attributes that were left out.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<u64> {
        let mut name = self.name.to_vec();
        if matches!(self.kind, Kind::Directory) {
            name.push(b'/');
        }
        let (size, link) = match self.kind {
            Kind::File(size) | Kind::SparseFile(size) => (size, &[][..]),
            Kind::HardLink(link) | Kind::Symlink(link) => (0, link),
            _ => (0, &[][..]),
        };
        let mut records = self.records(&name, link, size);
        let skipped = self.attribute_records(&mut records);
        if !records.is_empty() {
            self.write_extended(&records, to)?;
        }
        let mut header = Block([0; BLOCK]);
        let sparse_name = matches!(self.kind, Kind::SparseFile(_)).then(|| beside(&name));
        header.text(NAME, sparse_name.as_deref().unwrap_or(&name));
        header.text(LINK, link);
        self.attributes_of(&mut header);
        header.octal(SIZE, if size > MAX_LONG { 0 } else { size });
        header.text(TYPE, &[self.kind.flag()]);
        if matches!(self.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            let device = self.meta.device as _;
            header.octal(MAJOR, major(device).into());
            header.octal(MINOR, minor(device).into());
        }
        to.write_all(&header.sealed())?;
        Ok(skipped)
    }

    /// The records for what the header can't hold.
    fn records(&self, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
        let mut records = Vec::new();
        let mut number = |key: &str, value: u64, limit: u64| {
            if value > limit {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        };
        number("uid", self.meta.uid.into(), MAX_ID.into());
        number("gid", self.meta.gid.into(), MAX_ID.into());
        number("size", size, MAX_LONG);
        if let Kind::SparseFile(_) = self.kind {
            record(&mut records, b"GNU.sparse.major", b"1");
            record(&mut records, b"GNU.sparse.minor", b"0");
            record(&mut records, b"GNU.sparse.name", name);
            let size = self.meta.size.to_string();
            record(&mut records, b"GNU.sparse.realsize", size.as_bytes());
        } else if name.len() > NAME.len() {
            record(&mut records, b"path", name);
        }
        if link.len() > LINK.len() {
            record(&mut records, b"linkpath", link);
        }
        if self.meta.flags != 0 && !matches!(self.kind, Kind::HardLink(_)) {
            let names = flags::names(self.meta.flags);
            record(&mut records, b"SCHILY.fflags", names.as_bytes());
        }
        let mtime = self.meta.times.mtime;
        if mtime.tv_nsec != 0 || u64::try_from(mtime.tv_sec).map_or(true, |s| s > MAX_LONG) {
            record(&mut records, b"mtime", decimal(mtime).as_bytes());
        }
        records
    }

    /// Adds the extended attributes; gives how many are left out.
    fn attribute_records(&self, records: &mut Vec<u8>) -> u64 {
        let mut skipped = 0;
        for (name, value) in &self.attributes.list {
            let name = name.to_bytes();
            let room = MAX_EXTENDED - ROOM_FOR_NAMES;
            let fits = records.len() + name.len() + value.len() < room;
            if !fits || name.contains(&b'=') || name.starts_with(b"trusted.overlay.") {
                skipped += 1;
                continue;
            }
            record(records, &[b"SCHILY.xattr.", name].concat(), value);
        }
        skipped
    }

    fn write_extended(&self, records: &[u8], to: &mut dyn Write) -> io::Result<()> {
        let mut header = Block([0; BLOCK]);
        let last = self.name.rsplit(|byte| *byte == b'/').next();
        let name = [b"PaxHeaders/", last.unwrap_or_default()].concat();
        header.text(NAME, &name);
        self.attributes_of(&mut header);
        header.octal(SIZE, records.len() as u64);
        header.text(TYPE, b"x");
        to.write_all(&header.sealed())?;
        to.write_all(records)?;
        to.write_all(padding(records.len() as u64))
    }

    /// Fills in mode, owner and time.
    fn attributes_of(&self, header: &mut Block) {
        let id = |id: u32| if id > MAX_ID { 0 } else { id.into() };
        header.octal(MODE, u64::from(self.meta.mode.as_raw_mode()) & 0o7777);
        header.octal(UID, id(self.meta.uid));
        header.octal(GID, id(self.meta.gid));
        let seconds = u64::try_from(self.meta.times.mtime.tv_sec).unwrap_or(0);
        header.octal(MTIME, seconds.min(MAX_LONG));
    }
}

/// What fills the last block of a content.
pub(super) fn padding(size: u64) -> &'static [u8] {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    let missing = if over == 0 { 0 } else { BLOCK - over };
    END.get(..missing).unwrap_or_default()
}

/// Where programs that don't know sparse files put one, as GNU tar has it.
fn beside(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|byte| *byte == b'/');
    let (dir, last) = name
        .split_at_checked(at.map_or(0, |at| at + 1))
        .unwrap_or_default();
    [dir, b"GNUSparseFile.0/", last].concat()
}

/// Adds one record: its length, which counts itself, key and value.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + b" =\n".len();
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Seconds with nine decimals.
fn decimal(time: Timespec) -> String {
    let nanoseconds = time.tv_nsec;
    match time.tv_sec {
        seconds @ 0.. => format!("{seconds}.{nanoseconds:09}"),
        seconds if nanoseconds == 0 => seconds.to_string(),
        // The fraction counts forwards, also before 1970.
        seconds => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// A header that is being filled in.
struct Block([u8; BLOCK]);

impl Block {
    /// Fills a field from its start, with as much as it holds.
    fn text(&mut self, field: Range<usize>, text: &[u8]) {
        let field = self.0.get_mut(field).unwrap_or_default();
        for (place, byte) in field.iter_mut().zip(text) {
            *place = *byte;
        }
    }

    /// Fills a field with octal digits and a NUL.
    fn octal(&mut self, field: Range<usize>, value: u64) {
        let digits = field.len() - 1;
        self.text(field, format!("{value:0digits$o}").as_bytes());
    }

    /// The block with its mark and checksum.
    fn sealed(mut self) -> [u8; BLOCK] {
        self.text(MAGIC, b"ustar\x0000");
        self.text(CHECKSUM, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.text(CHECKSUM, format!("{sum:06o}\0").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        for length in [1, 5, 92, 93, 94, 95, 989, 990, 991, 992] {
            let mut records = Vec::new();
            record(&mut records, b"k", &vec![b'v'; length]);
            let text = String::from_utf8(records).unwrap();
            let (number, _) = text.split_once(' ').unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970() {
        let time = |tv_sec, tv_nsec| decimal(Timespec { tv_sec, tv_nsec });
        assert_eq!(time(12, 5), "12.000000005");
        assert_eq!(time(-3, 0), "-3");
        assert_eq!(time(-2, 750_000_000), "-1.250000000");
        assert_eq!(time(-1, 999_999_999), "-0.000000001");
    }

    #[test]
    fn padding_fills_blocks() {
        for (size, missing) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
            assert_eq!(padding(size).len(), missing);
        }
    }

    #[test]
    fn sparse_files_lie_beside() {
        assert_eq!(beside(b"a/b"), b"a/GNUSparseFile.0/b");
        assert_eq!(beside(b"b"), b"GNUSparseFile.0/b");
    }
}
