//! What the loader needs to know about an ELF file, read from its program headers.
//!
//! Section headers aren't looked at: the loader ignores them, and stripped files may lack them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, FileKind};

/// A name in an ELF file that is longer than this names no file.
const MAX_NAME: u64 = 4096;

/// What sort of machine code a file holds. A program only loads libraries of its own sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// 64-bit code.
    pub is_64: bool,
    machine: u16,
    big_endian: bool,
}

/// The loader's view of an ELF file.
#[derive(Debug)]
pub(crate) struct Elf {
    pub target: Target,
    /// The program that loads this one.
    pub interpreter: Option<PathBuf>,
    /// The libraries' names.
    pub needed: Vec<OsString>,
    /// Under which name this library satisfies others.
    pub soname: Option<OsString>,
    /// `DT_RPATH`: where to look, also for the libraries of the libraries.
    pub rpath: Option<OsString>,
    /// `DT_RUNPATH`: where to look for this file's libraries.
    pub runpath: Option<OsString>,
    /// Don't look in the default directories.
    pub no_default_dirs: bool,
}

/// The first bytes of a file, which tell its kind.
pub(crate) enum Kind {
    Elf,
    /// Begins with `#!`; the rest of the line.
    Script(Vec<u8>),
    Other,
}

/// Finds out what kind of file this is.
pub(crate) fn kind(path: &Path) -> io::Result<Kind> {
    let mut head = Vec::with_capacity(256);
    File::open(path)?.take(256).read_to_end(&mut head)?;
    if head.starts_with(&elf::ELFMAG) {
        return Ok(Kind::Elf);
    }
    Ok(match head.strip_prefix(b"#!") {
        Some(rest) => Kind::Script(rest.split(|&b| b == b'\n').next().unwrap_or(rest).to_vec()),
        None => Kind::Other,
    })
}

/// Reads an ELF file. `None` when the file isn't one that a loader could use.
pub(crate) fn read(path: &Path) -> io::Result<Option<Elf>> {
    let data = ReadCache::new(File::open(path)?);
    let elf = match FileKind::parse(&data) {
        Ok(FileKind::Elf32) => parse::<FileHeader32<Endianness>, _>(&data),
        Ok(FileKind::Elf64) => parse::<FileHeader64<Endianness>, _>(&data),
        _ => return Ok(None),
    };
    Ok(elf.ok())
}

fn parse<'d, H, R>(data: R) -> object::read::Result<Elf>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let mut elf = Elf {
        target: Target {
            is_64: header.is_class_64(),
            machine: header.e_machine(endian).0,
            big_endian: header.is_big_endian(),
        },
        interpreter: None,
        needed: Vec::new(),
        soname: None,
        rpath: None,
        runpath: None,
        no_default_dirs: false,
    };
    let mut dynamic: &[H::Dyn] = &[];
    for segment in segments {
        if let Some(name) = segment.interpreter(endian, data)? {
            elf.interpreter = Some(PathBuf::from(OsString::from_vec(name.to_vec())));
        }
        dynamic = segment.dynamic(endian, data)?.unwrap_or(dynamic);
    }
    let entries = || {
        dynamic
            .iter()
            .map(|entry| (entry.d_tag(endian), entry.d_val(endian).into()))
            .take_while(|(tag, _): &(_, u64)| *tag != elf::DT_NULL)
    };
    let address = entries()
        .find(|(tag, _)| *tag == elf::DT_STRTAB)
        .map(|(_, value)| value);
    let Some(strings) = address.and_then(|address| file_offset::<H>(segments, endian, address))
    else {
        return Ok(elf);
    };
    let string = |offset| string_at(data, strings, offset);
    for (tag, value) in entries() {
        match tag {
            elf::DT_NEEDED => elf.needed.extend(string(value)),
            elf::DT_SONAME => elf.soname = string(value),
            elf::DT_RPATH => elf.rpath = string(value),
            elf::DT_RUNPATH => elf.runpath = string(value),
            elf::DT_FLAGS_1 => {
                elf.no_default_dirs = value & elf::DF_1_NODEFLIB.0 != 0;
            }
            _ => {}
        }
    }
    Ok(elf)
}

/// Where in the file the byte lies that is loaded at `address`.
fn file_offset<H: FileHeader>(
    segments: &[H::ProgramHeader],
    endian: H::Endian,
    address: u64,
) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let start: u64 = segment.p_vaddr(endian).into();
        let length: u64 = segment.p_filesz(endian).into();
        let offset: u64 = segment.p_offset(endian).into();
        let within = address.checked_sub(start)?;
        let loaded = segment.p_type(endian) == elf::PT_LOAD && within < length;
        loaded.then(|| offset.checked_add(within)).flatten()
    })
}

fn string_at<'d, R: ReadRef<'d>>(data: R, table: u64, offset: u64) -> Option<OsString> {
    let start = table.checked_add(offset)?;
    let end = start.checked_add(MAX_NAME)?.min(data.len().ok()?);
    let bytes = data.read_bytes_at_until(start..end, 0).ok()?;
    (!bytes.is_empty()).then(|| OsString::from_vec(bytes.to_vec()))
}
