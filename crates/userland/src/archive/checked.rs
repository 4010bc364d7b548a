//! Checksums of downloads.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use kleene_doors::userland::UserlandError;
use kleene_types::{Algorithm, Checksum};
use ring::digest::{Context, SHA256, SHA384, SHA512};

use super::location::Url;
use super::part::Part;
use crate::error::{failed, io_error};
use crate::progress::Reporter;

const CHUNK: usize = 256 * 1024;

/// Makes sure that a complete download has the wanted checksum, and returns it with its SHA-256. One
/// that has another checksum is thrown away.
pub(crate) fn check(
    part: Part,
    url: &Url,
    wanted: Option<&Checksum>,
    reporter: &mut Reporter<'_>,
) -> Result<(Part, Checksum), UserlandError> {
    let algorithm = wanted.map_or(Algorithm::Sha256, Checksum::algorithm);
    let action = || format!("computing the checksum of '{}'", url.shown());
    let total = part.length().map_err(|error| io_error(action(), error))?;
    reporter.step("verifying", 0, Some(total))?;
    let algorithms = [Algorithm::Sha256, algorithm];
    let [sha256, found] = sums(part.file(), algorithms, reporter)?
        .map_err(|error| io_error(action(), error))?
        // The lengths of ring's digests are those of the standard.
        .ok_or_else(|| failed(action(), "a digest has the wrong length"))?;
    match wanted {
        Some(wanted) if *wanted != found => {
            part.remove();
            Err(UserlandError::Invalid(format!(
                "'{}' has the checksum {found}, not {wanted}: the file or what is expected of it \
                 has changed, or somebody has tampered with it",
                url.shown()
            )))
        }
        _ => Ok((part, sha256)),
    }
}

type Sums = io::Result<Option<[Checksum; 2]>>;

/// The outer error is the user's wish to stop.
fn sums(
    mut file: &File,
    algorithms: [Algorithm; 2],
    reporter: &mut Reporter<'_>,
) -> Result<Sums, UserlandError> {
    if let Err(error) = file.seek(SeekFrom::Start(0)) {
        return Ok(Err(error));
    }
    let [first, second] = algorithms;
    // One pass does for both, and one context where they are the same.
    let mut contexts = vec![(first, context(first))];
    if first != second {
        contexts.push((second, context(second)));
    }
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                let data = buffer.get(..read).unwrap_or_default();
                for (_, context) in &mut contexts {
                    context.update(data);
                }
                done += read as u64;
                reporter.done(done)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    let mut sums = contexts.into_iter().filter_map(|(algorithm, context)| {
        Checksum::from_bytes(algorithm, context.finish().as_ref())
    });
    let first_sum = sums.next();
    let second_sum = if first == second {
        first_sum.clone()
    } else {
        sums.next()
    };
    Ok(Ok(first_sum
        .zip(second_sum)
        .map(|(one, other)| [one, other])))
}

fn context(algorithm: Algorithm) -> Context {
    Context::new(match algorithm {
        Algorithm::Sha256 => &SHA256,
        Algorithm::Sha384 => &SHA384,
        Algorithm::Sha512 => &SHA512,
    })
}
