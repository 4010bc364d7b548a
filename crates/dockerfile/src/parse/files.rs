//! COPY and ADD.

use super::cursor::{Context, Fault, RawWord};
use super::flags::{Flags, Known, boolean, repeatable, with_value};
use crate::ast::{Add, Copy, FileSource, Files};
use crate::error::Problem;
use crate::heredoc::{Heredoc, Marker};
use crate::word::Word;

const WHAT: &str = "at least one source and a destination";
const CHOWN: Known = with_value("chown", "user[:group]");
const CHMOD: Known = with_value("chmod", "permissions, as in 755 or u=rwx,go=rx");
const EXCLUDE: Known = repeatable("exclude", "a pattern");
const COPY: [Known; 6] = [
    with_value("from", "a stage or an image"),
    CHOWN,
    CHMOD,
    EXCLUDE,
    boolean("link"),
    boolean("parents"),
];
const ADD: [Known; 7] = [
    with_value("checksum", "sha256:DIGEST"),
    CHOWN,
    CHMOD,
    EXCLUDE,
    boolean("link"),
    boolean("unpack"),
    boolean("keep-git-dir"),
];

impl<'a> Context<'a> {
    /// COPY.
    pub(super) fn copy(&mut self) -> Result<Copy, Fault> {
        let flags = self.flags(&COPY)?;
        // Layers aren't linked here; the result is the same without.
        flags.boolean("link")?;
        Ok(Copy {
            from: flags.word(self, "from")?,
            parents: flags.boolean("parents")?.unwrap_or(false),
            files: self.files(&flags)?,
        })
    }

    /// ADD.
    pub(super) fn add(&mut self) -> Result<Add, Fault> {
        let flags = self.flags(&ADD)?;
        flags.boolean("link")?;
        if flags.boolean("keep-git-dir")? == Some(true) {
            let why = "copy a clone of the repository from the build context";
            flags.refuse("keep-git-dir", "flag '--keep-git-dir'", why)?;
        }
        Ok(Add {
            checksum: flags.word(self, "checksum")?,
            unpack: flags.boolean("unpack")?,
            files: self.files(&flags)?,
        })
    }

    fn files(&mut self, flags: &Flags<'_>) -> Result<Files, Fault> {
        let chown = flags.word(self, "chown")?;
        let chmod = flags.word(self, "chmod")?;
        let exclude: Result<Vec<Word>, Fault> =
            flags.all("exclude").map(|raw| self.word(raw)).collect();
        let (sources, destination) = match self.json() {
            Some(list) => self.json_paths(&list)?,
            None => self.paths()?,
        };
        Ok(Files {
            sources,
            destination,
            chown,
            chmod,
            exclude: exclude?,
        })
    }

    fn json_paths(&mut self, list: &[String]) -> Result<(Vec<FileSource>, Word), Fault> {
        let Some((destination, sources)) = list.split_last().filter(|(_, all)| !all.is_empty())
        else {
            return Err(self.missing(WHAT));
        };
        let source = |text: &String| self.json_word(text).map(FileSource::Path);
        let sources: Result<_, Fault> = sources.iter().map(source).collect();
        Ok((sources?, self.json_word(destination)?))
    }

    fn paths(&mut self) -> Result<(Vec<FileSource>, Word), Fault> {
        let words = self.words();
        let Some((destination, sources)) = words.split_last().filter(|(_, all)| !all.is_empty())
        else {
            return Err(self.missing(WHAT));
        };
        let sources: Result<_, Fault> = sources.iter().map(|raw| self.file_source(*raw)).collect();
        let sources = sources?;
        // What is left can only stand in the destination.
        if let Some((marker, _)) = self.heredocs.front() {
            return Err(Fault {
                at: marker.range.start,
                problem: Problem::Missing {
                    instruction: self.instruction,
                    what: "a destination behind its heredoc",
                },
            });
        }
        Ok((sources, self.word(*destination)?))
    }

    /// The source in a word. Heredocs come in the order of their markers.
    fn file_source(&mut self, raw: RawWord<'_>) -> Result<FileSource, Fault> {
        let here = |(marker, _): &mut (Marker, Heredoc)| {
            marker.range.start == raw.at && marker.range.len() == raw.text.len()
        };
        match self.heredocs.pop_front_if(here) {
            Some((_, heredoc)) => Ok(FileSource::Inline(heredoc)),
            None => self.word(raw).map(FileSource::Path),
        }
    }
}
