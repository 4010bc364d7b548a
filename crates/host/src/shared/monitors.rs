//! What the daemon and a monitor say to each other.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kleene_doors::frames::Frame;
use kleene_doors::host::{ExitStatus, StartFailure};

/// How long a monitor may take to start a process: mounts may lie on slow disks.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a monitor may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A running monitor whose process runs.
#[derive(Debug)]
pub struct Monitored {
    /// The process.
    pub pid: u32,
    /// The monitor's control stream.
    pub control: UnixStream,
    /// The attached client's stream.
    pub attached: Option<UnixStream>,
}

/// Why a monitor didn't start a process.
#[derive(Debug)]
pub enum Refused {
    /// It said so.
    Failure(StartFailure),
    /// Something went wrong with the monitor itself.
    Broken(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// What a monitor says of its process.
#[derive(Debug)]
pub enum Word {
    /// It runs.
    Running {
        /// Its id on the host.
        pid: u32,
        /// Tells of its end.
        watch: UnixStream,
    },
    /// It has ended.
    Exited(ExitStatus),
}

/// Sends a monitor its order.
///
/// # Errors
/// It has ended, or doesn't read.
pub fn tell(mut control: &UnixStream, order: &[u8]) -> io::Result<()> {
    control.set_read_timeout(Some(START_LIMIT))?;
    control.set_write_timeout(Some(START_LIMIT))?;
    control.write_all(order)
}

/// Waits until the process of a monitor that has its order runs; answers its id.
///
/// # Errors
/// See [`Refused`].
pub fn wait_for_start(mut control: &UnixStream) -> Result<u32, Refused> {
    let pid = match Frame::read(&mut control)? {
        Some(Frame::Started(pid)) => pid,
        Some(Frame::Failed(failure)) => return Err(Refused::Failure(failure)),
        Some(_) => return Err(io::Error::other("the monitor has sent something else").into()),
        None => return Err(io::Error::other("the monitor has ended").into()),
    };
    control.set_read_timeout(None)?;
    control.set_write_timeout(None)?;
    Ok(pid)
}

/// Asks a monitor for its process; `None` when it has ended just now.
///
/// # Errors
/// It is there, but stopped or starved: nothing is known about its process.
pub fn ask(mut watch: UnixStream) -> io::Result<Option<Word>> {
    watch.set_read_timeout(Some(ANSWER_LIMIT))?;
    let answer = Frame::Watch
        .write(&mut watch)
        .and_then(|()| Frame::read(&mut watch));
    watch.set_read_timeout(None)?;
    match answer {
        Ok(Some(Frame::Started(pid))) => Ok(Some(Word::Running { pid, watch })),
        Ok(Some(Frame::Exited(status))) => Ok(Some(Word::Exited(status))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(None),
    }
}
