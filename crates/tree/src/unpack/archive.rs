//! Reads a tar stream entry by entry: framing, extended headers and sparse maps, nothing about
//! files. Whatever is announced is checked against a limit before memory is taken for it.

use std::ffi::CString;
use std::io::{ErrorKind, Read};
use std::ops::ControlFlow;
use std::path::Path;

use super::header::{BLOCK, Header, number};
use super::pax::{Records, Time, decimal};
use crate::error::{Step, TreeError};

/// As large as an extended header may be: some attributes of 64 KiB and long paths.
const MAX_EXTENDED: u64 = 1 << 20;

/// As many pieces as a sparse file may have: 16 MiB of memory.
const MAX_PIECES: usize = 1 << 20;

/// How much is read past the end of the archive to empty pipes: as much as padding ever takes.
const MAX_PADDING: u64 = 1 << 20;

/// How many bytes of a name are shown.
const SHOWN: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// A piece of a sparse file that has data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub offset: u64,
    pub length: u64,
}

/// One entry of the archive; a file's content is still to be read.
#[derive(Debug)]
pub(crate) struct Member {
    pub kind: Kind,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub atime: Option<Time>,
    pub device: (u32, u32),
    /// File flags.
    pub flags: u32,
    pub xattrs: Vec<(CString, Vec<u8>)>,
    /// The size of the file that comes out.
    pub size: u64,
    /// How much of it is in the archive.
    pub stored: u64,
    /// Where the stored data goes; `None` for all of it in one go.
    pub pieces: Option<Vec<Piece>>,
}

/// The name in a form for error messages: long ones are cut, as they come from strangers.
pub(crate) fn shown(name: &[u8]) -> String {
    match name.get(..SHOWN) {
        Some(beginning) if name.len() > SHOWN => {
            format!("{}…", String::from_utf8_lossy(beginning))
        }
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

pub(crate) fn hostile(name: &[u8], reason: impl Into<String>) -> TreeError {
    TreeError::Hostile {
        entry: shown(name),
        reason: reason.into(),
    }
}

/// What the headers in front of an entry say about it.
#[derive(Default)]
struct Ahead {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.records.is_none()
    }
}

/// The stream.
pub(crate) struct Archive<'a> {
    reader: &'a mut dyn Read,
    progress: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    position: u64,
    /// The bytes of padding after the current content.
    padding: u64,
    defaults: Records,
    last_name: Vec<u8>,
    end_required: bool,
}

impl<'a> Archive<'a> {
    pub fn new(
        reader: &'a mut dyn Read,
        progress: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
        end_required: bool,
    ) -> Self {
        Self {
            reader,
            progress,
            position: 0,
            padding: 0,
            defaults: Records::default(),
            last_name: Vec::new(),
            end_required,
        }
    }

