//! Downloads one blob into the blob directory, going on where an earlier attempt has ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use kleene_doors::distribution::{BlobStep, DistributionError};
use kleene_types::Digest;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use crate::blobs::Blobs;
use crate::error::{Trouble, io_error};
use crate::hash::{Hasher, Hashing};
use crate::parallel::Reporter;
use crate::wire::{self, Access, Ask, Session};

/// An attempt that brought as much earns new tries.
const PROGRESS: u64 = 1 << 20;

const CHUNK: usize = 128 << 10;

/// What to download.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub digest: Digest,
    pub size: u64,
}

/// Sees to it that a blob is here. The last source is the registry itself, those before are mirrors.
pub(crate) fn fetch(
    session: &Session<'_>,
    blobs: &Blobs,
    sources: &[Access<'_>],
    wanted: &Wanted,
    reporter: &Reporter,
) -> Result<(), Trouble> {
    let _making = blobs.make(&wanted.digest, || {
        reporter.tell(BlobStep::Waiting, 0);
        session.check()
    })?;
    if blobs.has(&wanted.digest, wanted.size) {
        reporter.tell(BlobStep::Exists, wanted.size);
        return Ok(());
    }
    let mut download = Download::begin(blobs, wanted, reporter)?;
    match download.try_all(session, sources) {
        Ok(()) => {
            let completed = blobs.complete(&wanted.digest);
            completed.map_err(|error| Trouble::local(action(&wanted.digest), error))?;
            reporter.tell(BlobStep::Done, wanted.size);
            Ok(())
        }
        Err(trouble) => {
            // A full disk gets its space back.
            if matches!(trouble, Trouble::Final(DistributionError::NoSpace(_))) {
                blobs.remove_part(&wanted.digest);
            }
            Err(trouble)
        }
    }
}

fn action(digest: &Digest) -> String {
    format!("downloading {digest}")
}

struct Download<'d> {
    wanted: &'d Wanted,
    reporter: &'d Reporter,
    part: File,
    /// Of all that has arrived.
    hasher: Hasher,
}

impl<'d> Download<'d> {
    /// Takes up what has arrived earlier.
    fn begin(blobs: &Blobs, wanted: &'d Wanted, reporter: &'d Reporter) -> Result<Self, Trouble> {
        let failed = |error| Trouble::local(action(&wanted.digest), error);
        let mut part = blobs.part(&wanted.digest).map_err(failed)?;
        let mut hasher = Hasher::new(wanted.digest.algorithm());
        if part.metadata().map_err(failed)?.len() <= wanted.size {
            part.seek(SeekFrom::Start(0)).map_err(failed)?;
            let mut sink = Hashing::new(std::io::sink(), &mut hasher);
            std::io::copy(&mut part, &mut sink).map_err(failed)?;
        } else {
            part.set_len(0).map_err(failed)?;
        }
        Ok(Self {
            wanted,
            reporter,
            part,
            hasher,
        })
    }

