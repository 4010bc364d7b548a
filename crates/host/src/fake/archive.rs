//! Simple tar archives: files, directories and symbolic links in ustar format, with the extended
//! headers that long names need.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kleene_tree::memory::Node;

const BLOCK: usize = 512;

/// Writes one entry.
pub(super) fn write_entry(to: &mut dyn Write, name: &Path, node: &Node) -> io::Result<()> {
    let (flag, mode, content, link): (u8, u32, &[u8], &[u8]) = match node {
        Node::Dir { mode } => (b'5', *mode, b"", b""),
        Node::File { bytes, mode } => (b'0', *mode, bytes, b""),
        Node::Symlink { target } => (b'2', 0o777, b"", target.as_os_str().as_bytes()),
    };
    let mut name = name.as_os_str().as_bytes().to_vec();
    if flag == b'5' {
        name.push(b'/');
    }
    let mut records = Vec::new();
    for (key, value) in [("path", name.as_slice()), ("linkpath", link)] {
        if value.len() > 100 {
            records.extend(record(key, value));
        }
    }
    if !records.is_empty() {
        write_header(to, b'x', b"pax", b"", 0o644, records.len())?;
        write_padded(to, &records)?;
    }
    write_header(to, flag, &name, link, mode, content.len())?;
    write_padded(to, content)
}

/// Writes the mark at an archive's end.
pub(super) fn write_end(to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}

/// Reads the next entry; `None` at the end.
pub(super) fn read_entry(from: &mut dyn Read) -> io::Result<Option<(PathBuf, Node)>> {
    let (mut name, mut link) = (None, None);
    loop {
        let mut header = [0; BLOCK];
        from.read_exact(&mut header)?;
        if header == [0; BLOCK] {
            return Ok(None);
        }
        let mode = u32::try_from(octal(&header, 100..108)?).map_err(io::Error::other)?;
        let size = usize::try_from(octal(&header, 124..136)?).map_err(io::Error::other)?;
        let mut content = vec![0; size.next_multiple_of(BLOCK)];
        from.read_exact(&mut content)?;
        content.truncate(size);
        let flag = header.get(156).copied().unwrap_or_default();
        if flag == b'x' {
            (name, link) = (find(&content, "path"), find(&content, "linkpath"));
            continue;
        }
        let name = name.unwrap_or_else(|| text(&header, 0..100));
        let node = match flag {
            b'0' | 0 => Node::File {
                bytes: content,
                mode,
            },
            b'5' => Node::Dir { mode },
            b'2' => Node::Symlink {
                target: path(&link.unwrap_or_else(|| text(&header, 157..257))),
            },
            _ => return Err(malformed("an entry that this host has no files for")),
        };
        return Ok(Some((path(&name), node)));
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn text(header: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let field = header.get(range).unwrap_or_default();
    let text = field.split(|byte| *byte == 0).next();
    text.unwrap_or_default().to_vec()
}

fn octal(header: &[u8], range: std::ops::Range<usize>) -> io::Result<u64> {
    let digits = String::from_utf8(text(header, range)).map_err(io::Error::other)?;
    u64::from_str_radix(digits.trim(), 8).map_err(|_| malformed("not a tar archive"))
}

/// One record of an extended header: its length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = 3 + key.len() + value.len();
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A record's value.
fn find(mut records: &[u8], key: &str) -> Option<Vec<u8>> {
    loop {
        let space = records.iter().position(|byte| *byte == b' ')?;
        let length = std::str::from_utf8(records.get(..space)?).ok()?;
        let length: usize = length.parse().ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Some(value) = record.strip_prefix(format!("{key}=").as_bytes()) {
            return Some(value.to_vec());
        }
        records = records.get(length..)?;
    }
}

fn write_padded(to: &mut dyn Write, content: &[u8]) -> io::Result<()> {
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    to.write_all(content)?;
    to.write_all([0; BLOCK].get(..padding).unwrap_or_default())
}

fn write_header(
    to: &mut dyn Write,
    flag: u8,
    name: &[u8],
    link: &[u8],
    mode: u32,
    size: usize,
) -> io::Result<()> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        for (place, byte) in header.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    };
    put(0, name.get(..100).unwrap_or(name));
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\x000000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0        ");
    put(156, &[flag]);
    put(157, link.get(..100).unwrap_or(link));
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    for (place, byte) in header.iter_mut().skip(148).zip(sum.as_bytes()) {
        *place = *byte;
    }
    to.write_all(&header)
}
