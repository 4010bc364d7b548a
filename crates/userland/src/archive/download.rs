//! Downloads a file, going on where an earlier attempt has ended.

use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kleene_doors::userland::UserlandError;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::http::{self, Said, Trouble};
use super::location::Url;
use super::part::{Notes, Part};
use crate::error::io_error;
use crate::progress::Reporter;

/// Pauses before the further tries, as many as there are without much progress.
const PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// An attempt that brought as much earns new tries.
const PROGRESS: u64 = 1 << 20;

const CHUNK: usize = 128 * 1024;

/// A complete download.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub part: Part,
    pub said: Said,
}

/// Downloads `url` into a file below `dir`, which the caller removes when it has no more use for it.
///
/// What has arrived stays there on errors, and the next call goes on from it. A file that turns out
/// to be larger than `max_bytes` is not downloaded.
pub(crate) fn download(
    dir: &Path,
    url: &Url,
    max_bytes: u64,
    reporter: &mut Reporter<'_>,
) -> Result<Fetched, UserlandError> {
    let action = format!("downloading '{}' to {}", url.shown(), dir.display());
    let part = Part::open(dir, url).map_err(|error| io_error(action.clone(), error))?;
    reporter.step("downloading", 0, part.notes().total)?;
    let mut download = Download {
        agent: http::agent(url),
        url,
        part,
        action,
        max_bytes,
        said: None,
    };
    let mut pauses = PAUSES.iter();
    loop {
        let before = download.length()?;
        let trouble = match download.attempt(reporter) {
            Ok(()) => {
                return Ok(Fetched {
                    part: download.part,
                    said: download.said.unwrap_or_default(),
                });
            }
            Err(Failure::Final(error)) => return Err(download.stop(error)),
            Err(Failure::Trouble(trouble)) => trouble,
        };
        if download.length()? >= before.saturating_add(PROGRESS) {
            pauses = PAUSES.iter();
        }
        match pauses.next() {
            // Where nobody has ever answered, the URL is the likelier culprit.
            Some(pause) if trouble.passing && download.said.is_some() => {
                wait(*pause, &trouble, reporter)?;
            }
            _ => return Err(download.give_up(&trouble)),
        }
    }
}

/// Waits, but not longer than the caller wants to.
fn wait(
    pause: Duration,
    trouble: &Trouble,
    reporter: &mut Reporter<'_>,
) -> Result<(), UserlandError> {
    let start = Instant::now();
    reporter.step(format!("trying again: {}", trouble.why), 0, None)?;
    while start.elapsed() < pause {
        thread::sleep(Duration::from_millis(100));
        reporter.done(0)?;
    }
    Ok(())
}

/// How an attempt ends before the file is complete.
enum Failure {
    /// The server or the network; what has arrived is kept.
    Trouble(Trouble),
    /// This host, or the user.
    Final(UserlandError),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<UserlandError> for Failure {
    fn from(error: UserlandError) -> Self {
        Self::Final(error)
    }
}

struct Download<'u> {
    agent: Agent,
    url: &'u Url,
    part: Part,
    action: String,
    max_bytes: u64,
    /// `None` as long as the server hasn't answered.
    said: Option<Said>,
}