    /// The next entry. The content of the one before must have been read; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Member>, TreeError> {
        let mut ahead = Ahead::default();
        loop {
            let Some(header) = self.header()? else {
                return if ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(self.truncated())
                };
            };
            let size = self.size_of(&header)?;
            match header.flag() {
                b'L' => {
                    let name = self.extended(size, ahead.long_name.is_some())?;
                    ahead.long_name = Some(super::header::until_nul(&name).to_vec());
                }
                b'K' => {
                    let link = self.extended(size, ahead.long_link.is_some())?;
                    ahead.long_link = Some(super::header::until_nul(&link).to_vec());
                }
                b'x' => {
                    let data = self.extended(size, ahead.records.is_some())?;
                    let mut records = self.defaults.clone();
                    records.read(&data).map_err(|reason| self.refused(reason))?;
                    ahead.records = Some(records);
                }
                b'g' => {
                    let data = self.extended(size, false)?;
                    self.read_defaults(&data)?;
                }
                _ => return self.member(&header, ahead).map(Some),
            }
        }
    }

    fn read_defaults(&mut self, data: &[u8]) -> Result<(), TreeError> {
        let mut records = std::mem::take(&mut self.defaults);
        records.read(data).map_err(|reason| self.refused(reason))?;
        if records.names_an_entry() {
            return Err(self.refused("a global header that would rename or resize entries"));
        }
        self.defaults = records;
        Ok(())
    }

    /// Reads part of the current content; at least one byte unless `into` is empty.
    pub fn read_content(&mut self, into: &mut [u8]) -> Result<usize, TreeError> {
        match self.read_some(into)? {
            0 if !into.is_empty() => Err(self.truncated()),
            read => Ok(read),
        }
    }

    /// Reads past a content of this length.
    pub fn skip_content(&mut self, mut length: u64) -> Result<(), TreeError> {
        let mut buffer = [0; 8192];
        while length > 0 {
            let wanted =
                usize::try_from(length).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = self.read_content(buffer.get_mut(..wanted).unwrap_or_default())?;
            length = length.saturating_sub(read as u64);
        }
        Ok(())
    }

    /// Reads one header. `None` at the end of the archive, whose marks are checked.
    fn header(&mut self) -> Result<Option<Header>, TreeError> {
        self.skip_padding()?;
        let start = self.position;
        let mut header = Header([0; BLOCK]);
        let read = self.read_full(&mut header.0)?;
        if read < BLOCK {
            return self.ended(start, read);
        }
        if header.is_zero() {
            return self.finish();
        }
        if header.checksum_fits() {
            return Ok(Some(header));
        }
        if start == 0 {
            return Err(TreeError::NotAnArchive {
                reason: guess(&header.0),
            });
        }
        let reason = format!("the header at byte {start} has a wrong checksum");
        Err(hostile(&self.last_name, format!("after it, {reason}")))
    }

    /// The stream has ended where a header should be.
    fn ended(&mut self, start: u64, read: usize) -> Result<Option<Header>, TreeError> {
        match (start, read) {
            (_, 0) if !self.end_required => Ok(None),
            (0, 0) => Err(TreeError::NotAnArchive {
                reason: "it is empty".to_owned(),
            }),
            (0, _) => Err(TreeError::NotAnArchive {
                reason: "it is shorter than a header".to_owned(),
            }),
            _ => Err(self.truncated()),
        }
    }

    /// One block of zeros has been read: there must be another, or nothing more at all.
    fn finish(&mut self) -> Result<Option<Header>, TreeError> {
        let mut second = Header([0; BLOCK]);
        let read = self.read_full(&mut second.0)?;
        if read == BLOCK && !second.is_zero() {
            return Err(hostile(
                &self.last_name,
                "after it, data follow a lone block of zeros",
            ));
        }
        let mut left = MAX_PADDING;
        let mut buffer = [0; 8192];
        while left > 0 {
            match self.read_some(&mut buffer)? {
                0 => break,
                read => left = left.saturating_sub(read as u64),
            }
        }
        Ok(None)
    }

    fn size_of(&self, header: &Header) -> Result<u64, TreeError> {
        let size = header.size().and_then(|size| u64::try_from(size).ok());
        size.ok_or_else(|| hostile(&header.name(), "its size is malformed or negative"))
    }

    /// Reads the content of a header that is about the next entry.
    fn extended(&mut self, size: u64, again: bool) -> Result<Vec<u8>, TreeError> {
        if again {
            return Err(self.refused("two headers give the next entry's name or attributes"));
        }
        if size > MAX_EXTENDED {
            return Err(self.refused(format!("an extended header of {size} bytes")));
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or_default()];
        if self.read_full(&mut data)? < data.len() {
            return Err(self.truncated());
        }
        self.padding = padding(size);
        Ok(data)
    }

    /// Puts an entry together from its header and those in front of it.
    fn member(&mut self, header: &Header, ahead: Ahead) -> Result<Member, TreeError> {
        let mut records = ahead.records.unwrap_or_else(|| self.defaults.clone());
        let sparse_name = records.sparse.name.take();
        let name = sparse_name
            .or(records.path.take())
            .or(ahead.long_name)
            .unwrap_or_else(|| header.name());
        let link = records
            .link
            .take()
            .or(ahead.long_link)
            .unwrap_or_else(|| header.link());
        self.last_name.clone_from(&name);
        let bad = |what: &str| hostile(&name, format!("its {what} is malformed or out of range"));
        let kind = kind(header.flag(), &name)
            .ok_or_else(|| hostile(&name, format!("unknown type {:?}", header.flag() as char)))?;
        let size = match records.size {
            Some(size) => size,
            None => self.size_of(header)?,
        };
        let stored = if kind == Kind::File { size } else { 0 };
        let id = |record: Option<u64>, field: Option<i64>| {
            let id = record.or_else(|| field.and_then(|id| u64::try_from(id).ok()));
            id.and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id != u32::MAX)
        };
        let mtime = match records.mtime {
            Some(time) => time,
            None => (header.mtime().ok_or_else(|| bad("time"))?, 0),
        };
        let mut member = Member {
            kind,
            mode: mode(header).ok_or_else(|| bad("mode"))?,
            uid: id(records.uid, header.uid()).ok_or_else(|| bad("owner"))?,
            gid: id(records.gid, header.gid()).ok_or_else(|| bad("group"))?,
            mtime,
            atime: records.atime,
            flags: records.flags.unwrap_or(0),
            device: device(kind, header).ok_or_else(|| bad("device number"))?,
            xattrs: std::mem::take(&mut records.xattrs),
            size: stored,
            stored,
            pieces: None,
            link,
            name: name.clone(),
        };
        self.padding = padding(stored);
        if kind == Kind::File {
            self.sparse(header, &records, &mut member)?;
        }
        Ok(member)
    }

    /// Reads the map of a sparse file, wherever its format has it.
    fn sparse(
        &mut self,
        header: &Header,
        records: &Records,
        member: &mut Member,
    ) -> Result<(), TreeError> {
        let bad = |name: &[u8]| hostile(name, "its sparse map is malformed");
        let (size, numbers) = if header.flag() == b'S' {
            let size = header
                .gnu_real_size()
                .and_then(|size| u64::try_from(size).ok());
            (size, self.gnu_map(header)?)
        } else if !records.sparse.is_used() {
            return Ok(());
        } else if records.sparse.map_in_data() {
            let numbers = self.map_in_data(member)?;
            (records.sparse.real_size, numbers)
        } else {
            (records.sparse.real_size, records.sparse.map.clone())
        };
        let size = size.ok_or_else(|| bad(&member.name))?;
        let pieces = pieces(&numbers, size, member.stored).ok_or_else(|| bad(&member.name))?;
        member.size = size;
        member.pieces = Some(pieces);
        Ok(())
    }

    /// The map in GNU's own headers; further blocks of it come before the data, and aren't part of
    /// the entry's size.
    fn gnu_map(&mut self, header: &Header) -> Result<Vec<u64>, TreeError> {
        let mut numbers = Vec::new();
        let (map, mut goes_on) = header.gnu_map();
        self.map_block(map, &mut numbers)?;
        while goes_on {
            let mut block = Header([0; BLOCK]);
            if self.read_full(&mut block.0)? < BLOCK {
                return Err(self.truncated());
            }
            let (map, more) = block.gnu_more_map();
            self.map_block(map, &mut numbers)?;
            goes_on = more;
        }
        Ok(numbers)
    }

    fn map_block(&self, map: &[u8], numbers: &mut Vec<u64>) -> Result<(), TreeError> {
        for field in map.chunks_exact(12) {
            // An unused pair is empty.
            if field.first() == Some(&0) {
                break;
            }
            let value = number(field).and_then(|value| u64::try_from(value).ok());
            numbers.push(value.ok_or_else(|| self.refused("a malformed sparse map"))?);
        }
        self.check_pieces(numbers.len() as u64 / 2)
    }

    fn check_pieces(&self, pieces: u64) -> Result<(), TreeError> {
        if pieces > MAX_PIECES as u64 {
            return Err(self.refused("a sparse file of too many pieces"));
        }
        Ok(())
    }

    /// The map in front of the data: decimal lines, the first of which counts the pieces, padded to
    /// whole blocks.
    fn map_in_data(&mut self, member: &mut Member) -> Result<Vec<u64>, TreeError> {
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut line = Vec::new();
        let mut block = [0; BLOCK];
        while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
            if member.stored < BLOCK as u64 {
                return Err(self.refused("a sparse map that is longer than its entry"));
            }
            member.stored -= BLOCK as u64;
            if self.read_full(&mut block)? < BLOCK {
                return Err(self.truncated());
            }
            for byte in block {
                if wanted == Some(numbers.len() as u64) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(self.refused("a malformed sparse map"));
                    }
                    continue;
                }
                let value = decimal(&line).map_err(|_| self.refused("a malformed sparse map"))?;
                line.clear();
                if wanted.is_none() {
                    self.check_pieces(value)?;
                    wanted = Some(value * 2);
                } else {
                    numbers.push(value);
                }
            }
        }
        Ok(numbers)
    }

    fn skip_padding(&mut self) -> Result<(), TreeError> {
        let mut buffer = [0; BLOCK];
        let length = usize::try_from(self.padding).unwrap_or_default();
        let padding = buffer.get_mut(..length).unwrap_or_default();
        if self.read_full(padding)? < length {
            return Err(self.truncated());
        }
        self.padding = 0;
        Ok(())
    }

    /// Fills the buffer as far as the stream goes.
    fn read_full(&mut self, into: &mut [u8]) -> Result<usize, TreeError> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_some(rest)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, TreeError> {
        let read = loop {
            match self.reader.read(into) {
                Ok(read) => break read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What decompressors say about a stream that is cut.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.truncated());
                }
                Err(source) => {
                    let path = Path::new(&shown(&self.last_name)).to_owned();
                    return Err(TreeError::Io {
                        step: Step::Reading,
                        path,
                        source,
                    });
                }
            }
        };
        self.position += read as u64;
        match (self.progress)(self.position) {
            ControlFlow::Continue(()) => Ok(read),
            ControlFlow::Break(()) => Err(TreeError::Cancelled),
        }
    }

    fn refused(&self, reason: impl Into<String>) -> TreeError {
        let place = if self.last_name.is_empty() {
            "the first".to_owned()
        } else {
            format!("the one after {}", shown(&self.last_name))
        };
        TreeError::Hostile {
            entry: place,
            reason: reason.into(),
        }
    }

    fn truncated(&self) -> TreeError {
        let after = match self.last_name.as_slice() {
            [] => "before its first entry".to_owned(),
            name => format!("in or after its entry {:?}", shown(name)),
        };
        TreeError::Truncated { after }
    }
}

