//! Looks at a program that was linked: that it is one for FreeBSD, and what it asks its system for.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::elf::FileHeader64;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// FreeBSD's run-time linker.
const INTERPRETER: &[u8] = b"/libexec/ld-elf.so.1";

/// The oldest FreeBSD that programs may be made for or later: 14.0, as `__FreeBSD_version` counts.
const OLDEST: u32 = 1_400_000;

/// Libraries of FreeBSD's smallest base system. Others would be missing where nothing is installed.
const BASE: &[&str] = &["libc.so.7", "libm.so.5", "libsys.so.7", "libthr.so.3"];

/// What `file` would say about the program, in short.
///
/// # Errors
/// When it isn't a dynamic executable for FreeBSD on x86-64, or needs libraries beyond the base
/// system.
pub fn describe(path: &Path) -> Result<String> {
    let data = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
    let program = Program::parse(&data)
        .with_context(|| format!("{} is no ELF program for x86-64", path.display()))?;
    program
        .check()
        .with_context(|| format!("{} is not for FreeBSD", path.display()))
}

#[derive(Debug, Default)]
struct Program {
    interpreter: Vec<u8>,
    /// `__FreeBSD_version` from the note that FreeBSD's kernel knows its programs by.
    version: Option<u32>,
    needed: Vec<String>,
}

impl Program {
    fn parse(data: &[u8]) -> Result<Self> {
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        if header.e_machine(endian) != elf::EM_X86_64 {
            bail!("it is for another machine");
        }
        let mut program = Self::default();
        for segment in header.program_headers(endian, data)? {
            if let Some(path) = segment.interpreter(endian, data)? {
                path.clone_into(&mut program.interpreter);
            }
            if let Some(mut notes) = segment.notes(endian, data)? {
                while let Some(note) = notes.next()? {
                    // NT_FREEBSD_ABI_TAG, see elf(5).
                    if note.name() == b"FreeBSD" && note.n_type(endian) == elf::NoteType(1) {
                        let version = note.desc().try_into().map(u32::from_le_bytes);
                        program.version = version.ok();
                    }
                }
            }
        }
        let sections = header.sections(endian, data)?;
        if let Some((entries, strings)) = sections.dynamic(endian, data)? {
            let strings = sections.strings(endian, data, strings)?;
            for entry in entries
                .iter()
                .filter(|entry| entry.tag(endian) == elf::DT_NEEDED)
            {
                let name = entry.string(endian, strings)?;
                program
                    .needed
                    .push(String::from_utf8_lossy(name).into_owned());
            }
        }
        Ok(program)
    }

    fn check(&self) -> Result<String> {
        let interpreter = String::from_utf8_lossy(&self.interpreter);
        ensure!(
            self.interpreter == INTERPRETER,
            "its interpreter is '{interpreter}'"
        );
        let version = self.version.context("it has no FreeBSD note")?;
        ensure!(version >= OLDEST, "it is for FreeBSD version {version}");
        for library in &self.needed {
            ensure!(
                BASE.contains(&library.as_str()),
                "it needs {library}, which no base system has"
            );
        }
        Ok(format!(
            "for FreeBSD {version}, {interpreter}, {}",
            self.needed.join(" ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        Program {
            interpreter: INTERPRETER.to_vec(),
            version: Some(1_400_500),
            needed: vec!["libc.so.7".to_owned()],
        }
    }

    #[test]
    fn programs_of_this_machine_are_refused() {
        let error = describe(&std::env::current_exe().unwrap()).unwrap_err();
        assert!(
            format!("{error:#}").contains("is not for FreeBSD"),
            "{error:#}"
        );
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(Program::parse(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn programs_for_freebsd() {
        let said = program().check().unwrap();
        assert_eq!(said, "for FreeBSD 1400500, /libexec/ld-elf.so.1, libc.so.7");
        let others = [
            Program {
                version: None,
                ..program()
            },
            Program {
                version: Some(1_302_000),
                ..program()
            },
            Program {
                interpreter: b"/lib/ld.so".to_vec(),
                ..program()
            },
            Program {
                needed: vec!["libgcc_s.so.1".to_owned()],
                ..program()
            },
        ];
        for other in others {
            assert!(other.check().is_err(), "{other:?}");
        }
    }
}