    /// Tries the mirrors once, and the registry as long as there is hope.
    fn try_all(&mut self, session: &Session<'_>, sources: &[Access<'_>]) -> Result<(), Trouble> {
        let Some((registry, mirrors)) = sources.split_last() else {
            return Err(Trouble::lasting("there is no registry to ask"));
        };
        for mirror in mirrors {
            match self.attempt(mirror) {
                Err(trouble) if trouble.is_the_servers() => {
                    tracing::debug!("{}: {}", self.wanted.digest, trouble.short());
                }
                result => return result,
            }
        }
        let mut pauses = session.config.pauses.iter();
        loop {
            let before = self.hasher.length();
            let trouble = match self.attempt(registry) {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            if self.hasher.length() >= before.saturating_add(PROGRESS) {
                pauses = session.config.pauses.iter();
            }
            let retrying = BlobStep::Retrying(trouble.short());
            if trouble.may_pass() {
                self.reporter.tell(retrying, self.hasher.length());
            }
            session.pause(&trouble, pauses.next()).ok_or(trouble)??;
        }
    }

    /// Asks for the rest once, takes what comes, and verifies the whole.
    fn attempt(&mut self, source: &Access<'_>) -> Result<(), Trouble> {
        let start = self.hasher.length();
        if start < self.wanted.size || start == 0 {
            let response = self.ask(source, start)?;
            self.place(&response, start)?;
            self.receive(response)?;
        }
        self.verify(start > 0)
    }

    fn ask(&self, source: &Access<'_>, start: u64) -> Result<Response<Body>, Trouble> {
        let mut ask = Ask::get(source.path(&format!("blobs/{}", self.wanted.digest)));
        if start > 0 {
            ask = ask.header(header::RANGE, format!("bytes={start}-"));
        }
        source.send(&ask)
    }

    /// Finds out what the answer holds.
    fn place(&mut self, response: &Response<Body>, start: u64) -> Result<(), Trouble> {
        let size = self.wanted.size;
        let length = response.body().content_length();
        let other_size = |said: u64| {
            Trouble::content(format!(
                "the registry sends {said} bytes of {} instead of {size}",
                self.wanted.digest
            ))
        };
        match response.status() {
            StatusCode::OK => match length {
                Some(length) if length != size => Err(other_size(length)),
                // The server knows no ranges.
                _ if start > 0 => self.restart(),
                _ => Ok(()),
            },
            StatusCode::PARTIAL_CONTENT => match wire::content_range(response) {
                Some((_, Some(total))) if total != size => Err(other_size(total)),
                Some((first, _)) if first == start && start > 0 => Ok(()),
                _ => self.start_over("the server sent another part than asked for"),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => self.start_over("the server refuses to go on"),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, response: Response<Body>) -> Result<(), Trouble> {
        if !matches!(
            response.status(),
            StatusCode::OK | StatusCode::PARTIAL_CONTENT
        ) {
            return Err(wire::refusal(response));
        }
        let mut body = wire::body(response);
        let mut buffer = vec![0; CHUNK];
        self.reporter
            .tell(BlobStep::Downloading, self.hasher.length());
        loop {
            let read = body
                .read(&mut buffer)
                .map_err(|error| wire::broken(&error))?;
            let data = buffer.get(..read).unwrap_or_default();
            let position = self.hasher.length();
            let after = position + read as u64;
            if after > self.wanted.size {
                return Err(Trouble::content(format!(
                    "the registry sends more of {} than the {} bytes that it should have",
                    self.wanted.digest, self.wanted.size
                )));
            }
            if read == 0 {
                break;
            }
            let written = self.part.write_all_at(data, position);
            written.map_err(|error| io_error(action(&self.wanted.digest), error))?;
            self.hasher.update(data);
            self.reporter.tell(BlobStep::Downloading, after);
        }
        match self.wanted.size - self.hasher.length() {
            0 => Ok(()),
            missing => Err(Trouble::passing(format!(
                "the connection ended {missing} bytes early"
            ))),
        }
    }

    /// Compares digests. When only a part of the blob came now, the other one may be to blame.
    fn verify(&mut self, continued: bool) -> Result<(), Trouble> {
        let algorithm = self.wanted.digest.algorithm();
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(algorithm));
        let found = hasher.finish();
        if found == self.wanted.digest {
            return Ok(());
        }
        self.restart()?;
        Err(Trouble::Content {
            why: format!(
                "the content of {} is damaged: what came has the digest {found}",
                self.wanted.digest
            ),
            passing: continued,
        })
    }

    fn start_over(&mut self, why: &str) -> Result<(), Trouble> {
        self.restart()?;
        Err(Trouble::passing(why))
    }

    fn restart(&mut self) -> Result<(), Trouble> {
        self.hasher = Hasher::new(self.wanted.digest.algorithm());
        let cut = self.part.set_len(0);
        cut.map_err(|error| Trouble::local(action(&self.wanted.digest), error))
    }
}