/// What fills the last block of a content.
fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn kind(flag: u8, name: &[u8]) -> Option<Kind> {
    Some(match flag {
        // Archives from before 1988 mark directories by their names only.
        0 | b'0' if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return None,
    })
}

fn mode(header: &Header) -> Option<u32> {
    // Some programs put the file's type into the upper bits.
    header
        .mode()
        .and_then(|mode| u32::try_from(mode).ok())
        .map(|mode| mode & 0o7777)
}

fn device(kind: Kind, header: &Header) -> Option<(u32, u32)> {
    if !matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
        return Some((0, 0));
    }
    let part = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    part(header.major()).zip(part(header.minor()))
}

/// Checks a sparse map: pieces in order, within the file, and as long together as what is stored.
fn pieces(numbers: &[u64], size: u64, stored: u64) -> Option<Vec<Piece>> {
    let (pairs, []) = numbers.as_chunks::<2>() else {
        return None;
    };
    let (mut end, mut sum) = (0_u64, 0_u64);
    let mut pieces = Vec::with_capacity(pairs.len());
    for [offset, length] in pairs.iter().copied() {
        if offset < end {
            return None;
        }
        end = offset.checked_add(length)?;
        sum = sum.checked_add(length)?;
        if length > 0 {
            pieces.push(Piece { offset, length });
        }
    }
    (end <= size && sum == stored).then_some(pieces)
}

/// Says what a stream is that isn't an archive.
fn guess(start: &[u8]) -> String {
    let known: [(&[u8], &str); 5] = [
        (&[0x1f, 0x8b], "gzip"),
        (b"BZh", "bzip2"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (b"PK", "zip"),
    ];
    match known.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, name)) => format!("it looks like {name}"),
        None => "the first header's checksum is wrong".to_owned(),
    }
}