impl Download<'_> {
    /// Asks for the rest of the file once, and takes what comes.
    fn attempt(&mut self, reporter: &mut Reporter<'_>) -> Result<(), Failure> {
        let start = self.resume_at()?;
        let response = self.ask(start)?;
        self.said = Some(http::said(response.headers()));
        let position = self.place(&response, start)?;
        self.check_size(self.part.notes().total.unwrap_or_default())?;
        reporter.step("downloading", position, self.part.notes().total)?;
        self.receive(response, position, reporter)
    }

    /// Where to go on. Of a file that is complete the last byte is asked for again: so the server
    /// says whether it is still the same.
    fn resume_at(&self) -> Result<u64, UserlandError> {
        let length = self.length()?;
        let complete = self.part.notes().total.is_some_and(|total| total <= length);
        match &self.part.notes().validator {
            Some(_) if complete => Ok(length.saturating_sub(1)),
            Some(_) => Ok(length),
            None => Ok(0),
        }
    }

    fn ask(&self, start: u64) -> Result<Response<Body>, Trouble> {
        let mut request = self.agent.get(self.url.uri());
        if let Some(validator) = self.part.notes().validator.as_ref().filter(|_| start > 0) {
            request = request
                .header(header::RANGE, format!("bytes={start}-"))
                .header(header::IF_RANGE, validator);
        }
        request.call().map_err(|error| http::no_answer(&error))
    }

    /// Finds out what the answer holds, and returns the position of its first byte.
    fn place(&mut self, response: &Response<Body>, start: u64) -> Result<u64, Failure> {
        let headers = response.headers();
        match response.status() {
            StatusCode::OK => {
                // The server knows no ranges, or the file has changed.
                let notes = http::notes(headers, response.body().content_length());
                self.restart(notes)?;
                Ok(0)
            }
            StatusCode::PARTIAL_CONTENT => match http::content_range(headers) {
                Some((first, total)) if first == start => {
                    // Some servers send the part whether the file has changed or not.
                    if self.part.notes().contradict(&http::notes(headers, total)) {
                        return self.start_over("the file has changed meanwhile");
                    }
                    Ok(start)
                }
                _ => self.start_over("the server sent another part than asked for"),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.start_over("the file has become shorter meanwhile")
            }
            status => Err(http::refusal(status).into()),
        }
    }

    fn start_over(&mut self, why: &str) -> Result<u64, Failure> {
        self.restart(Notes::default())?;
        Err(Trouble::passing(why).into())
    }

    fn receive(
        &mut self,
        response: Response<Body>,
        mut position: u64,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), Failure> {
        let mut body = response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = body
                .read(&mut buffer)
                .map_err(|error| http::of_io(&error))?;
            if read == 0 {
                break;
            }
            let data = buffer.get(..read).unwrap_or_default();
            self.check_size(position + read as u64)?;
            self.part
                .append(data, position)
                .map_err(|error| io_error(self.action.clone(), error))?;
            position += read as u64;
            reporter.done(position)?;
        }
        match self.part.notes().total {
            Some(total) if position < total => Err(Trouble::passing(format!(
                "the connection ended {} bytes early",
                total - position
            ))
            .into()),
            total => Ok(reporter.step("downloading", position, total)?),
        }
    }

    fn check_size(&self, bytes: u64) -> Result<(), UserlandError> {
        if bytes <= self.max_bytes {
            return Ok(());
        }
        Err(UserlandError::Invalid(format!(
            "'{}' is larger than {} bytes: as large a file isn't taken from there",
            self.url.shown(),
            self.max_bytes
        )))
    }

    fn length(&self) -> Result<u64, UserlandError> {
        self.part
            .length()
            .map_err(|error| io_error(self.action.clone(), error))
    }

    fn restart(&mut self, notes: Notes) -> Result<(), UserlandError> {
        self.part
            .restart(notes)
            .map_err(|error| io_error(self.action.clone(), error))
    }

    /// Ends the download because of this host or the user. A full disk gets its space back, and
    /// nobody wants more of what is too large.
    fn stop(self, error: UserlandError) -> UserlandError {
        if matches!(error, UserlandError::NoSpace(_) | UserlandError::Invalid(_)) {
            self.part.remove();
        }
        error
    }

    /// The error for the user. What has arrived and can be continued is kept.
    fn give_up(self, trouble: &Trouble) -> UserlandError {
        let arrived = self.part.length().unwrap_or_default();
        let mut message = format!(
            "'{}' can't be downloaded: {}",
            self.url.shown(),
            trouble.why
        );
        if arrived > 0 && self.part.notes().validator.is_some() {
            message.push_str(&format!(
                ". {arrived} bytes have arrived and are kept: try again to get the rest"
            ));
        } else {
            self.part.remove();
        }
        UserlandError::Invalid(message)
    }
}
